"""Rows S12, S13, S15, S16, S20, L1 and L3 of the hostile inputs, as they reach qmail-queue and the keeper behind it.

Wanted each time: the right exit code or a closed connection, nothing half-queued, bounded memory, and a keeper that takes
the next good message at once. Keeper and client have a limit of memory, by setrlimit."""
import array
import contextlib
import ctypes
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

from conftest import Server, processes_of, wait_for
from fake_keeper import frame
from probe import is_sanitized
from slow_to_close import passes
from smtp_session import SANITIZED, Smtp, capped

MIB = 1 << 20
SENDER = b"Fann@example.org\0"
GOOD = SENDER + b"Tana@example.org\0\0"
ACCEPTED, TOO_LONG, REFUSED, MEMORY, WRITE, READ, CONNECT, SYNTAX = 0, 11, 31, 51, 53, 54, 62, 91


def descend(path, work):
    """work() with path, which may be too long for a socket's name, as the current directory."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(path)
    try:
        return work()
    finally:
        os.fchdir(here)
        os.close(here)


class Keeper:
    """A running keeper without qmail-send, and what it costs. It, and each qmail-queue, has a limit of memory (setrlimit)."""

    def __init__(self, server, memory_mib=48):
        self.server, self.memory = server, memory_mib * MIB
        server.limits = capped(self.memory)
        server.keeper = server.start_daemon("qmail-queued", "qmail-queued", "-r", 8)
        self.messages = 0
        self.good()
        for pid in self.pids():
            try:
                pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # its peak from here on
            except OSError:
                pass  # the scan of the start, which has ended

    def pids(self):
        return [pid for pid, _ in processes_of(self.server.sessions, self.server.home)]

    def connect(self, name="run/qmail-queued"):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(60)
        path = self.server.home / name
        descend(path.parent, lambda: s.connect(path.name))
        return s

    def submit(self, message, envelope=GOOD, **more):
        """The exit code of qmail-queue; counts what is accepted."""
        done = self.server.queue(message, "", envelope=envelope, preexec_fn=capped(), **more)
        assert (done.stdout or b"", done.stderr) == (b"", b"")
        self.messages += done.returncode == 0
        return done.returncode

    def good(self):
        begun = time.monotonic()
        assert self.submit(b"Subject: good\n\nbody\n") == ACCEPTED
        assert time.monotonic() - begun < 25

    def peak(self):
        """Octets of the keeper's largest resident size, of its children as well."""
        sizes = []
        for pid in self.pids():
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            sizes += [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")]
        return max(sizes)

    def check(self):
        """The keeper lives, is bounded, takes mail, and holds what it accepted and nothing else."""
        self.good()
        assert self.server.keeper.poll() is None
        # the address sanitizer keeps what is freed
        assert SANITIZED or self.peak() < self.memory, f"{self.peak() / MIB} MiB"
        wait_for(lambda: self.count() == self.messages, 10, f"{self.messages} messages in the queue")
        wait_for(lambda: not list((self.server.home / "queue/new").iterdir()), 10, "queue/new to be empty")

    def count(self):
        out = self.server.run("qmail-qstat", check=True).stdout.decode()
        return int(out.split("\n")[0].split(": ")[1])

    def log(self):
        return self.server.log("qmail-queued")


@pytest.fixture
def make_keeper(new_tree):
    def make(**more):
        server = new_tree(Server)
        server.need("qmail-queued", "qmail-queue", "qmail-qstat")
        return Keeper(server, **more)

    return make


@pytest.fixture
def keeper(make_keeper):
    return make_keeper()


# --- S12: too many of everything --------------------------------------------------------------------------------------

def test_S12_a_million_recipients(make_keeper):
    keeper = make_keeper(memory_mib=128)
    envelope = SENDER + b"".join(b"T%d@a.b\0" % i for i in range(1_000_000)) + b"\0"
    assert keeper.submit(b"x\n", envelope) == ACCEPTED
    keeper.check()


def test_S12_recipients_that_qmail_send_does_not_hear_of(make_keeper):
    keeper = make_keeper(memory_mib=128)
    with keeper.connect("queue/qmail-send") as send:
        send.sendall(frame("L"))
        for _ in range(8):
            assert keeper.submit(b"x\n", SENDER + b"T\0" * 2_000_000 + b"\0") == ACCEPTED
        status = pathlib.Path(f"/proc/{keeper.server.keeper.pid}/status").read_text()
        assert SANITIZED or int(re.search(r"VmHWM:\s+(\d+)", status)[1]) < 32 * 1024, status  # one of them, and its copy
    keeper.check()


def test_S12_an_envelope_over_the_limit(keeper):
    assert keeper.submit(b"x\n", SENDER + b"Tx@example.org\0" * 1_200_000 + b"\0") == REFUSED
    keeper.check()


def test_S12_messages_one_after_another_on_a_connection(keeper):
    s = keeper.connect()
    one = frame("M", b"x\n") + frame("E", GOOD) + frame(".")
    for _ in range(20):
        s.sendall(one * 50)  # all of them before the first answer
        got = b""
        while len(got) < 50 * 22:
            got += s.recv(65536)
        assert {got[i + 5] for i in range(0, len(got), 22)} == {ACCEPTED}
    keeper.messages += 1000
    s.close()
    keeper.check()


def test_S12_a_million_empty_frames(keeper):
    s = keeper.connect()
    for _ in range(100):
        s.sendall(frame("M") * 10_000)
    keeper.good()
    s.sendall(frame("E", GOOD) + frame("."))
    assert s.recv(22)[5] == ACCEPTED
    keeper.messages += 1
    s.close()
    keeper.check()


def test_S12_more_connections_than_there_is_room_for(keeper):
    crowd = [keeper.connect() for _ in range(900)]
    keeper.good()
    for s in crowd[::2]:
        s.sendall(frame("M", b"half a message") + frame("E", b"Fa"))
    keeper.good()
    for s in crowd:
        s.close()
    keeper.check()


# --- S13: what does not end ---------------------------------------------------------------------------------------------

def test_S13_a_message_without_end(keeper):
    s = keeper.connect()
    piece = frame("M", b"x" * 100_000)
    for _ in range(1_000):
        s.sendall(piece)
    s.close()
    wait_for(lambda: not list((keeper.server.home / "queue/new").iterdir()), 10, "the unfinished message to go")
    keeper.check()


def test_S13_one_line_of_64_mebibytes(keeper):
    assert keeper.submit(b"Subject: " + b"x" * (64 * MIB)) == ACCEPTED
    keeper.check()


def test_S13_an_address_without_end(keeper):
    for envelope in (b"F" + b"a" * 20 * MIB, SENDER + b"T" + b"a" * 20 * MIB, SENDER + b"T" + b"a" * 1003 + b"\0\0"):
        assert keeper.submit(b"x\n", envelope) == TOO_LONG
    assert keeper.submit(b"x\n", SENDER + b"T" + b"a" * 1002 + b"\0\0") == ACCEPTED
    keeper.check()


CUT_OR_WRONG = {
    b"": READ, b"F": READ, b"Fann@example.org": READ, SENDER: READ, SENDER + b"T": READ, SENDER + b"Tana": READ,
    SENDER + b"Tana\0": READ, b"\0": SYNTAX, b"Tana\0\0": SYNTAX, SENDER + b"Xana\0\0": SYNTAX, b"f\0\0": SYNTAX,
    SENDER + b"\0": ACCEPTED, b"F\0\0": ACCEPTED, GOOD + b"Tmore\0\0": ACCEPTED,
}


@pytest.mark.parametrize("size", [10, 300_000])  # in the journal, in a file of its own
def test_S13_an_envelope_that_is_cut_or_wrong(keeper, size):
    assert {e: keeper.submit(b"x" * size, e) for e in CUT_OR_WRONG} == CUT_OR_WRONG
    keeper.check()


def test_S13_clients_that_vanish(keeper):
    whole = frame("M", b"Subject: x\n\n" + b"y" * 50) + frame("E", GOOD) + frame(".")
    for at in range(len(whole)):
        s = keeper.connect()
        s.sendall(whole[:at])
        s.close()
    large = frame("M", b"y" * 100_000) * 5
    for end in (b"", frame("E", b"Fa"), frame("E", GOOD), frame("E", GOOD) + frame(".")[:-1], b"\0\0"):
        s = keeper.connect()
        s.sendall(large + end)
        s.close()
    keeper.check()


def test_S13_a_client_that_vanishes_after_the_last_octet(keeper):
    """It may be queued or not, but not half."""
    before = keeper.count()
    for _ in range(50):
        s = keeper.connect()
        s.sendall(frame("M", b"x\n") + frame("E", GOOD) + frame("."))
        s.close()
    keeper.messages += wait_for_quiet(keeper) - before
    keeper.check()


def wait_for_quiet(keeper):
    """The number of messages, once it stays the same."""
    seen = [-1]

    def same():
        seen.append(keeper.count())
        return seen[-1] == seen[-2]

    wait_for(same)
    return seen[-1]


def test_S13_a_client_that_stalls(keeper):
    """It costs a descriptor and its octets; nobody waits for it."""
    stalled = [keeper.connect() for _ in range(20)]
    for i, s in enumerate(stalled):
        s.sendall(frame("M", b"x" * 100_000) * (i % 4) + b"\0\0\1\0M" + b"y" * i)
    keeper.good()
    process = start(keeper.server, b"y" * 500_000)
    wait_for(lambda: stopped_reading(process), what="qmail-queue to have sent something")
    process.send_signal(signal.SIGSTOP)
    keeper.good()
    process.kill()
    process.communicate()
    for s in stalled:
        s.close()
    keeper.check()


def start(tree, octets):
    """qmail-queue that got octets of a message that goes on."""
    reader, writer = os.pipe()
    process = tree.popen("qmail-queue", stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=capped())
    os.close(reader)
    process.message = os.fdopen(writer, "wb", buffering=0)
    process.message.write(octets)
    return process


def stopped_reading(process):
    """Whether it waits for more of the message."""
    return pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"


# --- S15, S16: octets that mean nothing here ----------------------------------------------------------------------------------

def journal(keeper):
    return b"".join(p.read_bytes() for p in (keeper.server.home / "queue/journal").iterdir())


def test_S15_a_hundred_thousand_received_fields(keeper):
    message = b"Received: from a by b; 24 Nov 2026 09:00:00 -0000\n" * 100_000 + b"\nbody\n"
    assert keeper.submit(message) == ACCEPTED
    keeper.check()
    assert [p for p in (keeper.server.home / "queue/mess").glob("*/*") if p.read_bytes().endswith(b"\n" + message)]


ODD = [
    b"", b"\n", b"\0", b"\0" * 70_000, b"\r\n\r\n", b"From: \0\n\0: x\n\n\0", b" folded first\n\nx", b"no header at all",
    b"Subject: x\rcr only\r\rbody", b"Received: (qmail 1 invoked by uid 0); 1 Jan 1970 00:00:00 -0000\n\n",
    b"Bcc: x\nDate: \xff\n\n.\n..\n", bytes(range(256)) * 64,
]


def test_S16_any_octets_are_kept(keeper):
    for message in ODD:
        assert keeper.submit(message) == ACCEPTED
    keeper.check()
    octets = journal(keeper)
    for message in ODD:
        assert b"\n" + message in octets


# --- S20: no room ------------------------------------------------------------------------------------------------------------

@pytest.fixture
def mount():
    """A function that mounts a small file system in this process's own mount namespace; mount(kind, size_mib, options)
    returns its directory."""
    if os.getuid():
        pytest.skip("only root can mount a small file system")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000) or libc.mount(b"none", b"/", None, 0x4000 | (1 << 18), None):  # CLONE_NEWNS; MS_REC | MS_PRIVATE
        pytest.skip("no mount namespace of its own")
    made = []

    def make(kind, size_mib, *options):
        top = pathlib.Path("/tmp") / f"tambo-mount-{os.getpid()}-{len(made)}"
        top.mkdir()
        made.append(top)
        point = top / "fs"
        point.mkdir()
        if kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size_mib}m", "mode=755", *options]), "tmpfs", point]
        else:
            image = top / "image"
            with open(image, "wb") as f:
                f.truncate(size_mib * MIB)
            if not shutil.which(f"mkfs.{kind}", path="/usr/sbin:/sbin"):
                pytest.skip(f"mkfs.{kind} is not installed")
            subprocess.run([f"/sbin/mkfs.{kind}", "-q", *options, image], check=True)
            command = ["mount", "-o", "loop", image, point]
        done = subprocess.run(command, stderr=subprocess.PIPE)
        if done.returncode:
            pytest.skip(f"unable to mount {kind}: {done.stderr.decode().strip()}")
        return point

    yield make
    for top in made:
        subprocess.run(["umount", "-l", top / "fs"], stderr=subprocess.DEVNULL)
        shutil.rmtree(top, ignore_errors=True)


