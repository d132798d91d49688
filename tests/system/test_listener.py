"""The accept module of the network servers, by way of qmail-qmqpd: rules, limits, reuse, stop, trouble.

What serves a client is a process of its own, whose pid is in its lines of the log."""
import contextlib
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import HOST, WAIT, free_port, wait_for
from serving import Keeper, Service, compile_rules, is_read, qmqp, read_all, read_netstring, stays_open

MAIL = qmqp(b"Subject: x\n\nx\n", "s@h.example", "r@x.example")
BUSY = b"47:Ztoo many connections, try again later (#4.3.2),"
RULES = "control/tcp.cdb"
RELAY = {"": {"RELAYCLIENT": ""}}


@pytest.fixture
def serve(tree):
    """serve(*options): a qmail-qmqpd that everybody may use (unless rules say otherwise), and a keeper that accepts."""
    with contextlib.ExitStack() as stack:
        keeper = stack.enter_context(Keeper(tree))

        def start(*options, rules=RELAY, **more):
            compile_rules(tree, RULES, rules)
            for path in (*tree.control.iterdir(), tree.control):  # a process with control files just written is not used again
                os.utime(path, (0, 0))
            service = stack.enter_context(Service(tree, "qmail-qmqpd", "-x", RULES, *options, **more))
            service.got = keeper.got
            return service

        yield start


def accepts(answer):
    return b":Kok 1700000000 qp " in answer


def pids_of_messages(service):
    return [int(pid) for pid in re.findall(r"message pid=(\d+)", service.log())]


def is_served(connection):
    """Whether the connection has a process: it answers a message."""
    connection.sendall(MAIL)
    return read_netstring(connection).startswith(b"Kok ")


def test_connections_in_all(serve):
    service = serve("-c", "3")
    held = [service.connect(f"127.0.0.{i}") for i in range(1, 4)]
    wait_for(lambda: len(service.children()) == 3)
    assert service.ask(b"", "127.0.0.9") == BUSY
    assert "refused: 127.0.0.9: as many connections as there may be" in service.logged("refused")
    held.pop().close()
    wait_for(lambda: len(service.children()) == 2)
    assert accepts(service.ask(MAIL, "127.0.0.9"))
    for c in held:
        assert is_served(c)


def test_connections_of_an_address(serve):
    service = serve("-a", "2")
    held = [service.connect("127.0.0.1") for _ in range(2)]
    wait_for(lambda: len(service.children()) == 2)
    assert service.ask(b"", "127.0.0.1") == BUSY
    assert accepts(service.ask(MAIL, "127.0.0.2"))
    assert "as many connections as of one address" in service.logged("refused")
    for c in held:
        assert is_served(c)


def test_connections_of_a_network(serve):
    service = serve("-n", "2")
    held = [service.connect(f"127.0.1.{i}") for i in (1, 255 - 1)]
    wait_for(lambda: len(service.children()) == 2)
    assert service.ask(b"", "127.0.1.77") == BUSY
    assert accepts(service.ask(MAIL, "127.0.2.1"))
    assert "as many connections as of one network" in service.logged("refused")
    for c in held:
        assert is_served(c)


def test_limits_from_control_files(tree, serve):
    tree.write("control/concurrencyincoming", "2\n")
    service = serve()
    held = [service.connect() for _ in range(2)]
    wait_for(lambda: len(service.children()) == 2)
    assert service.ask(b"") == BUSY
    assert all(is_served(c) for c in held)


def test_a_refused_client_that_spoke_first(serve):
    """What it sent is not read, and nobody waits for it."""
    service = serve("-c", "1")
    held = service.connect()
    wait_for(lambda: len(service.children()) == 1)
    service.ask(b"x" * 100000)
    assert is_served(held)


def test_rules(serve):
    service = serve(rules={"127.0.0.2": "deny", "127.0.0.": {"RELAYCLIENT": ""}, "": {}})
    assert accepts(service.ask(MAIL, "127.0.0.1"))
    assert service.ask(MAIL, "127.0.0.2") == b""
    assert "refused: 127.0.0.2: denied by the rules" in service.logged("denied")
    assert service.ask(MAIL, "127.0.1.1").split(b":")[1].startswith(b"Zthis host may not use QMQP here")


