"""qmail-local -W: lib/job.h spoken by a test."""
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile

import pytest

import spawn_peer
from delivering import DOMAIN, MESSAGE, SENDER, Local, end_worker, start_worker

BATCH = 48  # JOB_BATCH
JOBS = 1000  # JOB_WORKER_JOBS


@pytest.fixture
def local(tree):
    return Local(tree, "worker")


@pytest.fixture
def start(local):
    """start(...): start_worker of the tree; each worker has ended at the end."""
    made = []

    def begin(*args, **more):
        made.append(start_worker(local.tree, *args, **more))
        return made[-1]

    yield begin
    for worker in made:
        if worker.process.poll() is None:
            worker.sock.close()
            worker.process.wait(30)


def parts(ext="", sender=SENDER, domain=DOMAIN):
    return (sender, f"ana-{ext}" if ext else "ana", "-" if ext else "", ext, domain)


def frame(kind, payload):
    return struct.pack(">I", len(payload)) + kind.encode() + payload


def job(number, strings, message):
    return frame("J", struct.pack(">IIQ", number, len(strings), len(message)) + spawn_peer.strings(*strings) + message)


def answers(worker, count):
    """{id: (letter, text)}"""
    got = {}
    for _ in range(count):
        number, recipient, letter, text = worker.done()
        assert recipient == 0 and number not in got
        got[number] = letter, text
    return got


def test_batch(local, start):
    worker = start()
    messages = [b"Subject: %d\n\n" % i + b"x" * i for i in range(BATCH)]
    worker.sock.sendall(b"".join(job(100 + i, parts(), m) for i, m in enumerate(messages)))
    assert answers(worker, BATCH) == {100 + i: ("K", b"did 1+0+0\n") for i in range(BATCH)}
    head = b"Return-Path: <joe@sender.example>\nDelivered-To: ana@test.example\n"
    assert sorted(local.maildir()) == sorted(head + m for m in messages)
    assert local.left_in_tmp() == []


def test_more_jobs_than_a_batch(local, start):
    worker = start()
    worker.sock.sendall(b"".join(job(i, parts(), MESSAGE) for i in range(5 * BATCH)))
    assert len(answers(worker, 5 * BATCH)) == 5 * BATCH
    assert len(local.maildir()) == 5 * BATCH


def test_mixed_batch(local, start):
    """Several maildirs, mbox, program, forward, refusals in one batch: each gets its own answer."""
    local.qmail("./Other/\n", ".qmail-other")
    local.qmail("./Missing/\n", ".qmail-missing")
    local.qmail("./Mailbox\n", ".qmail-mbox")
    local.qmail("|echo $EXT $DEFAULT; exit 100\n", ".qmail-refuse")
    local.qmail("|echo $EXT ${DEFAULT-unset}\n./Maildir/\n", ".qmail-program")
    local.qmail("&a@b\n", ".qmail-forward")
    local.qmail("", ".qmail-empty")
    for sub in "tmp", "new", "cur":
        (local.home / "Other" / sub).mkdir(parents=True)
    local.tree.own(local.home / "Other")
    loop = b"Delivered-To: ana@test.example\n\n"
    jobs = [("", MESSAGE), ("other", MESSAGE), ("missing", MESSAGE), ("mbox", MESSAGE), ("refuse", MESSAGE), ("", loop),
            ("program", MESSAGE), ("forward", MESSAGE), ("nobody", MESSAGE), ("empty", MESSAGE), ("other", MESSAGE)]
    with local.keeper(number=17):
        worker = start()
        worker.sock.sendall(b"".join(job(i, parts(ext), m) for i, (ext, m) in enumerate(jobs)))
        got = answers(worker, len(jobs))
    assert [got[i][0] for i in range(len(jobs))] == list("KKZKDDKKDKK")
    assert got[3] == ("K", b"did 1+0+0\n") and got[4] == ("D", b"refuse \n") or got[4] == ("D", b"refuse\n")
    assert got[6] == ("K", b"program unset\ndid 1+0+1\n")
    assert got[7] == ("K", b"did 0+1+0\nqp 17\n")
    assert b"(#4.2.1)" in got[2][1] and b"(#5.4.6)" in got[5][1] and b"(#5.1.1)" in got[8][1]
    assert len(local.maildir()) == 3 and len(local.maildir("Other")) == 2