def fill(directory, leave=0):
    """Leaves no octet free (but leave)."""
    path = directory / "filler"
    with open(path, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 65536)
        except OSError:
            pass
        try:
            while True:
                f.write(b"x" * 512)
        except OSError:
            pass
        if leave:
            f.truncate(f.tell() - leave)
    return path


@pytest.fixture
def small(mount, new_tree):
    """small(kind, size_mib, options): a server whose queue lies on a small file system."""
    def make(kind, size_mib, *options):
        directory = mount(kind, size_mib, *options)
        server = new_tree(Server)
        server.need("qmail-queued", "qmail-queue", "qmail-qstat")
        shutil.move(server.home / "queue", directory / "queue")
        (server.home / "queue").symlink_to(directory / "queue")
        server.own(directory)
        return server, directory

    return make


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_S20_disk_full(small, kind):
    server, directory = small(kind, 40)
    keeper = Keeper(server)
    filler = fill(directory)
    for _ in range(5):
        keeper.good()  # the journal has its blocks already
    assert keeper.submit(b"x" * MIB) == WRITE
    assert keeper.submit(b"x" * 20 * MIB) == WRITE
    keeper.check()
    filler.unlink()
    assert keeper.submit(b"x" * MIB) == ACCEPTED
    keeper.check()
    server.stop_keeper(signal.SIGKILL)
    server.start_keeper()
    keeper.check()
    assert re.search(r": warning: unable to make the files of a large message \d+: No space left on device\n", keeper.log())