def test_rules_are_replaced(tree, serve):
    service = serve()
    assert accepts(service.ask(MAIL))
    compile_rules(tree, RULES, {"": "deny"})
    assert service.ask(MAIL) == b""
    (tree.home / RULES).write_bytes(b"damaged")
    assert service.ask(MAIL) == BUSY
    assert "unable to read the rules" in service.logged("the rules cannot be read")
    (tree.home / RULES).unlink()
    assert service.ask(MAIL) == BUSY
    assert "there is no table of rules" in service.logged("no table")
    compile_rules(tree, RULES, RELAY)
    assert accepts(service.ask(MAIL))


def test_rules_may_lack(tree, serve):
    service = serve("-X")
    (tree.home / RULES).unlink()
    assert b"may not use QMQP" in service.ask(MAIL)


def test_real_tcprules(tree, serve):
    if not os.path.exists("/usr/bin/tcprules"):
        pytest.skip("ucspi-tcp is not installed")
    service = serve()
    subprocess.run(["tcprules", str(tree.home / RULES), str(tree.home / "control/tcp.tmp")], check=True,
                   input=b'127.0.0.2-3:deny\n127.0.0.:allow,RELAYCLIENT="@gw.example",DATABYTES="50"\n:deny\n')
    (tree.home / RULES).chmod(0o644)
    assert accepts(service.ask(MAIL, "127.0.0.1"))
    assert service.got[0][1] == b"Fs@h.example\0Tr@x.example@gw.example\0\0"
    assert b"exceeds my databytes" in service.ask(qmqp(b"x" * 51, "s", "r"), "127.0.0.1")
    assert service.ask(MAIL, "127.0.0.3") == b""
    assert service.ask(MAIL, "127.1.0.1") == b""


def test_ipv6(serve):
    try:
        service = serve(address="::1", rules={"::1": {"RELAYCLIENT": ""}, "": "deny"})
    except OSError:
        pytest.skip("no IPv6 here")
    assert accepts(service.ask(MAIL))
    assert service.got[0][0].startswith(b"Received: from unknown (::1)\n  by %s with QMQP;" % HOST.encode())


# --- reuse -----------------------------------------------------------------------------------------------

def test_the_next_connection_of_an_address_goes_to_the_same_process(serve):
    service = serve()
    for _ in range(20):
        assert accepts(service.ask(MAIL, "127.0.0.1", end=False))
    pids = pids_of_messages(service)
    assert len(pids) == 20 and len(set(pids)) < 10	# a client may be back before its process is free
    assert len(service.got) == 20


def test_reuse_never_serves_another_address(serve):
    service = serve()
    addresses = [f"127.0.{i % 3}.{i % 7 + 1}" for i in range(200)]
    for address in addresses:
        assert accepts(service.ask(MAIL, address, end=False))
    served = {}
    for pid, ip in re.findall(r"message pid=(\d+) ip=(\S+)", service.log()):
        served.setdefault(pid, set()).add(ip)
    assert sum(1 for _ in re.findall("message pid", service.log())) == 200
    assert all(len(ips) == 1 for ips in served.values())
    assert len(served) < 200, "nothing was reused at all"
    for (message, _), address in zip(service.got, addresses):
        assert b"(%s)\n" % address.encode() in message


def test_a_process_is_reused_only_after_good_order(serve):
    service = serve()
    assert service.ask(b"x") == b""
    service.logged("malformed netstring")
    wait_for(lambda: not service.children(), what="the process to end")
    assert service.ask(b"5:x", end=True) == b""
    wait_for(lambda: not service.children(), what="the process to end")


def test_an_idle_process_waits_a_bounded_time(serve):
    service = serve()
    start = time.monotonic()
    assert accepts(service.ask(MAIL, end=False))
    wait_for(lambda: not service.children(), what="the idle process to end")
    assert time.monotonic() - start < 10


def test_new_rules_are_not_gone_around_by_reuse(tree, serve):
    service = serve()
    assert accepts(service.ask(MAIL, end=False))
    compile_rules(tree, RULES, {"": {"RELAYCLIENT": "@new.example"}})
    assert accepts(service.ask(MAIL, end=False))
    assert service.got[1][1].endswith(b"Tr@x.example@new.example\0\0")


def test_idle_processes_count_as_no_connection(serve):
    service = serve("-c", "2")
    for i in range(1, 30):
        assert accepts(service.ask(MAIL, f"127.0.0.{i}", end=False))


