"""The table of DESIGN section 2 with real users: who the processes are, and what they cannot do. Root only.
All of it happens on a server of real_server.py that is made for this module, so that nothing is left on the machine."""
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess

import pytest

import spawn_peer
from conftest import BUILD, HOST, wait_for
from real_server import identity, make_real_server, only
from spawn_peer import Spawner

pytestmark = pytest.mark.xdist_group("root_users")  # one process makes the module's machines, once


@pytest.fixture(scope="module")
def installed():
    if b"__asan_init" in (BUILD / "bin/qmail-start").read_bytes():
        pytest.skip("a build with sanitizers needs options in environments that the spawners clean")
    with make_real_server() as server:
        yield server


@pytest.fixture
def machine(installed):
    """As installed, the queue empty; what a test left running is killed."""
    saved = installed.top / "saved"
    programs, others = ("bin", "libexec"), ("users", "control", "alias", "service", "queue")

    def copy(source, target):
        for options, names in (("-al", programs), ("-a", others)):  # programs are replaced, never written to
            subprocess.run(["cp", options, *[str(source / name) for name in names], str(target)], check=True)

    if not saved.exists():
        saved.mkdir()
        copy(installed.home, saved)
    for name in programs + others:
        shutil.rmtree(installed.home / name)
    copy(saved, installed.home)
    etc = [(name, installed.path(f"/etc/{name}").read_bytes()) for name in ("passwd", "group")]
    yield installed
    installed.kill()
    for name, text in etc:
        installed.path(f"/etc/{name}").write_bytes(text)


def descriptors(pid):
    return {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


@pytest.fixture
def lspawn(machine, tmp_path):
    for name in ("qmail-lspawn", "qmail-local"):
        if not (machine.bin / name).exists():
            pytest.skip(f"{name} is not built")
    started = []

    def start(default_delivery="./Mailbox"):
        spawner = Spawner(machine, "qmail-lspawn", default_delivery, log=tmp_path / "log")
        started.append(spawner)
        return spawner

    yield start
    for spawner in started:
        spawner.end(10)


# --- qmail-lspawn ------------------------------------------------------------

def test_worker_is_the_user_and_holds_its_socket_only(machine, lspawn):
    """The real qmail-local, seen from outside: ids, no supplementary groups, no capability, no other descriptor."""
    uid, gid = machine.passwd["ana"]
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    spawner = lspawn()
    os.close(leak)
    worker = spawner.start(1, "ana")
    assert worker.account == [b"ana", str(uid).encode(), str(gid).encode(), b"/home/ana", b"", b""]
    pid = wait_for(lambda: [p for p in machine.processes() if "qmail-local" in os.readlink(f"/proc/{p}/exe")], what="worker")[0]
    assert identity(pid) == only(uid, gid)
    assert int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[3]) == pid  # session
    fds = descriptors(pid)
    assert {fd: fds.pop(fd) for fd in (0, 1, 2)} == {fd: "/dev/null" for fd in (0, 1, 2)}
    assert fds.pop(3).startswith("socket:")
    # what it opened for itself is its user's to see: never the queue, the log or another socket
    assert not [name for name in fds.values() if name.startswith(("socket:", "pipe:")) or "queue" in name or "log" in name], fds
    worker.close()
    wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists())