def test_one_failure_is_its_own(local, start):
    """A message whose file is shorter than said, between good ones."""
    worker = start()
    with tempfile.TemporaryFile() as file:
        file.write(MESSAGE)
        file.flush()
        head = struct.pack(">IIQ", 2, 5, len(MESSAGE) + 1) + spawn_peer.strings(*parts())
        worker.job(1, parts(), MESSAGE)
        worker.send("F", head, file.fileno())
        worker.job(3, parts(), MESSAGE)
    got = answers(worker, 3)
    assert [got[i][0] for i in (1, 2, 3)] == ["K", "Z", "K"]
    assert len(local.maildir()) == 2


def test_batch_with_files(local, start):
    worker = start()
    messages = [b"Subject: %d\n\n" % i + b"y" * 300000 for i in range(4)]
    for i, message in enumerate(messages):
        with tempfile.TemporaryFile() as file:
            file.write(message)
            file.seek(0)
            worker.job(i, parts(), file=file.fileno())
    assert {letter for letter, _ in answers(worker, 4).values()} == {"K"}
    assert sorted(m[m.index(b"Subject"):] for m in local.maildir()) == messages


def test_sixteen_files_at_once(local, start):
    worker = start()
    with tempfile.TemporaryFile() as file:
        file.write(MESSAGE)
        file.flush()
        for i in range(BATCH):
            worker.job(i, parts(), file=file.fileno())
    assert len(answers(worker, BATCH)) == BATCH
    assert len(local.maildir()) == BATCH


def test_what_needs_no_program_is_answered_first(local, start):
    local.qmail("|cat fifo\n", ".qmail-slow")
    os.mkfifo(local.home / "fifo")
    local.tree.own(local.home / "fifo")
    worker = start()
    worker.sock.sendall(job(1, parts("slow"), MESSAGE) + job(2, parts(), MESSAGE))
    assert worker.done() == (2, 0, "K", b"did 1+0+0\n")
    (local.home / "fifo").write_text("now\n")
    assert worker.done() == (1, 0, "K", b"now\ndid 0+0+1\n")


def test_nothing_of_an_earlier_job_is_left(local, start):
    """Environment, directory, umask, descriptors, signals."""
    local.qmail("|pwd; umask; env | grep -a -v '^_=' | sort; ls /proc/self/fd | wc -l; "
                "grep -E '^Sig(Blk|Ign)' /proc/self/status\n", ".qmail-default")
    local.qmail("|cd /; umask 0; DEFAULT=x; export DEFAULT; trap '' TERM; exec 5<.; exit 0\n", ".qmail-other")
    worker = start()
    worker.job(1, parts("a-B"), MESSAGE)
    _, _, letter, first = worker.done()
    assert letter == "K"
    for i, ext in enumerate(["other", "nobody-x", "other", ""]):
        worker.job(10 + i, parts(ext, sender=f"s{i}@h", domain="d.example"), MESSAGE)
        worker.done()
    worker.job(2, parts("a-B"), MESSAGE)
    _, _, letter, second = worker.done()

    def timeless(text):
        return re.sub(rb"\d\d:\d\d:\d\d", b"", text)

    assert letter == "K" and timeless(second) == timeless(first)
    assert b"\nDEFAULT=a-B\n" in first and b"\n0077\n" in first


def test_descriptors_do_not_leak(local, start):
    local.qmail("|true\n", ".qmail-program")
    worker = start()

    def count():
        return len(os.listdir(f"/proc/{worker.process.pid}/fd"))

    def round_of_jobs():
        for i in range(20):
            worker.job(i, parts(["", "program", "nobody"][i % 3]), MESSAGE)
            worker.done()
        with tempfile.TemporaryFile() as file:
            file.write(MESSAGE)
            file.flush()
            worker.job(99, parts(), file=file.fileno())
            worker.done()

    round_of_jobs()
    before = count()
    for _ in range(5):
        round_of_jobs()
    assert count() == before


def test_memory_is_bounded(local, start):
    """The largest messages in a stream into a maildir, for which batches are gathered: 48 would be 12 MiB."""
    worker = start()
    worker.job(0, parts(), MESSAGE)
    worker.done()
    if "asan" in open(f"/proc/{worker.process.pid}/maps").read():
        pytest.skip("the address sanitizer keeps what is freed")

    def peak():
        text = open(f"/proc/{worker.process.pid}/status").read()
        return int(re.search(r"VmHWM:\s+(\d+)", text)[1])

    message = b"X: y\n\n" + b"z" * (256 * 1024 - 6)
    for _ in range(3):
        for i in range(BATCH):
            worker.job(i, parts(), message)
        answers(worker, BATCH)
    assert peak() < 12 * 1024  # KiB; 4 MiB are WORKER_BATCH_OCTETS


def test_ends_with_its_socket(start):
    worker = start()
    assert end_worker(worker) == 0


