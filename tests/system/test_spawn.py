"""qmail-lspawn, qmail-rspawn and qmail-start from outside: a test is the qmail-send at the other end of descriptor 3.
Programs that they start are scripts here. Rows L3 and L4 of the hostile inputs; stock bug 4."""
import ast
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

import spawn_peer
from conftest import wait_for
from probe import is_sanitized
from spawn_peer import Spawner, remote_job

# Answers each job with what it sees of itself; "crash", "sleep", "program" as sender do that instead.
LOCAL = """#!/usr/bin/python3 -I
import os, socket, struct, subprocess, sys, time
sys.path.insert(0, os.getcwd())
from spawn_peer import Channel
channel = Channel(socket.socket(fileno=3))
fds = {f: os.readlink(f"/proc/self/fd/{f}") for f in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{f}")}
while True:
    frame = channel.receive(600)
    if frame is None:
        break
    number, count, size = struct.unpack(">IIQ", frame[1][:16])
    parts = frame[1][16:].split(b"\\0", count)
    if parts[0] == b"crash":
        os.kill(os.getpid(), 11)
    if parts[0] == b"program":
        child = subprocess.Popen(["/bin/sleep", "600"])
        parts[1] = str(child.pid).encode()
    text = repr(dict(argv=sys.argv, fds=fds, cwd=os.getcwd(), pid=os.getpid(), sid=os.getsid(0), pgid=os.getpgid(0),
                     env=dict(os.environ), parts=parts, ids=[os.getresuid(), os.getresgid(), os.getgroups()])).encode()
    channel.send("A", struct.pack(">II", number, 0) + b"K" + text)
"""

# Prints the account that the local part says; others do what their name says.
GETPW = """#!/bin/sh
case $1 in
slow*) while [ ! -e go ]; do sleep 0.05; done ;;
crash) kill -SEGV $$ ;;
exit*) exit "${1#exit}" ;;
nothing) exit 0 ;;
half) printf 'half\\0001\\0001\\000'; exit 0 ;;
flood) exec cat /dev/zero ;;
holder) sleep 600 & echo $! >held ;;
esac
printf '%s\\000UID\\000GID\\000home/x\\000-\\000%s\\000' got "$1"
"""


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] not in "ZX"
    except OSError:
        return False


def children_of(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.fixture
def lspawn_tree(tree):
    tree.need("qmail-lspawn", "qmail-newu")
    u, g = tree.uid, tree.gid
    tree.write("users/assign", f"=ana:ana:{u}:{g}:home/ana:::\n+ana-:ana:{u}:{g}:home/ana:-::\n=root:root:0:{g}:/root:::\n"
               f"=other:other:{u + 1}:{g}:/x:::\n=bad:bad:nobody:{g}:/x:::\n.\n")
    tree.run("qmail-newu", check=True)
    (tree.home / "libexec/qmail-local").unlink(missing_ok=True)
    tree.write("libexec/qmail-local", LOCAL, 0o755)
    (tree.bin / "qmail-local").unlink(missing_ok=True)
    os.link(tree.home / "libexec/qmail-local", tree.bin / "qmail-local")
    tree.write("spawn_peer.py", pathlib.Path(spawn_peer.__file__).read_bytes())
    tree.replace("qmail-getpw", GETPW.replace("UID", str(u)).replace("GID", str(g)))
    return tree


@pytest.fixture
def start_spawner():
    """A function that starts a spawner; at the end all are told to go, and must."""
    started = []

    def start(tree, program, *args, **more):
        spawner = Spawner(tree, program, *args, log=tree.home / f"{program}.log", **more)
        started.append(spawner)
        return spawner

    yield start
    for spawner in started:
        spawner.close()
        try:
            spawner.process.wait(10)
        except subprocess.TimeoutExpired:
            spawner.process.kill()
            spawner.process.wait()
            raise


@pytest.fixture
def lspawn(lspawn_tree, start_spawner):
    spawner = start_spawner(lspawn_tree, "qmail-lspawn", "./Maildir/", env={"FROM_START": "yes"})
    spawner.tree = lspawn_tree
    return spawner


def account(tree, user, home, dash="", ext=""):
    return [x.encode() for x in (user, str(tree.uid), str(tree.gid), home, dash, ext)]


def ids_of(tree):
    return (str(tree.uid).encode(), str(tree.gid).encode())


# --- whose is it -------------------------------------------------------------

def test_who_table(lspawn):
    assert lspawn.who(1, "Ana") == account(lspawn.tree, "ana", "home/ana")
    assert lspawn.who(2, "ANA-Foo-bar") == account(lspawn.tree, "ana", "home/ana", "-", "Foo-bar")


def test_who_sees_a_new_table_at_once(lspawn):
    tree = lspawn.tree
    assert lspawn.who(1, "new")[0] == b"got"
    tree.write("users/assign", f"=new:new:{tree.uid}:{tree.gid}:home/new:::\n.\n")
    tree.run("qmail-newu", check=True)
    assert lspawn.who(2, "new")[0] == b"new"


def test_who_getpw(lspawn):
    assert lspawn.who(1, "Some-Body") == account(lspawn.tree, "got", "home/x", "-", "Some-Body")
    (lspawn.tree.home / "users/cdb").unlink()
    assert lspawn.who(2, "ana") == account(lspawn.tree, "got", "home/x", "-", "ana")
    assert lspawn.who(3, "-x") == account(lspawn.tree, "got", "home/x", "-", "-x")


@pytest.mark.parametrize("local", ["crash", "exit111", "exit115", "exit116", "exit100", "exit1", "nothing", "half", "flood"])
def test_who_getpw_in_trouble_is_temporary(lspawn, local):
    assert lspawn.who(1, local)[0] == "Z"
    assert lspawn.who(2, "ok")[0] == b"got"


def test_who_getpw_that_leaves_a_process_behind(lspawn):
    assert lspawn.who(1, "holder", timeout=10)[0] == b"got"
    wait_for(lambda: not children_of(lspawn.process.pid))
    pid = int((lspawn.tree.home / "held").read_text())
    wait_for(lambda: not is_alive(pid))


def test_who_without_getpw_is_temporary(lspawn):
    (lspawn.tree.bin / "qmail-getpw").unlink()
    assert lspawn.who(1, "somebody")[0] == "Z"
    assert "alert: qmail-lspawn: unable to exec bin/qmail-getpw" in lspawn.log()


def test_who_our_getpw_is_kept(lspawn):
    """It answers one question after another; where it was killed, another one does."""
    (lspawn.tree.bin / "qmail-getpw").unlink()
    os.link(lspawn.tree.home / "libexec/qmail-getpw", lspawn.tree.bin / "qmail-getpw")
    first = lspawn.who(1, "no-such-user")	# the user alias, or trouble where there is none
    for number in range(50):
        lspawn.ask("?", 100 + number, f"no-such-user-{number}")
    assert lspawn.who(2, "no-such-user") == first
    assert len(children_of(lspawn.process.pid)) <= 5
    for pid in children_of(lspawn.process.pid):
        os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: not children_of(lspawn.process.pid))
    assert lspawn.who(3, "no-such-user") == first
    assert children_of(lspawn.process.pid)


