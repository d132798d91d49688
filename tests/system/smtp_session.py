"""A session with qmail-smtpd, octet by octet, over an accepted TCP connection as tcpserver hands it on."""
import os
import resource
import socket
import subprocess
import tempfile
import threading

from conftest import WAIT
from fake_keeper import Connection, FakeKeeper

CLIENT = {"PROTO": "TCP", "TCPREMOTEIP": "192.0.2.7", "TCPREMOTEPORT": "12345", "TCPLOCALIP": "192.0.2.1", "TCPLOCALPORT": "25",
          "TCPREMOTEHOST": None, "TCPREMOTEINFO": None, "TCPLOCALHOST": "mail.test.example"}
MEMORY = 64 << 20  # octets of address space that a session may have where a test says so
# the sanitizers reserve address space by the terabyte
SANITIZED = "ASAN_OPTIONS" in os.environ


def capped(octets=MEMORY):
    """For preexec_fn: a limit of memory."""
    def limit():
        if not SANITIZED:
            resource.setrlimit(resource.RLIMIT_AS, (octets, octets))
    return limit


class Queue:
    """What comes into a queue that is a fake keeper: .messages is a list of (message, envelope) in their order.
    codes: exit codes to answer, one for each message; then 0."""

    def __init__(self, tree, codes=()):
        self.messages, self.codes, self.incomplete, self.connections = [], list(codes), [], []
        self.keeper = FakeKeeper(tree, "run/qmail-queued", self.serve)
        self.lock = threading.Lock()

    def serve(self, connection):
        # several connections at a time: sessions keep theirs for a while
        duplicate = Connection(connection.socket.dup())
        self.connections.append(duplicate.socket)
        threading.Thread(target=self.submissions, args=[duplicate], daemon=True).start()

    def submissions(self, connection):
        while True:
            said = connection.submission()
            with self.lock:
                if len(said) == 3:
                    if said[0] or said[1]:
                        self.incomplete.append(said[:2])
                    connection.socket.close()
                    return
                self.messages.append(said)
                code = self.codes.pop(0) if self.codes else 0
                connection.answer(code, len(self.messages), 1700000000)

    def __enter__(self):
        self.keeper.__enter__()
        return self

    def __exit__(self, *why):
        return self.keeper.__exit__(*why)


class CountingQueue(Queue):
    """One that drops the octets of messages, which may be larger than memory: .messages is a list of (octets, envelope)."""

    def submissions(self, connection):
        octets, envelope = 0, b""
        while said := connection.next():
            kind, payload = said
            if kind == "M":
                octets += len(payload)
            elif kind == "E":
                envelope += payload
            else:
                self.messages.append((octets, envelope))
                connection.answer(0, len(self.messages), 1700000000)
                octets, envelope = 0, b""
        connection.socket.close()


class Smtp:
    """One connection. Use as a context manager: at the end it is closed, and the program has to end by itself.

    greet: read the greeting. env: more variables. limit: see capped. program, arguments: what to run."""

    def __init__(self, tree, env=None, greet=True, limit=None, program="qmail-smtpd", arguments=()):
        listener = socket.create_server(("127.0.0.1", 0))
        self.socket = socket.create_connection(listener.getsockname(), timeout=WAIT)
        accepted, _ = listener.accept()
        listener.close()
        self.errors = tempfile.TemporaryFile()
        self.process = tree.popen(program, *arguments, stdin=accepted, stdout=accepted, stderr=self.errors,
                                  env={**CLIENT, **(env or {})}, **({"preexec_fn": limit} if limit else {}))
        accepted.close()
        self.octets = b""
        self.greeting = self.reply() if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.socket.close()
        try:
            self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.errors.seek(0)
            self.said = self.errors.read().decode(errors="replace")
            self.errors.close()
        assert self.process.returncode >= 0 or why[0], f"signal {-self.process.returncode}: {self.said}"

    def log(self):
        """What was logged so far."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def send(self, octets):
        self.socket.sendall(octets if isinstance(octets, bytes) else octets.encode())

    def line(self):
        while b"\r\n" not in self.octets:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(f"closed after {self.octets!r}")
            self.octets += more
        line, self.octets = self.octets.split(b"\r\n", 1)
        return line.decode()

    def reply(self):
        """A whole reply: its lines joined by LF, such as "250-a\n250 b"."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def replies(self, count):
        return [self.reply() for _ in range(count)]

    def rest(self):
        """All until the server closes, as a list of lines; a reset counts as a close."""
        try:
            while more := self.socket.recv(65536):
                self.octets += more
        except ConnectionError:
            pass
        lines, self.octets = self.octets.decode().split("\r\n"), b""
        return lines[:-1]

    def command(self, octets):
        """Sends a line, returns the reply."""
        self.send((octets if isinstance(octets, bytes) else octets.encode()) + b"\r\n")
        return self.reply()

    def expect(self, code, octets):
        said = self.command(octets)
        assert said.startswith(str(code)), (octets, said)
        return said

    def ehlo(self):
        return self.expect(250, "EHLO client.example")

    def envelope(self, sender="ana@client.example", *recipients):
        self.expect(250, f"MAIL FROM:<{sender}>")
        for r in recipients or ["luis@mail.test.example"]:
            self.expect(250, f"RCPT TO:<{r}>")

    def data(self, octets, end=b"\r\n.\r\n"):
        self.expect(354, "DATA")
        self.send(octets + end)
        return self.reply()

    def message(self, octets=b"Subject: x\r\n\r\nhello", *recipients, sender="ana@client.example"):
        self.envelope(sender, *recipients)
        return self.data(octets)


class Client(Smtp):
    """A session over a connection to a Service or Tcpserver."""

    def __init__(self, service, source=None):
        self.socket, self.octets = service.connect(source), b""
        self.greeting = self.reply()

    def __exit__(self, *why):
        self.socket.close()


def parts(envelope):
    """An envelope of the queue as a list of records, each a text with its letter first."""
    assert envelope.endswith(b"\0\0"), envelope
    return [r.decode() for r in envelope[:-2].split(b"\0")]