def test_half_closed_socket_is_answered(local, start):
    worker = start()
    worker.job(1, parts(), MESSAGE)
    worker.sock.shutdown(1)
    assert worker.done() == (1, 0, "K", b"did 1+0+0\n")
    assert worker.done() is None
    assert worker.process.wait(30) == 0


def test_ends_after_its_jobs(local, start):
    """What it does not answer after the last it did not deliver."""
    local.qmail("#\n")
    worker = start()
    done = 0
    try:
        while done < JOBS + BATCH:
            worker.sock.sendall(b"".join(job(i, parts(), MESSAGE) for i in range(BATCH)))
            for _ in range(BATCH):
                if worker.done() is None:
                    raise BrokenPipeError
                done += 1
    except BrokenPipeError:
        pass
    assert JOBS <= done < JOBS + BATCH
    assert worker.process.wait(30) == 0


@pytest.mark.parametrize("octets", [
    pytest.param(frame("X", b"1234"), id="unknown frame"),
    pytest.param(frame("J", b"1234"), id="short job"),
    pytest.param(frame("J", struct.pack(">IIQ", 1, 5, 0) + b"a\0b\0"), id="too few strings"),
    pytest.param(frame("J", struct.pack(">IIQ", 1, 5, 9) + spawn_peer.strings("", "a", "", "", "d") + b"x"), id="wrong size"),
    pytest.param(frame("F", struct.pack(">IIQ", 1, 5, 9) + spawn_peer.strings("", "a", "", "", "d")), id="no descriptor"),
    pytest.param(struct.pack(">I", 1 << 30) + b"J", id="huge frame"),
    pytest.param(b"\0" * 100, id="zeros"),
])
def test_garbage(local, start, octets):
    """L3: the channel is closed; a job before it is delivered and answered."""
    worker = start()
    worker.sock.sendall(job(1, parts(), MESSAGE) + octets)
    assert worker.done() == (1, 0, "K", b"did 1+0+0\n")
    assert worker.done() is None
    assert worker.process.wait(30) == 0
    assert len(local.maildir()) == 1


def test_partial_job_then_end(local, start):
    """L3"""
    worker = start()
    worker.sock.sendall(job(1, parts(), MESSAGE)[:-1])
    assert end_worker(worker) == 0
    assert local.maildir() == [] and local.left_in_tmp() == []


def test_job_that_is_not_local(local, start):
    worker = start()
    worker.job(1, ("s", "h", "a@b"), MESSAGE)
    worker.job(2, parts(), MESSAGE)
    got = answers(worker, 2)
    assert got[1][0] == "Z" and got[2][0] == "K"


def test_home_comes_and_goes(local, start):
    worker = start()
    os.rename(local.home, str(local.home) + "x")
    worker.sock.sendall(job(1, parts(), MESSAGE) + job(2, parts("a"), MESSAGE))
    assert {letter for letter, _ in answers(worker, 2).values()} == {"Z"}
    os.rename(str(local.home) + "x", local.home)
    os.chmod(local.home, 0o1700)
    worker.job(3, parts(), MESSAGE)
    assert "(#4.2.1)" in worker.done()[3].decode()
    os.chmod(local.home, 0o700)
    worker.job(4, parts(), MESSAGE)
    assert worker.done()[2] == "K"
    assert len(local.maildir()) == 1


