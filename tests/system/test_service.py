"""The service directories as on a real server: s6-svscan as root, every program as its own user."""
import contextlib
import os
import pathlib
import re
import shutil
import smtplib
import socket
import stat
import subprocess
import time

import pytest

from conftest import HOST, processes_of, wait_for
from real_server import identity, make_real_server, only, real_server  # noqa: F401

SERVICES = pathlib.Path(__file__).resolve().parents[2] / "service"
pytestmark = [pytest.mark.skipif(os.getuid() != 0, reason="only root can run programs as their real users"),
              pytest.mark.skipif(not shutil.which("s6-svscan"), reason="s6 is not installed")]


DOWN = ("qmail-smtpd", "qmail-submission", "qmail-submissions", "qmail-qmtpd", "qmail-qmqpd", "qmail-popup", "qmail-pop3s")  # until the administrator says otherwise


@contextlib.contextmanager
def supervise(server):
    """s6-svscan runs the server; stopped at the end, with nothing left."""
    server.need("qmail-queued", "qmail-start", "qmail-send", "qmail-lspawn", "qmail-rspawn", "qmail-local", "qmail-inject")
    scan = subprocess.Popen([*server.enter(), "env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "s6-svscan", server.home / "service"],
                            stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        for name in ("qmail-queued", "qmail-rcptd", "qmail-keyd", "qmail-tlsd", "qmail-authd", "qmail-submitd", "qmail-mtastsd", "qmail-send"):
            wait_for(lambda name=name: server.inside("s6-svwait", "-U", "-t", "1000", server.home / "service" / name,
                                                     check=False).returncode == 0, what=f"{name} to be ready")
        yield server
        assert scan.poll() is None
    finally:
        server.inside("s6-svscanctl", "-t", server.home / "service", check=False)
        try:
            scan.wait(30)
        finally:
            scan.kill()
        end = time.monotonic() + 10
        while (left := processes_of({scan.pid}, server.home)) and time.monotonic() < end:
            time.sleep(0.01)
        for pid, _ in left:
            os.kill(pid, 9)
    assert not left


@pytest.fixture(scope="module")
def supervised():
    """One for several tests: each leaves the services as they were."""
    with make_real_server() as server:
        try:
            with supervise(server):
                yield server
        finally:
            server.stop()


def programs(server):
    """{name: [pid]} of the programs of the tree, and of the loggers of its services."""
    found = {}
    for entry in os.listdir("/proc"):
        try:
            program = os.readlink(f"/proc/{entry}/exe")
            cwd = os.readlink(f"/proc/{entry}/cwd")
        except OSError:
            continue
        if program.startswith(f"{server.home}/") or (program.endswith("/s6-log") and cwd.startswith(str(server.home))):
            found.setdefault(os.path.basename(program), []).append(int(entry))
    return found


def deliver(server, user="ana"):
    before = len(server.maildir(user))
    done = server.as_user("luis", server.bin / "qmail-inject", user, input=b"Subject: to you\n\nhello\n")
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(server.maildir(user)) == before + 1, what="the message")
    return server.maildir(user)[-1]


@pytest.mark.xdist_group("service")
def test_each_program_has_its_user(supervised):
    server = supervised
    message = deliver(server)
    assert b"invoked by uid %d)" % server.passwd["luis"][0] in message
    user, group = {n: ids[0] for n, ids in server.passwd.items()}, server.groups
    rules = {"qmail-queued": ("qmailq", "qmails"), "qmail-send": ("qmails", "qmails"), "qmail-rcptd": ("qmailp", "nofiles"), "qmail-keyd": ("qmailk", "nofiles"),
             "qmail-tlsd": ("qmailt", "nofiles"), "qmail-getpw": ("qmailp", "nofiles"), "qmail-rspawn": ("qmailr", "nofiles"),
             "qmail-lspawn": ("root", "root"), "qmail-authd": ("root", "root"), "qmail-submitd": ("qmailu", "nofiles"), "qmail-mtastsd": ("qmailm", "nofiles"), "s6-log": ("qmaill", "nofiles"), "qmail-local": ("ana", "ana")}
    running = programs(server)
    assert set(running) >= set(rules) - {"qmail-local", "qmail-getpw"}  # it may have left already
    for name, pids in running.items():
        for pid in pids:
            try:
                found = identity(pid)
            except FileNotFoundError:
                continue
            gid = group[rules[name][1]]
            assert (found["Uid"], found["Gid"]) == ([user[rules[name][0]]] * 4, [gid] * 4), name
            assert name in ("qmail-lspawn", "qmail-authd") or set(found["Groups"]) <= {gid}, (name, found)


@pytest.mark.xdist_group("service")
def test_owners_of_what_is_written(supervised):
    """The journal is the keeper's and qmail-send's, sockets can be reached by whom they are for, logs are qmaill's."""
    server = supervised
    deliver(server)
    user, group = {n: ids[0] for n, ids in server.passwd.items()}, server.groups

    def owner(path):
        st = path.stat()
        return stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid

    ring, = (server.home / "queue/journal").iterdir()
    assert owner(ring) == (0o640, user["qmailq"], group["qmails"])
    assert owner(server.home / "run/qmail-queued")[0] == 0o666
    assert owner(server.home / "queue")[0] == 0o750
    for who in ("ana", "qmaild", "qmailr", "qmailp", "qmailu", "qmaill", "alias"):
        for path in ("queue/journal", f"queue/journal/{ring.name}", "queue/mess", "queue/qmail-send"):
            assert not server.can(who, "-r", server.home / path), (who, path)
    assert server.can("qmails", "-r", ring) and not server.can("qmails", "-w", ring)
    for name in ("qmail-send", "qmail-queued", "qmail-rcptd", "qmail-keyd", "qmail-tlsd", "qmail-authd", "qmail-mtastsd"):
        current = server.home / "log" / name / "current"
        assert current.stat().st_uid == user["qmaill"]
    for who in ("ana", "qmaild", "qmailr", "qmailp", "qmailt", "qmailk", "qmailm", "qmailu", "qmails", "alias"):  # most are in the same group
        assert not server.can(who, "-r", server.home / "log/qmail-send/current"), who
    lines = (server.home / "log/qmail-send/current").read_text().splitlines()
    assert any("end msg" in line for line in lines)
    assert all(line.startswith("@4000") and line[25] == " " for line in lines)


@pytest.mark.xdist_group("service")
def test_root_and_postmaster_reach_alias(supervised):
    server = supervised
    for address in ("root", "postmaster", "mailer-daemon"):
        server.as_user("ana", server.bin / "qmail-inject", address, input=b"\nx\n", check=True)
    wait_for(lambda: len(server.maildir("alias")) == 3, what="three messages for alias")


@pytest.fixture
def own_server(real_server):  # noqa: F811
    with supervise(real_server) as server:
        yield server


def test_qmailctl(own_server):
    """stat, stop, start and restart, as root by a symbolic link; mail that comes while it is stopped waits for it."""
    server = own_server
    link = server.top / "qmailctl"
    link.symlink_to(server.bin / "qmailctl")

    def ctl(word, code=0):
        done = server.inside(link, word, check=False)
        assert done.returncode == code, done
        return done.stdout.decode() + done.stderr.decode()

    said = ctl("stat").splitlines()
    services = sorted(path.parent for path in (server.home / "service").glob("[!.]*/run"))
    lines = [line for line in said if line.startswith("service/")]
    assert [line.split(":")[0] for line in lines] == [f"service/{s.name}{log}" for s in services for log in ("", "/log")]
    down = {f"service/{name}" for name in DOWN}
    assert all((": down" if line.split(":")[0] in down else ": up (pid ") in line for line in lines)
    assert "messages in queue: 0" in said[len(lines):]
    first = programs(server)["qmail-send"]
    ctl("restart")
    assert programs(server)["qmail-send"] != first
    ctl("stop")
    assert "qmail-send" not in programs(server) and "qmail-queued" not in programs(server)
    assert "service/qmail-send: down" in server.inside(server.bin / "svstat", "service/qmail-send", cwd=server.home).stdout.decode()
    waiting = subprocess.Popen([*server.enter("luis"), str(server.bin / "qmail-inject"), "ana"], stdin=subprocess.PIPE)
    waiting.stdin.write(b"Subject: waited\n\n")
    waiting.stdin.close()
    ctl("start")
    assert waiting.wait(40) == 0
    wait_for(lambda: len(server.maildir("ana")) == 1, what="the message that waited")
    for word in ("doqueue", "flush", "reload", "queue", "cdb", "help", "pause", "cont"):
        ctl(word)
    assert "qmailctl start" in ctl("nonsense", 100)
    # a service that s6-svscan has not been told of
    (server.home / "service/a-new-one").mkdir()
    first = programs(server)["qmail-send"]
    assert "qmailctl: a-new-one has no supervisor, and was left out" in ctl("restart", 111)
    assert programs(server)["qmail-send"] != first


@pytest.mark.xdist_group("service")
@pytest.mark.parametrize("name", DOWN)
def test_a_network_server(supervised, name):
    """Down at first; then it listens as qmaild, and its processes have no other rights."""
    server = supervised
    service = server.home / "service" / name
    program = {"qmail-pop3s": "qmail-popup", "qmail-submission": "qmail-smtpd", "qmail-submissions": "qmail-smtpd"}.get(name, name)
    assert program not in programs(server)
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    (service / "listen").write_text(f"127.0.0.1 {port}\n")
    (service / "down").unlink()
    server.inside(server.bin / "qmailctl", "start")
    qmaild, nofiles = server.passwd["qmaild"][0], server.groups["nofiles"]
    with socket.create_connection(("127.0.0.1", port), 30) as c:
        if name in ("qmail-smtpd", "qmail-submission"):
            assert c.recv(1000).startswith(b"220 ")
        wait_for(lambda: len(programs(server)[program]) == (1 if name == "qmail-qmqpd" else 2), what="a process for the connection")
        for pid in programs(server)[program]:
            assert identity(pid) == only(qmaild, nofiles)
            assert "CapEff:\t0000000000000000" in pathlib.Path(f"/proc/{pid}/status").read_text()
    if name == "qmail-smtpd":
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.sendmail("s@x.example", [f"ana@{HOST}"], "Subject: by SMTP\r\n\r\nhello\r\n")
        wait_for(lambda: any(b"from network)" in m for m in server.maildir("ana")), what="the message")
    old = programs(server)[program]
    server.inside(server.bin / "qmailctl", "restart")
    assert not set(programs(server)[program]) & set(old)
    socket.create_connection(("127.0.0.1", port), 30).close()
    assert (server.home / "log" / name / "current").stat().st_uid == server.passwd["qmaill"][0]
    (service / "down").touch()
    server.inside("s6-svc", "-wD", "-d", service)


def test_a_directory_without_a_supervisor(tree):
    """qmailctl and svstat say so, and change nothing."""
    done = tree.run("svstat", "service/qmail-send")
    assert done.stdout == b"service/qmail-send: supervise not running\n"
    for word in ("start", "stop", "restart", "flush", "reload", "pause", "cont"):
        done = tree.run("qmailctl", word)
        assert done.returncode == 111 and b"no s6-svscan runs" in done.stderr


def rules_of_services():
    """Names below control/ of the compiled rules that the services' run files name."""
    return sorted({name for run in SERVICES.glob("*/run") for name in re.findall(r"control/(tcp\.[a-z0-9]+)\.cdb", run.read_text())})


@pytest.mark.skipif(not shutil.which("tcprules"), reason="ucspi-tcp is not installed")
def test_qmailctl_cdb_compiles_the_rules_of_all_services(tree):
    """A deny in rules that nobody compiles would be without force, and nothing would say so."""
    names = rules_of_services()
    assert {"tcp.smtp", "tcp.submission", "tcp.pop3"} <= set(names)
    for name in names:
        tree.write(f"control/{name}", "192.0.2.1:deny\n:allow\n")
    done = tree.run("qmailctl", "cdb")
    assert done.returncode == 0, done
    for name in names:
        assert b"192.0.2.1" in (tree.home / f"control/{name}.cdb").read_bytes(), name


@pytest.mark.skipif(not shutil.which("tcprules"), reason="ucspi-tcp is not installed")
def test_qmailctl_cdb_compiles_the_rules_of_run_files_that_stayed(real_server):  # noqa: F811
    """Those of qmail have them in /etc, and qmail's own qmailctl compiled them. The private server of another user leaves /etc alone."""
    etc = real_server.path("/etc")
    for name in ("smtp", "pop3", "none"):
        (etc / f"tcp.{name}").write_text("192.0.2.1:deny\n")
    for name in ("smtp", "pop3", "gone"):
        (etc / f"tcp.{name}.cdb").write_text("")
    os.chown(real_server.home / "service", 12345, 12345)
    assert real_server.run("qmailctl", "cdb").returncode == 0
    assert (etc / "tcp.smtp.cdb").read_bytes() == b""
    os.chown(real_server.home / "service", 0, 0)
    done = real_server.run("/bin/sh", "-c", f"umask 077; exec {real_server.bin}/qmailctl cdb")
    assert done.returncode == 0, done.stderr
    for name in ("smtp", "pop3"):
        assert b"192.0.2.1" in (etc / f"tcp.{name}.cdb").read_bytes()
        assert (etc / f"tcp.{name}.cdb").stat().st_mode & 0o777 == 0o644
    assert (etc / "tcp.gone.cdb").read_bytes() == b"" and not (etc / "tcp.none.cdb").exists()


def test_qmailctl_cdb_twice_at_once(tree):
    """Neither writes into the file that the other one is about to rename; what fails leaves nothing."""
    tree.write("control/tcp.smtp", "192.0.2.1:deny\n")
    tree.write("slow/tcprules", """#!/bin/sh
set -C
cat >"$2" || exit 111
until [ "$(ls control/tcp.smtp.tmp* | wc -l)" = 2 ] || [ -e control/tcp.smtp.cdb ]; do sleep 0.05; done
mv "$2" "$1"
""", 0o755)
    path = {"PATH": f"{tree.home}/slow:{os.environ['PATH']}"}
    running = [tree.popen("qmailctl", "cdb", env=path, stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0], [process.stderr.read() for process in running]
    tree.write("slow/tcprules", "#!/bin/sh\ncat >$2\nexit 111\n", 0o755)
    assert tree.run("qmailctl", "cdb", env=path).returncode == 111
    assert not list(tree.control.glob("*.tmp*"))


@pytest.mark.xdist_group("service")
def test_svc_of_daemontools(supervised):
    """Where daemontools' svc is installed, its letters act on the service directories."""
    server = supervised
    svc = shutil.which("svc")
    if not svc:
        pytest.skip("daemontools is not installed")
    service = server.home / "service/qmail-send"
    first = programs(server)["qmail-send"]
    for letter in "ah":
        server.inside(svc, f"-{letter}", service)
    assert programs(server)["qmail-send"] == first
    server.inside(svc, "-t", service)
    wait_for(lambda: programs(server).get("qmail-send", first) != first, what="a new qmail-send")
    server.inside(svc, "-d", service)
    wait_for(lambda: "qmail-send" not in programs(server), what="qmail-send to end")
    server.inside(svc, "-u", service)
    wait_for(lambda: "qmail-send" in programs(server), what="qmail-send to start")


def test_sources_have_what_every_service_needs():
    """Each service has readiness, a finish script and a logger with its own."""
    for service in SERVICES.iterdir():
        for name in ("run", "finish", "notification-fd", "log/run", "log/notification-fd"):
            assert (service / name).exists(), (service, name)
        for name in ("run", "finish", "log/run"):
            assert os.access(service / name, os.X_OK)