def test_delivered_mail_belongs_to_the_user(machine, lspawn):
    """A maildir, an mbox and a program, by the real qmail-local."""
    uid, gid = machine.passwd["ana"]
    home = machine.path("/home/ana")
    for name in ("Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
        (home / name).mkdir(mode=0o700, exist_ok=True)
        os.chown(home / name, uid, gid)
    (home / ".qmail").write_text("./Maildir/\n./box\n|id >ids\n")
    os.chown(home / ".qmail", uid, gid)
    worker = lspawn().start(1, "ana")
    worker.job(9, ("s@x.example", "ana", "", "", HOST), b"Subject: x\n\nbody\n")
    number, recipient, letter, text = worker.done()
    assert (number, recipient, letter) == (9, 0, "K"), text
    arrived = list((home / "Maildir/new").iterdir())
    assert len(arrived) == 1
    for path in (arrived[0], home / "box"):
        st = path.stat()
        assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (uid, gid, 0o600)
    assert (home / "ids").read_text() == f"uid={uid}(ana) gid={gid}(ana) groups={gid}(ana)\n"
    worker.close()


def test_root_is_refused(machine, lspawn):
    machine.assign("=boss:root:0:0:/root:::", f"=half:root:0:{machine.passwd['ana'][1]}:/root:::")
    spawner = lspawn()
    for number, local in enumerate(("boss", "half")):
        assert spawner.who(number, local)[0] == "Z"
        assert spawner.start(10 + number, local)[0] == "Z"
    assert "alert: qmail-lspawn: refused to deliver as uid 0, user: root\n" in spawner.log()
    assert not [p for p in machine.processes() if "qmail-local" in os.readlink(f"/proc/{p}/exe")]


def test_getpw_rules_with_real_users(machine, lspawn):
    spawner = lspawn()
    ana, alias = machine.passwd["ana"], machine.passwd["alias"]

    def account(user, ids, home, dash, ext):
        return [str(x).encode() for x in (user, *ids, home, dash, ext)]

    alias_home = str(machine.home / "alias")
    assert spawner.who(1, "ANA-Ext") == account("ana", ana, "/home/ana", "-", "Ext")
    for number, local in enumerate(("root", "nobody-here", "anax", "www-data-x")):
        assert spawner.who(10 + number, local) == account("alias", alias, alias_home, "-", local)
    # the home of eva lies in a directory that qmailp may not enter: not known, so not alias's
    assert spawner.who(2, "eva")[0] == "Z"


def test_getpw_runs_as_qmailp(machine, lspawn):
    machine.replace("qmail-getpw", "#!/bin/sh\nprintf '%s\\000' x 1 1 /h - \"$(id -ru):$(id -u):$(id -G):$(ls -l /proc/self/fd | wc -l)\"\n")
    uid, gid = machine.passwd["qmailp"]
    spawner = lspawn()
    answer = spawner.who(1, "any")[5].decode()
    # descriptors 0, 1, 2 and what ls itself opens; one line says "total"
    assert answer == f"{uid}:{uid}:{gid}:5"


def test_qmailp_is_needed(machine, tmp_path):
    passwd = machine.path("/etc/passwd")
    passwd.write_text(re.sub(r"(?m)^qmailp:.*\n", "", passwd.read_text()))
    spawner = Spawner(machine, "qmail-lspawn", "./Mailbox", log=tmp_path / "log")
    assert spawner.process.wait(10) == 111
    assert "there is no user qmailp" in spawner.log()
    spawner.close()


# --- what the others cannot do -----------------------------------------------

@pytest.mark.parametrize("user", ["qmailr:nofiles", "qmailr:qmail", "qmaild", "qmaill:nofiles", "qmailp", "alias", "ana", "nobody"])
def test_the_queue_is_closed_to(machine, user):
    done = machine.run("/bin/ls", machine.home / "queue", user=user)
    assert b"Permission denied" in done.stderr
    assert done.stdout == b""


def test_the_queue_is_open_to_qmail_send_for_reading(machine):
    assert b"mess" in machine.run("/bin/ls", machine.home / "queue", user="qmails:qmails").stdout
    assert machine.run("/usr/bin/touch", machine.home / "queue/new/x", user="qmails:qmails").returncode != 0
    assert machine.run("/usr/bin/touch", machine.home / "queue/new/x", user="qmailq:qmails").returncode == 0
    (machine.home / "queue/new/x").unlink()


def test_the_queue_is_not_kept_while_its_users_cannot_be_looked_up(machine):
    """Or the keeper would refuse qmail-send for as long as it lives, and its supervisor would see nothing wrong."""
    passwd = machine.path("/etc/passwd")
    mode = passwd.stat().st_mode & 0o777
    passwd.chmod(0o600)
    try:
        done = machine.run("qmail-queued", timeout=10)
    finally:
        passwd.chmod(mode)
    assert done.returncode == 111
    assert b"Permission denied" in done.stderr


# --- qmail-start -------------------------------------------------------------

SENDER = "#!/bin/sh\nexec sleep 3599\n"


def test_start_gives_each_its_user(machine):
    """Real spawners, a logger and a qmail-send that does nothing: looked at from outside."""
    machine.replace("qmail-send", SENDER)
    machine.replace("logger", "#!/bin/sh\nwhile read -r line; do :; done\n")
    process = machine.popen("qmail-start", "./Mailbox", "logger", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)

    def named(name):
        """pid of a child of qmail-start that has become this program."""
        for pid in [process.pid, *map(int, pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())]:
            if any(part.endswith(name) for part in pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:2]):
                return pid
        return None

    pids = {name: wait_for(lambda name=name: named(name), what=name)
            for name in ("bin/qmail-lspawn", "bin/qmail-rspawn", "bin/logger", "sleep")}
    nofiles = machine.groups["nofiles"]
    assert identity(pids["bin/qmail-rspawn"]) == only(machine.passwd["qmailr"][0], nofiles)
    assert identity(pids["bin/logger"]) == only(machine.passwd["qmaill"][0], nofiles)
    assert identity(pids["sleep"]) == only(machine.passwd["qmails"][0], machine.groups["qmails"])
    assert identity(pids["bin/qmail-lspawn"])["Uid"] == [0] * 4
    wait_for(lambda: set(descriptors(pids["sleep"])) == {0, 1, 2, 3, 4}, what="no others, once its libraries are loaded")
    os.kill(process.pid, signal.SIGTERM)
    process.wait()
    wait_for(lambda: not machine.processes(), what="the others to end with qmail-send")


