"""A server whose programs run as their real users, in a mount namespace of its own.

The namespace has a copy of /etc and an empty /var/log and /var/mail of its own, so that users can be made there and
nothing is left behind. It is held by a process that sleeps; everything else enters it with nsenter. Needs root."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

from conftest import BUILD, HOST, SOURCE, Server

USERS = {"ana": 64101, "luis": 64102}


class RealServer(Server):
    """Like Server: the same methods, but each program runs in the namespace and as the user it should."""
    namespaces = ("-m",)  # those that unshare makes
    name = HOST

    def __init__(self, top):
        self.top = pathlib.Path(top)
        (self.top / "etc").mkdir()
        self.holder = subprocess.Popen(
            ["unshare", *self.namespaces, "--propagation", "private", "sh", "-ec",
             'cp -a /etc/. "$1/etc"; mount --bind "$1/etc" /etc; for d in log mail; do '
             "mount -t tmpfs tmpfs /var/$d; done; echo ready; exec sleep 100000", "sh", str(self.top)], stdout=subprocess.PIPE, start_new_session=True)
        if self.holder.stdout.readline() != b"ready\n":
            self.leave()
            pytest.skip("no mount namespace of its own: real users would leave a trace")
        home = self.top / "tambo"
        (home / "log").mkdir(parents=True)
        self.inside("admin/install", BUILD, home, cwd=SOURCE)
        self.inside(home / "bin/qmail-setup", self.name)
        for user, uid in USERS.items():
            self.inside("useradd", "-u", uid, "-U", "-d", self.top / f"home-{user}", "-m", "-k", "/dev/null", user)
            os.chmod(self.top / f"home-{user}", 0o700)
            for sub in ("", "tmp", "new", "cur"):
                (self.top / f"home-{user}/Maildir/{sub}").mkdir(mode=0o700)
            for path in [self.top / f"home-{user}/Maildir", *(self.top / f"home-{user}/Maildir").iterdir()]:
                os.chown(path, uid, uid)
        super().__init__(home)
        self.passwd = {}
        for line in (self.top / "etc/passwd").read_text().splitlines():
            name, _, uid, gid = line.split(":")[:4]
            self.passwd[name] = int(uid), int(gid)
        self.groups = {line.split(":")[0]: int(line.split(":")[2]) for line in (self.top / "etc/group").read_text().splitlines()}

    # -- the namespace ----------------------------------------------------
    def enter(self, user=None, group=None):
        """The start of a command line that runs the rest in the namespace, as a user with his groups."""
        line = ["nsenter", "-t", str(self.holder.pid), *self.namespaces, "--wd=."]
        if user:
            uid, gid = self.passwd[user]
            line += ["setpriv", f"--reuid={uid}", f"--regid={self.groups[group] if group else gid}"]
            line += ["--clear-groups"] if group or uid >= 64000 else ["--init-groups"]
        return line

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

    def popen(self, program, *args, env=None, user=None, group=None, **more):
        path = program if str(program).startswith("/") else self.bin / program
        if program == "qmail-queued":
            user, group = "qmailq", "qmails"
        more.setdefault("cwd", self.home)
        return subprocess.Popen([*self.enter(user, group), str(path), *map(str, args)], env=self.environment(**(env or {})), **more)

    def maildir(self, user="ana", folder="Maildir"):
        base = (self.top / f"home-{user}" if user != "alias" else self.home / "alias") / folder
        files = [p for sub in ("new", "cur") for p in (base / sub).glob("*")]
        return [p.read_bytes() for p in sorted(files, key=lambda p: (p.stat().st_mtime_ns, p.name))]

    def write_home(self, user, name, text, mode=0o600):
        path = self.top / f"home-{user}" / name
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, *self.passwd[user])
        return path

    def leave(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


def identity(pid):
    """(uid, gid, supplementary groups) of a process, all four ids being the same."""
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    uids, gids = set(fields["Uid"].split()), set(fields["Gid"].split())
    assert len(uids) == len(gids) == 1, (uids, gids)
    return int(uids.pop()), int(gids.pop()), {int(g) for g in fields["Groups"].split()}


@pytest.fixture
def real_server():
    """A server with real users that was not started yet."""
    if os.getuid():
        pytest.skip("only root can run programs as their real users")
    for tool in ("unshare", "nsenter", "setpriv", "useradd"):
        if not shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin"):
            pytest.skip(f"{tool} is not installed")
    top = pathlib.Path(tempfile.mkdtemp(prefix="tambo-real-"))
    top.chmod(0o755)
    server = None
    try:
        server = RealServer(top)
        yield server
    finally:
        try:
            if server:
                server.stop()
        finally:
            if server:
                server.leave()
            shutil.rmtree(top)
