"""POP3 for tests: Session is one qmail-pop3d on a connection, as a login has left it; Chain is tcpserver with a login in front of
it, the way administrators of qmail have it."""
import contextlib
import os
import socket
import tempfile
import textwrap

from conftest import WAIT
from serving import Tcpserver

LOGIN = "ana", "secret"


def message(n=0, lines=3):
    """A message as it lies in a maildir."""
    return b"From: eva@client.example\nTo: ana@mail.test.example\nSubject: %d\n\n" % n + b"line\n" * lines


def wire(octets):
    """What of a stored message a client gets, without doubled dots."""
    octets = octets.replace(b"\r\n", b"\n")
    return (octets if not octets or octets.endswith(b"\n") else octets + b"\n").replace(b"\n", b"\r\n")


def deliver(tree, octets, name=None, folder="new", user="ana"):
    """Puts a message into a user's maildir; returns its path. name: None for one as qmail-local makes it."""
    deliver.count = getattr(deliver, "count", 0) + 1
    name = name or f"{1700000000 + deliver.count}.M000000P{os.getpid()}Q{deliver.count}.h,S={len(octets)}"
    return tree.write(f"home/{user}/Maildir/{folder}/{name}", octets, 0o600)


def names(tree, user="ana"):
    """What is in a maildir: "new/NAME" and "cur/NAME"."""
    base = tree.home / f"home/{user}/Maildir"
    return sorted(f"{folder}/{name}" for folder in ("new", "cur") for name in os.listdir(base / folder))


class Session:
    """A connection that has logged in. Use as a context manager: at the end it is closed, and the program has to end with 0.

    early: octets that the client has sent before the program starts. before: a command that runs the program."""

    def __init__(self, tree, early=b"", greet=True, maildir="Maildir", user="ana", env=None, before=(), **more):
        listener = socket.create_server(("127.0.0.1", 0))
        self.socket = socket.create_connection(listener.getsockname(), timeout=WAIT)
        accepted, _ = listener.accept()
        listener.close()
        self.socket.sendall(early)
        self.errors = tempfile.TemporaryFile()
        command = [*before, tree.bin / "qmail-pop3d", maildir]
        variables = {"USER": user, "HOME": str(tree.home / "home" / user), "PROTO": "TCP", "TCPREMOTEIP": "192.0.2.7"}
        self.process = tree.popen(*command, stdin=accepted, stdout=accepted, cwd=tree.home / "home" / user,
                                  env={**variables, **(env or {})}, **{"stderr": self.errors, **more})
        accepted.close()
        self.octets, self.log = b"", None
        self.code = 0
        self.greeting = self.line() if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.socket.close()
        try:
            self.process.wait(WAIT)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.errors.seek(0)
            self.log = self.errors.read().decode(errors="replace")
            self.errors.close()
        assert self.process.returncode == self.code or why[0], (self.process.returncode, self.log)

    def send(self, octets):
        self.socket.sendall(octets if isinstance(octets, bytes) else octets.encode())

    def raw_line(self):
        while b"\r\n" not in self.octets:
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError(f"closed after {self.octets[:1000]!r}")
            self.octets += more
        line, self.octets = self.octets.split(b"\r\n", 1)
        return line

    def line(self):
        return self.raw_line().decode()

    def lines(self):
        """A multi-line reply behind its first line, dots undone: a list of octets."""
        while not (self.octets.startswith(b".\r\n") or b"\r\n.\r\n" in self.octets):
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError(f"closed after {len(self.octets)} octets")
            self.octets += more
        if self.octets.startswith(b".\r\n"):
            self.octets = self.octets[3:]
            return []
        body, self.octets = self.octets.split(b"\r\n.\r\n", 1)
        return [line[1:] if line.startswith(b".") else line for line in body.split(b"\r\n")]

    def command(self, text):
        self.send(text + "\r\n")
        return self.line()

    def fine(self, text):
        said = self.command(text)
        assert said.startswith("+OK"), (text, said)
        return said

    def error(self, text):
        said = self.command(text)
        assert said.startswith("-ERR"), (text, said)
        return said

    def listing(self, text):
        self.fine(text)
        return [line.decode() for line in self.lines()]

    def message(self, number, command="RETR {}"):
        self.fine(command.format(number))
        return b"".join(line + b"\r\n" for line in self.lines())

    def rest(self):
        """What comes until the server closes."""
        with contextlib.suppress(ConnectionError):
            while more := self.socket.recv(1 << 20):
                self.octets += more
        octets, self.octets = self.octets, b""
        return octets

    def quit(self):
        said = self.fine("QUIT")
        assert self.rest() == b""
        return said


# What reads the login in front of a checkpassword program, as qmail's own does it.
POPUP = """\
    #!/usr/bin/python3 -IS
    import os, sys

    def say(text):
        os.write(1, text + b"\\r\\n")

    def line():
        octets = b""
        while not octets.endswith(b"\\n"):
            octet = os.read(0, 1)
            if not octet:
                sys.exit(1)
            octets += octet
        return octets.rstrip(b"\\r\\n")

    user = b""
    say(b"+OK h.example")
    while True:
        verb, _, argument = line().partition(b" ")
        if verb.upper() == b"USER":
            user = argument
            say(b"+OK")
        elif verb.upper() == b"PASS":
            break
        elif verb.upper() == b"QUIT":
            say(b"+OK")
            sys.exit(1)
        else:
            say(b"-ERR authorization first")
    theirs, ours = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        os.dup2(theirs, 3)
        os.set_inheritable(3, True)
        if os.environ.get("LOG_TO_CLIENT"):
            os.dup2(1, 2)
        os.execv(sys.argv[2], sys.argv[2:])
    os.close(theirs)
    os.write(ours, user + b"\\0" + argument + b"\\0<1.2@h.example>\\0")
    os.close(ours)
    if os.waitpid(pid, 0)[1]:
        say(b"-ERR authorization failed")
    """

CHECKPASSWORD = """\
    #!/usr/bin/python3 -IS
    import os, sys
    login, secret, challenge, end = os.read(3, 512).split(b"\\0")
    os.close(3)
    home = {home!r} + "/home/" + login.decode()
    if secret != b"secret" or not os.path.isdir(home):
        sys.exit(1)
    os.chdir(home)
    os.environ.update(USER=login.decode(), HOME=home, SHELL="/bin/sh")
    os.execvp(sys.argv[1], sys.argv[1:])
    """


class Chain(Tcpserver):
    """tcpserver ... popup HOST checkpassword qmail-pop3d Maildir"""

    def __init__(self, tree, maildir="Maildir", env=None):
        popup = tree.write("popup", textwrap.dedent(POPUP), 0o755)
        check = tree.write("checkpassword", textwrap.dedent(CHECKPASSWORD.format(home=str(tree.home))), 0o755)
        super().__init__(tree, popup, "h.example", check, "qmail-pop3d", maildir, env=env)