def test_S20_large_message_without_a_place_for_files(keeper):
    new = keeper.server.home / "queue/new"
    new.chmod(0o500)
    assert keeper.submit(b"x" * MIB) == WRITE
    new.chmod(0o700)
    keeper.check()
    assert re.search(r": warning: unable to make the files of a large message \d+: Permission denied\n", keeper.log())


def test_S20_disk_full_by_smtp(small):
    """What has no room is refused for now, the session goes on, and what has room is taken."""
    server, directory = small("tmpfs", 40)
    server.write("control/rcpthosts", "mail.test.example\n")
    keeper = Keeper(server)
    filler = fill(directory)
    large = b"Subject: large\r\n\r\n" + b"x" * 70 + (b"\r\n" + b"x" * 70) * 15000
    with Smtp(server, limit=capped()) as smtp:
        smtp.ehlo()
        assert smtp.message(large)[:9] == "451 4.3.0"
        assert smtp.message()[:9] == "250 2.0.0"  # the journal has its blocks already
        filler.unlink()
        assert smtp.message(large)[:9] == "250 2.0.0"
        smtp.expect(221, "QUIT")
    keeper.messages += 2
    keeper.check()


def test_S20_disk_fills_under_a_message(small):
    server, directory = small("tmpfs", 40)
    keeper = Keeper(server)
    assert keeper.submit(b"x" * 60 * MIB) == WRITE
    keeper.check()


