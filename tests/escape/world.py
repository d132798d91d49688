"""A whole server as s6-svscan runs it, each program as its real user, and something going on at each of them.

PLACES has a line for each program of SECURITY's table: a context manager that brings it to where it handles what others wrote,
gives its process id, and at its end looks whether it still does its work."""
import contextlib
import os
import pathlib
import poplib
import shutil
import smtplib
import socket
import ssl
import subprocess
import threading
import time

import fake_smtp
from attempts import descriptors
from conftest import HOST, free_port, processes_of, program_of, wait_for
from serving import compile_rules, qmqp, qmtp
from test_tcpto import table

PORTS = ("qmail-smtpd", "qmail-submission", "qmail-qmtpd", "qmail-qmqpd", "qmail-popup")
MESSAGE = b"Subject: a secret\n\nonly for whom it is meant\n"
SECRET = "a password of ana"
FAR = "far.example"  # its mail goes to the test
CLOSED = "closed.example"  # its mail waits in the queue
ASK_FOR_POLICY = ("import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.connect('run/qmail-mtastsd/socket')\n"
                  "s.send(b'x.example\\0' + b'id')\ns.recv(1)")


def children(pid):
    """pids of a process's children: not of stand-ins, nor of what has ended."""
    try:
        return {int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                if "State:\tZ" not in (status := pathlib.Path(f"/proc/{p}/status").read_text()) and "TracerPid:\t0\n" in status}
    except OSError:
        return set()


def has_connection(pid):
    try:
        return "tcp" in descriptors(pid).values()
    except OSError:  # it has just ended
        return False