def test_who_slow_getpw_delays_nobody(lspawn):
    for number in range(20):
        lspawn.ask("?", 100 + number, f"slow{number}")
    assert lspawn.who(1, "ana", timeout=10)[0] == b"ana"
    assert lspawn.who(2, "quick", timeout=10)[0] == b"got"
    (lspawn.tree.home / "go").touch()
    for number in range(20):
        kind, payload, _ = lspawn.answer(100 + number)
        assert (kind, payload.split(b"\0")[5]) == ("K", f"slow{number}".encode())


def test_who_more_slow_ones_than_may_run(lspawn):
    """Processes are bounded; the others wait for theirs, and all are answered."""
    for number in range(300):
        lspawn.ask("?", 100 + number, f"slow{number}")
    assert lspawn.who(1, "ana", timeout=10)[0] == b"ana"
    assert len(children_of(lspawn.process.pid)) <= 32
    (lspawn.tree.home / "go").touch()
    for number in range(300):
        assert lspawn.answer(100 + number)[0] == "K"
    wait_for(lambda: not children_of(lspawn.process.pid))


def test_who_root_is_refused(lspawn):
    kind, text = lspawn.who(1, "root")
    assert kind == "Z"
    assert lspawn.start(2, "root")[0] == "Z"
    assert "alert: qmail-lspawn: refused to deliver as uid 0, user: root\n" in lspawn.log()


def test_who_other_user_is_temporary(lspawn):
    """Not started by root, so it cannot become somebody else."""
    assert lspawn.who(1, "other")[0] == "Z"
    assert lspawn.start(2, "other")[0] == "Z"


def test_who_entry_without_uid_is_temporary(lspawn):
    assert lspawn.who(1, "bad")[0] == "Z"


def test_who_empty_local_part(lspawn):
    assert lspawn.who(1, "") == [b""] * 6
    assert lspawn.start(2, "")[0] == "Z"


def test_who_odd_octets(lspawn):
    local = bytes(range(1, 256))
    assert lspawn.who(1, local)[5] == local
    assert lspawn.who(2, b"a\0b")[0] == "Z"
    assert lspawn.who(3, b"x" * 4096)[5] == b"x" * 4096
    assert lspawn.who(4, b"x" * 4097)[0] == "Z"