def test_flushes_of_a_batch(local, start, tmp_path):
    """48 files, each flushed before the first is visible, one flush of the directory, then the answers."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    log = local.tree.write("trace", "", 0o666)
    worker = start(wrap=("strace", "-f", "-o", str(log), "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,sendmsg"))
    worker.job(0, parts(), MESSAGE)
    if worker.done() is None:
        pytest.skip("strace is not allowed here")
    os.kill(int(open(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children").read().split()[0]), signal.SIGSTOP)
    worker.sock.sendall(b"".join(job(1 + i, parts(), MESSAGE) for i in range(BATCH)))
    os.kill(int(open(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children").read().split()[0]), signal.SIGCONT)
    answers(worker, BATCH)
    worker.close()
    worker.process.wait(30)
    calls = re.findall(r"(fsync|fdatasync|rename\w*|sendmsg)\(", log.read_text())
    batch = calls[calls.index("sendmsg") + 1:]
    assert batch.count("fdatasync") == BATCH and batch.count("fsync") == 1
    order = [c for c in batch if c != "sendmsg"]
    first = next(i for i, c in enumerate(order) if c.startswith("rename"))
    assert order[:first] == ["fdatasync"] * BATCH
    assert batch[-2:] == ["fsync", "sendmsg"]


def test_killed_at_any_moment(local):
    """kill -9 leaves no partial file in new/, and nothing that was answered is missing."""
    chance = random.Random(8)
    body = b"".join(b"%07d\n" % i for i in range(3000))
    acknowledged, sent = 0, 0
    for _ in range(40):
        worker = start_worker(local.tree)
        pause = chance.random() * 0.02
        killer = subprocess.Popen(["sh", "-c", f"sleep {pause:.4f}; kill -9 {worker.process.pid}"])
        try:
            while True:
                octets = b"".join(job(i, parts(), b"Subject: %d\n\n" % (sent + i) + body) for i in range(BATCH))
                sent += BATCH
                worker.sock.sendall(octets)
                for _ in range(BATCH):
                    answer = worker.done()
                    if answer is None:
                        raise BrokenPipeError
                    assert answer[2] == "K"
                    acknowledged += 1
        except (BrokenPipeError, ConnectionResetError):
            pass
        killer.wait()
        worker.close()
        assert worker.process.wait(30) == -signal.SIGKILL
    numbers = set()
    for message in local.maildir():
        match = re.fullmatch(rb"Return-Path: <joe@sender\.example>\nDelivered-To: ana@test\.example\nSubject: (\d+)\n\n(.*)",
                             message, re.DOTALL)
        assert match and match[2] == body
        numbers.add(int(match[1]))
    assert acknowledged <= len(numbers) <= sent


# --- -C: another program at bin/qmail-local ---------------------------------------

def test_classic(local, start):
    program = local.tree.replace("qmail-local", "#!/bin/sh\necho \"$#\" \"$@\"\npwd\ncat\necho why >&2\nexit 0\n")
    worker = start(default="./Mail dir/", classic=True)
    for i in range(2):
        worker.job(i, parts("Ext"), MESSAGE)
        number, _, letter, text = worker.done()
        assert (number, letter) == (i, "K")
        args = f"9 -- ana home/ana ana-Ext - Ext {DOMAIN} {SENDER} ./Mail dir/\n{local.tree.home}\n"
        assert text == args.encode() + MESSAGE + b"why\n"
    assert program.exists()


def test_classic_large_message(local, start):
    local.tree.replace("qmail-local", "#!/bin/sh\nwc -c\n")
    worker = start(classic=True)
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 1000000)
        file.flush()
        worker.job(1, parts(), file=file.fileno())
    assert worker.done()[3].strip() == b"1000000"


@pytest.mark.parametrize("status, letter", [
    *[(f"exit {n}", "Z") for n in (111, 71, 74, 75, 112, 113, 115, 116, 117, 118, 119, 120, 121, 126, 127)],
    *[(f"exit {n}", "D") for n in (100, 1, 2, 99, 64, 110, 114, 122, 255)],
    ("exit 0", "K"), ("kill -SEGV $$", "Z"), ("kill -KILL $$", "Z"),
])
def test_classic_exit_status(local, start, status, letter):
    local.tree.replace("qmail-local", f"#!/bin/sh\necho text; {status}\n")
    worker = start(classic=True)
    worker.job(1, parts(), MESSAGE)
    _, _, got, text = worker.done()
    assert got == letter and text.startswith(b"text\n")


@pytest.mark.parametrize("break_it", [
    pytest.param(lambda t: (t.bin / "qmail-local").unlink(), id="missing"),
    pytest.param(lambda t: (t.replace("qmail-local", "#!/bin/sh\n")).chmod(0o644), id="not executable"),
    pytest.param(lambda t: t.replace("qmail-local", "#!/no/such/interpreter\n"), id="no interpreter"),
    pytest.param(lambda t: t.replace("qmail-local", b"\x7fELF rubbish"), id="rubbish"),
])
def test_classic_cannot_be_run(local, start, break_it):
    """Number 4 of section 24: it is mended some day, so the mail waits."""
    break_it(local.tree)
    worker = start(classic=True)
    worker.job(1, parts(), MESSAGE)
    assert worker.done()[2] == "Z"
    worker.job(2, parts(), MESSAGE)
    assert worker.done()[2] == "Z"


def test_classic_program_that_is_ours(local, start):
    """A wrapper that does something and then runs the real one."""
    local.tree.replace("qmail-local", "#!/bin/sh\nexec libexec/qmail-local \"$@\"\n")
    worker = start(classic=True)
    worker.job(1, parts(), MESSAGE)
    assert worker.done() == (1, 0, "K", b"did 1+0+0\n")
    assert len(local.maildir()) == 1
