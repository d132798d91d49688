"""Crash states: runs of the real programs are recorded (record.c), the disks that a power cut could have left are built
(disk.py), and the real programs are started on each.

    crash.py [-n STATES] [-s SEED] [-w WORLD] [-j JOBS] [-p PART/PARTS] [-k DIRECTORY] [-o STATE]

WORLD is keeper (a busy qmail-queued, spoken to by the test) or chain (all of them, from the submitter to maildir and mbox).
Says how many states it saw, and how many distinct ones; exit code 3 if one of them broke a promise, which it says by its
number. With -k the run is kept; then -k and -o look at that state again, and put its files beside the run."""
import argparse
import os
import pathlib
import pickle
import random
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
import pytest  # noqa: E402
from conftest import HOST, SOURCE, Server, Tree, make_tree, new_installation, pytest_configure, wait_for  # noqa: E402
from disk import Disk  # noqa: E402
from keeper_peer import Send, Submitter  # noqa: E402
from parts import in_parts  # noqa: E402

RING_MIB = 8
WORLDS = ("keeper", "chain")
MESSAGES = {"keeper": 60, "chain": 60}	# of a run
SHARE = {"keeper": 0.7, "chain": 0.3}	# of the states
STATES = 25000	# distinct ones
STATES_MIN = 20000	# fewer of them, where as many as STATES are asked for, are an error
SERVED = 1000	# the whole server is started at each so many-th state
EXIT_BROKEN = 3	# and 1 if the test itself fails
SAID_MAX = 20	# broken promises of a world that are said


def build_recorder(top):
    path = top / "recorder"
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-o", path, SOURCE / "tests/crash/record.c", SOURCE / "tests/tracer.c"],
                   check=True)
    path.chmod(0o755)
    return path


class Keeper:
    """A keeper of a tree, with small ring. recorder: (program, log)."""

    def __init__(self, tree, recorder=None):
        self.tree = tree
        ours, theirs = os.pipe()
        self.log = tree.home / "keeper.log"
        command = [tree.bin / "qmail-queued", "-d", theirs, "-r", RING_MIB]
        if recorder:
            command = [*recorder, tree.home, *command]
        with open(self.log, "wb") as log:
            self.process = tree.popen(str(command[0]), *command[1:], pass_fds=[theirs], stderr=log)
        os.close(theirs)
        ready = os.read(ours, 1)
        os.close(ours)
        if ready != b"\n":
            self.process.wait()
            raise Broken(f"the keeper did not start: {self.log.read_text()}")
        self.home = os.open(tree.home, os.O_PATH)

    def kill(self):
        os.close(self.home)
        self.process.kill()
        self.process.wait()

    def stop(self):
        os.close(self.home)
        self.process.terminate()
        assert self.process.wait(20) == 0


class Broken(Exception):
    """A promise was not kept."""


# --- runs -------------------------------------------------------------------------------------------------------------


class Recording:
    """A run: the files before it, the lines of the record, the bodies of what was submitted by sender, which is unique, and
    the senders by number; later: senders whose message cannot be delivered."""

    def __init__(self, world, first, log, bodies, senders, later):
        self.world, self.first, self.bodies, self.senders, self.later = world, first, bodies, senders, later
        self.lines = [line.split(" ") for line in log.read_text().splitlines()]

    def first_disk(self):
        return Disk(self.first)


def files_of(tree):
    """The disk before a run: (path, inode, octets)."""
    paths = [p for folder in ("queue", "home") for p in sorted((tree.home / folder).rglob("*")) if p.is_file()]
    return [(str(p.relative_to(tree.home)), str(p.stat().st_ino), p.read_bytes()) for p in paths]