def is_shut_in(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return "NoNewPrivs:\t1\n" in status and "Seccomp:\t2\n" in status


def no_certificate():
    """A context for a certificate that nobody has signed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class World:
    def __init__(self, server):
        self.server = server
        self.ports = {name: free_port() for name in PORTS}
        self.names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # a name server that takes its time
        self.names.bind(("127.0.0.1", 0))
        self.abstract = b"\0tambo-%d" % os.getpid()
        self.stranger = socket.socket(socket.AF_UNIX)  # somebody's socket without a path
        self.stranger.bind(self.abstract)
        self.stranger.listen(4096)
        self.outside = socket.create_server(("127.0.0.1", 0), backlog=4096)  # what is to be reached
        self.qmqp = socket.create_server(("127.0.0.1", 0))
        self.going_on = threading.Event()
        self.far = fake_smtp.Server(self.hold, fake_smtp.ALL)

    def hold(self, session, verb, line):
        """The server for FAR answers a message when the test says so."""
        if verb == "end":
            self.going_on.wait(60)

    # -- beginning and end ------------------------------------------------------------------------------------------------
    def configure(self):
        server = self.server
        for name in PORTS:
            service = server.home / "service" / name
            (service / "down").unlink()
            (service / "listen").write_text(f"127.0.0.1 {self.ports[name]}\n")
            (service / "env").mkdir()
            (service / "env/FORCETLS").write_text("0\n")
        server.write("control/smtproutes", f"{FAR}:[127.0.0.1]:{self.far.port}\n{CLOSED}:[127.0.0.1]:{free_port()}\n")
        server.write("control/dnsservers", f"127.0.0.1:{self.names.getsockname()[1]}\n")
        server.write("control/qmqpservers", "127.0.0.1:%d\n" % self.qmqp.getsockname()[1])
        compile_rules(server, "control/tcp.qmqp.cdb", {"127.0.0.1": {"RELAYCLIENT": ""}})
        authorities = server.path("/etc/ssl/certs/ca-certificates.crt")  # which not every machine has
        authorities.parent.mkdir(parents=True, exist_ok=True)
        authorities.unlink(missing_ok=True)
        authorities.write_bytes((server.home / "tls/self-signed.pem").read_bytes())
        client = shutil.copy(server.home / "tls/self-signed.pem", server.home / "tls/client/client.pem")
        os.chown(client, *server.passwd["qmailk"])
        server.inside(server.bin / "qmail-account", "add", "-u", "ana", "-d", "/home/ana", "-p", "0", f"ana@{HOST}", input=SECRET.encode() + b"\n")
        server.assign("=assigned:ana:%d:%d:/home/ana:::" % server.passwd["ana"])
        for user in ("ana", "luis"):
            server.write_home(user, ".qmail", "./Maildir/\n")

    def start(self):
        server = self.server
        self.scan = subprocess.Popen([*server.enter(), "env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "s6-svscan", server.home / "service"],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        names = [p.name for p in (server.home / "service").iterdir() if p.is_dir() and not (p / "down").exists() and p.name[0] != "."]
        for name in names:
            wait_for(lambda name=name: server.inside("s6-svwait", "-U", "-t", "1000", server.home / "service" / name,
                                                     check=False).returncode == 0, what=f"{name} to be ready")
        self.services = {name: int(server.inside("s6-svstat", "-o", "pid", server.home / "service" / name).stdout) for name in names}
        self.inject(f"x@{CLOSED}", MESSAGE)
        self.inject(f"x@{CLOSED}", b"Subject: large\n\n" + b"x" * 70 * 4096)  # this one has files of its own
        self.delivers("ana")
        self.delivers("luis")
        wait_for(lambda: all(said in self.log("qmail-send") for said in (": deferral: ", "info msg 2: ")), what="two messages that wait")
        self.find()

    def stop(self):
        server = self.server
        self.going_on.set()
        server.inside("s6-svscanctl", "-t", server.home / "service", check=False)
        try:
            self.scan.wait(30)
        finally:
            self.scan.kill()
            self.far.__exit__(None, None, None)
            self.names.close()
            self.outside.close()
            self.qmqp.close()
            self.stranger.close()
        end = time.monotonic() + 10
        while processes_of({self.scan.pid}, server.home) and time.monotonic() < end:
            time.sleep(0.01)

    def __enter__(self):
        self.far.__enter__()
        self.configure()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    # -- looking ------------------------------------------------------------------------------------------------------------
    def log(self, service):
        path = self.server.home / "log" / service / "current"
        return path.read_text() if path.exists() else ""

    def named(self, name):
        """pids of the processes that run bin/NAME."""
        return {pid for pid in self.server.processes() if program_of(pid) == name}

    def one(self, name, *, beside=()):
        return min(wait_for(lambda: self.named(name) - set(beside), what=name))

    def child(self, service, beside=()):
        """A new child of a service's process."""
        return min(wait_for(lambda: children(self.services[service]) - set(beside), what=f"a child of {service}"))

    def user(self, uid):
        return next((name for name, (number, _) in self.server.passwd.items() if number == uid), str(uid))

    def group(self, gid):
        return next((name for name, number in self.server.groups.items() if number == gid), str(gid))

    def tell(self, to):
        """A descriptor, with no name that changes from run to run."""
        home = f"{self.server.home}/"
        if to == home:
            return "the home"
        to = to.removeprefix(home).removeprefix(str(self.server.top))
        for below, name in (("queue/", "queue/"), ("log/", "its log"), ("/home/ana/", "the maildir"), ("/dev/null", ""), ("pipe", ""), ("anon_inode:", "")):
            if to.startswith(below):
                return name
        return to

    def seen_from_outside(self, path):
        """A directory that a program has open: /etc and /home are the namespace's own."""
        return self.server.path(path) if path.startswith(("/etc/", "/home/")) else pathlib.Path(path)

    def others(self, pid):
        """[(name, pid)] of the other programs' processes."""
        found = []
        for other in self.server.processes():
            with contextlib.suppress(OSError):
                if other != pid and f"TracerPid:\t{os.getpid()}\n" not in pathlib.Path(f"/proc/{other}/status").read_text():
                    found.append((pathlib.PurePath(os.readlink(f"/proc/{other}/exe")).name, other))
        return found

    @contextlib.contextmanager
    def canary(self, path):
        """A file in a directory that can be removed, renamed, linked; and what was made there goes."""
        if not path.is_dir():
            yield
            return
        canary = path / "canary"
        canary.touch()
        os.chown(canary, path.stat().st_uid, path.stat().st_gid)
        yield
        for left in (canary, path / "made"):
            with contextlib.suppress(FileNotFoundError):
                left.rmdir() if left.is_dir() and not left.is_symlink() else left.unlink()

    def find(self):
        """What there is to be reached: pairs of a word and a path."""
        home, user = self.server.home, self.server.path
        queue = [next(p.glob("*")) for p in (home / "queue/journal", *(q for q in (home / "queue/mess").iterdir() if any(q.iterdir())))]
        queue += list((home / "queue/info").glob("*/*"))[:1]
        mail = {name: self.server.write_home(name, "Maildir/cur/1.1.x:2,S", MESSAGE.decode()) for name in ("ana", "luis")}
        files = {
            "control": ["control/me", "control/smtproutes"], "users": ["users/cdb", "users/accounts.cdb"],
            "passwords": ["users/accounts", "users/passwords.cdb", "/etc/shadow"], "keys": ["tls/self-signed.pem", "tls/client/client.pem"],
            "queue": queue, **{name: [user(f"/home/{name}/.qmail")] for name in mail}, **{f"{name}/Maildir": [path] for name, path in mail.items()},
            "alias": ["alias/Maildir"], "logs": ["log/qmail-send/current"], "policies": ["run/qmail-mtastsd/policies"],
            "tcpto": ["run/tcpto"], "supervision": ["service/qmail-send/supervise/status"],
            "system": ["/etc/passwd", "/usr/bin/env", "bin/qmail-queue", "alias/.qmail-root", "service/qmail-send/run"],
        }
        folders = {
            "control": ["control"], "users": ["users"], "programs": ["bin", "libexec"], "services": ["service", "service/qmail-send"],
            "keys": ["tls", "tls/client"], "queue": ["queue", "queue/journal", "queue/new", "queue/mess/0", "queue/info/0", "queue/damaged"],
            "run": ["run"], "policies": ["run/qmail-mtastsd/policies"], "alias": ["alias", "alias/Maildir", "alias/Maildir/new"],
            "logs": ["log", "log/qmail-send"], "tmp": ["/tmp", "/var/tmp", "/dev/shm"], "system": [".", "/etc", "/home"],
            **{f"run/{p.name}": [p] for p in sorted((home / "run").iterdir()) if p.is_dir()},
            **{name: [user(f"/home/{name}")] for name in mail},
            **{f"{name}/Maildir": [user(f"/home/{name}/Maildir") / sub for sub in ("", "new", "cur", "tmp")] for name in mail},
        }
        pairs = lambda of: [(word, home / path if str(path)[0] != "/" or str(path).startswith("/home") else pathlib.Path(path))  # noqa: E731
                            for word, paths in of.items() for path in paths]
        self.readable, self.folders, self.changeable = pairs(files), pairs(folders), [p for p in pairs(files) if not p[1].is_dir()]

    # -- doing --------------------------------------------------------------------------------------------------------------
    def inject(self, to, message=MESSAGE):
        done = self.server.run("qmail-inject", to, input=message, user="ana", cwd=self.server.path("/home/ana"))
        assert done.returncode == 0, done.stderr

    def new_mail(self, user, message=b""):
        return [p for p in self.server.path(f"/home/{user}/Maildir/new").iterdir() if message in p.read_bytes()]

    def delivers(self, user="ana"):
        before = len(self.new_mail(user))
        self.inject(f"{user}@{HOST}")
        self.has_come(user, before)

    def has_come(self, user, before):
        wait_for(lambda: len(self.new_mail(user)) > before, what=f"a message for {user}")

    def answer_names(self, until):
        """Says of every name that was asked that there is none, until a condition is true."""
        self.names.settimeout(0.01)
        while not until():
            with contextlib.suppress(TimeoutError):
                question, client = self.names.recvfrom(4096)
                self.names.sendto(question[:2] + b"\x81\x83" + question[4:], client)

    def address(self, service):
        return "127.0.0.1", self.ports[service]


# --- places ------------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def service_of(world, name):
    yield world.services[name]
    world.delivers()


def service(name):
    return lambda world: service_of(world, name)


def child_of(name):
    """A process that a service's process keeps, and that still is one of its after it was looked at."""
    @contextlib.contextmanager
    def place(world):
        pid = world.child(name)
        yield pid
        world.delivers()
        assert pid in children(world.services[name])

    return place


def kept(name, user="ana"):
    """One that a spawner keeps when it has delivered to a user."""
    @contextlib.contextmanager
    def place(world):
        world.delivers(user)
        yield world.one(name)
        world.delivers(user)

    return place


def reading(program, *arguments):
    """One that the user ana runs, and that reads a message from a pipe."""
    @contextlib.contextmanager
    def place(world):
        before = len(world.new_mail("ana"))
        envelope_read, envelope_write = os.pipe()
        process = world.server.popen(program, *arguments, user="ana", stdin=subprocess.PIPE, stdout=envelope_read, stderr=subprocess.DEVNULL, cwd=world.server.path("/home/ana"))
        os.close(envelope_read)
        process.stdin.write(MESSAGE)
        process.stdin.flush()
        yield process.pid
        os.write(envelope_write, b"Fana@x.example\0Tana@%s\0\0" % HOST.encode())
        os.close(envelope_write)
        process.communicate()
        assert process.returncode == 0
        world.has_come("ana", before)

    return place


@contextlib.contextmanager
def qmqp_client(world):
    """qmail-qmqpc, which waits for what the server says."""
    with open(world.server.write("message", MESSAGE), "rb") as message, open(world.server.write("envelope", b"Fa\0Tb@c\0\0"), "rb") as envelope:
        process = world.server.popen("qmail-qmqpc", user="ana", stdin=message, stdout=envelope, stderr=subprocess.DEVNULL)
    connection, _ = world.qmqp.accept()
    with connection:
        connection.settimeout(30)
        assert connection.recv(4096)
        yield process.pid
        connection.sendall(b"4:Kok\n,")
        assert process.wait(30) == 0


@contextlib.contextmanager
def smtp(world, *steps, name="qmail-submission"):
    """A session, after some steps; then a message goes through it."""
    parent, before = children(world.services[name]), len(world.new_mail("ana"))
    with smtplib.SMTP(*world.address(name), local_hostname="client.example", timeout=30) as s:
        s.ehlo()
        pid = world.child(name, parent)
        for step in steps:
            step(s)
        yield pid
        if name == "qmail-submission" and login not in steps:
            login(s)
        s.sendmail(f"ana@{HOST}", [f"ana@{HOST}"], MESSAGE.decode())
    world.has_come("ana", before)


def login(s):
    s.login(f"ana@{HOST}", SECRET)


def start_tls(s):
    s.starttls(context=no_certificate())
    s.ehlo()


@contextlib.contextmanager
def tls_connection(world):
    before = children(world.services["qmail-tlsd"])
    with smtp(world, start_tls):
        yield world.child("qmail-tlsd", before)


@contextlib.contextmanager
def netstrings(world, name, octets):
    """A session of QMTP or QMQP; it has sent half of a message."""
    parent, before = children(world.services[name]), len(world.new_mail("ana"))
    with socket.create_connection(world.address(name), 30) as s:
        s.sendall(octets[:20])
        yield world.child(name, parent)
        s.sendall(octets[20:])
        said = s.recv(1000)
        assert b":K" in said, said
    world.has_come("ana", before)


@contextlib.contextmanager
def pop3(world, login_first=False):
    """A session of POP3, before or after the login."""
    before = children(world.services["qmail-popup"])
    s = poplib.POP3(*world.address("qmail-popup"), timeout=30)
    try:
        pid = world.child("qmail-popup", before)
        s.user(f"ana@{HOST}")
        if login_first:
            s.pass_(SECRET)
            pid = world.one("qmail-pop3d")
        yield pid
        if not login_first:
            s.pass_(SECRET)
        assert any(b"Subject: a secret" in line for line in s.retr(s.stat()[0])[1])
    finally:
        s.quit()


@contextlib.contextmanager
def policy_fetch(world):
    """It waits for a name server."""
    asker = subprocess.Popen([*world.server.enter("qmailr:nofiles"), "/usr/bin/python3", "-c", ASK_FOR_POLICY], cwd=world.server.home)
    yield world.one("qmail-mtastsfetch")
    world.answer_names(lambda: asker.poll() is not None)
    assert asker.returncode == 0


@contextlib.contextmanager
def dns_list(world):
    """It waits for a name server, and the session for it."""
    lists = world.server.write("control/dnsbllist", "list.example\n")
    with socket.create_connection(world.address("qmail-smtpd"), 30) as s:
        said = s.recv(1000)
        s.sendall(b"EHLO x\r\n")
        said += s.recv(1000)
        s.sendall(b"MAIL FROM:<>\r\nRCPT TO:<ana@%s>\r\nQUIT\r\n" % HOST.encode())
        pid = world.one("qmail-dnsbl")
        lists.unlink()
        yield pid
        world.answer_names(lambda: pid not in world.named("qmail-dnsbl"))
        said += b"".join(iter(lambda: s.recv(4096), b""))
        assert said.count(b"\r\n250 ") == 3, said


@contextlib.contextmanager
def remote(world):
    """A delivery that waits for the server's answer."""
    world.going_on.clear()
    before, delivered = len(world.far.messages), world.log("qmail-send").count("Remote_host_said:_250")
    world.inject(f"x@{FAR}")
    wait_for(lambda: len(world.far.messages) > before, what="a message at the server")
    # one that has delivered elsewhere may still be there, idle
    yield min(pid for pid in world.named("qmail-remote") if has_connection(pid))
    world.going_on.set()
    wait_for(lambda: world.log("qmail-send").count("Remote_host_said:_250") > delivered, what="its delivery")


@contextlib.contextmanager
def remote_spawner(world):
    """With what it has started."""
    with remote(world):
        yield world.one("qmail-rspawn")


@contextlib.contextmanager
def logger(world):
    yield wait_for(lambda: sorted(world.named("s6-log")), what="a logger")[0]


@contextlib.contextmanager
def printing(world, program, said, user="qmails:qmails"):
    """One that has found what it was asked for, and waits because nobody reads it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    process = world.server.popen(program, user=user, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    wait_for(lambda: pathlib.Path(f"/proc/{process.pid}/syscall").read_text().startswith("1 0x1 "), what=f"{program} to print")
    yield process.pid
    with open(reader, "rb") as out:
        assert said in out.read()
    assert process.wait(30) == 0


@contextlib.contextmanager
def dead_hosts(world):
    """qmail-tcpto, with something to say."""
    def write(octets):
        with open(world.server.home / "run/tcpto", "r+b") as file:  # in place: others have it mapped
            file.write(octets)

    write(table(("192.0.2.1", 1, 1)))
    with printing(world, "qmail-tcpto", b"192.0.2.1", "ana") as pid:
        yield pid
    write(table())


@contextlib.contextmanager
def route(world):
    """It waits for a name server."""
    process = world.server.popen("qmail-route", "x.example", user="ana", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    yield process.pid
    world.answer_names(lambda: process.poll() is not None)
    assert process.communicate()[0].startswith(b"x.example: ")


HIDE_SYSLOG = '[ ! -e /dev/log ] || mount --bind "$1" /dev/log; shift; exec "$@"'


@contextlib.contextmanager
def to_syslog(world):
    """splogger, in a namespace in which there is no syslog: not every machine has one, and none is to hear of this."""
    server = world.server
    become = server.enter("qmaill:nofiles")[len(server.enter()):]
    process = subprocess.Popen([*server.enter(), "unshare", "-m", "sh", "-c", HIDE_SYSLOG, "sh", server.write("nothing", ""), *become,
                                server.bin / "splogger"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process.stdin.write(b"a lin")
    process.stdin.flush()
    yield process.pid
    process.communicate(b"e\n")
    assert process.returncode == 0


@contextlib.contextmanager
def checkpassword(world):
    """checkpassword-authd, which has read half of a login."""
    process = world.server.popen("/bin/sh", "-c", 'exec "$@" 3<&0 </dev/null', "sh", world.server.bin / "checkpassword-authd", "/bin/true",
                                 user="qmaild:nofiles", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: program_of(process.pid) == "checkpassword-authd", what="it to start")
    process.stdin.write(b"ana@%s\0" % HOST.encode())
    process.stdin.flush()
    yield process.pid
    process.communicate(SECRET.encode() + b"\0\0")
    assert process.returncode == 0


@contextlib.contextmanager
def authd_of_accounts(world):
    """qmail-authd as the one user of all accounts, ana, in the place of root's."""
    server, service = world.server, world.server.home / "service/qmail-authd"
    own = [server.home / path for path in ("run/qmail-authd", "users/passwords.cdb")]
    server.inside("s6-svc", "-wD", "-T", "30000", "-d", service)
    for path in own:
        os.chown(path, *server.passwd["ana"])
    ours, theirs = os.pipe()
    process = server.popen("qmail-authd", "-d", theirs, "-l", "-u", server.passwd["qmaild"][0], "bin/checkpassword-accounts", "-s", "--",
                           "bin/qmail-pop3d", "-l", "Maildir", user="ana", pass_fds=[theirs], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    os.close(theirs)
    try:
        assert os.read(ours, 10)
        # a worker of the same user that is kept for some seconds would be one more that can be signalled, or not
        wait_for(lambda: not world.named("qmail-local"), what="the workers to end")
        yield process.pid
        with pop3(world):
            pass
    finally:
        os.close(ours)
        process.terminate()
        process.wait(30)
        for path in own:
            os.chown(path, 0, 0)
        server.inside("s6-svc", "-wU", "-T", "30000", "-u", service)


@contextlib.contextmanager
def any_user(world):
    """A program of a user who has no part in the mail system, and who is not confined: what the others are compared with."""
    process = world.server.popen("/bin/cat", user="nobody:nogroup", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
    wait_for(lambda: os.readlink(f"/proc/{process.pid}/exe").endswith("/cat"), what="it to start")
    yield process.pid
    process.stdin.close()
    assert process.wait(30) == 0


QMTP = qmtp(MESSAGE, "a@x.example", f"ana@{HOST}")
QMQP = qmqp(MESSAGE, "a@x.example", f"ana@{HOST}")

# name of the line: (how to come there, whether it has to be shut in)
ANY_USER = "any user's program"
PLACES = {
    ANY_USER: (any_user, False),
    "qmail-queue": (reading("qmail-queue"), True),
    "qmail-inject": (reading("qmail-inject", f"ana@{HOST}"), True),
    "qmail-qmqpc": (qmqp_client, True),
    "qmail-queued": (service("qmail-queued"), True),
    "qmail-queued, a writer": (child_of("qmail-queued"), True),
    "qmail-send": (service("qmail-send"), True),
    "qmail-qread": (lambda world: printing(world, "qmail-qread", b"remote\t"), True),
    "qmail-qstat": (lambda world: printing(world, "qmail-qstat", b"messages in queue: "), True),
    "qmail-getpw": (kept("qmail-getpw", "luis"), False),
    "qmail-rcptd": (service("qmail-rcptd"), True),
    "qmail-rcptd, who asks": (child_of("qmail-rcptd"), False),
    "qmail-submitd": (service("qmail-submitd"), True),
    "qmail-tlsd, the parent": (service("qmail-tlsd"), False),
    "qmail-tlsd, a connection": (tls_connection, True),
    "qmail-keyd, the parent": (service("qmail-keyd"), False),
    "qmail-keyd, who signs": (child_of("qmail-keyd"), True),
    "qmail-mtastsd, the parent": (service("qmail-mtastsd"), False),
    "qmail-mtastsd, policies": (child_of("qmail-mtastsd"), True),
    "qmail-mtastsfetch": (policy_fetch, True),
    "qmail-dnsbl": (dns_list, True),
    "qmail-smtpd, the parent": (service("qmail-smtpd"), False),
    "qmail-smtpd, a session": (lambda world: smtp(world, name="qmail-smtpd"), True),
    "qmail-smtpd, inside TLS": (lambda world: smtp(world, start_tls), True),
    "qmail-smtpd, logged in": (lambda world: smtp(world, login), True),
    "qmail-qmtpd, the parent": (service("qmail-qmtpd"), False),
    "qmail-qmtpd, a session": (lambda world: netstrings(world, "qmail-qmtpd", QMTP), True),
    "qmail-qmqpd, the parent": (service("qmail-qmqpd"), False),
    "qmail-qmqpd, a session": (lambda world: netstrings(world, "qmail-qmqpd", QMQP), True),
    "qmail-popup, the parent": (service("qmail-popup"), False),
    "qmail-popup, a session": (pop3, True),
    "qmail-pop3d": (lambda world: pop3(world, True), True),
    "checkpassword-authd": (checkpassword, False),
    "qmail-authd, accounts' uid": (authd_of_accounts, False),
    "qmail-rspawn": (remote_spawner, False),
    "qmail-remote": (remote, True),
    "qmail-route": (route, True),
    "qmail-tcpto": (dead_hosts, True),
    "qmail-local": (kept("qmail-local"), False),
    "s6-log": (logger, False),
    "splogger": (to_syslog, True),
}
