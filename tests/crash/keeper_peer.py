"""The two sockets of qmail-queued, spoken by the test: a submitter, and a qmail-send (queue/protocol.h)."""
import os
import socket
import struct

HEADER = struct.Struct(">I")
NOTICE = struct.Struct(">QQQIIBBQII8s")


class Frames:
    """Frames over a Unix socket whose path is relative to home."""

    def __init__(self, home, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(f"/proc/self/fd/{home}/{path}")
        self.octets = b""

    def put(self, kind, payload=b""):
        self.socket.sendall(HEADER.pack(len(payload)) + kind + payload)

    def waiting(self):
        """Whether a frame can be had without waiting."""
        self.socket.settimeout(0)
        try:
            octets = self.socket.recv(1 << 20)
            self.octets += octets
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(20)
        return len(self.octets) >= 5 and len(self.octets) >= 5 + HEADER.unpack(self.octets[:4])[0]

    def get(self):
        while True:
            if len(self.octets) >= 5:
                size = HEADER.unpack(self.octets[:4])[0]
                if len(self.octets) >= 5 + size:
                    frame = self.octets[4:5], self.octets[5:5 + size]
                    self.octets = self.octets[5 + size:]
                    return frame
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError("the keeper hung up")
            self.octets += more

    def close(self):
        self.socket.close()


class Submitter(Frames):
    def __init__(self, home):
        super().__init__(home, "run/qmail-queued")

    def put_message(self, message, sender, recipients):
        for i in range(0, len(message), 65536):
            self.put(b"M", message[i:i + 65536])
        self.put(b"E", b"F" + sender + b"\0" + b"".join(b"T" + r + b"\0" for r in recipients) + b"\0")
        self.put(b".")

    def answer(self):
        """Returns (exit code, number)."""
        kind, payload = self.get()
        assert kind == b"R" and len(payload) == 17
        return payload[0], struct.unpack(">Q", payload[1:9])[0]

    def submit(self, message, sender, recipients):
        self.put_message(message, sender, recipients)
        return self.answer()


class Message:
    """A message as the keeper says it; states: recipient index to 'T', 'D' or 'S' (done ones are not said)."""

    def __init__(self, payload):
        (self.number, self.birth, self.size, self.uid, self.recipients, self.tried, self.place, self.offset, self.len,
         self.at, self.digest) = NOTICE.unpack(payload[:NOTICE.size])
        self.sender = payload[NOTICE.size:-1]
        self.states = {}

    def octets(self, home, ring):
        """The message as a reader would find it. ring: a descriptor."""
        if self.place == 1:
            record = os.pread(ring, self.len, self.offset)
            return (record + os.pread(ring, self.len - len(record), 0))[self.at:]
        with open(f"/proc/self/fd/{home}/queue/mess/{self.number % 23}/{self.number}", "rb") as file:
            return file.read()


class Send(Frames):
    """A qmail-send. messages: what the keeper said and did not take back; confirmed: (number, index)."""

    END = 0xffffffff

    def __init__(self, home):
        super().__init__(home, "queue/qmail-send")
        self.messages, self.confirmed, self.new = {}, set(), []
        self.current, self.listed = None, False
        assert self.get()[0] == b"H"
        self.put(b"L")

    def take(self, frame):
        kind, payload = frame
        if kind == b"N":
            self.current = Message(payload)
        elif kind == b"R":
            while payload:
                index, state = struct.unpack(">Ic", payload[:5])
                address, payload = payload[5:].split(b"\0", 1)
                for _ in range((state.upper() in b"DS") + state.islower()):	# the text, and parameters
                    _, payload = payload.split(b"\0", 1)
                self.current.states[index] = state.upper()
        elif kind == b"O":
            self.messages[self.current.number] = self.current
            self.new.append(self.current.number)
        elif kind == b"A":
            self.listed = True
        elif kind == b"C":
            self.confirmed.add(struct.unpack(">QI", payload))

    def list(self):
        while not self.listed:
            self.take(self.get())
        return self.messages

    def take_waiting(self):
        while self.waiting():
            self.take(self.get())

    def wait_confirmed(self, number, index):
        while (number, index) not in self.confirmed:
            self.take(self.get())

    def done(self, number, index, result=b"K", text=b""):
        self.put(b"D", struct.pack(">QI", number, index) + result + text)

    def end(self, number):
        self.put(b"X", struct.pack(">Q", number))

    def deferred(self, number):
        self.put(b"W", struct.pack(">Q", number))
