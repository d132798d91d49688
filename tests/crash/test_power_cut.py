"""Power cuts: the writes and flushes of a run are recorded, disks that a power cut could have left are built from them, and
the real keeper is started on each. queue/README.md, "What a power cut or SIGKILL leaves".

$CRASH_STATES says how many disks a run looks at (default 150)."""
import os
import pathlib
import random
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "system"))
from conftest import *  # noqa: E402,F401,F403
from conftest import BUILD, SOURCE, Tree, make_tree, new_directory, wait_for  # noqa: E402
from disk import Disk  # noqa: E402
from keeper_peer import NOTICE, Send, Submitter  # noqa: E402
from probe import is_sanitized  # noqa: E402

STATES = int(os.environ.get("CRASH_STATES", "150"))
MESSAGES = 120
RING_MIB = 8


@pytest.fixture(scope="session")
def recorder():
    if not shutil.which("cc"):
        pytest.skip("no compiler for the recorder")
    if is_sanitized(BUILD / "bin/qmail-queued"):
        pytest.skip("the recorder is preloaded, and the sanitizers want to be first")
    top = new_directory()
    path = top / "record.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", path, SOURCE / "tests/crash/record.c", "-ldl"],
                   check=True)
    path.chmod(0o755)
    yield path
    shutil.rmtree(top)


class Keeper:
    """A keeper of a tree, with small ring."""

    def __init__(self, tree, env=None):
        self.tree = tree
        ours, theirs = os.pipe()
        self.log = tree.home / "keeper.log"
        with open(self.log, "ab") as log:
            self.process = tree.popen("qmail-queued", "-d", theirs, "-r", RING_MIB, pass_fds=[theirs], stderr=log, env=env)
        os.close(theirs)
        ready = os.read(ours, 1)
        os.close(ours)
        assert ready == b"\n", self.log.read_text()
        self.home = os.open(tree.home, os.O_PATH)

    def stop(self):
        os.close(self.home)
        self.process.terminate()
        assert self.process.wait(20) == 0

    def kill(self):
        os.close(self.home)
        self.process.kill()
        self.process.wait()


class History:
    """What the run asked for and was promised, up to a line of the record."""

    def __init__(self, bodies):
        self.bodies = bodies		# by sender, which is unique
        self.accepted = set()		# numbers answered with 0
        self.asked, self.confirmed = set(), set()	# (number, index)

    def apply(self, line):
        verb, *words = line.split(" ")
        if verb == "ask":
            self.asked.add((int(words[0]), int(words[1])))
        elif verb == "send":
            self.sent(bytes.fromhex(words[0]))

    def sent(self, octets):
        if len(octets) == 22 and octets[:5] == b"\0\0\0\x11R":
            if octets[5] == 0:
                self.accepted.add(int.from_bytes(octets[6:14], "big"))
            return
        while len(octets) >= 5:
            size = int.from_bytes(octets[:4], "big")
            if octets[4:5] == b"C" and size == 12:
                self.confirmed.add((int.from_bytes(octets[5:13], "big"), int.from_bytes(octets[13:17], "big")))
            octets = octets[5 + size:]

    def check(self, messages, home, ring):
        ended_for_sure = {n for n, i in self.confirmed if i == Send.END}
        ended_perhaps = {n for n, i in self.asked if i == Send.END}
        lost = self.accepted - ended_perhaps - set(messages)
        assert not lost, f"accepted, not ended, and lost: {lost}"
        back = set(messages) & ended_for_sure
        assert not back, f"back after the end was confirmed: {back}"
        for number, message in messages.items():
            body = self.bodies.get(message.sender)
            assert body is not None, f"{number}: a message that nobody submitted, from {message.sender}"
            octets = message.octets(home, ring)
            assert len(octets) == message.size
            assert octets.split(b"\n", 1)[1] == body, f"{number} is damaged"
            for index in range(message.recipients):
                done = index not in message.states or message.states[index] == b"D"
                if (number, index) in self.confirmed:
                    assert done, f"{number}: recipient {index} is to do again after it was confirmed"
                elif (number, index) not in self.asked:
                    assert not done, f"{number}: recipient {index} was never reported"


