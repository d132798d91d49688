"""The other end of the sockets of lib/job.h: what qmail-send says to spawners and workers, and what workers say.
Used by the tests, and by scripts that tests put in the place of qmail-local."""
import array
import os
import select
import socket
import struct
import subprocess
import time

WAIT = 30  # seconds
# bash puts our socket on descriptor 3: sh knows no numbers above 9
ON_3 = ("/bin/bash", "-c", 'fd=$1; shift; exec "$@" 3<&$fd', "-")


class Channel:
    """Frames over one socket."""

    def __init__(self, sock):
        self.sock = sock
        self.octets = b""
        self.fds = []

    def send(self, kind, payload=b"", fd=None):
        frame = struct.pack(">I", len(payload)) + kind.encode() + payload
        if fd is None:
            self.sock.sendall(frame)
            return
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        sent = self.sock.sendmsg([frame], rights)
        self.sock.sendall(frame[sent:])

    def receive(self, timeout=WAIT):
        """(type, payload) of the next frame, None at the end. Raises TimeoutError."""
        end = time.monotonic() + timeout
        while True:
            if len(self.octets) >= 5:
                size = struct.unpack(">I", self.octets[:4])[0]
                if len(self.octets) >= 5 + size:
                    kind, payload = chr(self.octets[4]), self.octets[5:5 + size]
                    self.octets = self.octets[5 + size:]
                    return kind, payload
            if not select.select([self.sock], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"no frame in {timeout} s")
            try:
                octets, rights, _, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
            except ConnectionResetError:
                return None
            for _, _, data in rights:
                self.fds += list(array.array("i", data[:len(data) // 4 * 4]))
            if not octets:
                return None
            self.octets += octets

    def close(self):
        self.sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def strings(*parts):
    """Each ended by NUL."""
    return b"".join((p if isinstance(p, bytes) else p.encode()) + b"\0" for p in parts)


def remote_job(sender, host, *recipients, parameters=""):
    """The strings of a remote job. A recipient may be (address, parameters)."""
    pairs = [r if isinstance(r, tuple) else (r, "") for r in recipients]
    return (sender, parameters, host, *(part for pair in pairs for part in pair))


class Worker(Channel):
    """qmail-send's end of a worker's socket."""

    def job(self, number, parts, message=b"", file=None):
        """parts: the strings of the job. file: an open descriptor that carries the message instead."""
        packed = strings(*parts)
        size = os.fstat(file).st_size if file is not None else len(message)
        head = struct.pack(">IIQ", number, len(parts), size)
        if file is None:
            self.send("J", head + packed + message)
        else:
            self.send("F", head + packed, file)

    def done(self, timeout=WAIT):
        """(id, recipient, letter, text) of the next answer, None at the end."""
        frame = self.receive(timeout)
        if frame is None:
            return None
        kind, payload = frame
        assert kind == "A", frame
        number, recipient = struct.unpack(">II", payload[:8])
        return number, recipient, chr(payload[8]), payload[9:]


class Spawner(Channel):
    """A spawner that runs; program and arguments as for Tree.popen. Its descriptor 2 goes to the file log."""

    def __init__(self, tree, program, *args, log, env=None, **more):
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        self.log_file = log
        path = str(tree.bin / program)
        with open(log, "ab") as errors:
            self.process = tree.popen(ON_3[0], *ON_3[1:], theirs.fileno(), path, *args, env=env,
                                      pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                                      stdout=errors, stderr=errors, **more)
        theirs.close()
        self.answers = {}

    def log(self):
        return self.log_file.read_text(errors="replace")

    def ask(self, kind, number, name=b""):
        name = name if isinstance(name, bytes) else name.encode()
        self.send(kind, struct.pack(">I", number) + name)

    def answer(self, number, timeout=WAIT):
        """(type, payload) of the answer to request number; others are kept for later."""
        end = time.monotonic() + timeout
        while number not in self.answers:
            frame = self.receive(max(0, end - time.monotonic()))
            assert frame is not None, f"the spawner is gone:\n{self.log()}"
            kind, payload = frame
            fd = None
            if self.fds and kind == "K":
                fd = self.fds.pop(0)
            self.answers[struct.unpack(">I", payload[:4])[0]] = kind, payload[4:], fd
        return self.answers.pop(number)

    def who(self, number, local, timeout=WAIT):
        """The account of local as a list of octets, or (type, text) of a refusal."""
        self.ask("?", number, local)
        kind, payload, fd = self.answer(number, timeout)
        assert fd is None
        if kind != "K":
            return kind, payload.decode()
        assert payload.endswith(b"\0")
        return payload[:-1].split(b"\0")

    def start(self, number, name, timeout=WAIT):
        """A Worker, or (type, text) of a refusal."""
        self.ask("S", number, name)
        kind, payload, fd = self.answer(number, timeout)
        if kind != "K":
            assert fd is None
            return kind, payload.decode()
        assert fd is not None, "SPAWN_OK without a socket"
        worker = Worker(socket.socket(fileno=fd))
        worker.account = payload[:-1].split(b"\0") if payload else []
        return worker

    def end(self, timeout=WAIT):
        """Closes the socket and waits for the spawner; returns its exit status."""
        self.close()
        return self.process.wait(timeout)