def test_S20_disk_full_and_journal_full(small):
    """What is accepted stays; what has no room is refused for now, in bounded time."""
    server, directory = small("tmpfs", 40)
    keeper = Keeper(server)
    fill(directory)
    codes = []
    deadline = time.monotonic() + 100
    while WRITE not in codes and time.monotonic() < deadline:
        codes.append(keeper.submit(b"x" * 250_000))
    assert set(codes) == {ACCEPTED, WRITE}
    (directory / "filler").unlink()
    keeper.good()
    keeper.check()


def test_S20_no_inodes(small):
    server, directory = small("tmpfs", 60, "nr_inodes=70")
    keeper = Keeper(server)
    for i in range(200):
        try:
            (directory / f"i{i}").touch()
        except OSError:
            break
    keeper.good()
    assert keeper.submit(b"x" * MIB) == WRITE
    keeper.check()
    for path in directory.glob("i*"):
        path.unlink()
    assert keeper.submit(b"x" * MIB) == ACCEPTED
    keeper.check()


def test_S20_read_only(small):
    server, directory = small("tmpfs", 40)
    keeper = Keeper(server)
    server.stop_keeper()
    # a writer may end a little later, and has files open
    wait_for(lambda: subprocess.run(["mount", "-o", "remount,ro", directory], check=False).returncode == 0, what="the last writer to end")
    done = server.run("qmail-queued", preexec_fn=capped())
    assert done.returncode == 111 and b"Read-only file system" in done.stderr
    subprocess.run(["mount", "-o", "remount,rw", directory], check=True)
    server.start_keeper()
    keeper.check()


