"""qmail-qmqpd on a listening socket: takes mail from hosts that a rule lets relay, and survives all others. And
qmail-qmqpc, in the place of bin/qmail-queue, as its client and as that of servers that break the rules."""
import contextlib
import os
import shutil
import socket
import threading

import pytest

from conftest import HOST, WAIT
from serving import Keeper, Service, compile_rules, netstring, qmqp, read_netstring

MESSAGE = b"Subject: hello\n\nhello\n"
RELAY = {"127.": {"RELAYCLIENT": ""}}


@pytest.fixture
def keeper(tree):
    with Keeper(tree) as k:
        yield k


@pytest.fixture
def relay(tree, keeper):
    compile_rules(tree, "control/tcp.qmqp.cdb", RELAY)
    with Service(tree, "qmail-qmqpd", "-x", "control/tcp.qmqp.cdb") as service:
        service.keeper = keeper
        yield service


def test_a_message(relay):
    with relay.connect("127.0.0.5") as c:
        c.sendall(qmqp(MESSAGE, "s@h.example", "a@x.example", "b@y.example"))
        assert read_netstring(c) == b"Kok 1700000000 qp 1"
        assert c.recv(1) == b""
    message, envelope = relay.keeper.got[0]
    assert message.startswith(b"Received: from unknown (127.0.0.5)\n  by %s with QMQP; " % HOST.encode())
    assert message.endswith(b"\n" + MESSAGE)
    assert envelope == b"Fs@h.example\0Ta@x.example\0Tb@y.example\0\0"
    line = relay.logged("message ")
    assert "ip=127.0.0.5" in line and "from=<s@h.example> to=<a@x.example>,<b@y.example> recipients=2" in line
    assert "result=accepted qp=1" in line


def test_who_may_not_relay(tree, keeper):
    compile_rules(tree, "control/tcp.qmqp.cdb", {"": {}})
    with Service(tree, "qmail-qmqpd", "-x", "control/tcp.qmqp.cdb") as service:
        assert b":Zthis host may not use QMQP here" in service.ask(qmqp(MESSAGE, "s", "r"))
        # also one that sends a lot before it looks
        assert b":Zthis host may not use QMQP here" in service.ask(qmqp(b"x" * 3000000, "s", "r"))
        service.logged("RELAYCLIENT is not set", 2)
    assert keeper.got == []


def test_relayclient_goes_behind_recipients(tree, keeper):
    compile_rules(tree, "control/tcp.qmqp.cdb", {"": {"RELAYCLIENT": "@gw"}})
    with Service(tree, "qmail-qmqpd", "-x", "control/tcp.qmqp.cdb") as service:
        assert b":Kok " in service.ask(qmqp(MESSAGE, "s", "a", "b@c"))
    assert keeper.got[0][1] == b"Fs\0Ta@gw\0Tb@c@gw\0\0"


@pytest.mark.parametrize("octets, letter", [
    (qmqp(b"", "", "r"), b"K"),
    (qmqp(b"a\0b\rc\r\nd", "s", "r"), b"K"),
    (qmqp(MESSAGE, "s"), b"D"),
    (qmqp(MESSAGE, "x" * 1002, "r" * 1002), b"K"),
    (qmqp(MESSAGE, "x" * 1003, "r"), b"D"),
    (qmqp(MESSAGE, "s", "r", "x" * 1003), b"D"),
    (qmqp(MESSAGE, "s\0", "r"), b"D"),
    (qmqp(MESSAGE, "s", "r", "\0"), b"D"),
    (qmqp(b"Received: x\n" * 100, "s", "r"), b"D"),
    (qmqp(b"Received: x\n" * 99, "s", "r"), b"K"),
], ids=range(10))
def test_what_is_taken(relay, octets, letter):
    said = relay.ask(octets)
    assert said.split(b":", 1)[1][:1] == letter
    assert len([g for g in relay.keeper.got if len(g) == 2]) == (letter == b"K")