@pytest.mark.parametrize("damage", ["truncated", "zeros", "empty", "text", "directory", "pointer"])
def test_L4_damaged_table_is_temporary(lspawn, damage):
    path = lspawn.tree.home / "users/cdb"
    octets = path.read_bytes()
    path.unlink()
    if damage == "directory":
        path.mkdir()
    else:
        path.write_bytes({"truncated": octets[:-8], "zeros": b"\0" * len(octets), "empty": b"", "text": b"=ana:" * 1000,
                          "pointer": octets[:-4] + b"\xf0\xff\xff\xff"}[damage])
    if damage == "pointer":
        # one slot points beyond the end: whose key lies there cannot be known, all others can
        answers = [lspawn.who(n, local)[0] for n, local in enumerate(("ana", "other-one", "root", "other", "bad", "ana-x"))]
        assert b"got" not in [a for a in answers if a in (b"ana", "Z")]
        assert "Z" in answers
        return
    assert lspawn.who(1, "ana")[0] == "Z"
    assert lspawn.start(2, "ana")[0] == "Z"
    assert "alert: qmail-lspawn: unable to read users/cdb" in lspawn.log()


# --- workers -----------------------------------------------------------------

def see(worker, *parts, number=7):
    worker.job(number, parts or ("s@x", "ana", "", "", "d"), b"message")
    answered, recipient, letter, text = worker.done()
    assert (answered, recipient, letter) == (number, 0, "K")
    return eval(text, {"__builtins__": {}})


def test_start_worker(lspawn):
    worker = lspawn.start(1, "ana-Ext")
    assert worker.account == account(lspawn.tree, "ana", "home/ana", "-", "Ext")
    seen = see(worker)
    assert seen["argv"][1:] == ["-W", "--", "ana", "home/ana", "./Maildir/"]
    assert pathlib.Path(seen["cwd"]) == lspawn.tree.home.resolve()
    assert seen["env"]["FROM_START"] == "yes"
    assert {fd: name for fd, name in seen["fds"].items() if fd in "012"} == {fd: "/dev/null" for fd in "012"}
    others = {fd: name for fd, name in seen["fds"].items() if fd not in "012"}
    assert others.pop("3").startswith("socket:")
    assert all("/proc/" in name for name in others.values()), others  # the script's own look at /proc
    assert seen["sid"] == seen["pgid"] == seen["pid"]
    assert seen["parts"][:5] == [b"s@x", b"ana", b"", b"", b"d"]
    worker.close()
    wait_for(lambda: not is_alive(seen["pid"]))


def test_start_says_that_qmail_local_is_replaced(lspawn):
    lspawn.tree.replace("qmail-local", "#!/bin/sh\nexit 0\n")
    assert see(lspawn.start(1, "ana"))["argv"][1:] == ["-W", "-C", "--", "ana", "home/ana", "./Maildir/"]
    (lspawn.tree.bin / "qmail-local").unlink()
    assert see(lspawn.start(2, "ana"))["argv"][2] == "-C"
    os.link(lspawn.tree.home / "libexec/qmail-local", lspawn.tree.bin / "qmail-local")
    assert see(lspawn.start(3, "ana"))["argv"][2] == "--"


def test_start_without_qmail_local_closes_the_socket(lspawn):
    """Stock bug 4: that is a deferral for qmail-send, and an alert."""
    (lspawn.tree.home / "libexec/qmail-local").unlink()
    worker = lspawn.start(1, "ana")
    assert worker.done() is None
    assert "alert: qmail-lspawn: unable to exec libexec/qmail-local: No_such_file_or_directory" in lspawn.log()


def test_start_many_workers(lspawn):
    for number in range(40):
        lspawn.ask("S", number, "ana")
    for number in range(40):
        kind, _, fd = lspawn.answer(number)
        assert kind == "K"
        os.close(fd)
    wait_for(lambda: not children_of(lspawn.process.pid), what="all workers to end and be waited for")


def test_kill_takes_the_programs_too(lspawn):
    worker = lspawn.start(1, "ana")
    seen = see(worker, "program", "", "", "", "d")
    program = int(seen["parts"][1])
    assert is_alive(program)
    lspawn.ask("X", 1)
    assert worker.done() is None
    wait_for(lambda: not is_alive(program) and not is_alive(seen["pid"]))
    lspawn.ask("X", 1)
    lspawn.ask("X", 99)
    assert lspawn.who(2, "ana")[0] == b"ana"


def test_crashed_worker_leaves_no_program(lspawn):
    worker = lspawn.start(1, "ana")
    program = int(see(worker, "program", "", "", "", "d")["parts"][1])
    worker.job(8, ("crash", "", "", "", "d"))
    assert worker.done() is None
    wait_for(lambda: not is_alive(program))


