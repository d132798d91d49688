"""A keeper that says what a test wants: queue/protocol.h over the sockets of a tree."""
import os
import socket
import struct
import threading


def frame(kind, payload=b""):
    return struct.pack(">I", len(payload)) + kind.encode() + payload


def notice(number, birth, size, sender, recipients, uid=1000, tried=0):
    place = struct.pack(">BQII8s", 2, 0, 0, 0, b"")
    return frame("N", struct.pack(">QQQIIB", number, birth, size, uid, recipients, tried) + place + sender + b"\0")


def recipients(*rows):
    """rows: (index, state, address[, failure text])"""
    text = b""
    for index, state, address, *why in rows:
        text += struct.pack(">I", index) + state.encode() + address + b"\0" + b"".join(w + b"\0" for w in why)
    return frame("R", text)


class Connection:
    """What a client said, frame by frame."""

    def __init__(self, connection):
        self.socket, self.octets = connection, b""

    def next(self):
        """(kind, payload), or None at the end."""
        while len(self.octets) < 5 or len(self.octets) < 5 + struct.unpack(">I", self.octets[:4])[0]:
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self.octets += more
        size = struct.unpack(">I", self.octets[:4])[0]
        found = chr(self.octets[4]), self.octets[5:5 + size]
        self.octets = self.octets[5 + size:]
        return found

    def submission(self):
        """(message, envelope) of a whole submission, or what came of one as (message, envelope, None)."""
        parts = {"M": b"", "E": b""}
        while (said := self.next()) and said[0] != ".":
            parts[said[0]] += said[1]
        return (parts["M"], parts["E"]) if said else (parts["M"], parts["E"], None)

    def answer(self, code=0, number=1, time=1):
        self.socket.sendall(frame("R", struct.pack(">BQQ", code, number, time)))


class FakeKeeper:
    """Listens on a socket of a tree; serve(Connection) is called for each connection, one after another.

    Use as a context manager; failures of serve are raised at the end."""

    def __init__(self, tree, name, serve):
        self.path, self.serve, self.failure = tree.home / name, serve, None
        self.path.parent.mkdir(exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        here = os.open(".", os.O_RDONLY)
        os.chdir(self.path.parent)
        try:
            self.listener.bind(self.path.name)
        finally:
            os.fchdir(here)
            os.close(here)
        os.chmod(self.path, 0o666)
        self.listener.listen(64)
        self.thread = threading.Thread(target=self.work)

    def work(self):
        try:
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(60)
                    try:
                        self.serve(Connection(connection))
                    except (BrokenPipeError, ConnectionResetError):
                        pass
        except Exception as e:
            self.failure = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        self.path.unlink(missing_ok=True)
        if self.failure:
            raise self.failure
