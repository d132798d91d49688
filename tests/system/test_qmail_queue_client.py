"""qmail-queue against a keeper that says what the test wants: what it carries, and what it makes of trouble."""
import os
import signal
import struct
import subprocess
import time

import pytest

from fake_keeper import FakeKeeper, frame

ENVELOPE = b"Fann@example.org\0Tana@mail.example\0\0"


@pytest.fixture
def with_keeper(tree):
    """with_keeper(serve): runs the keeper around the test's own calls of tree.queue."""
    tree.need("qmail-queue")

    def make(serve):
        return FakeKeeper(tree, "run/qmail-queued", serve)

    make.tree = tree
    return make


def test_carries_message_and_envelope_and_brings_the_code_back(with_keeper):
    got = []

    def serve(keeper):
        got.append(keeper.submission())
        keeper.answer(code=31)

    message = os.urandom(3_000_000)
    with with_keeper(serve):
        done = with_keeper.tree.queue(message, "", envelope=ENVELOPE)
    assert got == [(message, ENVELOPE)]
    assert (done.returncode, done.stdout or b"", done.stderr) == (31, b"", b"")


def test_a_large_envelope(with_keeper):
    got = []

    def serve(keeper):
        got.append(keeper.submission())
        keeper.answer()

    envelope = b"F\0" + b"Tx@example.org\0" * 100_000 + b"\0"
    with with_keeper(serve):
        assert with_keeper.tree.queue(b"", "", envelope=envelope).returncode == 0
    assert got == [(b"", envelope)]


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_sends_a_whole_message_again_to_a_keeper_that_was_restarted(with_keeper, lost):
    """Up to three times: a dying keeper still takes connections when it has lost those that it had."""
    got = []

    def serve(keeper):
        got.append(keeper.submission())
        if len(got) > lost:
            keeper.answer()

    with with_keeper(serve):
        code = with_keeper.tree.queue(b"small", "", envelope=ENVELOPE).returncode
    assert got == [(b"small", ENVELOPE)] * min(lost + 1, 4)
    assert code == 0 if lost < 4 else 50 < code < 100


@pytest.mark.parametrize("answer", [b"", b"\0", frame("R"), frame("R", bytes(16)), frame("R", bytes(18)), frame("X", bytes(17)),
                                    struct.pack(">I", 0xffffffff) + b"R" + bytes(17), os.urandom(100)],
                         ids=lambda a: str(len(a)))
def test_L3_a_keeper_that_talks_nonsense_is_a_temporary_failure(with_keeper, answer):
    def serve(keeper):
        keeper.submission()
        keeper.socket.sendall(answer)

    with with_keeper(serve):
        code = with_keeper.tree.queue(b"x", "", envelope=ENVELOPE).returncode
    assert 50 < code < 100


def test_a_descriptor_flood_from_the_keeper(with_keeper):
    import array
    import socket

    def serve(keeper):
        keeper.submission()
        fds = array.array("i", [0] * 200)
        for _ in range(3):
            keeper.socket.sendmsg([frame("Z")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])

    with with_keeper(serve):
        code = with_keeper.tree.queue(b"x", "", envelope=ENVELOPE).returncode
    assert 50 < code < 100


def start(tree, message, envelope):
    """qmail-queue with descriptors 0 and 1 as given; nothing is waited for."""
    return tree.popen("qmail-queue", stdin=message, stdout=envelope, stderr=subprocess.PIPE)


def test_a_killed_client_leaves_the_keeper_an_unfinished_message(with_keeper):
    got = []
    message, ours = os.pipe()
    with with_keeper(lambda keeper: got.append(keeper.submission())):
        process = start(with_keeper.tree, message, message)
        os.write(ours, b"x" * 60_000)
        os.close(message)
        for _ in range(3):
            os.write(ours, b"x" * 60_000)
        process.kill()
        process.communicate()
        os.close(ours)
        end = time.monotonic() + 30
        while not got and time.monotonic() < end:
            time.sleep(0.01)
    assert len(got[0]) == 3 and got[0][1:] == (b"", None)


def test_calls_that_no_qmail_queue_makes_are_not_there(with_keeper):
    """Whoever takes qmail-queue over has the filter of sandbox_client: /proc says that it is there."""
    seen = []

    def serve(keeper):
        keeper.next()
        status = open(f"/proc/{process.pid}/status").read()
        seen.append([line.split()[1] for line in status.splitlines() if line.startswith(("NoNewPrivs:", "Seccomp:"))])
        while keeper.next() != (".", b""):
            pass
        keeper.answer()

    message, ours = os.pipe()
    envelope, theirs = os.pipe()
    with with_keeper(serve):
        process = start(with_keeper.tree, message, envelope)
        os.close(message), os.close(envelope)
        os.write(ours, b"y" * 65_536), os.close(ours)
        os.write(theirs, ENVELOPE), os.close(theirs)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
    if seen == [["1", "0"]]:
        pytest.skip("no seccomp here, or not in a build with sanitizers")
    assert seen == [["1", "2"]]


def test_nobody_listens(with_keeper):
    """The socket is not there: it is tried for 30 seconds; SIGTERM ends that."""
    envelope, theirs = os.pipe()
    process = start(with_keeper.tree, subprocess.DEVNULL, envelope)
    os.write(theirs, ENVELOPE)
    os.close(envelope), os.close(theirs)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM
    process.stderr.close()