def test_end_with_descriptor_3(lspawn):
    worker = lspawn.start(1, "ana")
    for number in range(3):
        lspawn.ask("?", 10 + number, f"slow{number}")
    lspawn.who(2, "ana")
    helpers = wait_for(lambda: len(children_of(lspawn.process.pid)) == 4 and children_of(lspawn.process.pid))
    assert lspawn.end(10) == 0
    worker.close()
    wait_for(lambda: not [pid for pid in helpers if is_alive(pid)], what="workers and look-ups to end")


def test_signals_of_what_it_starts(lspawn_tree, start_spawner):
    """Nothing blocked and nothing ignored, also where the spawner was started so."""
    lspawn_tree.replace("qmail-getpw", "#!/bin/sh\nset -- $(grep -E '^Sig(Blk|Ign)' /proc/$$/status)\n"
                        "printf '%s\\000' x UID GID h - \"$2 $4\"\n".replace("UID", str(lspawn_tree.uid)).replace("GID", "1"))
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        spawner = start_spawner(lspawn_tree, "qmail-lspawn", "./Mailbox", restore_signals=False)
    finally:
        signal.signal(signal.SIGCHLD, ignored)
    blocked, ignores = (int(x, 16) for x in spawner.who(1, "x")[5].split())
    assert blocked == 0
    assert not ignores & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGCHLD - 1))
    wait_for(lambda: not children_of(spawner.process.pid))


def test_opens_no_queue_and_no_message(lspawn_tree, start_spawner, tmp_path):
    """What DESIGN section 2 promises of this root program: looked at with strace, up to the exec of others."""
    if is_sanitized(lspawn_tree.bin / "qmail-lspawn"):
        pytest.skip("the sanitizers read files of their own")
    strace = shutil.which("strace") or pytest.skip("strace is not installed")
    trace = lspawn_tree.write("trace", "")
    (lspawn_tree.bin / "real").write_bytes((lspawn_tree.bin / "qmail-lspawn").read_bytes())
    (lspawn_tree.bin / "real").chmod(0o755)
    lspawn_tree.replace("qmail-lspawn", f"#!/bin/sh\nexec {strace} -f -o {trace} -e trace=%file,%network,read {lspawn_tree.bin}/real \"$@\"\n")
    spawner = start_spawner(lspawn_tree, "qmail-lspawn", "./Mailbox")
    assert spawner.who(1, "ana")[0] == b"ana"
    assert spawner.who(2, "x")[0] == b"got"
    worker = spawner.start(3, "ana")
    worker.job(1, ("s", "ana", "", "", "d"), b"SECRET message")
    assert worker.done()[2] == "K"
    worker.close()
    assert spawner.end(10) == 0
    running, starting, opened = {}, {}, set()
    for line in trace.read_text().splitlines():
        pid, call = line.split(None, 1)
        if call.startswith("execve("):
            starting[pid] = re.search(r'"([^"]*)"', call)[1]
        if call.startswith(("execve(", "<... execve resumed>")) and call.endswith("= 0"):
            running[pid] = starting[pid]
        if running.get(pid, "real").endswith("real"):
            assert "SECRET" not in call
            opened |= set(re.findall(r'^(?:open|openat|readlink|stat|newfstatat|access|connect)\(.*?"([^"]*)"', call))
    assert "users/cdb" in opened and "/dev/null" in opened
    # both names of qmail-getpw are looked at: whether an administrator put another program there
    allowed = ("users/cdb", "/dev/null", "libexec/qmail-local", "bin/qmail-local", "libexec/qmail-getpw", "bin/qmail-getpw", "control", "/proc/self/exe", "/etc/", "/lib", "/usr/lib",
               str(lspawn_tree.bin))
    assert not [name for name in opened if name and not name.startswith(allowed)], opened


def test_usage(lspawn_tree):
    assert lspawn_tree.run("qmail-lspawn").returncode == 100


# --- L3: what comes on the sockets -------------------------------------------