def nearly_turn(tree):
    """Fills the ring nearly to its end, so that the run goes over it."""
    keeper = Keeper(tree)
    send, submitter = Send(keeper.home), Submitter(keeper.home)
    send.list()
    for i in range(RING_MIB * 4 - 3):
        code, number = submitter.submit(b"x" * 255000, b"first@example", [b"r@x"])
        assert code == 0
        send.end(number)
        if i % 8 == 7:
            send.wait_confirmed(number, Send.END)
    send.wait_confirmed(number, Send.END)
    keeper.stop()


def run_keeper(tree, recorder, messages):
    """Small and large messages, outcomes, ends, deferrals. Returns the bodies by sender, and the senders by number."""
    rng = random.Random(7)
    bodies, senders = {}, {}
    keeper = Keeper(tree, recorder)
    send, submitters = Send(keeper.home), [Submitter(keeper.home) for _ in range(3)]
    send.list()
    with open(recorder[1], "a", buffering=1) as said:
        def ask(what, number, index, *more):
            said.write(f"ask {number} {index}\n")
            getattr(send, what)(*((number, index) if index != Send.END else (number,)), *more)

        for n in range(messages):
            sender = b"s%d@example" % n
            size = rng.choice((10, 3000, 10000, 20000, 70000)) if n % 20 != 1 else 300000
            bodies[sender] = b"n %d\n" % n + bytes([65 + n % 26]) * size + b"\nend of %d\n" % n
            code, number = rng.choice(submitters).submit(bodies[sender], sender, [b"r%d@x" % i for i in range(rng.choice((1, 1, 3)))])
            assert code == 0
            senders[number] = sender
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
    return bodies, senders, set()


def ends_confirmed(log):
    """The numbers of the messages of a chain run whose ends were confirmed, by its record so far."""
    so_far = Recording("chain", [], log, {}, {}, set())
    history = History(so_far)
    for verb, *words in so_far.lines:
        history.apply(verb, words)
    return {number for number, index in history.confirmed if index == Send.END}


