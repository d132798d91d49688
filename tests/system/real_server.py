"""A server whose programs run as their real users, in a mount namespace of its own.

The namespace has a copy of /etc, and a /home, /var/log and /var/mail of its own, so that users can be made there and
nothing is left behind. It is held by a process that sleeps; everything else enters it with nsenter. Needs root."""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from conftest import BUILD, HOST, SOURCE, Server, new_directory

USERS = {"ana": 64101, "luis": 64102}
SPACE = """
cp -a /etc/. "$1/etc"
mount --bind "$1/etc" /etc
mount --bind "$1/home" /home
for d in log mail; do mount -t tmpfs -o mode=755 tmpfs /var/$d; done
echo ready
exec sleep 100000
"""


class RealServer(Server):
    """Like Server: the same methods, but each program runs in the namespace and as the user it should: root, if none is named.

    Users: ana (also in the group club) and luis, with maildirs; eva, whose home is below /home/closed, which is root's alone.
    A user may be given as "user", who has all his groups, or as "user:group", who has that alone."""
    namespaces = ("-m",)  # those that unshare makes
    name = HOST

    def __init__(self, top):
        self.top = pathlib.Path(top)
        for name in ("etc", "home", "tambo", "tambo/log"):
            (self.top / name).mkdir()
        with open(self.top / "trouble", "wb") as trouble:
            self.holder = subprocess.Popen(["unshare", *self.namespaces, "--propagation", "private", "sh", "-ec", SPACE, "sh", str(self.top)],
                                           stdout=subprocess.PIPE, stderr=trouble, start_new_session=True)
        if self.holder.stdout.readline() != b"ready\n":
            self.leave()
            pytest.skip(f"no namespace of its own can be made here: {(self.top / 'trouble').read_text()}")
        home = self.top / "tambo"
        try:
            subprocess.run(["admin/install", BUILD, home], cwd=SOURCE, check=True, stdout=subprocess.PIPE)
            self.inside(home / "bin/qmail-setup", self.name)
            self.make_users()
        except BaseException:
            self.leave()
            raise
        super().__init__(home)
        self.uid = self.gid = 0  # of what a test writes
        self.passwd = {}
        for line in self.path("/etc/passwd").read_text().splitlines():
            name, _, uid, gid = line.split(":")[:4]
            self.passwd[name] = int(uid), int(gid)
        self.groups = {line.split(":")[0]: int(line.split(":")[2]) for line in self.path("/etc/group").read_text().splitlines()}

    def make_users(self):
        for user, uid in USERS.items():
            self.inside("useradd", "-u", uid, "-U", "-s", "/bin/sh", "-m", "-k", "/dev/null", user)
            home = self.path(f"/home/{user}")
            home.chmod(0o700)
            for sub in ("", "tmp", "new", "cur"):
                (home / "Maildir" / sub).mkdir(mode=0o700)
                os.chown(home / "Maildir" / sub, uid, uid)
        self.inside("groupadd", "club")
        self.inside("usermod", "-a", "-G", "club", "ana")
        self.path("/home/closed").mkdir(mode=0o700)
        self.inside("useradd", "-U", "-d", "/home/closed/eva", "-m", "-k", "/dev/null", "eva")
        self.path("/home/closed/eva").chmod(0o700)

    # -- the namespace ----------------------------------------------------
    def path(self, name):
        """Where a path below /etc or /home is, seen from outside."""
        return self.top / name.lstrip("/")

    def enter(self, user=None):
        """The start of a command line that runs the rest in the namespace, as a user."""
        line = ["nsenter", "-t", str(self.holder.pid), *self.namespaces, "--wd=."]
        if user:
            user, _, group = user.partition(":")
            uid, gid = self.passwd[user]
            line += ["setpriv", f"--reuid={uid}", f"--regid={self.groups[group] if group else gid}"]
            line += ["--clear-groups" if group else "--init-groups"]
        return line

    def processes(self):
        """pids of the namespace's processes, but for the one that holds it."""
        ours = os.readlink(f"/proc/{self.holder.pid}/ns/mnt")
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/ns/mnt") == ours and int(pid) != self.holder.pid:
                    found.append(int(pid))
            except OSError:
                pass
        return found

    def kill(self):
        """Ends whatever a test left in the namespace."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def inside(self, *command, check=True, **more):
        """Runs a command as root in the namespace."""
        return subprocess.run([*self.enter(), *map(str, command)], check=check, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def as_user(self, user, *command, input=b"", check=False, **more):
        """Runs a command as a user in the namespace; returns subprocess.CompletedProcess with octets."""
        more.setdefault("cwd", self.home)
        return subprocess.run([*self.enter(user), *map(str, command)], input=input, check=check, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=self.environment(), timeout=60, **more)

    def can(self, user, test, path):
        """Whether test(1) says so, as that user."""
        return self.as_user(user, "test", test, path).returncode == 0

    # -- what Server does otherwise -----------------------------------------
    def own(self, path):
        return path

    def popen(self, program, *args, env=None, user=None, **more):
        path = program if str(program).startswith("/") else self.bin / program
        if program == "qmail-queued":
            user = "qmailq:qmails"
        more.setdefault("cwd", self.home)
        return subprocess.Popen([*self.enter(user), str(path), *map(str, args)], env=self.environment(**(env or {})), **more)

    def assign(self, *lines):
        """Writes users/assign and compiles it."""
        self.write("users/assign", "".join(f"{line}\n" for line in (*lines, ".")))
        self.run("qmail-newu", check=True)

    def maildir(self, user="ana", folder="Maildir"):
        base = (self.path(f"/home/{user}") if user != "alias" else self.home / "alias") / folder
        files = [p for sub in ("new", "cur") for p in (base / sub).glob("*")]
        return [p.read_bytes() for p in sorted(files, key=lambda p: (p.stat().st_mtime_ns, p.name))]

    def write_home(self, user, name, text, mode=0o600):
        path = self.path(f"/home/{user}") / name
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, *self.passwd[user])
        return path

    def leave(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


def identity(pid):
    """What /proc says a process is: real, effective, saved and file system ids, groups, capabilities."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    numbers = {name: [int(n) for n in re.search(rf"^{name}:(.*)$", status, re.M)[1].split()] for name in ("Uid", "Gid", "Groups")}
    for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        numbers[name] = int(re.search(rf"^{name}:\s*(\w+)", status, re.M)[1], 16)
    return numbers


def only(uid, gid):
    """The identity of a process that is this user, and nothing else."""
    return {"Uid": [uid] * 4, "Gid": [gid] * 4, "Groups": [gid], "CapPrm": 0, "CapEff": 0, "CapInh": 0, "CapAmb": 0}


@contextlib.contextmanager
def make_real_server():
    """A server with real users that was not started yet. What is to be stopped, the caller stops before."""
    if os.getuid():
        pytest.skip("only root can run programs as their real users")
    for tool in ("unshare", "nsenter", "setpriv", "useradd"):
        if not shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            pytest.skip(f"{tool} is not installed")
    top = new_directory()
    try:
        server = RealServer(top)
        try:
            yield server
        finally:
            server.kill()
            server.leave()
    finally:
        shutil.rmtree(top)


@pytest.fixture
def real_server():
    with make_real_server() as server:
        try:
            yield server
        finally:
            server.stop()