def test_S20_no_right_to_write(keeper):
    if os.getuid() == 0 and keeper.server.uid == 0:
        pytest.skip("root may write everywhere")
    new = keeper.server.home / "queue/new"
    new.chmod(0o500)
    keeper.good()
    assert keeper.submit(b"x" * MIB) == WRITE
    new.chmod(0o750)
    assert keeper.submit(b"x" * MIB) == ACCEPTED
    keeper.check()


def test_S20_no_descriptors_left(new_tree):
    server = new_tree(Server)
    server.need("qmail-queued", "qmail-queue", "qmail-qstat")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        keeper = Keeper(server)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    crowd = [keeper.connect() for _ in range(100)]
    wait_for(lambda: "Too many open files" in keeper.log(), what="the keeper to run out of descriptors")
    process = start(server, b"Subject: x\n\n")
    process.message.close()
    for s in crowd:
        s.close()
    process.communicate(timeout=60)
    keeper.check()
    assert keeper.log().count("Too many open files") < 1000


# --- L1: a hostile caller ---------------------------------------------------------------------------------------------------------

def run_queue(keeper, prepare=None, env=None, arguments=(), closed=()):
    """The exit status of qmail-queue with a good message on 0 and 1, after prepare() in the new process."""
    tree = keeper.server
    message, envelope = tree.home / "message", tree.home / "envelope"
    message.write_bytes(b"Subject: x\n\nx\n")
    envelope.write_bytes(GOOD)

    def before():
        for fd in closed:
            os.close(fd)
        if prepare:
            prepare()

    with open(message, "rb") as m, open(envelope, "rb") as e:
        process = tree.popen("qmail-queue", *arguments, stdin=m, stdout=e, stderr=subprocess.DEVNULL, env=env, preexec_fn=before)
        code = process.wait(120)
    keeper.messages += code == 0
    return code


def test_L1_closed_descriptors(keeper):
    assert run_queue(keeper, closed=[0]) == READ
    assert run_queue(keeper, closed=[1]) == READ
    assert run_queue(keeper, closed=[0, 1]) == READ
    assert run_queue(keeper, closed=[2]) == ACCEPTED
    assert run_queue(keeper, closed=[0, 1, 2]) == READ
    keeper.check()


def test_L1_limits(keeper):
    def set_limit(what, n):
        return lambda: resource.setrlimit(what, (n, n))

    assert run_queue(keeper, set_limit(resource.RLIMIT_FSIZE, 0)) == ACCEPTED
    assert run_queue(keeper, set_limit(resource.RLIMIT_CORE, 0)) == ACCEPTED
    if not is_sanitized(keeper.server.bin / "qmail-queue"):
        for n in (0, 1, 2, 3):
            code = run_queue(keeper, set_limit(resource.RLIMIT_NOFILE, n))
            assert 50 < code < 100, n
        assert run_queue(keeper, set_limit(resource.RLIMIT_AS, 64 * MIB)) == ACCEPTED
    keeper.check()


def test_L1_a_huge_environment_and_odd_arguments(keeper):
    env = {f"V{i}": "x" * 100_000 for i in range(10)}
    env.update({"QMAILQUEUE": "/bin/false", "LD_PRELOAD": "/nonexistent.so", "GLIBC_TUNABLES": "x" * 10_000, "MALLOC_CHECK_": "3"})
    assert run_queue(keeper, env=env, arguments=["a\nb", "-x", "\x1b[2J", "y" * 100_000]) == ACCEPTED
    keeper.check()