def test_idle_processes_are_bounded(serve):
    service = serve("-c", "200")
    for i in range(1, 120):
        assert accepts(service.ask(MAIL, f"127.0.{i // 10}.{i}", end=False))
    assert len(service.children()) < 80


# --- stop ------------------------------------------------------------------------------------------------

def test_stop_waits_for_a_message_and_not_for_the_idle(serve):
    service = serve()
    busy, idle = service.connect("127.0.0.1"), service.connect("127.0.0.2")
    busy.sendall(MAIL[:-5])
    wait_for(lambda: len(service.children()) == 2 and is_read(busy))
    assert stays_open(busy)
    service.process.send_signal(signal.SIGTERM)
    wait_for(lambda: refuses(service), what="the socket to be closed")
    time_left = time.monotonic() + 8
    assert read_all(idle) == b""
    busy.sendall(MAIL[-5:])
    assert read_netstring(busy).startswith(b"Kok ")
    assert service.process.wait(WAIT) == 0
    assert time.monotonic() < time_left


def refuses(service):
    try:
        service.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:    # it was being closed just then
        pass
    return False


def test_stop_ends_in_a_bounded_time(serve):
    service = serve()
    stubborn = service.connect()
    wait_for(lambda: service.children())
    pid = service.children()[0]
    stubborn.sendall(MAIL[:-5])
    assert stays_open(stubborn)
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    assert service.stop(deadline=30) == 0
    assert 9 < time.monotonic() - start < 20
    assert read_all(stubborn) == b""


def test_a_parent_that_is_killed_leaves_no_idle_process(serve):
    service = serve()
    assert accepts(service.ask(MAIL, end=False))
    waiting = service.connect()
    wait_for(lambda: service.children())
    service.stop(signal.SIGKILL)
    assert read_all(waiting) == b""	# the end of the test sees that no process is left


# --- trouble ---------------------------------------------------------------------------------------------

def test_a_thousand_idle_connections(serve):
    service = serve("-c", "1000", "-a", "1000", "-n", "1000")
    held = [service.connect(f"127.0.0.{i % 250 + 1}") for i in range(1000)]
    wait_for(lambda: len(service.children()) == 1000)
    assert service.ask(b"") == BUSY
    for c in (held[0], held[500], held[999]):
        assert is_served(c)
    for c in held:
        c.close()
    wait_for(lambda: len(service.children()) <= 64)
    assert accepts(service.ask(MAIL))


def test_no_descriptors(serve):
    service = serve()
    used = {int(fd) for fd in os.listdir(f"/proc/{service.process.pid}/fd")}
    service.limit("nofile", min(set(range(1000)) - used))
    with service.connect() as c:
        c.sendall(MAIL)
        assert "unable to accept a connection: Too many open files" in service.logged("unable to accept")
        ticks = cpu_ticks(service.process.pid)
        assert stays_open(c, 0.5)
        assert cpu_ticks(service.process.pid) - ticks < 5, "it does not wait"
        service.limit("nofile", None)
        assert read_netstring(c).startswith(b"Kok ")


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return sum(int(x) for x in stat.read().rsplit(")", 1)[1].split()[11:13])


def test_no_processes(tree, serve):
    if os.getuid() == 0 and tree.uid == 0:
        pytest.skip("root has no limit")
    service = serve()
    service.limit("nproc", 0)
    assert service.ask(b"") == BUSY
    assert "unable to fork" in service.logged("no process can be started")
    service.limit("nproc", None)
    assert accepts(service.ask(MAIL))


def test_a_log_that_nobody_reads_stops_nobody(serve):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    service = serve("-c", "1", log=writer)
    os.close(writer)
    held = service.connect("127.0.0.2")
    wait_for(lambda: service.children())
    for _ in range(10):
        assert service.ask(b"") == BUSY
    os.close(reader)
    assert is_served(held)


def test_the_log_of_refusals_is_bounded(serve):
    service = serve(rules={"": "deny"})
    for _ in range(200):
        assert service.ask(b"") == b""
    service.logged("not logged one by one")
    assert service.log().count("refused: ") < 150