GARBAGE = {
    "unknown type": struct.pack(">I", 5) + b"!" + b"x" * 5,
    "no id": struct.pack(">I", 3) + b"?" + b"x" * 3,
    "too large": struct.pack(">I", 0x7fffffff) + b"?" + b"x" * 100,
    "zeros": b"\0" * 1000,
    "text": b"GET / HTTP/1.0\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_L3_garbage_ends_qmail_lspawn(lspawn, name):
    lspawn.sock.sendall(GARBAGE[name])
    assert lspawn.process.wait(10) == 111
    assert lspawn.log().count("alert: qmail-lspawn: qmail-send made no sense\n") == 1


def test_L3_partial_frames(lspawn):
    frame = struct.pack(">I", 7) + b"?" + struct.pack(">I", 5) + b"ana"
    for octet in frame:
        lspawn.sock.sendall(bytes([octet]))
    assert lspawn.answer(5)[0] == "K"
    lspawn.sock.sendall(frame[:6])
    assert lspawn.end(10) == 0


def test_L3_descriptors_that_nobody_asked_for(lspawn):
    with open("/dev/null") as null:
        for number in range(50):
            lspawn.send("?", struct.pack(">I", number) + b"ana", null.fileno())
            assert lspawn.answer(number)[0] == "K"
    opened = os.listdir(f"/proc/{lspawn.process.pid}/fd")
    assert len(opened) <= 8, opened


def test_L3_flood_of_descriptors(lspawn):
    frame = struct.pack(">I", 7) + b"?" + struct.pack(">I", 5) + b"ana"
    with open("/dev/null") as null:
        socket.send_fds(lspawn.sock, [frame], [null.fileno()] * 100)
        try:
            assert lspawn.process.wait(2) in (0, 111)
        except subprocess.TimeoutExpired:
            assert len(os.listdir(f"/proc/{lspawn.process.pid}/fd")) < 30


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def test_L3_answers_that_nobody_reads(lspawn, lspawn_tree):
    """A qmail-send that is stopped costs a bounded amount of memory, and gets all its answers later."""
    if is_sanitized(lspawn_tree.bin / "qmail-lspawn"):
        pytest.skip("a sanitizer's memory says nothing of the program's")
    lspawn.who(0, "ana")
    before = resident(lspawn.process.pid)
    frames = b"".join(struct.pack(">I", 4 + 1000) + b"?" + struct.pack(">I", n) + b"ana-" + b"x" * 996 for n in range(1, 3001))
    lspawn.sock.setblocking(False)
    sent = still = 0
    while sent < len(frames) and still < 50:
        try:
            sent += lspawn.sock.send(frames[sent:])
            still = 0
        except BlockingIOError:
            still += 1
            time.sleep(0.01)
    assert sent < len(frames), "it took everything"
    assert resident(lspawn.process.pid) - before < 2048
    lspawn.sock.setblocking(True)
    for number in range(1, sent // 1009 + 1):
        assert lspawn.answer(number)[0] == "K"


def test_stopped_log_stops_nobody(lspawn_tree, start_spawner, tmp_path):
    """The log is a pipe that nobody reads: its lines are lost, mail is not."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    try:
        while True:
            os.write(theirs, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(theirs, True)
    mine, its = socket.socketpair()
    process = lspawn_tree.popen("/bin/bash", *spawn_peer.ON_3[1:], its.fileno(), lspawn_tree.bin / "qmail-lspawn", "./Mailbox",
                                pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    its.close()
    os.close(theirs)
    peer = spawn_peer.Channel(mine)
    for number in range(20):
        peer.send("?", struct.pack(">I", number) + b"root")
        assert peer.receive(10)[0] == "Z"
    peer.close()
    assert process.wait(10) == 0
    os.close(ours)


# --- qmail-rspawn ------------------------------------------------------------

# Reports by the name of the host; keeps what it was given in seen.N.
REMOTE = """#!/bin/sh
case $1 in
crash) kill -SEGV $$ ;;
exit*) exit "${1#exit}" ;;
nothing) exit 0 ;;
flood) exec cat /dev/zero ;;
sleep) sleep 600 & echo "$! $$" >pids; wait ;;
refuse) printf 'hno %s\\n\\000Dgiving up\\n\\000' "$3"; exit 0 ;;
bad) printf 'what is this'; exit 0 ;;
esac
printf '%s\\n' "$@" >"seen.$3"
cat >"message.$3"
shift 2
for r; do printf 'r\\000'; done
printf 'Kaccepted\\n\\000'
"""


@pytest.fixture
def rspawn_tree(tree):
    tree.need("qmail-rspawn")
    (tree.home / "libexec/qmail-remote").unlink(missing_ok=True)
    tree.replace("qmail-remote", REMOTE)
    return tree


@pytest.fixture
def rspawn(rspawn_tree, start_spawner):
    spawner = start_spawner(rspawn_tree, "qmail-rspawn")
    spawner.tree = rspawn_tree
    return spawner


def test_remote_without_a_list_of_dead_hosts(rspawn_tree, start_spawner):
    """What cannot be made is told of, and mail goes out all the same."""
    (rspawn_tree.home / "run/tcpto").unlink(missing_ok=True)
    (rspawn_tree.home / "run/tcpto").mkdir()
    try:
        rspawn = start_spawner(rspawn_tree, "qmail-rspawn")
        assert remote(rspawn, "h", "a@h") == [(5, 0, "K", b"accepted\n")]
        log = (rspawn_tree.home / "qmail-rspawn.log").read_text()
        assert log == "qmail-rspawn: warning: unable to empty run/tcpto, the list of dead hosts: Is a directory\n"
    finally:
        (rspawn_tree.home / "run/tcpto").rmdir()


def remote(rspawn, host, *recipients, number=1, message=b"hello\n", **more):
    worker = rspawn.start(number, host)
    worker.job(5, remote_job("s@x", host, *recipients), message, **more)
    answers = [worker.done() for _ in recipients]
    worker.close()
    return answers


def test_remote_one(rspawn):
    message = b"any \0 octets\n" * 1000
    assert remote(rspawn, "mx.example", "r@mx.example", message=message) == [(5, 0, "K", b"accepted\n")]
    assert (rspawn.tree.home / "seen.r@mx.example").read_text().split() == ["mx.example", "s@x", "r@mx.example"]
    assert (rspawn.tree.home / "message.r@mx.example").read_bytes() == message


def test_remote_replaced_program_gets_one_recipient_at_a_time(rspawn):
    assert remote(rspawn, "h", "a@h", "b@h", "c@h") == [(5, n, "K", b"accepted\n") for n in range(3)]
    for r in "abc":
        assert (rspawn.tree.home / f"seen.{r}@h").read_text().split() == ["h", "s@x", f"{r}@h"]
        assert (rspawn.tree.home / f"message.{r}@h").read_bytes() == b"hello\n"


def test_remote_our_program_is_the_worker(rspawn):
    tree = rspawn.tree
    tree.write("spawn_peer.py", pathlib.Path(spawn_peer.__file__).read_bytes())
    tree.replace("qmail-remote", LOCAL)
    os.link(tree.bin / "qmail-remote", tree.home / "libexec/qmail-remote")
    worker = rspawn.start(1, "dest.example")
    worker.job(5, remote_job("s@x", "dest.example", "a@h", "b@h"), b"hello\n")
    _, _, letter, text = worker.done()
    seen = ast.literal_eval(text.decode())
    assert letter == "K" and seen["argv"] == ["libexec/qmail-remote", "-W", "dest.example"]
    assert seen["parts"] == [b"s@x", b"", b"dest.example", b"a@h", b"", b"b@h", b"", b"hello\n"]
    assert seen["fds"]["0"] == "/dev/null" and seen["fds"]["3"].startswith("socket:") and not set(seen["fds"]) - set("0123")
    assert seen["cwd"] == str(tree.home) and seen["sid"] == seen["pid"]
    worker.close()


@pytest.mark.parametrize("host", ["-W", "x" * 60_000, "a\nb", ""])
def test_remote_host_of_a_worker_is_for_show(rspawn, host):
    tree = rspawn.tree
    tree.write("spawn_peer.py", pathlib.Path(spawn_peer.__file__).read_bytes())
    tree.replace("qmail-remote", LOCAL)
    os.link(tree.bin / "qmail-remote", tree.home / "libexec/qmail-remote")
    worker = rspawn.start(1, host)
    worker.job(5, remote_job("s@x", host, "a@h"), b"hello\n")
    assert ast.literal_eval(worker.done()[3].decode())["argv"][2] == host[:255]
    worker.close()


def test_remote_our_program_cannot_run(rspawn):
    rspawn.tree.replace("qmail-remote", b"\x7fELF nonsense")
    os.link(rspawn.tree.bin / "qmail-remote", rspawn.tree.home / "libexec/qmail-remote")
    assert [a[:3] for a in remote(rspawn, "h", "a@h", "b@h")] == [(5, 0, "Z"), (5, 1, "Z")]
    assert "alert: qmail-rspawn: unable to exec: libexec/qmail-remote" in rspawn.log()


def test_remote_message_in_a_file(rspawn, tmp_path):
    path = tmp_path / "message"
    path.write_bytes(b"large\n" * 100000)
    fd = os.open(path, os.O_RDONLY)
    assert remote(rspawn, "h", "a@h", "b@h", file=fd)[1] == (5, 1, "K", b"accepted\n")
    os.close(fd)
    assert (rspawn.tree.home / "message.b@h").read_bytes() == path.read_bytes()


def test_remote_refusal(rspawn):
    assert remote(rspawn, "refuse", "a@h", "b@h") == [
        (5, 0, "D", b"no a@h\ngiving up\n"), (5, 1, "D", b"no b@h\ngiving up\n")]


@pytest.mark.parametrize("host", ["crash", "exit111", "exit100", "exit1", "exit127", "nothing", "bad", "flood"])
def test_remote_trouble_is_a_deferral(rspawn, host):
    """Stock bug 4: qmail failed the mail for good where qmail-remote could not do its work."""
    assert [a[:3] for a in remote(rspawn, host, "a@h", "b@h")] == [(5, 0, "Z"), (5, 1, "Z")]


@pytest.mark.parametrize("what", ["absent", "not executable", "not a program"])
def test_remote_program_that_cannot_run_is_a_deferral(rspawn, what):
    path = rspawn.tree.replace("qmail-remote", b"\x7fELF nonsense")
    if what == "absent":
        path.unlink()
    elif what == "not executable":
        path.chmod(0o644)
    assert remote(rspawn, "h", "a@h")[0][:3] == (5, 0, "Z")
    assert "alert: qmail-rspawn: unable to exec: bin/qmail-remote" in rspawn.log()


def test_remote_QMAILREMOTE(rspawn_tree, start_spawner):
    program = rspawn_tree.write("other", "#!/bin/sh\nprintf 'r\\000Kby %s\\000' \"$0\"\n", 0o755)
    os.link(rspawn_tree.bin / "qmail-remote", rspawn_tree.home / "libexec/qmail-remote")
    spawner = start_spawner(rspawn_tree, "qmail-rspawn", env={"QMAILREMOTE": str(program)})
    assert remote(spawner, "h", "a@h", "b@h") == [(5, n, "K", f"by {program}".encode()) for n in range(2)]


def test_remote_batch(rspawn):
    worker = rspawn.start(1, "h")
    for number in range(16):
        worker.job(number, remote_job("s@x", "h", f"r{number}@h"), b"m" * 200000)
    assert sorted(worker.done()[0] for _ in range(16)) == list(range(16))
    worker.close()
    wait_for(lambda: not children_of(rspawn.process.pid))


def test_remote_kill(rspawn):
    worker = rspawn.start(3, "sleep")
    worker.job(1, remote_job("s", "sleep", "r"))
    pids = wait_for(lambda: (rspawn.tree.home / "pids").exists() and (rspawn.tree.home / "pids").read_text().split())
    rspawn.ask("X", 3)
    assert worker.done() is None
    wait_for(lambda: not [p for p in pids if is_alive(int(p))])


def test_remote_knows_no_users(rspawn):
    assert rspawn.who(1, "ana")[0] == "Z"


@pytest.mark.parametrize("frame", [b"\0" * 20, struct.pack(">I", 0x7fffffff) + b"J", struct.pack(">I", 4) + b"Jxxxx",
                                   struct.pack(">I", 16) + b"J" + struct.pack(">IIQ", 1, 0, 0),
                                   struct.pack(">I", 19) + b"J" + struct.pack(">IIQ", 1, 2, 0) + b"s\0h",
                                   struct.pack(">I", 20) + b"F" + struct.pack(">IIQ", 1, 2, 9) + b"s\0h\0"])
def test_L3_garbage_ends_a_remote_worker_only(rspawn, frame):
    worker = rspawn.start(1, "h")
    worker.sock.sendall(frame)
    assert worker.done() is None
    assert remote(rspawn, "h", "a@h", number=2)[0][2] == "K"


@pytest.mark.parametrize("name", GARBAGE)
def test_L3_garbage_ends_qmail_rspawn(rspawn, name):
    rspawn.sock.sendall(GARBAGE[name])
    assert rspawn.process.wait(10) == 111
    assert rspawn.log().count("alert: qmail-rspawn: qmail-send made no sense\n") == 1


def test_remote_end_with_descriptor_3(rspawn):
    worker = rspawn.start(1, "h")
    helpers = children_of(rspawn.process.pid)
    assert rspawn.end(10) == 0
    worker.close()
    wait_for(lambda: not [pid for pid in helpers if is_alive(pid)])


# --- qmail-start -------------------------------------------------------------

# Writes down what it was started with, then waits for its socket to end.
PROGRAM = """#!/usr/bin/python3 -I
import os, sys
name = os.path.basename(sys.argv[0])
fds = {f: os.readlink(f"/proc/self/fd/{f}") for f in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{f}")}
with open(f"{name}.seen.new", "w") as f:
    f.write(repr(dict(argv=sys.argv, fds=fds, env=dict(os.environ), cwd=os.getcwd())))
os.rename(f"{name}.seen.new", f"{name}.seen")
os.write(1, f"{name} says\\n".encode())
os.write(2, f"{name} complains\\n".encode())
if name == "qmail-send":
    if "-d" in sys.argv:
        os.write(int(sys.argv[sys.argv.index("-d") + 1]), b"ready\\n")
    while not os.path.exists("stop"):
        import time
        time.sleep(0.02)
else:
    os.read(3, 1)
"""


@pytest.fixture
def start_tree(tree):
    tree.need("qmail-start")
    for name in ("qmail-send", "qmail-lspawn", "qmail-rspawn"):
        tree.replace(name, PROGRAM)
    return tree


def seen_by(tree, name):
    path = tree.home / f"{name}.seen"
    wait_for(path.exists, what=str(path))
    return eval(path.read_text(), {"__builtins__": {}})


def standard(seen):
    """Its descriptors but for the one with which it looked at them."""
    return {int(fd): name.split(":")[0] for fd, name in seen["fds"].items() if "/proc/" not in name}


def run_start(tree, *args, **more):
    with open(tree.home / "out", "wb") as out, open(tree.home / "err", "wb") as err:
        return tree.popen("qmail-start", *args, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={"EXTRA": "yes"}, **more)


def end_start(tree, process):
    (tree.home / "stop").touch()
    assert process.wait(10) == 0


def test_start_passes_everything_on(start_tree):
    ours, theirs = os.pipe()
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    process = run_start(start_tree, "-d", theirs, "./Maildir/\n|x", pass_fds=[theirs, leak])
    os.close(theirs)
    os.close(leak)
    assert os.read(ours, 10) == b"ready\n"
    os.close(ours)
    log = str(start_tree.home.resolve() / "out")
    send, lspawn, rspawn = (seen_by(start_tree, f"qmail-{name}") for name in ("send", "lspawn", "rspawn"))
    assert lspawn["argv"][1:] == ["./Maildir/\n|x"]
    assert rspawn["argv"][1:] == []
    assert send["argv"][1:] == ["-d", "5"]
    assert standard(send) == {0: "/dev/null", 1: log, 2: log, 3: "socket", 4: "socket", 5: "pipe"}
    for seen in (lspawn, rspawn):
        assert standard(seen) == {0: "/dev/null", 1: log, 2: log, 3: "socket"}
    for seen in (send, lspawn, rspawn):
        assert seen["env"]["EXTRA"] == "yes"
        assert pathlib.Path(seen["cwd"]) == start_tree.home.resolve()
    assert send["fds"]["3"] != lspawn["fds"]["3"]
    end_start(start_tree, process)


def test_start_ready_on_descriptor_3(start_tree):
    """As s6 has it: the number that qmail-send's socket gets."""
    ours, theirs = os.pipe()
    process = start_tree.popen(*spawn_peer.ON_3, theirs, start_tree.bin / "qmail-start", "-d", "3", pass_fds=[theirs],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(theirs)
    assert os.read(ours, 10) == b"ready\n"
    os.close(ours)
    assert standard(seen_by(start_tree, "qmail-send")) == {0: "/dev/null", 1: "/dev/null", 2: "/dev/null", 3: "socket",
                                                           4: "socket", 5: "pipe"}
    end_start(start_tree, process)


def test_start_defaults(start_tree):
    process = run_start(start_tree)
    assert seen_by(start_tree, "qmail-lspawn")["argv"][1:] == ["./Mailbox"]
    assert seen_by(start_tree, "qmail-send")["argv"][1:] == []
    end_start(start_tree, process)


def test_start_logger(start_tree):
    logger = start_tree.write("logger", "#!/bin/sh\necho \"$#:$*\" >logged.new\nls -l /proc/$$/fd >fds\ncat >>logged.new\nmv logged.new logged\n", 0o755)
    process = run_start(start_tree, "./Mailbox", logger, "a b", "c")
    for name in ("send", "lspawn", "rspawn"):
        assert standard(seen_by(start_tree, f"qmail-{name}"))[1] == "pipe"
    end_start(start_tree, process)
    wait_for((start_tree.home / "logged").exists)  # it sees the end of the log
    lines = (start_tree.home / "logged").read_text().splitlines()
    assert lines[0] == "2:a b c"
    assert sorted(lines[1:]) == sorted(f"qmail-{n} {what}" for n in ("send", "lspawn", "rspawn") for what in ("says", "complains"))


def test_start_logger_by_path(start_tree):
    process = run_start(start_tree, "./Mailbox", "tee", "logged")
    wait_for(lambda: (start_tree.home / "logged").exists() and "qmail-send says" in (start_tree.home / "logged").read_text())
    end_start(start_tree, process)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "0<&- 1>&- 2>&-", "3<&- 4<&-"])
def test_L1_start_with_closed_descriptors(start_tree, closed):
    process = start_tree.popen("/bin/bash", "-c", f'exec "$0" ./Mailbox {closed}', start_tree.bin / "qmail-start",
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name in ("send", "lspawn", "rspawn"):
        assert set(standard(seen_by(start_tree, f"qmail-{name}"))) == {0, 1, 2, 3} | ({4} if name == "send" else set())
    end_start(start_tree, process)


@pytest.mark.parametrize("args", [["-x"], ["-d"], ["-d", "x"], ["-d", "77"], ["-d", "1"]])
def test_start_usage(start_tree, args):
    assert start_tree.run("qmail-start", *args).returncode == 100


def test_start_without_qmail_send(start_tree):
    (start_tree.bin / "qmail-send").unlink()
    done = start_tree.run("qmail-start")
    assert done.returncode == 111