def test_L1_signals(keeper):
    """A stopped client holds nobody up and finishes when it is continued; a killed one leaves nothing."""
    process = start(keeper.server, b"Subject: x\n")
    process.send_signal(signal.SIGSTOP)
    keeper.good()
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()
    assert run_queue(keeper, lambda: signal.alarm(100)) == ACCEPTED
    assert run_queue(keeper, lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN)) == ACCEPTED
    assert run_queue(keeper, lambda: signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))) == ACCEPTED
    keeper.check()


def test_L1_links_and_odd_files_in_the_queue(keeper):
    """Nobody but the keeper can put them there; they are no way to make it write elsewhere."""
    server = keeper.server
    server.stop_keeper()
    victim = server.write("victim", "untouched")
    queue = server.home / "queue"
    for path in (queue / "new/5", queue / "new/x", queue / "info/5/5", queue / "mess/5/5", queue / "info/6/nonsense",
                 queue / "mess/0/23"):
        path.symlink_to(victim)
    os.link(victim, queue / "new/hard")
    os.mkfifo(queue / "info/7/7")
    (queue / "mess/7/7").mkdir()
    (queue / "info/8/8").write_bytes(os.urandom(5000))
    (queue / "info/9/9").touch()
    (queue / "info/10/10").touch()
    server.own(queue)
    (queue / "info/10/10").chmod(0)
    server.start_keeper()
    keeper.good()
    keeper.check()
    assert victim.read_text() == "untouched"
    for number in (8, 9):
        wait_for(lambda: f"alert: damaged, set aside in queue/damaged: message {number}\n" in keeper.log())
    # what the sandbox does not let it move, and what cannot be read for now, stays, and is no reason to stop at it
    for number in (5, 7, 10):
        wait_for(lambda: f"what seems damaged: message {number}: Permission denied" in keeper.log())
    assert (queue / "info/10/10").exists()


def test_L1_a_folder_that_cannot_be_read_is_named(keeper):
    server = keeper.server
    server.stop_keeper()
    folder = server.home / "queue/info/7"
    folder.rmdir()
    folder.touch()
    server.start_keeper()
    wait_for(lambda: "the scan of the queue failed, trying again" in keeper.log())
    assert "alert: unable to flush or read queue/info/7: Not a directory" in keeper.log()
    folder.unlink()
    folder.mkdir()
    server.own(folder)
    keeper.check()  # once it is read, all that was accepted is there


# --- a reader that does not read ---------------------------------------------------------------------------------------

def test_a_reader_that_does_not_read_has_nothing_of_the_keeper_and_dies_with_it(keeper):
    """As `qmail-qread | less`: whoever starts the keeper anew must not wait for it, nor the clients of the old one."""
    assert keeper.submit(b"x", SENDER + b"".join(b"T%d@far.example\0" % i for i in range(50_000)) + b"\0") == ACCEPTED
    before = set(keeper.pids())
    with keeper.connect() as client, keeper.connect("queue/qmail-send") as newcomer, keeper.connect("queue/qmail-send") as reader:
        reader.sendall(frame("Q"))
        wait_for(lambda: set(keeper.pids()) - before, what="a child that answers")
        child, = set(keeper.pids()) - before

        def sockets():
            held = [os.readlink(entry) for entry in pathlib.Path(f"/proc/{child}/fd").iterdir()]
            return len([name for name in held if name.startswith("socket:")])

        wait_for(lambda: sockets() == 2, what="the child to have its peer, and what tells the keeper of its end, alone")
        keeper.server.keeper.kill()
        keeper.server.keeper.wait()
        assert closes(client) and closes(newcomer)
        wait_for(lambda: child not in keeper.pids(), 5, "the child to die")
        keeper.server.keeper = keeper.server.start_daemon("qmail-queued", "qmail-queued", "-r", 8)
        keeper.good()


# --- L3: nonsense on the sockets ---------------------------------------------------------------------------------------------------------

def closes(s):
    """Whether the keeper hangs up; what it said before is thrown away."""
    try:
        while s.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


