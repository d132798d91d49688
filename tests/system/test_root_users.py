"""The table of DESIGN section 2 with real users: who the processes are, and what they cannot do. Root only.
All of it happens in a mount namespace with an /etc, /home and /var/log of its own, made for this module, so that nothing
is left on the machine."""
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess

import pytest

import spawn_peer
from conftest import BUILD, SOURCE, new_directory, wait_for
from spawn_peer import Spawner

HOST = "mail.test.example"
SETUP = r"""
set -e
mount --make-rprivate /
mount --bind "$1/etc" /etc
mount -t tmpfs -o mode=755 tmpfs /home
mount -t tmpfs -o mode=755 tmpfs /var/log
for user in ana luis; do
    useradd --create-home --user-group --shell /bin/sh $user
done
groupadd club
usermod --append --groups club ana
install -d -m 0700 /home/closed
useradd --no-create-home --home-dir /home/closed/eva --user-group eva
install -d -m 0700 -o eva -g eva /home/closed/eva
"$1/qmail/bin/qmail-setup" MAIL_HOST >&2
echo ready
exec sleep 3600
""".replace("MAIL_HOST", HOST)

pytestmark = pytest.mark.xdist_group("root_users")  # one process makes the module's machines, once


class Machine:
    """A namespace in which the users of a mail server exist; the tree is installed in home, its own path there too."""

    def __init__(self, top):
        self.top = top
        self.home = top / "qmail"
        self.bin = self.home / "bin"
        subprocess.run(["cp", "-a", "/etc", top / "etc"], check=True, stderr=subprocess.DEVNULL)
        subprocess.run(["admin/install", BUILD, self.home], cwd=SOURCE, check=True, stdout=subprocess.PIPE)
        self.holder = subprocess.Popen(["unshare", "--mount", "/bin/sh", "-c", SETUP, "setup", top], stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, start_new_session=True)
        if self.holder.stdout.readline() != b"ready\n":
            why = self.holder.communicate()[1].decode()
            self.end()
            pytest.skip(f"no namespace of its own can be made here: {why}")
        self.root = pathlib.Path(f"/proc/{self.holder.pid}/root")

    def path(self, name):
        """A path inside the namespace, as it is called from outside."""
        return self.root / str(name).lstrip("/")

    def popen(self, program, *args, env=None, user=None, **more):
        """Starts a program in the namespace, as root, or as user:group without other groups."""
        path = str(program) if str(program).startswith("/") else str(self.bin / program)
        command = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", f"--wd={more.pop('cwd', self.home)}"]
        if user:
            uid, _, gid = user.partition(":")
            command += ["setpriv", f"--reuid={self.ids(uid)[0]}", f"--regid={self.gid(gid) if gid else self.ids(uid)[1]}",
                        "--clear-groups"]
        return subprocess.Popen([*command, path, *map(str, args)],
                                env={"PATH": f"{self.bin}:/usr/bin:/bin", **(env or {})}, **more)

    def run(self, program, *args, input=b"", **more):
        process = self.popen(program, *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
        out, err = process.communicate(input, timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ids(self, user):
        """(uid, gid) of a user of the namespace."""
        for line in self.path("/etc/passwd").read_text().splitlines():
            fields = line.split(":")
            if fields[0] == user:
                return int(fields[2]), int(fields[3])
        raise KeyError(user)

    def gid(self, group):
        for line in self.path("/etc/group").read_text().splitlines():
            fields = line.split(":")
            if fields[0] == group:
                return int(fields[2])
        raise KeyError(group)

    def write(self, name, text, mode=0o755):
        path = self.home / name
        path.unlink(missing_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def assign(self, *lines):
        self.write("users/assign", "".join(f"{line}\n" for line in (*lines, ".")), 0o644)
        done = self.run("qmail-newu")
        assert done.returncode == 0, done.stderr

    def processes(self):
        """pids of the namespace's processes."""
        ours = os.readlink(f"/proc/{self.holder.pid}/ns/mnt")
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/ns/mnt") == ours and int(pid) != self.holder.pid:
                    found.append(int(pid))
            except OSError:
                pass
        return found

    def end(self):
        if self.holder.poll() is None:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
            self.holder.kill()
        self.holder.communicate()
        shutil.rmtree(self.top)


@pytest.fixture(scope="module")
def installed():
    if os.getuid() != 0:
        pytest.skip("only root has other users to become")
    if b"__asan_init" in (BUILD / "bin/qmail-start").read_bytes():
        pytest.skip("a build with sanitizers needs options in environments that the spawners clean")
    for tool in ("unshare", "nsenter", "setpriv", "useradd"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    machine = Machine(new_directory())
    yield machine
    machine.end()


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
    for pid in installed.processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for name, text in etc:
        installed.path(f"/etc/{name}").write_bytes(text)


def identity(pid):
    """What /proc says a process is: real, effective, saved and file system ids, groups, capabilities."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    numbers = {name: [int(n) for n in re.search(rf"^{name}:(.*)$", status, re.M)[1].split()] for name in ("Uid", "Gid", "Groups")}
    for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        numbers[name] = int(re.search(rf"^{name}:\s*(\w+)", status, re.M)[1], 16)
    return numbers


def only(uid, gid):
    return {"Uid": [uid] * 4, "Gid": [gid] * 4, "Groups": [gid], "CapPrm": 0, "CapEff": 0, "CapInh": 0, "CapAmb": 0}


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
    uid, gid = machine.ids("ana")
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
    uid, gid = machine.ids("ana")
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
    machine.assign("=boss:root:0:0:/root:::", f"=half:root:0:{machine.ids('ana')[1]}:/root:::")
    spawner = lspawn()
    for number, local in enumerate(("boss", "half")):
        assert spawner.who(number, local)[0] == "Z"
        assert spawner.start(10 + number, local)[0] == "Z"
    assert "alert: qmail-lspawn: refused to deliver as uid 0, user: root\n" in spawner.log()
    assert not [p for p in machine.processes() if "qmail-local" in os.readlink(f"/proc/{p}/exe")]


def test_getpw_rules_with_real_users(machine, lspawn):
    spawner = lspawn()
    ana, alias = machine.ids("ana"), machine.ids("alias")

    def account(user, ids, home, dash, ext):
        return [str(x).encode() for x in (user, *ids, home, dash, ext)]

    alias_home = str(machine.home / "alias")
    assert spawner.who(1, "ANA-Ext") == account("ana", ana, "/home/ana", "-", "Ext")
    for number, local in enumerate(("root", "nobody-here", "anax", "www-data-x")):
        assert spawner.who(10 + number, local) == account("alias", alias, alias_home, "-", local)
    # the home of eva lies in a directory that qmailp may not enter: not known, so not alias's
    assert spawner.who(2, "eva")[0] == "Z"


def test_getpw_runs_as_qmailp(machine, lspawn):
    machine.write("bin/qmail-getpw", "#!/bin/sh\nprintf '%s\\000' x 1 1 /h - \"$(id -ru):$(id -u):$(id -G):$(ls -l /proc/self/fd | wc -l)\"\n")
    uid, gid = machine.ids("qmailp")
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


# --- qmail-start -------------------------------------------------------------

SENDER = "#!/bin/sh\nexec sleep 3599\n"


def test_start_gives_each_its_user(machine):
    """Real spawners, a logger and a qmail-send that does nothing: looked at from outside."""
    machine.write("bin/qmail-send", SENDER)
    machine.write("bin/logger", "#!/bin/sh\nwhile read -r line; do :; done\n")
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
    nofiles = machine.gid("nofiles")
    assert identity(pids["bin/qmail-rspawn"]) == only(machine.ids("qmailr")[0], nofiles)
    assert identity(pids["bin/logger"]) == only(machine.ids("qmaill")[0], nofiles)
    assert identity(pids["sleep"]) == only(machine.ids("qmails")[0], machine.gid("qmails"))
    assert identity(pids["bin/qmail-lspawn"])["Uid"] == [0] * 4
    wait_for(lambda: set(descriptors(pids["sleep"])) == {0, 1, 2, 3, 4}, what="no others, once its libraries are loaded")
    os.kill(process.pid, signal.SIGTERM)
    process.wait()
    wait_for(lambda: not machine.processes(), what="the others to end with qmail-send")


@pytest.mark.parametrize("file, name", [("passwd", "qmails"), ("passwd", "qmailr"), ("passwd", "qmaill"),
                                        ("group", "qmails"), ("group", "nofiles")])
def test_start_refuses_without_its_users(machine, file, name):
    machine.write("bin/qmail-send", SENDER)
    path = machine.path(f"/etc/{file}")
    path.write_text(re.sub(rf"(?m)^{name}:.*\n", "", path.read_text()))
    done = machine.run("qmail-start")
    assert done.returncode == 111
    assert f"there is no {'user' if file == 'passwd' else 'group'} {name}" in done.stderr.decode()
    assert machine.processes() == []


def test_remote_program_cannot_read_the_queue(machine):
    """A qmail-remote that was taken over, under the spawner that qmail-start starts."""
    machine.write("bin/qmail-remote", f"#!/bin/sh\nls {machine.home}/queue >/dev/null 2>&1 && a=open || a=closed\n"
                  "printf 'r\\000K%s %s:%s\\000' $a \"$(id -u)\" \"$(id -G)\"\n")
    # in the place of qmail-send: hands its end of the socket on
    machine.write("spawn_peer.py", pathlib.Path(spawn_peer.__file__).read_bytes())
    machine.write("bin/qmail-send", """#!/usr/bin/python3 -I
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
    assert done.stdout == f"closed {machine.ids('qmailr')[0]}:{machine.gid('nofiles')}".encode()


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
    uid, gid = machine.ids("luis")
    home = machine.path("/home/luis")
    for name in ("Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
        (home / name).mkdir(mode=0o700, exist_ok=True)
        os.chown(home / name, uid, gid)
    done = machine.run("qmail-inject", f"luis@{HOST}", input=b"Subject: hello\n\nbody\n", user="ana", cwd=machine.path("/home/ana"))
    assert done.returncode == 0, done.stderr
    arrived = wait_for(lambda: list((home / "Maildir/new").iterdir()), what="the message")[0]
    assert (arrived.stat().st_uid, arrived.stat().st_gid) == (uid, gid)
    assert f"invoked by uid {machine.ids('ana')[0]})" in arrived.read_text()
    for process in (send, keeper):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    wait_for(lambda: not machine.processes(), what="all to end")


def test_no_trace():
    """What the tests above made is not seen outside their namespace."""
    names = {user.pw_name for user in pwd.getpwall()}
    assert "qmails" not in names or pathlib.Path("/var/qmail").exists()
    assert not pathlib.Path("/home/closed").exists()