HOSTILE = {
    "no number": b"x",
    "a sign": b"-1:",
    "zeros in front": b"00:",
    "a number without end": b"9" * 100000,
    "an empty one": b"0:,",
    "message larger than what is around it": b"5:9:ab,,",
    "message ends behind what is around it": b"5:3:abc,,",
    "no room for the sender": netstring(netstring(MESSAGE)),
    "sender larger than what is around it": netstring(netstring(MESSAGE) + b"5:s,"),
    "recipient ends in a number": netstring(netstring(MESSAGE) + b"1:s,3"),
    "no comma behind the message": netstring(b"1:a;1:s,1:r,"),
    "no comma behind all": b"12:1:a,1:s,1:r,;",
    "SMTP": b"EHLO x\r\n",
    "zeros": b"\0" * 100000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(relay, name):
    assert relay.ask(HOSTILE[name]) == b""
    relay.logged("malformed netstring")
    assert not [g for g in relay.keeper.got if len(g) == 2]


def test_nothing_is_logged_of_the_connection_before(relay):
    relay.ask(qmqp(MESSAGE, "s@h.example", "r@x.example"))
    relay.logged("message ")
    assert relay.ask(b"5:x") == b""
    assert relay.logged("malformed netstring").count("from=") == 1


def test_cut_off_anywhere(relay):
    whole = qmqp(MESSAGE, "s", "r")
    for n in range(len(whole)):
        assert relay.ask(whole[:n]) == b""
    assert not [g for g in relay.keeper.got if len(g) == 2]


# --- qmail-qmqpc -------------------------------------------------------------------------------------------

def servers(tree, *entries):
    tree.write("control/qmqpservers", "".join(f"{entry}\n" for entry in entries))


@contextlib.contextmanager
def fake(tree, answer, reads=True, address="127.0.0.1"):
    """A server that reads (a netstring, or nothing) and says answer; .got: what it read."""
    listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)

    def work():
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(WAIT)
            if reads:
                fake.got = read_netstring(connection)
            with contextlib.suppress(OSError):
                connection.sendall(answer)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    host, port = listener.getsockname()[:2]
    servers(tree, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(WAIT)


@pytest.mark.parametrize("answer, code", [
    (b"2:Ko,", 0), (b"1:K,", 0), (b"2:Zo,", 71), (b"2:Do,", 31), (b"2:Xo,", 74), (b"0:,", 74), (b"", 74), (b"2:K", 74), (b"2:Ko;", 74),
    (b"x", 74), (b"99999:K", 74), (b"9" * 5000, 74), (b":K,", 74), (b"1001:K" + b"x" * 1000 + b",", 74), (b"1000:K" + b"x" * 999 + b",", 0),
    (b"02:Ko,", 0),
], ids=range(16))
def test_answers(tree, answer, code):
    with fake(tree, answer):
        assert tree.queue(MESSAGE, "s@h", "r@x", "q@y", program="qmail-qmqpc").returncode == code
        assert fake.got == netstring(MESSAGE) + netstring("s@h") + netstring("r@x") + netstring("q@y")


def test_an_early_answer(tree):
    """It is believed if it is a refusal; a yes to half a message is none."""
    large = b"x" * 8000000
    for answer, codes in ((b"2:Zo,", (71, 74)), (b"2:Do,", (31, 74)), (b"2:Ko,", (74,))):
        with fake(tree, answer, reads=False):
            assert tree.queue(large, "s", "r", program="qmail-qmqpc").returncode in codes


@pytest.mark.parametrize("message", [b"", b"a\0b", b"x" * 262144, b"x" * 262145, bytes(range(256)) * 40000],
                         ids=["none", "nul", "in memory", "in a file", "all octets"])
def test_messages(tree, message):
    with fake(tree, b"2:Ko,"):
        assert tree.queue(message, "", "r", program="qmail-qmqpc").returncode == 0
        assert fake.got == netstring(message) + b"0:,1:r,"


def test_parameters_are_left_out(tree):
    with fake(tree, b"2:Ko,"):
        envelope = b"Fs@h\0PBODY=8BITMIME\0Tr@x\0PNOTIFY=NEVER\0Tq@x\0\0"
        assert tree.queue(MESSAGE, "", envelope=envelope, program="qmail-qmqpc").returncode == 0
        assert fake.got == netstring(MESSAGE) + b"3:s@h,3:r@x,3:q@x,"


@pytest.mark.parametrize("envelope, code", [(b"", 54), (b"Fs\0Tr\0", 54), (b"X", 91), (b"F" + b"x" * 1003 + b"\0\0", 11)], ids=range(4))
def test_bad_envelopes(tree, envelope, code):
    servers(tree, "127.0.0.1:1")
    assert tree.queue(MESSAGE, "", envelope=envelope, program="qmail-qmqpc").returncode == code


def test_no_servers(tree):
    assert tree.queue(MESSAGE, "s", "r", program="qmail-qmqpc").returncode == 55
    servers(tree, "# nobody")
    assert tree.queue(MESSAGE, "s", "r", program="qmail-qmqpc").returncode == 55
    servers(tree, "127.0.0.1:1")
    assert tree.queue(MESSAGE, "s", "r", program="qmail-qmqpc").returncode == 73
    servers(tree, "no such name:x", "[::1", "nowhere.invalid.")
    assert tree.queue(MESSAGE, "s", "r", program="qmail-qmqpc").returncode == 56


@pytest.mark.parametrize("call, outcome, code", [
    ("poll", "retval=0", 72),           # as if 10 seconds had passed: the wait for the connection ends with nothing
    ("socket", "error=EMFILE", 56),
    ("connect", "error=ENETUNREACH", 73),
])
def test_a_server_that_cannot_be_reached(tree, call, outcome, code):
    """strace has the system call end so."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    tree.replace("traced", f"#!/bin/sh\nexec strace -qq -o /dev/null -e trace={call} -e inject={call}:{outcome} {tree.bin}/qmail-qmqpc\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        servers(tree, "127.0.0.1:%d" % listener.getsockname()[1])
        done = tree.queue(MESSAGE, "s", "r", program="traced")
    if done.stderr:
        pytest.skip(f"strace is not allowed here: {done.stderr!r}")
    assert done.returncode == code


def test_the_next_server_and_names(tree, relay):
    port = relay.address[1]
    servers(tree, "127.0.0.1:1", "no such name", f"localhost:{port}")
    assert tree.queue(MESSAGE, "s", "r@x", program="qmail-qmqpc").returncode == 0
    assert relay.keeper.got[0][0].endswith(MESSAGE)


@pytest.mark.parametrize("answer, code", [(b"2:Ko,", 0), (b"2:Zo,", 71), (b"2:Do,", 31), (b"", 74)], ids=["K", "Z", "D", "none"])
def test_the_first_server_that_can_be_reached_decides(tree, answer, code):
    """As in qmail: the next one hears of nothing, even where the message was refused for now, or may have been taken."""
    with socket.create_server(("127.0.0.1", 0)) as other, fake(tree, answer):
        first = (tree.control / "qmqpservers").read_text().strip()
        servers(tree, "127.0.0.1:1", first, "127.0.0.1:%d" % other.getsockname()[1])
        assert tree.queue(MESSAGE, "s", "r", program="qmail-qmqpc").returncode == code
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_ipv6(tree):
    try:
        with fake(tree, b"2:Ko,", address="::1"):
            assert tree.queue(MESSAGE, "s", "r@x", program="qmail-qmqpc").returncode == 0
    except OSError:
        pytest.skip("no IPv6 here")


def test_the_file_for_a_large_message_cannot_be_made(tree):
    servers(tree, "127.0.0.1:1")
    done = tree.queue(b"x" * 300000, "s", "r", program="qmail-qmqpc", env={"TMPDIR": "/nonexistent"})
    assert done.returncode == 53


def test_in_the_place_of_qmail_queue(new_tree, server, tree):
    """A host without a queue: what its programs send arrives on the other one."""
    compile_rules(server, "control/tcp.qmqp.cdb", RELAY)
    with Service(server, "qmail-qmqpd", "-x", "control/tcp.qmqp.cdb") as service:
        (tree.bin / "qmail-queue").unlink()
        (tree.bin / "qmail-queue").symlink_to("qmail-qmqpc")
        servers(tree, f"127.0.0.1:{service.address[1]}")
        for i in range(5):
            tree.inject(f"Subject: by QMQP {i}\n\nhello\n", f"ana@{HOST}")
        arrived = server.arrived(5)
    assert sorted(m.split(b"Subject: by QMQP ")[1][:1] for m in arrived) == [b"0", b"1", b"2", b"3", b"4"]
    assert b" with QMQP; " in arrived[0] and b"from network" in arrived[0] or os.getuid() == 0