NONSENSE = {
    "text": b"EHLO example.org\r\n" * 10,
    "random": bytes((i * 7919 + 13) % 251 for i in range(10_000)),
    "length above the limit": struct.pack(">IB", 128 * 1024 + 1, ord("M")),
    "length all ones": b"\xff" * 100,
    "unknown frame": frame("Z", b"x"),
    "a result from a client": frame("R", bytes(17)),
    "envelope, then message": frame("E", b"Fa\0") + frame("M", b"x"),
    "end with octets": frame("M", b"x") + frame("E", GOOD) + frame(".", b"x"),
    "frames of the other socket": frame("L"),
}


def test_L3_nonsense_on_the_submit_socket(keeper):
    for name, octets in NONSENSE.items():
        for before in (b"", frame("M", b"y" * 100_000) * 4):  # within a large message as well
            with keeper.connect() as s:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # closed before all was sent
                    s.sendall(before + octets)
                assert closes(s), name
    keeper.check()
    assert keeper.log().count("warning: a submitter broke the protocol; uid") >= len(NONSENSE)


def test_L3_an_end_without_anything(keeper):
    with keeper.connect() as s:
        s.sendall(frame("."))
        assert s.recv(22)[5] == SYNTAX
        s.sendall(frame("M", b"x\n") + frame("E", GOOD) + frame("."))
        assert s.recv(22)[5] == ACCEPTED
    keeper.messages += 1
    keeper.check()


def test_L3_half_a_connection(keeper):
    with keeper.connect() as s:
        s.sendall(frame("M", b"x\n") + frame("E", GOOD) + frame("."))
        s.shutdown(socket.SHUT_WR)
        assert s.recv(22)[5] == ACCEPTED
        keeper.messages += 1
        assert closes(s)
    keeper.check()


def test_L3_a_client_that_does_not_read_its_answers(keeper):
    s = keeper.connect()
    s.settimeout(5)
    one = frame("E", GOOD) + frame(".")
    sent = 0
    try:
        for _ in range(3000):
            s.sendall(one * 10)
            sent += 10
    except (TimeoutError, ConnectionError):
        pass
    keeper.good()
    s.close()
    keeper.messages += wait_for_quiet(keeper) - keeper.messages
    assert keeper.messages <= sent + 20
    keeper.check()


def test_L3_descriptors_that_nobody_asked_for(keeper):
    flood = array.array("i", [0] * 200)
    before = len(os.listdir(f"/proc/{keeper.server.keeper.pid}/fd"))
    for _ in range(20):
        with keeper.connect() as s:
            try:
                for _ in range(10):
                    s.sendmsg([frame("M", b"x")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, flood)])
            except OSError:
                pass
            assert closes(s)
    keeper.check()
    assert len(os.listdir(f"/proc/{keeper.server.keeper.pid}/fd")) <= before + 2


def test_L3_a_descriptor_that_is_slow_to_close(keeper):
    """It is the last holding of a socket with SO_LINGER: who reads the message, or closes the connection in which it lies, closes it."""
    begun, kept = time.monotonic(), []
    for octets in frame("M", b"x"), b"\xff\xff\xff\xff" + b"M" * 10:  # the latter is no frame: the second is not read any more
        with keeper.connect() as s:
            keeper.server.keeper.send_signal(signal.SIGSTOP)
            kept += [passes(s, octets) for _ in range(3)]
            keeper.server.keeper.send_signal(signal.SIGCONT)
            keeper.good()
            assert closes(s)
    keeper.good()
    assert time.monotonic() - begun < 20
    for s in kept:
        s.close()
    keeper.check()


def test_L3_nonsense_on_the_socket_of_qmail_send(keeper):
    for name, octets in NONSENSE.items():
        with keeper.connect("queue/qmail-send") as s:
            s.sendall(octets)
            if name != "frames of the other socket":
                assert closes(s), name
    keeper.check()


def test_L3_reports_about_what_is_not_there(keeper):
    with keeper.connect("queue/qmail-send") as s:
        s.sendall(frame("D", struct.pack(">QIB", 1 << 60, 7, ord("K"))) + frame("D", struct.pack(">QIB", 0, 0, ord("D")) + b"why")
                  + frame("X", struct.pack(">Q", 1 << 50)) + frame("W", struct.pack(">Q", 1 << 50)) + frame("?", struct.pack(">Q", 1 << 50)))
        keeper.good()
    keeper.check()
