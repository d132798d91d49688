"""Network servers on a listening socket, for tests: Service starts one in a tree, the functions below speak to it."""
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

from conftest import WAIT, processes_of, wait_for
from fake_keeper import Connection, FakeKeeper


def netstring(octets):
    octets = octets if isinstance(octets, bytes) else octets.encode()
    return b"%d:%s," % (len(octets), octets)


def qmtp(message, sender, *recipients, ending=b"\n"):
    return netstring(ending + message) + netstring(sender) + netstring(b"".join(netstring(r) for r in recipients))


def qmqp(message, sender, *recipients):
    return netstring(netstring(message) + netstring(sender) + b"".join(netstring(r) for r in recipients))


def compile_rules(tree, name, rules):
    """Writes a table of rules as tcprules does: {key: "deny" or {variable: value}}."""
    text = b""
    for key, rule in rules.items():
        value = b"D\0" if rule == "deny" else b"".join(b"+%s=%s\0" % (k.encode(), v.encode()) for k, v in rule.items())
        text += b"+%d,%d:%s->%s\n" % (len(key), len(value), key.encode(), value)
    path = tree.home / name
    new = path.with_name(path.name + ".new")
    subprocess.run(["cdb", "-c", "-t", f"{new}.tmp", str(new)], input=text + b"\n", check=True, stdout=subprocess.DEVNULL)
    new.chmod(0o644)
    new.replace(path)


class Listening:
    """A server, self.process, that listens at self.address and logs to the file self.path."""

    def children(self):
        """The pids of the processes that serve connections."""
        return [int(p) for p in
                pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def log(self):
        return self.path.read_text(errors="replace")

    def logged(self, text, count=1):
        wait_for(lambda: self.log().count(text) >= count, WAIT, f"{text!r} in the log:\n{self.log()[-3000:]}")
        return self.log()

    def connect(self, source=None, timeout=WAIT):
        """A connection, from the address source."""
        return socket.create_connection(self.address, timeout, (source, 0) if source else None)

    def ask(self, octets, source=None, end=True):
        """What the server says to octets until it closes; end: our side is closed after them."""
        with self.connect(source) as c:
            with contextlib.suppress(OSError):  # refused before
                c.sendall(octets)
                if end:
                    c.shutdown(socket.SHUT_WR)
            return read_all(c)


def call(tree, service):
    """A socket that is connected to run/SERVICE/socket."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(WAIT)
    here = os.getcwd()
    os.chdir(tree.home)  # a socket path is short
    try:
        s.connect(f"run/{service}/socket")
    except OSError:
        s.close()
        raise
    finally:
        os.chdir(here)
    return s


class Tcpserver(Listening):
    """tcpserver, at a free port, in front of a command line. Use as a context manager: at the end its sessions have ended, too."""

    def __init__(self, tree, *command, env=None):
        self.path = tree.home / "tcpserver.log"
        with open(self.path, "ab") as log:
            self.process = tree.popen("/usr/bin/tcpserver", "-1", "-HRl0", "127.0.0.1", "0", *command, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=log, env=env, start_new_session=True)
        self.address = "127.0.0.1", int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(WAIT)
        self.process.stdout.close()
        wait_for(lambda: not processes_of({self.process.pid}, "/nonexistent"), WAIT, "the sessions to end")


class Service(Listening):
    """bin/PROGRAM on a socket that listens at address (a free port). Use as a context manager."""

    def __init__(self, tree, program, *args, address="127.0.0.1", env=None, limits=None, log=None, backlog=4096):
        self.tree, self.program = tree, program
        self.listener = socket.create_server((address, 0), backlog=backlog,
                                             family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.address = self.listener.getsockname()[:2]
        self.path = pathlib.Path(tree.home) / f"{program}.log"
        ours, theirs = os.pipe()
        with open(self.path, "ab") as output:
            self.process = tree.popen(program, "-d", theirs, *args, env=env, stdin=self.listener, stdout=subprocess.DEVNULL,
                                      stderr=log or output, pass_fds=[theirs], start_new_session=True, preexec_fn=limits)
        os.close(theirs)
        self.listener.close()
        with open(ours, "rb") as ready:
            said = ready.read(1)
        assert said == b"\n", f"{program} did not start: {self.log()}"

    def limit(self, what, value):
        """Sets the parent's soft limit, "nofile" or "nproc"; value None: as high as it may be."""
        if value is None:
            name = {"nofile": "Max open files", "nproc": "Max processes"}[what]
            limits = pathlib.Path(f"/proc/{self.process.pid}/limits").read_text()
            value = next(line for line in limits.splitlines() if line.startswith(name))[len(name):].split()[1]
        self.tree.run("/usr/bin/prlimit", "--pid", self.process.pid, f"--{what}={value}:", check=True)

    def stop(self, sig=signal.SIGTERM, deadline=WAIT):
        if self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.send_signal(signal.SIGCONT)
        return self.process.wait(deadline)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        wait_for(lambda: not processes_of({self.process.pid}, "/nonexistent"), WAIT, "the sessions to end")


class Keeper(FakeKeeper):
    """A keeper that accepts everything, over many connections at once; got: (message, envelope) of each submission, and
    (message, envelope, None) of what did not come to its end."""

    def __init__(self, tree, code=0):
        super().__init__(tree, "run/qmail-queued", self.take)
        self.got, self.lock, self.code = [], threading.Lock(), code

    def take(self, connection):
        while True:
            said = self.submission(connection)
            with self.lock:
                if any(said[:2]):
                    self.got.append(said)
                number = len(self.got)
            if len(said) == 3:
                return
            connection.answer(self.code, number, 1700000000)

    @staticmethod
    def submission(connection):
        """As Connection.submission, but fast with large messages."""
        parts = {"M": [], "E": []}
        while (said := connection.next()) and said[0] != ".":
            parts[said[0]].append(said[1])
        whole = b"".join(parts["M"]), b"".join(parts["E"])
        return whole if said else (*whole, None)

    def work(self):
        def one(connection):
            with connection, contextlib.suppress(ConnectionError, TimeoutError):
                connection.settimeout(60)
                self.take(Connection(connection))

        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=[connection], daemon=True).start()


def read_all(connection):
    """What comes until the other side closes or resets the connection."""
    said = []
    with contextlib.suppress(ConnectionResetError):
        while octets := connection.recv(65536):
            said.append(octets)
    return b"".join(said)


def read_netstring(connection):
    """The octets of one netstring."""
    digits = b""
    while not digits.endswith(b":"):
        octet = connection.recv(1)
        assert octet, f"the end came after {digits!r}"
        digits += octet
    octets, left = b"", int(digits[:-1]) + 1
    while left > len(octets):
        more = connection.recv(left - len(octets))
        assert more, "the end came within a netstring"
        octets += more
    assert octets.endswith(b",")
    return octets[:-1]


def is_read(connection):
    """Whether the server has read all that was sent over a connection (of TCP over IPv4)."""
    def shown(address):
        return f"{int.from_bytes(socket.inet_aton(address[0]), sys.byteorder):08X}:{address[1]:04X}"
    ours, theirs = shown(connection.getsockname()), shown(connection.getpeername())
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues = line.split()[:5]
        if (local, remote) == (theirs, ours):
            return int(queues.partition(":")[2], 16) == 0
    return False


def stays_open(connection, seconds=0.2):
    """Whether nothing comes for a moment, not even the end."""
    connection.settimeout(seconds)
    try:
        return connection.recv(1, socket.MSG_PEEK) is None
    except TimeoutError:
        return True
    finally:
        connection.settimeout(WAIT)


