"""DESIGN section 2, who may do what: what somebody gets who takes a running program over, as its real user and shut in as
it is. A probe lets the process itself make the call (probe.py). Root only, in the namespace of test_root_users."""
import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import stat
import subprocess

import pytest

import fake_smtp
import slow_to_close
from conftest import BUILD, HOST, free_port, program_of, wait_for
from probe import KILLED, call, is_sanitized, need, opens
from real_server import identity, only
from test_root_users import installed, machine  # noqa: F401 (fixtures)
from test_tls import echo_program

pytestmark = pytest.mark.xdist_group("trust")  # one process makes the module's machines, once

INTERNET = (socket.AF_INET, socket.SOCK_STREAM, 0)
WRITE = os.O_WRONLY | os.O_CREAT
MESSAGE = b"Subject: x\n\nonly for whom it is meant\n"


class Running:
    """Keeper, scheduler and spawners, started as the service directories start them."""

    def __init__(self, machine, logs):
        self.machine, self.logs = machine, logs
        for name in ("Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
            for user in ("ana", "luis"):
                path = machine.path(f"/home/{user}") / name
                path.mkdir(mode=0o700, exist_ok=True)
                os.chown(path, *machine.passwd[user])
                path.parent.chmod(0o700)
        self.start_keeper()
        self.send = self.start("qmail-start", "./Maildir/")

    def start(self, program, *args, **more):
        ours, theirs = os.pipe()
        with open(self.logs / program, "ab") as log:
            process = self.machine.popen(program, "-d", theirs, *args, pass_fds=[theirs], stdin=subprocess.DEVNULL, stdout=log,
                                         stderr=log, **more)
        os.close(theirs)
        said = os.read(ours, 10)
        os.close(ours)
        assert said, self.log(program)
        return process

    def start_keeper(self):
        self.keeper = self.start("qmail-queued", user="qmailq:qmails")

    def log(self, program="qmail-start"):
        return (self.logs / program).read_text()

    def inject(self, to="ana", **more):
        done = self.machine.run("qmail-inject", f"{to}@{HOST}", input=MESSAGE, user="ana", cwd=self.machine.path("/home/ana"), **more)
        assert done.returncode == 0, done.stderr

    def delivers(self, to="ana"):
        new = self.machine.path(f"/home/{to}/Maildir/new")
        before = len(list(new.iterdir()))
        self.inject(to)
        wait_for(lambda: len(list(new.iterdir())) > before, what="the message")

    def named(self, name):
        """pids of processes that run bin/NAME or libexec/NAME."""
        return [pid for pid in self.machine.processes() if program_of(pid) == name]

    def one(self, name):
        """The one that has lived longest: a spawner's new child still is that spawner, for a moment."""
        def begun(pid):
            try:
                return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
            except OSError:
                return 1 << 64

        return min(wait_for(lambda: self.named(name), what=name), key=begun)


@pytest.fixture
def running(machine, tmp_path):  # noqa: F811
    need()
    for name in ("qmail-queued", "qmail-send", "qmail-inject", "qmail-local"):
        if not (machine.bin / name).exists():
            pytest.skip(f"{name} is not built")
    return Running(machine, tmp_path)


@pytest.fixture(scope="session")
def kernel():
    """Skips where the kernel cannot shut a program in: then only users and modes hold, which other tests look at."""
    status = pathlib.Path("/proc/self/status").read_text()
    if "Seccomp_filters" not in status:
        pytest.skip("no filters of system calls in this kernel")
    if is_sanitized(BUILD / "bin/qmail-queued"):
        pytest.skip("no filters of system calls in a build with sanitizers")
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 1:  # landlock_create_ruleset, asking for its version
        pytest.skip("no Landlock in this kernel")


def shut_in(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return "NoNewPrivs:\t1\n" in status and "Seccomp:\t2\n" in status


def executes(pid):
    return call(pid, "execve", b"/bin/true\0", 0, 0)


# --- the keeper and its writers ------------------------------------------------------------------------------------------

def test_keeper_writes_the_queue_and_reaches_nothing_else(running, kernel):
    machine = running.machine  # noqa: F811
    running.delivers()
    qmailq, qmails = machine.passwd["qmailq"][0], machine.groups["qmails"]
    # the keeper and its writers; the child that lists what waits has ended
    pids = wait_for(lambda: len(pids := running.named("qmail-queued")) == 3 and pids, what="a keeper with two writers")
    assert running.keeper.pid in pids
    for pid in pids:
        assert identity(pid) == {**only(qmailq, qmails), "Groups": []}
        assert shut_in(pid)
        assert opens(pid, "queue/new/probe", WRITE) is True
        for path in ("control/me", "users", "bin/qmail-queued", "/etc/passwd", "/proc/self/environ", "/home/ana", "run"):
            assert opens(pid, path) == "EACCES", path
        for path in ("run/x", "control/me", "/tmp/x", "log/x"):
            assert opens(pid, path, WRITE) == "EACCES", path
        assert call(pid, "kill", os.getpid(), 0) < 0
    (machine.home / "queue/new/probe").unlink()
    running.delivers()  # it goes on as if nothing had been


@pytest.mark.parametrize("attempt", [
    lambda pid: call(pid, "socket", *INTERNET), executes, lambda pid: call(pid, "setuid", 0), lambda pid: call(pid, "ptrace", 16, 1),
    lambda pid: call(pid, "unshare", 0x10000000), lambda pid: call(pid, "socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
], ids=["network", "program", "setuid", "ptrace", "namespace", "socket"])
def test_keeper_dies_rather_than(running, kernel, attempt):
    writer = next(p for p in running.named("qmail-queued") if p != running.keeper.pid)
    assert attempt(writer) == KILLED
    running.delivers()  # the keeper starts another writer
    assert attempt(running.keeper.pid) == KILLED
    running.keeper.wait(10)
    wait_for(lambda: not running.named("qmail-queued"), what="the writers to end with it")
    running.start_keeper()
    running.delivers()


# --- qmail-send ------------------------------------------------------------------------------------------------------------

def test_send_reads_the_queue_and_writes_nothing(running, kernel):
    machine = running.machine  # noqa: F811
    running.delivers()
    pid = running.send.pid
    assert identity(pid) == only(machine.passwd["qmails"][0], machine.groups["qmails"])
    assert shut_in(pid)
    ring = next((machine.home / "queue/journal").iterdir()).name
    for path in (f"queue/journal/{ring}", "queue/mess", "queue/info/0", "control/me", "control"):
        assert opens(pid, path) is True, path
    for path in ("users", "alias", "/etc/passwd", "/home/ana", "/proc/self/environ", "bin/qmail-send"):
        assert opens(pid, path) == "EACCES", path
    running.delivers()


@pytest.mark.parametrize("attempt", [
    lambda pid: opens(pid, "queue/new/x", WRITE), lambda pid: opens(pid, "control/me", os.O_RDWR),
    lambda pid: call(pid, "unlink", b"queue/lock\0"), lambda pid: call(pid, "mkdir", b"/tmp/x\0", 0o700),
    lambda pid: call(pid, "socket", *INTERNET), executes, lambda pid: call(pid, "setuid", 0),
], ids=["write the queue", "write control", "unlink", "mkdir", "network", "program", "setuid"])
def test_send_dies_rather_than(running, kernel, attempt):
    assert attempt(running.send.pid) == KILLED
    running.send.wait(10)
    wait_for(lambda: not running.named("qmail-lspawn") + running.named("qmail-rspawn"), what="the spawners to end with it")


# --- workers and spawners ----------------------------------------------------------------------------------------------------

def test_local_worker_is_its_user_and_no_more(running):
    machine = running.machine  # noqa: F811
    running.delivers("ana")
    pid = running.one("qmail-local")
    assert identity(pid) == only(*machine.passwd["ana"])
    assert opens(pid, "/home/ana/Maildir") is True
    for path in ("/home/luis", "/home/luis/Maildir", machine.home / "queue", machine.home / "queue/journal", "/etc/shadow",
                 f"/proc/{running.send.pid}/environ", f"/proc/{running.keeper.pid}/mem"):
        assert opens(pid, path) == "EACCES", path
    assert call(pid, "setuid", 0) == -1 and call(pid, "setuid", machine.passwd["luis"][0]) == -1
    for other in (running.send.pid, running.keeper.pid, running.one("qmail-lspawn"), running.one("qmail-rspawn")):
        assert call(pid, "kill", other, signal.SIGTERM) == -1
    running.delivers("ana")


def test_rspawn_and_its_workers_reach_no_mail(running):
    machine = running.machine  # noqa: F811
    pid = running.one("qmail-rspawn")
    assert identity(pid) == only(machine.passwd["qmailr"][0], machine.groups["nofiles"])
    assert opens(pid, "control/me") is True
    for path in ("queue", "queue/journal", "/home/ana", "alias/Maildir", "/etc/shadow"):
        assert opens(pid, path) == "EACCES", path
    for path in ("control/me", "queue/x", "run/x", "users/x", "bin/x"):
        assert opens(pid, path, WRITE) == "EACCES", path
    assert call(pid, "setuid", 0) == -1
    for other in (running.send.pid, running.keeper.pid, running.one("qmail-lspawn")):
        assert call(pid, "kill", other, signal.SIGTERM) == -1


@pytest.fixture
def remote_worker(running):
    """The pid of a qmail-remote that waits for a server's answer to a message."""
    going_on = []

    def hold(session, verb, line):
        if verb == "end":
            wait_for(lambda: going_on, what="the test")
        return None

    with fake_smtp.Server(hold, fake_smtp.ALL) as server:
        running.machine.write("control/smtproutes", f":[127.0.0.1]:{server.port}\n")
        # a domain of its own: the queue outlives a test, and what another left there may have failed just now
        done = running.machine.run("qmail-inject", f"far@port{server.port}.example", input=MESSAGE, user="ana", cwd=running.machine.path("/home/ana"))
        assert done.returncode == 0
        wait_for(lambda: server.messages, what="the message")
        yield running.one("qmail-remote")
        going_on.append(1)


def test_remote_worker_reaches_the_network_and_no_file(running, kernel, remote_worker):
    machine = running.machine  # noqa: F811
    assert identity(remote_worker) == only(machine.passwd["qmailr"][0], machine.groups["nofiles"])
    assert shut_in(remote_worker)
    for path in ("control/me", "queue", "users", "/etc/passwd", "/home/ana", "bin/qmail-remote", "/proc/self/environ", "run"):
        assert opens(remote_worker, path) == "EACCES", path
    assert call(remote_worker, "socket", *INTERNET) >= 0


@pytest.mark.parametrize("attempt", [
    lambda pid: opens(pid, "run/tcpto", os.O_RDWR), lambda pid: opens(pid, "/tmp/x", WRITE), executes, lambda pid: call(pid, "setuid", 0),
    lambda pid: call(pid, "socket", socket.AF_UNIX, socket.SOCK_STREAM, 0), lambda pid: call(pid, "ptrace", 16, 1),
    lambda pid: call(pid, "kill", os.getpid(), 0), lambda pid: call(pid, "unlink", b"run/tcpto\0"),
], ids=["dead hosts", "write", "program", "setuid", "socket", "ptrace", "kill", "unlink"])
def test_remote_worker_dies_rather_than(running, kernel, remote_worker, attempt):
    assert attempt(remote_worker) == KILLED
    wait_for(lambda: "deferral: The_delivery_program_ended_without_a_report" in running.log(), what="the deferral")


def test_lspawn_as_root_reads_no_mail(running, tmp_path):
    """Nothing but its source keeps it from that: strace shows what it opens while mail goes to three users and a bounce."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    lspawn = running.one("qmail-lspawn")
    tracer = subprocess.Popen(["strace", "-qq", "-o", trace, "-e", "trace=%file,recvmsg,read,execve", "-e", "read=3", "-s", "4096",
                               "-p", str(lspawn)], stderr=subprocess.DEVNULL)
    wait_for(lambda: f"TracerPid:\t{tracer.pid}\n" in pathlib.Path(f"/proc/{lspawn}/status").read_text(), what="strace")
    running.delivers("ana")
    running.delivers("luis")
    bounces = running.log().count("bounce msg")
    running.inject("nobody-of-that-name")
    wait_for(lambda: running.log().count("bounce msg") > bounces, what="the bounce")
    tracer.terminate()
    tracer.wait()
    text = trace.read_text()
    opened = [line for line in text.splitlines() if line.startswith("open")]
    assert not [line for line in opened if "queue" in line or "/home" in line or "Maildir" in line], opened
    assert "nobody-of-that-name" in text and "meant" not in text and "Subject" not in text


def test_lines_of_one_user_keep_uids_and_homes_apart(running):
    """users/assign may name one user in many lines, with a uid and a home each, as hosting panels do: mail that comes one after another
    goes to the worker of its own line."""
    machine = running.machine
    boxes = {"a": "ana", "b": "ana", "c": "luis"}
    lines = []
    for box, owner in boxes.items():
        for name in ("", "Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
            path = machine.path(f"/home/{owner}/{box}") / name
            path.mkdir(mode=0o700)
            os.chown(path, *machine.passwd[owner])
        lines.append("=box-{}:popuser:{}:{}:/home/{}/{}:::".format(box, *machine.passwd[owner], owner, box))
    machine.assign(*lines)
    for box in boxes:
        running.inject(f"box-{box}")
    for box, owner in boxes.items():
        new = machine.path(f"/home/{owner}/{box}/Maildir/new")
        (message,) = wait_for(lambda new=new: list(new.iterdir()), what=f"the message for box-{box}")
        assert f"Delivered-To: box-{box}@" in message.read_text() and message.stat().st_uid == machine.passwd[owner][0]


# --- root --------------------------------------------------------------------------------------------------------------------

CALLS = "trace=%file,%network,execve,read,readv"
# what a libc looks at: its libraries, users and groups
SYSTEM = r"/etc/(ld\.so\.(cache|preload)|nsswitch\.conf|passwd|group)|(/usr)?/lib/.*\.so[.\d]*"


class Watched:
    """A program of root under strace, which leaves it, and each of its forks, when that executes another."""
    def __init__(self, machine, trace, program, *args, before=(), **more):  # noqa: F811
        self.trace = trace
        trace.touch()
        more.setdefault("stdin", subprocess.DEVNULL)
        self.process = machine.popen(*before, shutil.which("strace"), "-f", "-yy", "-qq", "-b", "execve", "-o", trace, "-e", CALLS,
                                     machine.bin / program, *args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)

    def calls(self, *names):
        """Arguments and results of these calls."""
        return [rest for name, rest in re.findall(r"^\d+ +(\w+)\((.*)$", self.trace.read_text(), re.M) if name in names]

    def executed(self):
        """The programs that it started, but for itself."""
        return re.findall(r'^\d+ +execve\("([^"]*)"', self.trace.read_text(), re.M)[1:]

    def end(self, executed):
        """Waits until it has executed that many."""
        wait_for(lambda: len(self.executed()) == executed, what="what it executes")
        self.process.kill()
        self.process.wait()

    def opened(self):
        """What was there, and can be read or written by it."""
        paths = [re.search(r'"([^"]*)"', rest)[1] for rest in self.calls("open", "openat") if not re.search(r"O_PATH| = -1 ENOENT", rest)]
        return {path for path in paths if not re.fullmatch(SYSTEM, path)}

    def sockets(self):
        """Their families; libc asks nscd whether it is there."""
        nscd = len([rest for rest in self.calls("connect") if "/nscd/" in rest])
        return [rest.split(",")[0] for rest in self.calls("socket")][nscd:]

    def heard(self):
        """What it read, and from what."""
        return [rest for rest in self.calls("read", "readv", "accept", "accept4", "recvfrom", "recvmsg") if not re.match(r"\d+<(%s)>" % SYSTEM, rest)]


@pytest.fixture
def watch(running, tmp_path):
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    return lambda *line, **more: Watched(running.machine, tmp_path / "trace", *line, **more)


def test_start_as_root_asks_for_users_only(running, watch):
    running.send.terminate()
    running.send.wait(30)
    ours, theirs = os.pipe()
    start = watch("qmail-start", "-d", theirs, "./Maildir/", pass_fds=[theirs])
    os.close(theirs)
    assert os.read(ours, 10)
    os.close(ours)
    start.end(3)
    assert sorted(start.executed()) == ["bin/qmail-lspawn", "bin/qmail-rspawn", "bin/qmail-send"]
    assert start.opened() == {"/dev/null"}
    assert start.sockets() == start.heard() == []
    running.delivers()


def test_listen_as_root_accepts_nothing(running, watch):
    machine = running.machine  # noqa: F811
    listen = watch("qmail-listen", "-u", "qmaild", "127.0.0.1", free_port(), "/bin/sleep", "100")
    listen.end(1)
    assert identity(running.one("sleep")) == only(machine.passwd["qmaild"][0], machine.passwd["qmaild"][1])
    assert listen.executed() == ["/bin/sleep"]
    assert listen.opened() == set()
    assert listen.sockets() == ["AF_INET"] and listen.heard() == []


def test_authd_as_root_reads_no_connection(running, watch):
    """Packets of qmaild are all that it hears; passwords are looked at by the program that it starts."""
    machine = running.machine  # noqa: F811
    check = machine.write("check", CHECK, 0o755)
    ours, theirs = os.pipe()
    authd = watch("qmail-authd", "-d", theirs, "-u", machine.passwd["qmaild"][0], check, "--", *SESSION, pass_fds=[theirs])
    os.close(theirs)
    assert os.read(ours, 10)
    os.close(ours)
    for secret, said in ((b"wrong", b"-ERR [AUTH]"), (b"ana", b"hello ")):
        with a_login(running, user="qmaild:nofiles", listening=True) as client:
            assert say(client, b"USER ana\r\n") == b"+OK\r\n"
            assert say(client, b"PASS %s\r\nhello\n" % secret).startswith(said)
    os.kill(running.one("qmail-authd"), signal.SIGTERM)
    assert authd.process.wait(30) == 0
    assert authd.executed() == [str(check)] * 2
    assert authd.opened() == {"/dev/null"}
    assert authd.sockets() == ["AF_UNIX"]
    heard = authd.heard()
    assert any(r"ana\0" in rest for rest in heard) and not any(re.match(r"\d+<TCP", rest) or "hello" in rest for rest in heard), heard


@pytest.mark.parametrize("program, login, secrets, table", [
    ("accounts", f"ana@{HOST}", ("wrong", "a password"), "/users/passwords.cdb"), ("system", "ana", ("wrong",), "/etc/shadow")])
def test_checkpassword_as_root_reads_its_table_only(running, watch, program, login, secrets, table):
    machine = running.machine  # noqa: F811
    if program == "accounts":
        machine.inside(machine.bin / "qmail-account", "add", "-u", "ana", "-d", "/home/ana", "-p", "0", login, input=b"a password\n")
    for secret in secrets:
        check = watch(f"checkpassword-{program}", "/bin/true", before=("/bin/sh", "-c", 'exec "$@" 3<&0 </dev/null', "sh"), stdin=subprocess.PIPE)
        check.process.communicate(f"{login}\0{secret}\0\0".encode())
        assert check.process.returncode == (secret == "wrong")
        assert check.executed() == ["/bin/true"] * (secret != "wrong")
        assert {path.endswith(table[1:]) for path in check.opened()} == {True}
        assert check.sockets() == []
        assert all(re.match(rf"3<pipe|\d+<.*{table}>", rest) for rest in check.heard())


# --- who submits ---------------------------------------------------------------------------------------------------------------

def test_nothing_is_setuid(machine):  # noqa: F811
    for path in [machine.home, *machine.home.rglob("*")]:
        mode = path.lstat().st_mode
        assert not stat.S_ISREG(mode) or not mode & (stat.S_ISUID | stat.S_ISGID), path


@pytest.mark.parametrize("user", ["ana", "qmaild:nofiles", "qmailr:nofiles", "qmailp:nofiles", "qmailu:nofiles", "alias:nofiles"])
def test_submitters_reach_the_submit_socket_only(running, user):
    machine = running.machine  # noqa: F811
    attempt = "import socket, sys\nsocket.socket(socket.AF_UNIX).connect(sys.argv[1])"

    def connects(name):
        done = machine.run("/usr/bin/python3", "-c", attempt, name, user=user)
        return done.returncode == 0 or b"PermissionError" not in done.stderr

    assert connects("run/qmail-queued")
    assert not connects("queue/qmail-send")
    for program in ("qmail-qread", "qmail-qstat"):
        done = machine.run(program, user=user)
        assert (done.returncode, done.stdout) == (111, b"") and b"Permission denied" in done.stderr
    assert machine.run("/bin/ls", "run", user=user).returncode != 0
    for path in ("run/x", "queue/x", "control/x", "users/x", "bin/x", "run/qmail-queued.new"):
        assert machine.run("/usr/bin/touch", path, user=user).returncode != 0
    assert machine.run("/bin/rm", "-f", "run/qmail-queued", user=user).returncode != 0


def test_the_kernel_says_who_submits(running):
    machine = running.machine  # noqa: F811
    new = machine.path("/home/ana/Maildir/new")
    for user, how in (("luis", f"by uid {machine.passwd['luis'][0]}"), ("alias:nofiles", "by alias"), ("qmaild:nofiles", "from network"),
                      ("qmails:qmails", "for bounce")):
        before = set(new.iterdir())
        done = machine.run("qmail-inject", f"ana@{HOST}", input=MESSAGE, user=user, env={"USER": "root", "LOGNAME": "root"})
        assert done.returncode == 0, done.stderr
        arrived = wait_for(lambda before=before: set(new.iterdir()) - before, what=how).pop()
        assert f" invoked {how}); " in arrived.read_text()


@pytest.mark.parametrize("program, arguments", [("qmail-queue", ()), ("qmail-inject", ("ana@" + HOST,))])
def test_submitting_programs_are_shut_in_while_they_read(running, kernel, program, arguments):
    """Of little use to whoever runs them, who has the same rights; of much use where a network server does."""
    machine = running.machine  # noqa: F811
    for attempt in (lambda pid: opens(pid, "/etc/passwd"), executes, lambda pid: call(pid, "socket", *INTERNET)):
        reader, writer = os.pipe()
        process = machine.popen(program, *arguments, user="ana", stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(reader)
        os.write(writer, b"Subject: begun\n")
        wait_for(lambda process=process: shut_in(process.pid), what="it to shut itself in")
        wait_for(lambda process=process: pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S")
        assert attempt(process.pid) == KILLED
        process.wait(10)
        os.close(writer)
    running.delivers()
    # nothing of what was begun
    assert not any(b"Subject: begun" in path.read_bytes() for path in machine.path("/home/ana/Maildir/new").iterdir())


def test_root_and_qmails_may_look_at_the_queue(running):
    for user in (None, "qmails:qmails"):
        for program in ("qmail-qread", "qmail-qstat"):
            assert running.machine.run(program, user=user).returncode == 0


# --- TLS -------------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def tls(running):
    """With qmail-keyd, qmail-tlsd and a server, each as its user, and a client that is in the middle of a session."""
    machine = running.machine  # noqa: F811
    uid = {user: machine.passwd[user][0] for user in ("qmaild", "qmailt", "qmailr")}
    client = shutil.copy(machine.home / "tls/self-signed.pem", machine.home / "tls/client/client.pem")
    os.chown(client, *machine.passwd["qmailk"])
    running.keyd = running.start("qmail-keyd", "-c", uid["qmailr"], uid["qmailt"], user="qmailk:nofiles")
    running.tlsd = running.start("qmail-tlsd", uid["qmaild"], user="qmailt:nofiles")
    listener = socket.create_server(("127.0.0.1", 0))
    echo = machine.popen(str(shutil.copy(echo_program(), machine.bin / "tls-echo")), "tls", user="qmaild:nofiles", stdin=listener)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(listener.getsockname(), 30)) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"hello\n"
        running.client = client
        yield running
    for process in (echo, running.tlsd, running.keyd):
        process.kill()
        process.wait()
    listener.close()


def the_connection(tls):
    (pid,) = set(tls.named("qmail-tlsd")) - {tls.tlsd.pid}
    return pid


def a_signer(tls):
    return next(pid for pid in tls.named("qmail-keyd") if pid != tls.keyd.pid)


def test_who_speaks_tls_has_one_connection_and_nothing_else(tls, kernel):
    machine = tls.machine  # noqa: F811
    pid = the_connection(tls)
    assert identity(pid) == {**only(machine.passwd["qmailt"][0], machine.groups["nofiles"]), "Groups": []}
    assert shut_in(pid)
    tls.client.sendall(b"more\n")
    assert tls.client.recv(100) == b"more\n"


def test_who_holds_the_keys_reaches_nothing(tls, kernel):
    machine = tls.machine  # noqa: F811
    for pid in tls.named("qmail-keyd"):
        assert identity(pid) == {**only(machine.passwd["qmailk"][0], machine.groups["nofiles"]), "Groups": []}
        assert pid == tls.keyd.pid or shut_in(pid)


ATTEMPTS = {
    "keys": lambda pid: opens(pid, "tls/self-signed.pem"), "file": lambda pid: opens(pid, "control/me"), "write": lambda pid: opens(pid, "/tmp/x", WRITE),
    "network": lambda pid: call(pid, "socket", *INTERNET), "socket": lambda pid: call(pid, "socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
    "program": executes, "setuid": lambda pid: call(pid, "setuid", 0), "ptrace": lambda pid: call(pid, "ptrace", 16, 1),
    "kill": lambda pid: call(pid, "kill", os.getpid(), 0),
}


@pytest.mark.parametrize("who", [the_connection, a_signer], ids=["qmail-tlsd", "qmail-keyd"])
@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_tls_dies_rather_than(tls, kernel, who, attempt):
    assert attempt(who(tls)) == KILLED


def tcp_sockets(pid):
    """The descriptors of a process that are internet sockets."""
    tables = [pathlib.Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    inodes = {f"socket:[{line.split()[9]}]" for table in tables for line in table}
    return {int(fd.name) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir() if os.readlink(fd) in inodes}


def test_a_session_within_tls_has_its_plain_end_and_no_connection(tls, kernel):
    """Row S5: as their real users, no octet can go past TLS."""
    listener = socket.create_server(("127.0.0.1", 0))
    parent = tls.machine.popen("qmail-smtpd", "-X", user="qmaild:nofiles", stdin=listener)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(*listener.getsockname(), timeout=30) as s:
        (pid,) = set(tls.named("qmail-smtpd")) - {parent.pid}
        assert tcp_sockets(pid) == {0, 1} and shut_in(pid)
        s.starttls(context=context)
        s.ehlo()
        assert tcp_sockets(pid) == set()
        s.sendmail("", [f"ana@{HOST}"], MESSAGE.decode())  # as text, it ends lines with CR LF
    parent.kill()
    parent.wait()
    listener.close()
    wait_for(lambda: any(b" with ESMTPS (TLSv1.2) tls TLS_" in f.read_bytes() for f in tls.machine.path("/home/ana/Maildir/new").iterdir()),
             what="a message that came by TLS")


@pytest.mark.parametrize("user, gets", [("qmailt:nofiles", "CS"), ("qmailr:nofiles", "PH"), ("qmaild:nofiles", ""), ("ana", "")])
def test_whose_keys_sign_for_whom(tls, user, gets):
    """qmail-remote has the keys of clients only, and qmail-tlsd those of servers only."""
    attempt = ("import socket\n"
               "for q in (b'C\\x0f', b'S\\0\\0\\0\\0\\4\\3' + bytes(64) + b'\\3\\0\\x1d\\x20' + bytes(32), b'Pclient', b'H\\0\\0\\0\\0\\4\\3' + bytes(32)):\n"
               "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n    s.settimeout(20)\n    s.connect('run/qmail-keyd/socket')\n"
               "    try:\n        s.send(q)\n        print(s.recv(1).decode(), end='')\n    except (BrokenPipeError, ConnectionResetError): pass\n")
    assert tls.machine.run("/usr/bin/python3", "-c", attempt, user=user).stdout.decode() == gets


@pytest.mark.parametrize("user", ["ana", "qmaild:nofiles", "qmailt:nofiles", "qmailp:nofiles", "qmailu:nofiles", "qmailr:nofiles"])
def test_nobody_else_reads_the_keys(machine, user):  # noqa: F811
    for path in ("tls", "tls/self-signed.pem", "tls/client"):
        assert not machine.can(user, "-r", path)
    assert machine.can("qmailk:nofiles", "-r", "tls/self-signed.pem")


@pytest.mark.parametrize("service, user, may", [
    ("qmail-keyd", "qmailt:nofiles", True), ("qmail-keyd", "qmaild:nofiles", False), ("qmail-keyd", "ana", False),
    ("qmail-tlsd", "qmaild:nofiles", True), ("qmail-tlsd", "qmailt:nofiles", False), ("qmail-tlsd", "ana", False),
])
def test_whom_tls_serves(tls, service, user, may):
    attempt = ("import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.settimeout(20)\ns.connect('run/%s/socket')\n"
               "try:\n    %s\n    print(s.recv(1).decode())\nexcept (BrokenPipeError, ConnectionResetError): pass"
               % (service, r"s.send(b'C\x0f')" if service == "qmail-keyd" else "pass"))
    said = tls.machine.run("/usr/bin/python3", "-c", attempt, user=user).stdout.strip()
    assert said == {True: {"qmail-keyd": b"C", "qmail-tlsd": b"R"}[service], False: {"qmail-keyd": b"", "qmail-tlsd": b"B"}[service]}[may]


# --- MTA-STS ---------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def policies(running):
    """With qmail-mtastsd as its user."""
    machine = running.machine  # noqa: F811
    running.mtastsd = running.start("qmail-mtastsd", machine.passwd["qmailr"][0], user="qmailm:nofiles")
    yield running
    running.mtastsd.terminate()
    assert running.mtastsd.wait(30) == 0


def the_cache(policies):
    (pid,) = set(policies.named("qmail-mtastsd")) - {policies.mtastsd.pid}
    return pid


def test_who_keeps_the_policies(policies, kernel):
    """It writes its directory, and reads nothing else."""
    machine = policies.machine  # noqa: F811
    pid = the_cache(policies)
    assert identity(pid) == {**only(machine.passwd["qmailm"][0], machine.groups["nofiles"]), "Groups": []}
    wait_for(lambda: shut_in(pid))
    assert opens(pid, "run/qmail-mtastsd/policies/x.example", WRITE) >= 0
    assert {opens(pid, path) for path in ("control/me", "tls/self-signed.pem", "/etc/passwd")} == {"EACCES"}


@pytest.mark.parametrize("attempt", [ATTEMPTS["network"], ATTEMPTS["program"]], ids=["network", "program"])
def test_who_keeps_the_policies_dies_rather_than(policies, kernel, attempt):
    pid = the_cache(policies)
    wait_for(lambda: shut_in(pid))
    assert attempt(pid) == KILLED
    assert policies.mtastsd.wait(30) == 111
    policies.mtastsd = policies.start("qmail-mtastsd", user="qmailm:nofiles")


def test_who_asks_for_policies(policies):
    attempt = ("import socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.settimeout(20)\ns.connect('run/qmail-mtastsd/socket')\n"
               "try:\n    s.send(b'x.example\\0')\n    print(s.recv(1).decode())\nexcept (BrokenPipeError, ConnectionResetError): pass")
    for user, said in (("qmailr:nofiles", b"N"), ("qmailm:nofiles", b"N"), ("qmaild:nofiles", b""), ("ana", b"")):
        assert policies.machine.run("/usr/bin/python3", "-c", attempt, user=user).stdout.strip() == said, user


# --- logins ----------------------------------------------------------------------------------------------------------------------

# a checkpassword program for users of the machine, whose secret is their name
CHECK = r"""#!/usr/bin/python3 -IS
import os, pwd, sys
login, secret = os.read(3, 512).split(b"\0")[:2]
if login != secret:
    sys.exit(1)
os.close(3)
user = pwd.getpwnam(login.decode())
os.setgroups([user.pw_gid])
os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
os.execvp(sys.argv[1], sys.argv[1:])
"""
# says who it is, and waits for one more line
SESSION = "/bin/sh", "-c", 'read -r line; echo "$line $(id -u):$(id -g):$(id -G)"; read -r line'


@contextlib.contextmanager
def a_login(running, *command, user, listening):
    """Starts qmail-popup on a listening socket, or on a connection; the client's end, and the pid."""
    machine = running.machine  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname(), 30) as client:
            given = listener if listening else listener.accept()[0]
            popup = machine.popen("qmail-popup", *command, user=user, stdin=given, stdout=given, env={"FORCETLS": "0"})
            if not listening:
                given.close()
            try:
                assert client.recv(100).startswith(b"+OK ")
                yield client
            finally:
                popup.kill()
                popup.wait()


def say(client, octets):
    client.sendall(octets)
    return client.recv(1000)


def as_ana(machine):  # noqa: F811
    uid, gid = machine.passwd["ana"][0], machine.groups["ana"]
    return f"{uid}:{gid}:{gid}\n".encode()


def test_a_session_of_the_keeper(running, kernel):
    """What reads the network is qmaild and shut in; the session is the user."""
    machine = running.machine  # noqa: F811
    qmaild = machine.passwd["qmaild"][0]
    check = machine.write("check", CHECK, 0o755)
    authd = running.start("qmail-authd", "-u", qmaild, str(check), "--", *SESSION, user="root:root")
    try:
        with a_login(running, user="qmaild:nofiles", listening=True) as client:
            pids = [pid for pid in running.named("qmail-popup") if shut_in(pid)]
            assert len(pids) == 1 and identity(pids[0]) == {**only(qmaild, machine.groups["nofiles"]), "Groups": []}
            assert say(client, b"USER ana\r\n") == b"+OK\r\n"
            assert say(client, b"PASS ana\r\nhello\n") == b"hello " + as_ana(machine)
        with a_login(running, user="qmaild:nofiles", listening=True) as client:
            say(client, b"USER root\r\n")
            assert say(client, b"PASS ana\r\n").startswith(b"-ERR [AUTH]")
    finally:
        authd.kill()
        authd.wait()


def test_the_classic_chain_of_root(running, kernel):
    """qmail-popup is started as root, and reads the network as qmaild."""
    machine = running.machine  # noqa: F811
    check = machine.write("check", CHECK, 0o755)
    with a_login(running, "h.example", str(check), *SESSION, user="root:root", listening=False) as client:
        ids = {pid: identity(pid) for pid in running.named("qmail-popup")}
        assert [ids[pid] for pid in ids if shut_in(pid)] == [only(machine.passwd["qmaild"][0], machine.groups["nofiles"])]
        assert say(client, b"USER ana\r\n") == b"+OK\r\n"
        assert say(client, b"PASS ana\r\nhello\n") == b"hello " + as_ana(machine)


@pytest.mark.parametrize("user, may", [("qmaild:nofiles", True), ("ana", False), ("qmailr:nofiles", False)])
def test_whom_the_keeper_hears(running, user, may):
    machine = running.machine  # noqa: F811
    check = machine.write("check", CHECK, 0o755)
    authd = running.start("qmail-authd", "-u", machine.passwd["qmaild"][0], str(check), user="root:root")
    attempt = ("import socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.settimeout(20)\ns.connect('run/qmail-authd/socket')\n"
               "try:\n    s.send(b'Cana\\0ana\\0\\0')\n    print(s.recv(9).decode())\nexcept (BrokenPipeError, ConnectionResetError): pass")
    try:
        assert machine.run("/usr/bin/python3", "-c", attempt, user=user).stdout.strip() == (b"Kana" if may else b"")
    finally:
        authd.kill()
        authd.wait()


# --- services and those who may not ask ----------------------------------------------------------------------------------------

ANSWERED = {"qmail-authd": b"Cana\0ana\0\0", "qmail-keyd": b"C\x0f", "qmail-mtastsd": b"a.example\0", "qmail-rcptd": b"\0\0\0\1ana@mail.test.example",
            "qmail-submitd": b"Sx", "qmail-tlsd": b""}
ASKERS = {"qmail-keyd": "qmailt:nofiles", "qmail-mtastsd": "qmailr:nofiles"}
ASKS = ("import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.settimeout(20)\ns.connect('run/%s/socket')\n"
        "s.send(%r) if %r else None\nprint(len(s.recv(1000)))")


@pytest.fixture
def services(running, tls, policies, submitd):
    rcptd = running.start("qmail-rcptd", user="qmailp:nofiles")
    yield running
    rcptd.kill()
    rcptd.wait()


@pytest.mark.parametrize("user", ["ana", "qmaild:nofiles"])
@pytest.mark.parametrize("service", sorted(ANSWERED))
def test_nobody_holds_a_service_up(services, service, user):
    """Not by passing it a descriptor whose close takes a minute, which the service does not even take."""
    machine, pids = services.machine, services.named(service)
    with contextlib.ExitStack() as stack:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            stack.callback(os.kill, pid, signal.SIGCONT)
        for _ in range(3):
            hostile = machine.popen("/usr/bin/python3", "-c", pathlib.Path(slow_to_close.__file__).read_text(), f"run/{service}/socket",
                                    int(socket.SOCK_SEQPACKET), user=user, stdout=subprocess.PIPE)
            stack.callback(hostile.wait)
            stack.callback(hostile.kill)
            stack.enter_context(hostile.stdout)
            assert hostile.stdout.readline() == b"passed\n"
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        question = ANSWERED[service]
        done = machine.run("/usr/bin/python3", "-c", ASKS % (service, question, question), user=ASKERS.get(service, "qmaild:nofiles"))
        assert int(done.stdout or 0) > 0, done.stderr


# --- submission ----------------------------------------------------------------------------------------------------------------

@pytest.fixture
def submitd(running):
    machine = running.machine  # noqa: F811
    qmaild = machine.passwd["qmaild"][0]
    check = machine.write("check", CHECK, 0o755)
    machine.write("control/submissionsenders", "luis:x@luis.example\n")
    authd = running.start("qmail-authd", "-u", qmaild, str(check), user="root:root")
    process = running.start("qmail-submitd", "-u", qmaild, user="qmailu:nofiles")
    yield process
    for p in (authd, process):
        p.kill()
        p.wait()


# a session of qmail-smtpd that was taken over: it says that it is luis, and then logs in as ana
TAKEN_OVER = r"""
import array, socket
def connect(name):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(20)
    s.connect(f"run/{name}/socket")
    return s
def ask(s, packet):
    s.send(packet)
    return s.recv(1000)[:1].decode()
s = connect("qmail-submitd")
said = ask(s, b"Lluis")
s = connect("qmail-submitd")
authd = connect("qmail-authd")
authd.sendmsg([b"Cana\0ana\0\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
said += authd.recv(100).decode() + ask(s, b"Sana@mail.test.example") + ask(s, b"Sx@luis.example") + ask(s, b"M1") + ask(s, b"Lluis")
print(said)
"""


def test_a_session_counts_for_who_has_logged_in(running, submitd, kernel):
    machine = running.machine  # noqa: F811
    assert identity(submitd.pid) == {**only(machine.passwd["qmailu"][0], machine.groups["nofiles"]), "Groups": []}
    assert shut_in(submitd.pid)
    done = machine.run("/usr/bin/python3", "-c", TAKEN_OVER, user="qmaild:nofiles")
    assert done.stdout.decode().strip() == "KanaYNY", done.stderr
    assert opens(submitd.pid, "control/me") >= 0


@pytest.mark.parametrize("attempt", [a for a in ATTEMPTS if a not in ("keys", "file")])
def test_submitd_dies_rather_than(running, submitd, kernel, attempt):
    assert ATTEMPTS[attempt](submitd.pid) == KILLED