@pytest.mark.parametrize("file, name", [("passwd", "qmails"), ("passwd", "qmailr"), ("passwd", "qmaill"),
                                        ("group", "qmails"), ("group", "nofiles")])
def test_start_refuses_without_its_users(machine, file, name):
    machine.replace("qmail-send", SENDER)
    path = machine.path(f"/etc/{file}")
    path.write_text(re.sub(rf"(?m)^{name}:.*\n", "", path.read_text()))
    done = machine.run("qmail-start")
    assert done.returncode == 111
    assert f"there is no {'user' if file == 'passwd' else 'group'} {name}" in done.stderr.decode()
    assert machine.processes() == []


def test_remote_program_cannot_read_the_queue(machine):
    """A qmail-remote that was taken over, under the spawner that qmail-start starts."""
    machine.replace("qmail-remote", f"#!/bin/sh\nls {machine.home}/queue >/dev/null 2>&1 && a=open || a=closed\n"
                  "printf 'r\\000K%s %s:%s\\000' $a \"$(id -u)\" \"$(id -G)\"\n")
    # in the place of qmail-send: hands its end of the socket on
    machine.write("spawn_peer.py", pathlib.Path(spawn_peer.__file__).read_bytes())
    machine.replace("qmail-send", """#!/usr/bin/python3 -I
import os, socket, struct, sys
sys.path.insert(0, os.getcwd())
from spawn_peer import Channel, Worker
spawner = Channel(socket.socket(fileno=4))
spawner.send("S", struct.pack(">I", 1) + b"host")
spawner.receive()
worker = Worker(socket.socket(fileno=spawner.fds.pop()))
worker.job(1, ("s", "", "host", "r@host", ""), b"message")
os.write(1, worker.done()[3])
""")
    done = machine.run("qmail-start")
    assert done.stdout == f"closed {machine.passwd['qmailr'][0]}:{machine.groups['nofiles']}".encode()


# --- all of it ---------------------------------------------------------------

def test_a_message_from_one_user_to_another(machine, tmp_path):
    """Keeper, scheduler and spawners as the service directories start them: ana writes to luis."""
    for name in ("qmail-queued", "qmail-send", "qmail-inject", "qmail-local"):
        if not (machine.bin / name).exists():
            pytest.skip(f"{name} is not built")

    def ready(program, *args, **more):
        ours, theirs = os.pipe()
        log = open(tmp_path / pathlib.Path(program).name, "wb")
        process = machine.popen(program, "-d", theirs, *args, pass_fds=[theirs], stdin=subprocess.DEVNULL, stdout=log,
                                stderr=log, **more)
        os.close(theirs)
        log.close()
        said = os.read(ours, 10)
        os.close(ours)
        assert said, (tmp_path / pathlib.Path(program).name).read_text()
        return process

    keeper = ready("qmail-queued", user="qmailq:qmails")
    send = ready("qmail-start", "./Maildir/")
    uid, gid = machine.passwd["luis"]
    home = machine.path("/home/luis")
    for name in ("Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
        (home / name).mkdir(mode=0o700, exist_ok=True)
        os.chown(home / name, uid, gid)
    done = machine.run("qmail-inject", f"luis@{HOST}", input=b"Subject: hello\n\nbody\n", user="ana", cwd=machine.path("/home/ana"))
    assert done.returncode == 0, done.stderr
    arrived = wait_for(lambda: list((home / "Maildir/new").iterdir()), what="the message")[0]
    assert (arrived.stat().st_uid, arrived.stat().st_gid) == (uid, gid)
    assert f"invoked by uid {machine.passwd['ana'][0]})" in arrived.read_text()
    for process in (send, keeper):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    wait_for(lambda: not machine.processes(), what="all to end")


def test_no_trace():
    """What the tests above made is not seen outside their namespace."""
    names = {user.pw_name for user in pwd.getpwall()}
    assert "qmails" not in names or pathlib.Path("/var/qmail").exists()
    assert not pathlib.Path("/home/closed").exists()