def run_chain(tree, recorder, messages):
    """The whole server under one recorder: into a maildir, an mbox, and to somebody who cannot be reached now."""
    rng = random.Random(8)
    tree.write("home/luis/.qmail", "./Mailbox\n", 0o600)
    tree.write("home/ana/.qmail-later", "|exit 111\n", 0o600)
    first, senders, later = files_of(tree), {}, set()
    script = 'qmail-queued -d "$1" -r "$2" & exec qmail-start -d "$3" ./Maildir/'
    bodies, pipes = {}, [os.pipe(), os.pipe()]
    with open(recorder[1].parent / "log", "wb") as log:
        process = tree.popen(*map(str, (*recorder, tree.home, "/bin/sh", "-c", script, "sh", pipes[0][1], RING_MIB, pipes[1][1])),
                             pass_fds=[w for _, w in pipes], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    for ours, theirs in pipes:
        os.close(theirs)
        assert os.read(ours, 1) == b"\n", (recorder[1].parent / "log").read_text()
        os.close(ours)
    home = os.open(tree.home, os.O_PATH)
    submitters = [Submitter(home) for _ in range(4)]
    for n in range(0, messages, len(submitters)):
        for i, submitter in enumerate(submitters):	# at once: batches of the keeper, and of a maildir
            sender = b"s%d@example" % (n + i)
            bodies[sender] = b"Subject: %d\n\n" % (n + i) + bytes([65 + (n + i) % 26]) * rng.choice((10, 5000, 20000)) + b"\nend of %d\n" % (n + i)
            if n + i == 5:
                bodies[sender] += b"large" * 60000 + b"\n"
            to = rng.choice((b"ana", b"ana", b"ana", b"luis", b"ana-later"))
            later |= {sender} if to == b"ana-later" else set()
            submitter.put_message(bodies[sender], sender, [to + b"@" + HOST.encode()])
        for i, submitter in enumerate(submitters):
            code, number = submitter.answer()
            assert code == 0
            senders[number] = b"s%d@example" % (n + i)
    os.close(home)
    log = recorder[1].parent / "log"
    wait_for(lambda: log.read_text().count("success: ") + log.read_text().count("deferral: ") >= messages,
             what=f"{messages} deliveries:\n{log.read_text()[-2000:]}")
    # what was delivered is forgotten for good: only after that a forgotten flush of a mailbox loses it
    wait_for(lambda: len(ends_confirmed(recorder[1])) >= messages - len(later), what="the ends in the queue")
    process.kill()
    process.wait()
    return first, bodies, senders, later


def record(installation, world, top, messages):
    """A run of the world, below top."""
    top.mkdir(exist_ok=True)
    top.chmod(0o755)
    tree = make_tree(installation, Tree, top / "tambo")
    recorder = build_recorder(top), tree.write("../record", b"")
    if world == "keeper":
        nearly_turn(tree)
        first = files_of(tree)
        made = run_keeper(tree, recorder, messages)
    else:
        first, *made = run_chain(tree, recorder, messages)
    return Recording(world, first, recorder[1], *made)


# --- promises ---------------------------------------------------------------------------------------------------------


class History:
    """What a run asked for and was promised, up to a line of the record."""

    def __init__(self, recording):
        self.senders, self.world = recording.senders, recording.world
        self.accepted = set()		# numbers answered with 0
        self.asked, self.confirmed = set(), set()	# (number, index)

    def apply(self, verb, words):
        """True if a promise was made."""
        if verb == "ask":
            self.asked.add((int(words[0]), int(words[1])))
        elif verb == "send" and words[0] == "qmail-send" and self.world == "chain":
            for kind, payload in frames(bytes.fromhex(words[1])):
                if kind == b"D" and len(payload) >= 13 or kind == b"X" and len(payload) == 8:
                    index = int.from_bytes(payload[8:12], "big") if kind == b"D" else Send.END
                    self.asked.add((int.from_bytes(payload[:8], "big"), index))
        elif verb == "send" and words[0] == "qmail-queued":
            return self.said(bytes.fromhex(words[1]))
        return False

    def said(self, octets):
        before = len(self.accepted), len(self.confirmed)
        if len(octets) == 22 and octets[:5] == b"\0\0\0\x11R":
            if octets[5] == 0:
                self.accepted.add(int.from_bytes(octets[6:14], "big"))
        else:
            for kind, payload in frames(octets):
                if kind == b"C" and len(payload) == 12:
                    self.confirmed.add((int.from_bytes(payload[:8], "big"), int.from_bytes(payload[8:], "big")))
        return before != (len(self.accepted), len(self.confirmed))

    def check(self, found, delivered):
        """found: messages by number, as the keeper lists them; delivered: senders of what lies whole in a mailbox."""
        ended_for_sure = {n for n, i in self.confirmed if i == Send.END}
        ended_perhaps = {n for n, i in self.asked if i == Send.END}
        lost = self.accepted - ended_perhaps - set(found)
        if lost:
            raise Broken(f"accepted, not ended, and lost: {sorted(lost)}")
        back = set(found) & ended_for_sure
        if back:
            raise Broken(f"back after the end was confirmed: {sorted(back)}")
        for number, message in found.items():
            for index in range(message.recipients):
                done = index not in message.states or message.states[index] == b"D"
                if (number, index) in self.confirmed and not done:
                    raise Broken(f"{number}: recipient {index} is to do again after it was confirmed")
                if (number, index) not in self.asked and done:
                    raise Broken(f"{number}: recipient {index} was never reported")
        if delivered is not None:
            self.check_delivered(found, delivered)

    def check_delivered(self, found, delivered):
        for number in self.accepted:
            to_do = number in found and b"T" in found[number].states.values()
            if not to_do and self.senders[number] not in delivered:
                raise Broken(f"{number}, from {self.senders[number]}, was accepted, and is neither to do nor delivered")


def frames(octets):
    while len(octets) >= 5:
        size = int.from_bytes(octets[:4], "big")
        yield octets[4:5], octets[5:5 + size]
        octets = octets[5 + size:]


def mailboxes(names, content, bodies):
    """Senders of what lies whole in maildir and mbox. A damaged file in a maildir's new/ is a broken promise; at the end of
    an mbox, where no delivery was reported, it cannot be helped."""
    delivered = set()
    for path in names:
        if path.startswith("home/ana/Maildir/new/"):
            octets = bytes(content(path))
            sender = octets[octets.find(b"<") + 1:octets.find(b">")]
            if not octets.startswith(b"Return-Path: <") or sender not in bodies or not octets.endswith(bodies[sender]):
                raise Broken(f"{path} is not a whole message: {octets[:100]} ({len(octets)} octets)")
            delivered.add(sender)
        elif path == "home/luis/Mailbox":
            octets = b"\n" + bytes(content(path))
            delivered |= {sender for sender, body in bodies.items() if b"\nFrom " + sender in octets and body in octets}
    return delivered


# --- looking at a state -----------------------------------------------------------------------------------------------


class Checker:
    """A tree in which the keeper is started on one state after another."""

    def __init__(self, tree, bodies):
        self.tree, self.bodies, self.starts = tree, bodies, 0
        self.folders = ["queue", *(str(p.relative_to(tree.home)) for p in (tree.home / "queue").rglob("*") if p.is_dir())]

    def build(self, state, below="queue/"):
        home = f"{self.tree.home}/"
        for folder in self.folders:
            with os.scandir(home + folder) as entries:
                for entry in entries:
                    if not entry.is_dir() and entry.path[len(home):] not in state.names:
                        os.unlink(entry.path)
        for path in state.names:
            if path.startswith(below):
                fd = os.open(home + path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
                state.names[path].write_to(fd, state.choices.get(state.names[path], "all"))
                os.fchown(fd, self.tree.uid, self.tree.gid)
                os.close(fd)

    def start(self, state):
        """The messages by number that the keeper lists on this state, or what was broken, as an exception."""
        self.build(state)
        self.starts += 1
        keeper = None
        try:
            keeper = Keeper(self.tree)
            send = Send(keeper.home)
            found = dict(send.list())
            self.read(found, keeper)
            self.work_on(keeper, send)
            alerts = [line for line in keeper.log.read_text().splitlines() if "alert" in line]
            return Broken(f"{alerts}") if alerts else found
        except (Broken, EOFError, OSError) as e:
            return e if isinstance(e, Broken) else Broken(repr(e))
        finally:
            if keeper:
                keeper.kill()

    def read(self, found, keeper):
        """Every message is as it was submitted."""
        with open(next((self.tree.home / "queue/journal").iterdir()), "rb") as ring:
            for number, message in found.items():
                body = self.bodies.get(message.sender)
                if body is None:
                    raise Broken(f"{number}: a message that nobody submitted, from {message.sender}")
                octets = message.octets(keeper.home, ring.fileno())
                if len(octets) != message.size or octets.split(b"\n", 1)[-1] != body:
                    raise Broken(f"{number} is damaged")

    def work_on(self, keeper, send):
        """The queue works on: a new message, and when all have ended no file is left. The ends are in the batch of another
        message: by themselves they would wait for one."""
        submitter = Submitter(keeper.home)
        self.submit(submitter, send)
        ending = list(send.messages)
        for number in ending:
            send.end(number)
        self.submit(submitter, send)
        for number in ending:
            send.wait_confirmed(number, Send.END)
        end = time.monotonic() + 20
        folders = [f for f in self.folders if f.startswith(("queue/mess", "queue/info", "queue/new"))]
        while any(self.has_files(folder) for folder in folders):
            if time.monotonic() > end:
                raise Broken("what ended is not removed")
            time.sleep(0.001)
        if os.listdir(self.tree.home / "queue/damaged"):
            raise Broken("something was set aside as damaged")


    def submit(self, submitter, send):
        code, number = submitter.submit(b"new\n", b"new@example", [b"r@x"])
        if code:
            raise Broken(f"a new message was refused: {code}")
        while number not in send.messages:
            send.take(send.get())

    def has_files(self, folder):
        with os.scandir(self.tree.home / folder) as entries:
            return any(not entry.is_dir() for entry in entries)


class Summary:
    def __init__(self):
        self.states, self.distinct, self.starts, self.served, self.broken = 0, set(), 0, 0, []

    def add(self, other):
        self.states, self.starts = self.states + other.states, self.starts + other.starts
        self.distinct |= other.distinct
        self.broken += other.broken

    def __str__(self):
        served = f", {self.served} of the whole server" if self.served else ""
        return f"{self.states} states, {len(self.distinct)} distinct, {self.starts} starts{served}, {len(self.broken)} broken"


def walk(recording, seed=0):
    """Every state that a power cut at each moment can leave: (number, line, state, history). A moment at which a promise was
    made has the states of the one before."""
    disk, history = recording.first_disk(), History(recording)
    count, changed = 0, 0
    for at, (verb, *words) in enumerate(recording.lines):
        promised = history.apply(verb, words)
        if disk.apply(verb, words):
            changed = at
        elif not promised:
            continue
        for state in disk.states(seed * 1000003 + changed):
            yield count, at, state, history
            count += 1


def look(recording, tree, wanted, seed=0, stop=None):
    """Looks at the states that are wanted; a queue that was seen before is not started again. stop: at so many broken."""
    checker, summary, results, boxes = Checker(tree, recording.bodies), Summary(), {}, {}
    for number, at, state, history in walk(recording, seed):
        if not wanted(number, state):
            continue
        summary.states += 1
        summary.distinct.add(state.key())
        key = state.key("queue/")
        if key not in results:
            results[key] = checker.start(state)
        try:
            if isinstance(results[key], Broken):
                raise results[key]
            if recording.world == "chain" and state.key("home/") not in boxes:
                boxes[state.key("home/")] = mailboxes(state.names, state.content, recording.bodies)
            history.check(results[key], boxes.get(state.key("home/")))
        except Broken as e:
            summary.broken.append(f"state {number}, a power cut after line {at} ({' '.join(recording.lines[at])[:80]}): {e}")
            if stop and len(summary.broken) >= stop:
                break
    summary.starts = checker.starts
    return summary


def evenly(recording, count, seed=0):
    """For look(): as many states, evenly chosen from all."""
    total = sum(1 for _ in walk(recording, seed))
    chosen = {total * i // count for i in range(count)} if total > count else range(total)
    return lambda number, state: number in chosen


def distinct(recording, count, seed=0, part=0, parts=1):
    """For look(): as many distinct states, evenly chosen, at every moment at which they are possible; of these a part."""
    keys = list(dict.fromkeys(state.key() for _, _, state, _ in walk(recording, seed)))
    chosen = [keys[len(keys) * i // count] for i in range(count)] if len(keys) > count else keys
    mine = set(chosen[part::parts])
    return lambda number, state: state.key() in mine


# --- all programs on a state ---------------------------------------------------------------------------------------------


def serve(recording, server, state, history):
    """Starts all programs of a server whose queue and homes are empty on a state of chain: every message arrives, whole."""
    home = server.home
    for path in state.names:
        server.write(path, bytes(state.content(path)), 0o600)
    expected = {recording.senders[n] for n in history.accepted} - recording.later

    def arrived():
        paths = [str(p.relative_to(home)) for p in (home / "home").rglob("*") if p.is_file()]
        try:
            return expected <= mailboxes(paths, lambda path: (home / path).read_bytes(), recording.bodies)
        except FileNotFoundError:
            return False

    server.start()
    wait_for(arrived, what=f"every message that was accepted:\n{server.log()[-2000:]}")
    server.stop()
    if "alert" in server.log() + server.log("qmail-queued"):
        raise Broken(server.log() + server.log("qmail-queued"))


def serve_some(recording, installation, top, count, seed, summary):
    """serve() at as many moments, evenly chosen."""
    wanted = evenly(recording, count, seed)
    for number, at, state, history in walk(recording, seed):
        if not wanted(number, state):
            continue
        server = make_tree(installation, Server, top / f"serve.{number}" / "tambo")
        try:
            serve(recording, server, state, history)
        except (Broken, pytest.fail.Exception) as e:
            summary.broken.append(f"state {number}, all programs started after a power cut after line {at}: {e}")
            server.stop()
        shutil.rmtree(top / f"serve.{number}")
        summary.served += 1


# --- the program ------------------------------------------------------------------------------------------------------


def look_with(jobs, recording, installation, top, wanted, **more):
    """The same by several processes, each with a tree of its own."""
    def one(part):
        tree = make_tree(installation, Tree, top / f"look.{recording.world}.{part}")
        return look(recording, tree, lambda number, state: state.key()[0] % jobs == part and wanted(number, state), **more)

    if jobs == 1:
        return one(0)
    summary = Summary()
    for its in in_parts(jobs, one):
        summary.add(its)
    return summary


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("-n", type=int, default=STATES, help=f"distinct states, {STATES} unless told")
    words.add_argument("-s", type=int, default=0, help="seed of what is chosen at random")
    words.add_argument("-w", choices=WORLDS, action="append", help="this world only")
    words.add_argument("-j", type=int, default=os.cpu_count(), help="processes")
    words.add_argument("-p", default="1/1", help="PART/PARTS of the states")
    words.add_argument("-m", type=int, help="messages of a run")
    words.add_argument("-k", help="keep the record of the run in this directory, or look at the one that is there")
    words.add_argument("--first", action="store_true", help="end at the first that is broken")
    words.add_argument("-o", type=int, help="only the state of this number")
    asked = words.parse_args()
    part, parts = map(int, asked.p.split("/"))
    broken = seen = 0
    pytest_configure()
    with new_installation() as (installation, top):
        for world in asked.w or WORLDS:
            began = time.monotonic()
            recording = kept(asked.k, world, lambda: record(installation, world, top / world, asked.m or MESSAGES[world]))
            count = int(asked.n * SHARE[world]) if not asked.w else asked.n
            if asked.o is None:
                wanted = distinct(recording, count, asked.s, part - 1, parts)
            else:
                def wanted(number, _):
                    return number == asked.o
            summary = look_with(asked.j if asked.o is None else 1, recording, installation, top, wanted, seed=asked.s,
                                stop=1 if asked.first else None)
            if asked.o is not None and asked.k:
                put_files(recording, asked.s, asked.o, pathlib.Path(asked.k) / f"{world}.{asked.o}")
            if world == "chain" and asked.o is None and not asked.first:
                serve_some(recording, installation, top, asked.n // SERVED, asked.s, summary)
            for line in summary.broken[:SAID_MAX]:
                print(f"{world}: {line}")
            assert summary.states, "no such state"
            print(f"{world}: {summary}, {time.monotonic() - began:.0f} seconds", flush=True)
            broken += len(summary.broken)
            seen += len(summary.distinct)
    is_whole = asked.n >= STATES and parts == 1 and not (asked.w or asked.m or asked.first or asked.o is not None)
    assert not is_whole or seen >= STATES_MIN, f"{seen} distinct states, fewer than {STATES_MIN}"
    return EXIT_BROKEN if broken else 0


def put_files(recording, seed, only, folder):
    for number, _, state, _ in walk(recording, seed):
        if number == only:
            for path in state.names:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(state.content(path))
            return


def kept(folder, world, make):
    """A recording is kept whole: its numbers and contents are of that run only."""
    path = folder and pathlib.Path(folder) / world
    if path and path.exists():
        return pickle.loads(path.read_bytes())
    recording = make()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(recording))
    return recording


if __name__ == "__main__":
    sys.exit(main())
