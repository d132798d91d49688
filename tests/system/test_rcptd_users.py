"""qmail-rcptd with real users: as qmailp, what it may see of homes and what it says where it may not. Root only."""
import os
import shutil
import subprocess

import pytest

from conftest import HOST, wait_for
from probe import KILLED, call, need, opens
from real_server import identity, only
from test_root_users import installed, machine  # noqa: F401 (fixtures)
from test_trust import INTERNET, WRITE, executes, kernel, shut_in  # noqa: F401 (fixtures)

pytestmark = pytest.mark.xdist_group("rcptd_users")  # one process makes the module's machines, once


class Rcptd:
    """qmail-rcptd as its service starts it, and who asks it."""

    def __init__(self, machine, logs):
        self.machine, self.log = machine, logs / "qmail-rcptd"
        ours, theirs = os.pipe()
        with open(self.log, "ab") as log:
            self.process = machine.popen("qmail-rcptd", "-d", theirs, user="qmailp:nofiles", pass_fds=[theirs],
                                         stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(theirs)
        assert os.read(ours, 10) == b"\n", self.log.read_text()
        os.close(ours)

    def says(self, address, user="qmaild:nofiles"):
        done = self.machine.run("qmail-rcptcheck", address, user=user)
        assert done.returncode in (0, 100, 111), done.stderr
        return done.stdout.decode().split(": ")[1]

    def processes(self):
        found = []
        for pid in self.machine.processes():
            try:
                if os.readlink(f"/proc/{pid}/exe").endswith("/qmail-rcptd"):
                    found.append(pid)
            except OSError:  # it has just ended
                pass
        return found


@pytest.fixture
def rcptd(machine, tmp_path):  # noqa: F811
    for name in ("qmail-rcptd", "qmail-rcptcheck"):
        if not (machine.bin / name).exists():
            pytest.skip(f"{name} is not built")
    (machine.path("/home/ana") / ".qmail-x").write_text("")
    (machine.path("/home/luis") / ".qmail-default").write_text("")
    (machine.home / "alias/.qmail-staff").write_text("")
    for user in ("ana", "luis"):
        machine.path(f"/home/{user}").chmod(0o755)
    return Rcptd(machine, tmp_path)


def test_open_homes(rcptd):
    for local, answer in {"ana": "delivers", "ana-x": "delivers", "ana-y": "unknown", "luis-any": "delivers", "ANA-X": "delivers",
                          "staff": "delivers", "nobody-of-that-name": "unknown", "root": "delivers", "postmaster": "delivers",
                          "qmailp-x": "unknown", "daemon-x": "unknown"}.items():
        assert rcptd.says(f"{local}@{HOST}") == answer, local


def test_closed_homes(rcptd, machine):  # noqa: F811
    """The user himself is known; whatever is in his home is not, and is never called unknown."""
    machine.path("/home/ana").chmod(0o700)
    assert rcptd.says(f"ana@{HOST}") == "delivers"
    for local in ("ana-x", "ana-y", "eva", "eva-x"):
        assert rcptd.says(f"{local}@{HOST}") == "cannot know", local
    assert rcptd.says(f"luis-any@{HOST}") == "delivers"
    assert rcptd.says(f"nobody-of-that-name@{HOST}") == "unknown"


def test_closed_homes_by_the_table(rcptd, machine):  # noqa: F811
    uid, gid = machine.passwd["ana"]
    machine.path("/home/ana").chmod(0o700)
    machine.assign(f"=ana:ana:{uid}:{gid}:/home/ana:::", f"+ana-:ana:{uid}:{gid}:/home/ana:-::",
                   f"+gone-:gone:{uid}:{gid}:/home/nobody-there:-::")
    assert rcptd.says("ana") == "delivers"
    for local in ("ana-x", "ana-y", "gone-x"):
        assert rcptd.says(local) == "cannot know", local
    machine.path("/home/ana").chmod(0o711)  # names can be looked up
    assert rcptd.says("ana-x") == "delivers" and rcptd.says("ana-y") == "unknown"


def test_a_file_in_a_place_that_is_closed(rcptd, machine):  # noqa: F811
    link = machine.path("/home/ana") / ".qmail-far"
    link.symlink_to("/home/closed/eva/file")
    try:
        assert rcptd.says("ana-far") == "cannot know"
    finally:
        link.unlink()


def test_who_may_ask(rcptd):
    assert rcptd.says("nobody-of-that-name", user=None) == "unknown"
    for user in ("qmaild:nofiles", "qmailr:nofiles", "qmailq:qmails", "alias:nofiles"):
        assert rcptd.says("nobody-of-that-name", user=user) == "unknown"
    for user in ("ana", "luis"):
        assert rcptd.says("nobody-of-that-name", user=user) == "cannot know"


def test_it_is_qmailp_and_shut_in(rcptd, machine, kernel):  # noqa: F811
    need()
    pids = rcptd.processes()
    assert len(pids) == 5
    for pid in pids:
        assert identity(pid) == {**only(machine.passwd["qmailp"][0], machine.groups["nofiles"]), "Groups": []}
        assert shut_in(pid) == (pid == rcptd.process.pid)
    pid = rcptd.process.pid
    for path in ("control/me", "users"):
        assert opens(pid, path) is True, path
    for path in ("queue", "alias/.qmail-staff", "/home/ana/.qmail-x", "/etc/passwd", "/proc/self/environ", "bin/qmail-rcptd"):
        assert opens(pid, path) == "EACCES", path
    assert call(pid, "unlink", b"run/qmail-queued\0") == KILLED


def test_its_processes_write_nothing(rcptd, machine):  # noqa: F811
    need()
    pid = next(p for p in rcptd.processes() if p != rcptd.process.pid)
    for path in ("control/me", "users/x", "run/x", "queue/x", "alias/x", "/home/ana/x", "bin/x"):
        assert opens(pid, path, WRITE) == "EACCES", path
    for path in ("queue", "/etc/shadow", "/home/closed/eva"):
        assert opens(pid, path) == "EACCES", path
    assert call(pid, "setuid", 0) == -1


@pytest.mark.parametrize("attempt", [
    lambda pid: opens(pid, "run/qmail-rcptd/x", WRITE), lambda pid: call(pid, "socket", *INTERNET), executes,
    lambda pid: call(pid, "setuid", 0), lambda pid: call(pid, "kill", 1, 0), lambda pid: call(pid, "ptrace", 16, 1),
], ids=["write", "network", "program", "setuid", "signal", "ptrace"])
def test_it_dies_rather_than(rcptd, kernel, attempt):  # noqa: F811
    need()
    assert attempt(rcptd.process.pid) == KILLED
    rcptd.process.wait(10)
    wait_for(lambda: not rcptd.processes(), what="its processes to end with it")


@pytest.mark.skipif(not shutil.which("setfacl"), reason="acl is not installed")
def test_a_home_opened_for_it_alone(rcptd, machine):  # noqa: F811
    """As qmail-rcptd(8) says."""
    machine.path("/home/ana").chmod(0o700)
    done = machine.run("/usr/bin/setfacl", "-m", "u:qmailp:x", "/home/ana")
    if done.returncode:
        pytest.skip(f"no access control lists here: {done.stderr}")
    try:
        assert rcptd.says("ana-x") == "delivers" and rcptd.says("ana-y") == "unknown"
    finally:
        machine.run("/usr/bin/setfacl", "-b", "/home/ana")