def test_the_parent_reads_nothing(serve):
    """It has no descriptor of a connection once a child has it."""
    service = serve()
    held = [service.connect() for _ in range(3)]
    wait_for(lambda: len(service.children()) == 3)

    def links():
        path = f"/proc/{service.process.pid}/fd"
        try:
            return [os.readlink(f"{path}/{fd}") for fd in os.listdir(path)]
        except FileNotFoundError:  # it closes one just now
            return [mine]
    for pid in service.children():
        mine = wait_for(lambda: connection_of(pid))
        wait_for(lambda: mine not in links(), what="the parent to close it")
        others = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert sum(link.startswith("socket:") for link in others) <= 2 + 3, others
    assert all(is_served(c) for c in held)


def connection_of(pid):
    """What descriptors 0 and 1 of the process are, once they are one."""
    first, second = (os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1))
    return first if first == second else None


def test_options_need_a_listening_socket(tree):
    done = tree.run("qmail-qmqpd", "-c", "5", stdin=subprocess.DEVNULL)
    assert done.returncode == 100 and b"a socket that listens" in done.stderr
    for wrong in (["-c", "0"], ["-c", "x"], ["-a", "100001"], ["-z"], ["more"]):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            assert tree.run("qmail-qmqpd", *wrong, stdin=listener).returncode == 100


# --- qmail-listen -------------------------------------------------------------------------------------------

@contextlib.contextmanager
def listening(tree, *arguments, log, ready, **more):
    ours, theirs = os.pipe()
    with open(log, "ab") as output:
        process = tree.popen("qmail-listen", *arguments, tree.bin / "qmail-qmqpd", "-d", theirs, pass_fds=[theirs],
                             stderr=output, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **more)
    os.close(theirs)
    with open(ours, "rb") as f:
        assert (f.read(1) == b"\n") == ready
    try:
        yield process
    finally:
        process.terminate()
        process.wait(WAIT)


def reaches(address, port, source=None):
    with socket.create_connection((address, port), WAIT, (source, 0) if source else None) as c:
        return b"may not use QMQP" in read_all(c)


def test_listen_at_several_addresses(tree):
    port = free_port()
    with listening(tree, "127.0.0.1,127.0.0.5", port, log=tree.home / "log.txt", ready=True):
        assert reaches("127.0.0.1", port) and reaches("127.0.0.5", port)
        with pytest.raises(ConnectionRefusedError):
            reaches("127.0.0.6", port)


def test_listen_at_all_addresses(tree):
    port = free_port()
    with listening(tree, "0", port, log=tree.home / "log.txt", ready=True):
        assert reaches("127.0.0.1", port) and reaches("127.0.0.9", port)
        with contextlib.suppress(OSError):
            assert reaches("::1", port)
    # an IPv4 client of a socket for both is an IPv4 client
    assert "ip=127.0.0.1" in (tree.home / "log.txt").read_text()


def test_listen_becomes_the_user(tree):
    if os.getuid():
        pytest.skip("only root can become somebody")
    port = free_port()
    with listening(tree, "-u", "nobody", "127.0.0.1", port, log=tree.home / "log.txt", ready=True, user=0, group=0) as p:
        status = open(f"/proc/{p.pid}/status").read()
        assert f"Uid:\t{tree.uid}\t{tree.uid}\t{tree.uid}\t{tree.uid}\n" in status
        assert f"Gid:\t{tree.gid}\t{tree.gid}\t{tree.gid}\t{tree.gid}\n" in status
        assert f"Groups:\t{tree.gid} \n" in status
        assert reaches("127.0.0.1", port)


@pytest.mark.parametrize("arguments, code", [
    ([], 100), (["127.0.0.1", "0", "x"], 100), (["127.0.0.1", "65536", "x"], 100), (["h.example", "5000", "x"], 100),
    (["", "5000", "x"], 100), (["127.0.0.1,", "5000", "x"], 100), (["-b", "0", "127.0.0.1", "5000", "x"], 100),
    (["-u", "no-such-user", "127.0.0.1", "5000", "x"], 111), (["127.0.0.1", "no-such-service", "x"], 100),
    (["192.0.2.77", "5000", "x"], 111), (["-u", "root", "127.0.0.1", "PORT", "true"], 111), (["127.0.0.1", "PORT", "/no/program"], 111),
])
def test_listen_wrong(tree, arguments, code):
    port = str(free_port())
    done = tree.run("qmail-listen", *[port if a == "PORT" else a for a in arguments])
    assert done.returncode == code, done.stderr