def run_and_record(tree, record, log):
    """A busy keeper: small and large messages, outcomes, ends, deferrals. Returns the bodies by sender."""
    rng = random.Random(7)
    bodies = {}
    keeper = Keeper(tree, env={"LD_PRELOAD": str(record), "CRASH_RECORD": str(log)})
    send, submitters = Send(keeper.home), [Submitter(keeper.home) for _ in range(3)]
    send.list()
    with open(log, "a", buffering=1) as said:
        def ask(what, number, index, *more):
            said.write(f"ask {number} {index}\n")
            getattr(send, what)(*((number, index) if index != Send.END else (number,)), *more)

        for n in range(MESSAGES):
            sender = b"s%d@example" % n
            size = rng.choice((10, 3000, 40000, 70000, 100000)) if n % 20 else 300000
            bodies[sender] = b"n %d\n" % n + bytes([65 + n % 26]) * size
            code, number = rng.choice(submitters).submit(bodies[sender], sender, [b"r%d@x" % i for i in range(rng.choice((1, 1, 3)))])
            assert code == 0
            while number not in send.messages:
                send.take(send.get())
            # the fates of all that live
            for number in rng.sample(sorted(send.messages), min(3, len(send.messages))):
                message = send.messages[number]
                left = [i for i, state in message.states.items() if state == b"T"]
                fate = rng.random()
                if fate < 0.3:
                    send.deferred(number)
                elif fate < 0.5 and left:
                    result = rng.choice((b"K", b"D"))
                    message.states[left[0]] = b"D"
                    ask("done", number, left[0], result, b"text" if result == b"D" else b"")
                elif fate < 0.75:
                    ask("end", number, Send.END)
                    del send.messages[number]
            send.take_waiting()
    keeper.kill()
    return bodies


def snapshot(tree):
    """A ring that exists, so that its making is not recorded."""
    Keeper(tree).stop()
    return Disk(tree.home / "queue")


def look_at(tree, disk, history, choose, goes_on):
    """Starts the keeper on what a power cut leaves of disk, and checks it against history."""
    shutil.rmtree(tree.home / "queue")
    (tree.home / "keeper.log").unlink(missing_ok=True)
    disk.build(tree.home, choose)
    tree.own(tree.home / "queue")
    keeper = Keeper(tree)
    try:
        send = Send(keeper.home)
        messages = send.list()
        ring = next((tree.home / "queue/journal").iterdir()).read_bytes()
        history.check(messages, keeper.home, ring)
        alerts = [line for line in keeper.log.read_text().splitlines() if "alert" in line]
        assert not alerts
        if goes_on:
            go_on(tree, keeper, send)
    finally:
        keeper.stop()


def go_on(tree, keeper, send):
    """The queue works on: a new message, and at the end nothing is left."""
    code, number = Submitter(keeper.home).submit(b"new\n", b"new@example", [b"r@x"])
    assert code == 0
    while number not in send.messages:
        send.take(send.get())
    for number in send.messages:
        send.end(number)
    for number in send.messages:
        send.wait_confirmed(number, Send.END)
    wait_for(lambda: not any(p.is_file() for kind in ("mess", "info", "new") for p in (tree.home / "queue" / kind).rglob("*")),
             what="the queue to be empty")
    assert not list((tree.home / "queue/damaged").iterdir())


@pytest.fixture(scope="session")
def recorded(installation, recorder):
    """(initial disk as a function, lines of the record, bodies)"""
    top = new_directory()
    tree = make_tree(installation, Tree, top / "tambo")
    tree.need("qmail-queued")
    log = tree.write("record", b"")
    snapshot(tree)
    shutil.copytree(tree.home / "queue", top / "first", ignore=lambda d, names: [n for n in names if n == "qmail-send"])
    bodies = run_and_record(tree, recorder, log)
    lines = log.read_text().splitlines()
    assert sum(line.startswith("syncdir") for line in lines) > 20, "no files were made: nothing to test"
    yield top, lines, bodies
    shutil.rmtree(top)


def first_disk(top):
    shutil.rmtree(top / "queue", ignore_errors=True)
    shutil.copytree(top / "first", top / "queue")
    return Disk(top / "queue")


@pytest.mark.parametrize("part", range(3))
def test_power_cut(recorded, tree, part):
    top, lines, bodies = recorded
    rng = random.Random(part)
    disk, history = first_disk(top), History(bodies)
    moments = sorted(rng.sample(range(len(lines)), min(len(lines), STATES // 3)))
    at = 0
    for count, moment in enumerate(moments):
        while at <= moment:
            disk.apply(lines[at])
            history.apply(lines[at])
            at += 1
        choose = ("none", "all", random.Random(moment))[part]
        try:
            look_at(tree, disk, history, choose, goes_on=count % 10 == 0)
        except AssertionError as e:
            raise AssertionError(f"power cut after line {moment} of {len(lines)} ({lines[moment][:80]}), part {part}: {e}") from e


@pytest.mark.parametrize("forget", ["flush", "syncdir"])
def test_the_check_finds_a_forgotten_flush(recorded, tree, forget):
    """The same with a record from which every flush of one kind is taken out, at the moment when most is at stake."""
    top, lines, bodies = recorded
    history, most, moment = History(bodies), 0, 0
    for at, line in enumerate(lines):
        history.apply(line)
        live = len(history.accepted - {n for n, i in history.asked if i == Send.END})
        if live >= most:
            most, moment = live, at
    assert most > 10
    disk, history = first_disk(top), History(bodies)
    for line in lines[:moment]:
        history.apply(line)
        if not line.startswith(f"{forget} "):
            disk.apply(line)
    with pytest.raises(AssertionError):
        look_at(tree, disk, history, "none", goes_on=False)
