"""Everything around qmail-send, played by the test: the keeper with its messages, both spawners, their workers, and who
reads the log. One thread: World.until(condition) lets all of them talk until the condition is true.

By default the keeper confirms at once, every local part is of the user before the first '-', workers start when they
are asked for and answer 'K'. A test changes this by setting World.owner, World.start_worker, World.on_job, World.confirms."""
import array
import fcntl
import hashlib
import os
import signal
import socket
import struct
import subprocess
import time

import pytest

WAIT = 30
RING_SIZE = 8 << 20
SPLIT = 23


def digest(octets):
    """Of a file."""
    return hashlib.blake2s(octets).digest()


def keyed_digest(octets, key=bytes(16)):
    """Of the ring whose ID is key: SipHash-2-4."""
    mask = (1 << 64) - 1
    k0, k1 = struct.unpack(">QQ", key)
    v0, v1, v2, v3 = k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573

    def mix(rounds):
        nonlocal v0, v1, v2, v3
        for _ in range(rounds):
            v0, v2 = v0 + v1 & mask, v2 + v3 & mask
            v1, v3 = (v1 << 13 & mask | v1 >> 51) ^ v0, (v3 << 16 & mask | v3 >> 48) ^ v2
            v0 = v0 << 32 & mask | v0 >> 32
            v2, v0 = v2 + v1 & mask, v0 + v3 & mask
            v1, v3 = (v1 << 17 & mask | v1 >> 47) ^ v2, (v3 << 21 & mask | v3 >> 43) ^ v0
            v2 = v2 << 32 & mask | v2 >> 32

    last = octets[len(octets) // 8 * 8:].ljust(7, b"\0") + bytes([len(octets) & 0xff])
    for word, in struct.iter_unpack("<Q", octets[:len(octets) // 8 * 8] + last):
        v3 ^= word
        mix(2)
        v0 ^= word
    v2 ^= 0xff
    mix(4)
    return struct.pack(">Q", v0 ^ v1 ^ v2 ^ v3)


def frame(kind, payload=b""):
    return struct.pack(">I", len(payload)) + kind.encode() + payload


class Peer:
    """One end of a socket that frames go over, never blocking."""

    def __init__(self, sock):
        self.socket, self.octets, self.out, self.fds, self.gone, self.reads = sock, b"", b"", [], False, True
        sock.setblocking(False)

    def send(self, kind, payload=b"", fd=None):
        octets = frame(kind, payload)
        if fd is None:
            self.out += octets
            self.flush()
            return
        assert not self.out
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self.out = octets[self.socket.sendmsg([octets], rights):]

    def flush(self):
        try:
            while self.out:
                self.out = self.out[self.socket.send(self.out):]
        except BlockingIOError:
            pass
        except OSError:
            self.gone, self.out = True, b""

    def receive(self):
        try:
            octets, rights, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(16 * 4))
        except BlockingIOError:
            return
        except OSError:
            octets, rights = b"", []
        for _, _, data in rights:
            self.fds += list(array.array("i", data[:len(data) // 4 * 4]))
        self.octets += octets
        self.gone = self.gone or not octets

    def frames(self):
        while len(self.octets) >= 5:
            size = struct.unpack(">I", self.octets[:4])[0]
            if len(self.octets) < 5 + size:
                return
            kind, payload = chr(self.octets[4]), self.octets[5:5 + size]
            self.octets = self.octets[5 + size:]
            yield kind, payload

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Job:
    def __init__(self, worker, kind, payload):
        self.worker = worker
        self.id, count, self.size = struct.unpack(">IIQ", payload[:16])
        *strings, rest = payload[16:].split(b"\0", count)
        self.strings = [s.decode(errors="surrogateescape") for s in strings]
        self.is_file = kind == "F"
        if self.is_file:
            fd = worker.fds.pop(0)
            self.flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            self.offset = os.lseek(fd, 0, os.SEEK_CUR)
            with os.fdopen(fd, "rb") as file:
                self.message = file.read()
        else:
            self.message = rest
        assert len(self.message) == self.size
        self.sender = self.strings[0]
        if worker.channel == "remote":
            self.parameters, self.host = self.strings[1:3]
            self.recipients, self.recipient_parameters = self.strings[3::2], self.strings[4::2]
        else:
            self.host = None
            self.recipients = [f"{self.strings[1]}@{self.strings[4]}"]

    def answer(self, letter="K", text="", recipient=None):
        for i in range(len(self.recipients)) if recipient is None else [recipient]:
            self.worker.send("A", struct.pack(">II", self.id, i) + letter.encode() + text.encode())


class Worker(Peer):
    def __init__(self, sock, channel, number, name):
        super().__init__(sock)
        self.channel, self.number, self.name, self.jobs = channel, number, name, []


class Message:
    def __init__(self, number, octets, sender, recipients):
        self.number, self.octets, self.sender, self.recipients = number, octets, sender, recipients
        self.birth, self.uid, self.tried = int(time.time()), 1000, 0
        self.states = {i: "T" for i in range(len(recipients))}
        self.texts, self.place, self.ended, self.told_deferred = {}, None, False, 0
        self.parameters, self.recipient_parameters = "", {}  # of the sender; of recipients, by index
        self.outcomes = []  # (index, letter) as they were told


def has_asan(tree):
    """Whether qmail-send is built with the sanitizers, which need memory and a sandbox of their own."""
    return b"__asan_init" in (tree.bin / "qmail-send").read_bytes()


SAVE = """#!/bin/sh
n=$(mktemp -d {where}/XXXXXX)
cat >$n/message
cat <&1 >$n/envelope
test -e {where}/code && exit $(cat {where}/code)
exit 0
"""


def keep_bounces(world):
    """Bounces go to a program that keeps them; a function that returns (message, envelope) of each."""
    where = world.tree.home / "bounces"
    where.mkdir()
    world.tree.own(where)
    program = world.tree.write("save", SAVE.format(where=where), 0o755)

    def found():
        return [((d / "message").read_bytes(), (d / "envelope").read_bytes()) for d in sorted(where.iterdir()) if d.is_dir()]

    found.env = {"QMAILQUEUE": str(program)}
    found.code = where / "code"
    return found


class World:
    def __init__(self, tree):
        self.tree, self.messages, self.number = tree, {}, 0
        self.log, self.workers, self.jobs, self.started, self.asked, self.killed = "", [], [], [], [], []
        self.start_ids = []
        self.keeper = self.process = None
        self.confirms, self.reads_log, self.listed, self.last_tried, self.lists = True, True, False, 0, 0
        self.unconfirmed, self.said = [], []
        self.owner = lambda local: ("K", local.split("-")[0])
        self.start_worker = lambda channel, name: "K"
        self.on_job = lambda job: job.answer()
        self.on_where = None
        self.ring = tree.home / "queue/journal" / ("1." + "00" * 16)
        self.ring_at = 4096
        for folder in ["journal", "new", "damaged"] + [f"{kind}/{i}" for kind in ("mess", "info") for i in range(SPLIT)]:
            (tree.home / "queue" / folder).mkdir(parents=True, exist_ok=True)
        self.ring.write_bytes(bytes(RING_SIZE))
        tree.own(tree.home / "queue")
        self.listener = self.listen()

    # -- messages ------------------------------------------------------------------
    def envelope(self, m):
        def record(kind, address, parameters):
            return kind + address.encode(errors="surrogateescape") + b"\0" + (b"P" + parameters.encode() + b"\0" if parameters else b"")
        return record(b"F", m.sender, m.parameters) + b"".join(
            record(b"T", r, m.recipient_parameters.get(i)) for i, r in enumerate(m.recipients)) + b"\0"

    def put_in_ring(self, m, at=None):
        envelope = self.envelope(m)
        record = b"M" + struct.pack(">QQIII", m.number, m.birth, m.uid, len(m.recipients), len(envelope)) + envelope
        message_at, record = len(record), record + m.octets
        at = self.ring_at if at is None else at
        with open(self.ring, "r+b") as f:
            f.seek(at)
            f.write(record[:RING_SIZE - at])
            f.seek(0)
            f.write(record[RING_SIZE - at:])
        self.ring_at = (at + len(record) + 63) // 64 * 64 % RING_SIZE
        m.place = struct.pack(">BQII", 1, at, len(record), message_at) + keyed_digest(record)
        return at

    def file_of(self, m, kind):
        return self.tree.home / "queue" / kind / str(m.number % SPLIT) / str(m.number)

    def put_in_file(self, m):
        envelope = self.envelope(m)
        info = b"tambo info 1\n" + struct.pack(">QQQIIB", m.number, m.birth, len(m.octets), m.uid, len(m.recipients), m.tried)
        info += digest(m.octets) + struct.pack(">II", len(envelope), 0) + envelope
        for kind, octets in (("mess", m.octets), ("info", info + digest(info))):
            self.file_of(m, kind).write_bytes(octets)
            self.tree.own(self.file_of(m, kind))
        m.place = struct.pack(">BQII8s", 2, 0, 0, 0, b"")

    def message(self, *recipients, octets=b"Subject: test\n\nbody\n", sender="ana@mail.test.example", in_file=False, **facts):
        """Queues a message; returns it."""
        self.number += 1
        m = Message(self.number, octets, sender, list(recipients))
        for name, value in facts.items():
            setattr(m, name, value)
        for i, text in m.texts.items():
            if m.states[i] == "T":
                m.states[i] = "D" if text is not None else "K"
        if in_file or len(octets) + len(self.envelope(m)) > 256 * 1024:
            self.put_in_file(m)
        else:
            self.put_in_ring(m)
        self.messages[m.number] = m
        if self.listed:
            self.notice(m)
        return m

    def notice(self, m):
        octets = frame("N", struct.pack(">QQQIIB", m.number, m.birth, len(m.octets), m.uid, len(m.recipients), m.tried) + m.place +
                       m.sender.encode(errors="surrogateescape") + b"\0" + (m.parameters.encode() + b"\0" if m.parameters else b""))
        rows = b""
        for i, recipient in enumerate(m.recipients):
            if m.states[i] == "K":
                continue
            parameters = m.recipient_parameters.get(i)
            state = m.states[i].lower() if parameters else m.states[i]
            row = struct.pack(">I", i) + state.encode() + recipient.encode(errors="surrogateescape") + b"\0"
            row += parameters.encode() + b"\0" if parameters else b""
            if m.states[i] in "DS":
                row += m.texts[i].encode() + b"\0"
            if len(rows) + len(row) > 100000:
                octets += frame("R", rows)
                rows = b""
            rows += row
        octets += (frame("R", rows) if rows else b"") + frame("O", struct.pack(">Q", m.number))
        self.keeper.out += octets
        self.keeper.flush()

    # -- the keeper --------------------------------------------------------------------
    def listen(self):
        path = self.tree.home / "queue/qmail-send"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        here = os.open(".", os.O_RDONLY)
        os.chdir(path.parent)
        try:
            listener.bind(path.name)
        finally:
            os.fchdir(here)
            os.close(here)
        os.chmod(path, 0o666)
        listener.listen(8)
        listener.setblocking(False)
        return listener

    def lose_keeper(self, listen=False):
        """The keeper dies; a new one listens at once, or when self.listener = self.listen() is done."""
        if self.keeper:
            self.keeper.close()
        self.keeper, self.listed = None, False
        if self.listener:
            self.listener.close()
        (self.tree.home / "queue/qmail-send").unlink(missing_ok=True)
        self.listener = self.listen() if listen else None

    def confirm(self, number, index):
        self.keeper.send("C", struct.pack(">QI", number, index))

    def confirm_all(self):
        for number, index in self.unconfirmed:
            self.confirm(number, index)
        self.unconfirmed = []

    def keeper_frame(self, kind, payload):
        self.said.append((kind, payload))
        if kind == "L":
            self.lists += 1
            self.listed = True
            for m in self.messages.values():
                if not m.ended:
                    self.notice(m)
            self.keeper.send("A")
            return
        number = struct.unpack(">Q", payload[:8])[0]
        m = self.messages.get(number)
        index = 0xffffffff
        if kind == "D":
            index = struct.unpack(">I", payload[8:12])[0]
            if m:
                m.states[index], m.texts[index] = chr(payload[12]), payload[13:].decode(errors="replace")
                m.outcomes.append((index, chr(payload[12])))
        elif kind == "X" and m:
            m.ended = True
        elif kind == "W":
            m.told_deferred += 1
            return
        elif kind in "?B":
            self.on_where(m, kind, payload)
            return
        if self.confirms:
            self.confirm(number, index)
        else:
            self.unconfirmed.append((number, index))

    # -- spawners and workers -----------------------------------------------------------------
    def spawner_frame(self, channel, kind, payload):
        spawner = self.spawners[channel]
        number, name = struct.unpack(">I", payload[:4])[0], payload[4:].decode(errors="surrogateescape")
        head = payload[:4]
        if kind == "X":
            self.killed.append((channel, number))
            return
        if kind == "?":
            self.asked.append(name)
            letter, text = self.owner(name) or (None, None)
            if letter == "K":
                spawner.send("K", head + self.facts(name, text))
            elif letter:
                spawner.send(letter, head + text.encode())
            return
        self.started.append((channel, name))
        self.start_ids.append(number)
        letter = self.start_worker(channel, name)
        if letter == "K":
            self.send_worker(channel, number, name)
        elif letter:
            spawner.send(letter[0], head + letter[1:].encode())

    def facts(self, local, user):
        ext = local[len(user) + 1:]
        fields = [user, "1000", "1000", f"/home/{user}", "-" if ext else "", ext]
        return b"".join(f.encode(errors="surrogateescape") + b"\0" for f in fields)

    def send_worker(self, channel, number, name, user=None):
        ours, theirs = socket.socketpair()
        head = struct.pack(">I", number)
        if channel == "local":
            head += self.facts(name, user or self.owner(name)[1])
        self.spawners[channel].send("K", head, theirs.fileno())
        theirs.close()
        self.workers.append(Worker(ours, channel, number, name))

    # -- the loop ----------------------------------------------------------------------------------
    def start(self, *args, ready=True, wrap=(), limits=None, **env):
        """wrap: a command that runs qmail-send, and whose process becomes it. limits: for preexec_fn."""
        pairs = [socket.socketpair() for _ in range(2)]
        self.spawners = {"local": Peer(pairs[0][0]), "remote": Peer(pairs[1][0])}
        read, write = os.pipe()
        ours, theirs = os.pipe()
        os.set_blocking(read, False)
        script = 'l=$1 r=$2; shift 2; exec "$@" 3<&$l 4<&$r'
        self.process = self.tree.popen("/bin/bash", "-c", script, "-", pairs[0][1].fileno(), pairs[1][1].fileno(),
                                       *wrap, self.tree.bin / "qmail-send", "-d", theirs, *args, env=env, stdout=write,
                                       stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=limits,
                                       pass_fds=[pairs[0][1].fileno(), pairs[1][1].fileno(), theirs])
        self.log_pipe = read
        for _, theirs_too in pairs:
            theirs_too.close()
        os.close(write)
        os.close(theirs)
        if ready:
            os.set_blocking(ours, False)
            said = []

            def is_ready():
                try:
                    said.append(os.read(ours, 10))
                except BlockingIOError:
                    pass
                return said
            self.until(is_ready, "qmail-send says that it is ready")
            assert said[0] == b"\n"
        os.close(ours)

    def turn(self):
        """One look at everybody. Returns whether anything happened."""
        happened = False
        if self.listener:
            try:
                connection, _ = self.listener.accept()
                self.keeper = Peer(connection)
                self.keeper.send("H", struct.pack(">Q", self.last_tried))
                happened = True
            except BlockingIOError:
                pass
        if self.reads_log:
            try:
                while octets := os.read(self.log_pipe, 65536):
                    self.log += octets.decode(errors="replace")
                    happened = True
            except BlockingIOError:
                pass
        peers = [("keeper", self.keeper)] + list(self.spawners.items()) + [("worker", w) for w in self.workers]
        for name, peer in peers:
            if not peer or peer.gone or not peer.reads:
                continue
            peer.flush()
            peer.receive()
            for kind, payload in peer.frames():
                happened = True
                if name == "keeper":
                    self.keeper_frame(kind, payload)
                elif name == "worker":
                    job = Job(peer, kind, payload)
                    self.jobs.append(job)
                    peer.jobs.append(job)
                    self.on_job(job)
                else:
                    self.spawner_frame(name, kind, payload)
        for worker in [w for w in self.workers if w.gone]:
            worker.close()
            self.workers.remove(worker)
        return happened

    def until(self, condition, what=None, deadline=WAIT):
        end = time.monotonic() + deadline
        while not (value := condition()):
            if time.monotonic() > end:
                pytest.fail(f"waited {deadline} s for {what or condition}; exit {self.process.poll()}; log:\n{self.log[-5000:]}")
            if not self.turn():
                time.sleep(0.002)
        return value

    def logged(self, text, count=1, deadline=WAIT):
        self.until(lambda: self.log.count(text) >= count, f"{text!r}", deadline)

    def ended(self, *messages):
        """Until the keeper was told of the end of each, and the log says it, which comes after that."""
        self.until(lambda: all(m.ended for m in messages), f"the end of {len(messages)} messages")
        self.until(lambda: not self.reads_log or all(f"end msg {m.number}\n" in self.log for m in messages), "their ends in the log")

    def quiet(self, seconds=0.3):
        """Lets everybody talk for a while: for things that must not happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.turn():
                time.sleep(0.002)

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, code=0):
        """TERM, and waits for the end with that exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        self.until(lambda: self.process.poll() is not None, "the end of qmail-send")
        self.turn()
        errors = self.process.stderr.read()
        assert self.process.returncode == code, (self.process.returncode, errors)
        return errors

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for peer in [self.keeper, *getattr(self, "spawners", {}).values(), *self.workers]:
            if peer:
                peer.close()
        if self.listener:
            self.listener.close()
        if self.process:
            os.close(self.log_pipe)
            self.process.stderr.close()
