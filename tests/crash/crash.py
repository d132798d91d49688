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
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
import pytest  # noqa: E402
from conftest import HOST, SOURCE, Server, Tree, make_tree, new_installation, pytest_configure, wait_for  # noqa: E402
from disk import Disk  # noqa: E402
from keeper_peer import Send, Submitter  # noqa: E402
from parts import in_parts  # noqa: E402
from reader import BOUNCE, COPY, REPORT, label_of, maildir_label, mbox_labels  # noqa: E402

RING_MIB = 8
WORLDS = ("keeper", "chain")
MESSAGES = {"keeper": 60, "chain": 48}	# of a run
SHARE = {"keeper": 0.7, "chain": 0.3}	# of the states
STATES = 25000	# distinct ones
STATES_MIN = 20000	# fewer of them, where as many as STATES are asked for, are an error
SERVED = 250	# the whole server is started at one of so many states
EXIT_BROKEN = 3	# and 1 if the test itself fails
SAID_MAX = 20	# broken promises of a world that are said

QUOTA, QUOTA_DOMAIN = "100000000S,10000C", "quota.example"
# Where the messages of a chain go, in turn.
KINDS = ("maildir", "maildir", "nobody", "mbox", "maildir", "notify", "forward", "mbox",
         "quota", "quota", "maildir", "later", "maildir", "mbox", "nobody", "notify")
ADDRESSES = {"maildir": f"ana@{HOST}", "mbox": f"luis@{HOST}", "later": f"ana-later@{HOST}", "nobody": f"luis-nobody@{HOST}",
             "forward": f"ana-forward@{HOST}", "quota": f"kim@{QUOTA_DOMAIN}", "notify": f"ana@{HOST}"}
MBOX, MAILDIRSIZE = "home/luis/Mailbox", "home/kim/Maildir/maildirsize"
NEXT, NEXT_BODY = b"next@example", b"Subject: next\n\nFirst.\nLast.\n"	# of one that is delivered to a state
RETURNS = ("nobody", "notify")	# those whose sender hears of them


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
    """A run: the files before it, the lines of the record, and the bodies of what was submitted by sender, which is unique. Of a
    chain: owed, the labels (reader.py) that have to be in mailboxes at the end for a message of a label, and labels, that of each
    number; later: the label of what cannot be delivered."""

    def __init__(self, world, first, log, bodies, owed=(), labels=(), later=()):
        self.world, self.first, self.bodies = world, first, bodies
        self.owed, self.labels, self.later = dict(owed), dict(labels), set(later)
        self.lines = [line.split(" ") for line in log.read_text().rpartition("\n")[0].splitlines()]

    def owed_for(self, label):
        return self.owed.get(label, {label})

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
    """Small and large messages, outcomes, ends, deferrals. Returns the bodies by sender."""
    rng = random.Random(7)
    bodies = {}
    keeper = Keeper(tree, recorder)
    send, submitters = Send(keeper.home), [Submitter(keeper.home) for _ in range(3)]
    send.list()
    with open(recorder[1], "a", buffering=1) as said:
        def ask(what, number, index, *more):
            said.write(f"ask {number} {index} {more[0].decode() if more else 'X'}\n")
            getattr(send, what)(*((number, index) if index != Send.END else (number,)), *more)

        for n in range(messages):
            sender = b"s%d@example" % n
            size = rng.choice((10, 3000, 10000, 20000, 70000)) if n % 20 != 1 else 300000
            bodies[sender] = b"n %d\n" % n + bytes([65 + n % 26]) * size + b"\nend of %d\n" % n
            code, number = rng.choice(submitters).submit(bodies[sender], sender, [b"r%d@x" % i for i in range(rng.choice((1, 1, 3)))])
            assert code == 0
            while number not in send.messages:
                send.take(send.get())
            # the fates of all that live
            for number in rng.sample(sorted(send.messages), min(3, len(send.messages))):
                message = send.messages[number]
                left = [i for i, state in message.states.items() if state in b"TS"]
                fate = rng.random()
                if fate < 0.3:
                    send.deferred(number)
                elif fate < 0.5 and left:
                    result = rng.choice((b"K", b"D", b"S")) if message.states[left[0]] == b"T" else b"K"
                    message.states[left[0]] = result
                    ask("done", number, left[0], result, b"" if result == b"K" else b"text")
                elif fate < 0.75:
                    ask("end", number, Send.END)
                    del send.messages[number]
            send.take_waiting()
    keeper.kill()
    return (bodies,)


def live(log):
    """How many messages of a chain run were accepted and did not end for sure, by its record so far."""
    so_far = Recording("chain", [], log, {})
    history = History(so_far)
    for verb, *words in so_far.lines:
        history.apply(verb, words)
    return len(history.accepted - history.ended_for_sure())


def add_quota(tree):
    """An account with a quota."""
    tree.write("users/accounts", f"kim@{QUOTA_DOMAIN}:*:{tree.uid}:{tree.gid}:home/kim:{QUOTA}:\n", 0o600)
    tree.write("control/virtualdomains", f"{QUOTA_DOMAIN}:{QUOTA_DOMAIN}\n")
    tree.run("qmail-newaccounts", check=True)
    for name in ("tmp", "new", "cur"):
        (tree.home / "home/kim/Maildir" / name).mkdir(parents=True, mode=0o700)
    tree.own(tree.home / "home/kim")


def made_of(log, labels):
    """The labels of what the server submitted itself, by number: its log says what they were made of."""
    made = {}
    for word, number, its in re.findall(r"^(bounce|report) msg (\d+) qp (\d+)$", log, re.M):
        made[int(its)] = {"bounce": BOUNCE, "report": REPORT}[word] + labels[int(number)]
    started = dict(re.findall(r"^starting delivery (\d+): msg (\d+) ", log, re.M))
    for delivery, its in re.findall(r"^delivery (\d+): success: did_0\+1\+0/qp_(\d+)/$", log, re.M):
        made[int(its)] = COPY + labels[int(started[delivery])]
    return made


def made_for(kind, sender):
    """The labels of what a message of a kind leads to in mailboxes."""
    return {"nobody": {BOUNCE + sender}, "forward": {COPY + sender}, "notify": {sender, REPORT + sender}}.get(kind, {sender})


def run_chain(tree, recorder, messages):
    """The whole server under one recorder: into maildirs, one of them with a quota, into an mbox, on to another address, to
    somebody who cannot be reached now, to nobody, and to one whose sender wants to be told of it."""
    rng = random.Random(8)
    add_quota(tree)
    tree.write("home/luis/.qmail", "./Mailbox\n", 0o600)
    tree.write("home/luis/.qmail-copy", "./Maildir/\n", 0o600)
    tree.write("home/ana/.qmail-later", "|exit 111\n", 0o600)
    tree.write("home/ana/.qmail-forward", f"&luis-copy@{HOST}\n", 0o600)
    tree.write("home/ana/.qmail-back-default", "./Maildir/\n", 0o600)
    first, owed, labels = files_of(tree), {}, {}
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
        senders = []
        for i, submitter in enumerate(submitters, n):	# at once: batches of the keeper, and of a maildir
            kind = KINDS[i % len(KINDS)]
            sender = (f"ana-back-{i}@{HOST}" if kind in RETURNS else f"s{i}@example").encode()
            bodies[sender] = b"Subject: %d\n\n" % i + bytes([65 + i % 26]) * rng.choice((10, 5000, 20000)) + b"\nend of %d\n" % i
            if i == 5:
                bodies[sender] += b"large" * 60000 + b"\n"
            owed[sender] = made_for(kind, sender)
            submitter.put_message(bodies[sender], sender, [ADDRESSES[kind].encode() + b"\0PNOTIFY=SUCCESS" * (kind == "notify")])
            senders.append(sender)
        for submitter, sender in zip(submitters, senders):
            code, number = submitter.answer()
            assert code == 0
            labels[number] = sender
    os.close(home)
    log = recorder[1].parent / "log"
    kinds = [KINDS[i % len(KINDS)] for i in range(len(labels))]
    later = {label for label, kind in zip(owed, kinds) if kind == "later"}
    made = sum(kind in (*RETURNS, "forward") for kind in kinds)
    wait_for(lambda: len(made_of(log.read_text(), labels)) == made and log.read_text().count("deferral: ") >= len(later),
             what=f"{messages} deliveries:\n{log.read_text()[-2000:]}")
    # what was delivered is forgotten for good: only after that a forgotten flush of a mailbox loses it
    wait_for(lambda: live(recorder[1]) == len(later), what="the ends in the queue")
    process.kill()
    process.wait()
    return first, bodies, owed, {**labels, **made_of(log.read_text(), labels)}, later


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
        self.recording = recording
        self.accepted = set()		# numbers answered with 0
        self.asked = {}			# (number, index): outcomes, in order
        self.confirmed = {}		# (number, index): how many of these

    def ask(self, number, index, outcome):
        self.asked.setdefault((number, index), []).append(outcome)

    def ended_for_sure(self):
        return {n for n, i in self.confirmed if i == Send.END}

    def apply(self, verb, words):
        """True if a promise was made."""
        if verb == "ask":
            self.ask(int(words[0]), int(words[1]), words[2].encode())
        elif verb == "send" and words[0] == "qmail-send" and self.recording.world == "chain":
            for kind, payload in frames(bytes.fromhex(words[1])):
                if kind == b"D" and len(payload) >= 13:
                    self.ask(int.from_bytes(payload[:8], "big"), int.from_bytes(payload[8:12], "big"), payload[12:13])
                elif kind == b"X" and len(payload) == 8:
                    self.ask(int.from_bytes(payload, "big"), Send.END, b"X")
        elif verb == "send" and words[0] == "qmail-queued":
            return self.said(bytes.fromhex(words[1]))
        return False

    def said(self, octets):
        before = len(self.accepted), sum(self.confirmed.values())
        if len(octets) == 22 and octets[:5] == b"\0\0\0\x11R":
            if octets[5] == 0:
                self.accepted.add(int.from_bytes(octets[6:14], "big"))
        else:
            for kind, payload in frames(octets):
                if kind == b"C" and len(payload) == 12:
                    which = int.from_bytes(payload[:8], "big"), int.from_bytes(payload[8:], "big")
                    self.confirmed[which] = self.confirmed.get(which, 0) + 1
        return before != (len(self.accepted), sum(self.confirmed.values()))

    def check(self, found, delivered):
        """found: messages by number, as the keeper lists them; delivered: labels of what lies whole in a mailbox."""
        ended_perhaps = {n for n, i in self.asked if i == Send.END}
        lost = self.accepted - ended_perhaps - set(found)
        if lost:
            raise Broken(f"accepted, not ended, and lost: {sorted(lost)}")
        back = set(found) & self.ended_for_sure()
        if back:
            raise Broken(f"back after the end was confirmed: {sorted(back)}")
        for number, message in found.items():
            for index in range(message.recipients):
                self.check_recipient(number, index, message.states.get(index, b"K"))
        if delivered is not None:
            self.check_delivered(found, delivered)

    def check_recipient(self, number, index, state):
        """An outcome is one that was reported, and none older than what was confirmed."""
        outcomes = [b"T", *self.asked.get((number, index), [])]
        if state not in outcomes:
            raise Broken(f"{number}: {state} of recipient {index} was never reported")
        since = outcomes[self.confirmed.get((number, index), 0):]
        if state not in since:
            raise Broken(f"{number}: recipient {index} is {state} again after {since[:1]} was confirmed")

    def check_delivered(self, found, delivered):
        """Of what was accepted each copy, bounce and report is in a mailbox, or will be: it is in the queue, or what it is made
        of."""
        coming = set()
        for message in found.values():
            states = set(message.states.values())
            coming |= self.recording.owed_for(message.label) if b"T" in states else set()
            coming |= {BOUNCE + message.label} if b"D" in states else set()
            coming |= {REPORT + message.label} if b"S" in states else set()
        for number in self.accepted:
            missing = self.recording.owed_for(self.recording.labels[number]) - delivered - coming
            if missing:
                raise Broken(f"{number} was accepted, and {missing} neither to do nor delivered")


def frames(octets):
    while len(octets) >= 5:
        size = int.from_bytes(octets[:4], "big")
        yield octets[4:5], octets[5:5 + size]
        octets = octets[5 + size:]


def mailboxes(names, content, bodies):
    """Labels of what lies whole in maildirs and the mbox. A damaged file in a maildir's new/ is a broken promise; at the end of
    an mbox, where no delivery was reported, it cannot be helped."""
    delivered = set()
    for path in names:
        if "/Maildir/new/" in path:
            octets = bytes(content(path))
            label = maildir_label(octets, bodies)
            if label is None:
                raise Broken(f"{path} is not a whole message: {octets[:100]} ({len(octets)} octets)")
            delivered.add(label)
        elif path == MBOX:
            delivered |= in_mbox(bytes(content(path)), bodies)[0]
    return delivered


def in_mbox(octets, bodies):
    try:
        return mbox_labels(octets, bodies)
    except ValueError as e:
        raise Broken(f"{MBOX}: {e}") from e


# --- looking at a state -----------------------------------------------------------------------------------------------


class Checker:
    """A tree in which the keeper is started on one state after another."""

    def __init__(self, tree, bodies):
        self.tree, self.bodies, self.starts = tree, {**bodies, NEXT: NEXT_BODY}, 0
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
                octets = message.octets(keeper.home, ring.fileno())
                message.label = label_of(octets, message.sender, self.bodies) if len(octets) == message.size else None
                if message.label is None:
                    raise Broken(f"{number}, from {message.sender}, is damaged, or nobody submitted it")

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

    # what is delivered next into an mbox, or into a maildir with a quota

    def deliver(self, user, to, **more):
        """One more message by qmail-local alone, into a file or maildir of its home; what is there of it is the state's."""
        with tempfile.TemporaryFile() as message:
            message.write(self.bodies[NEXT])
            message.seek(0)
            done = self.tree.run("qmail-local", user, f"home/{user}", user, "", "", HOST, NEXT.decode(), to, stdin=message, **more)
        if done.returncode:
            raise Broken(f"one more message into {to} of {user}: {done.stdout + done.stderr}")

    def deliver_to_mbox(self, octets):
        """The file stays as it was, and what comes after it is a message to all who read it."""
        path = self.tree.write(MBOX, octets, 0o600)
        self.deliver("luis", "./Mailbox")
        after = path.read_bytes()
        labels, last = in_mbox(after, self.bodies)
        if not after.startswith(octets) or last != NEXT or not labels >= in_mbox(octets, self.bodies)[0]:
            raise Broken(f"{MBOX} of {len(octets)} octets and one more message: {after[len(octets) - 100:len(octets) + 200]}")

    def deliver_within_quota(self, octets):
        """octets: of maildirsize, None if there is none. The message is taken, and the file makes sense."""
        maildir = self.tree.home / "home/kim/Maildir"
        shutil.rmtree(maildir, ignore_errors=True)
        for name in ("tmp", "new", "cur"):
            (maildir / name).mkdir(parents=True)
        self.tree.own(maildir.parent)
        if octets is not None:
            self.tree.write(MAILDIRSIZE, octets, 0o600)
        self.deliver("kim", "./Maildir/", env={"MAILDIRQUOTA": QUOTA})
        [path] = (maildir / "new").iterdir()
        if maildir_label(path.read_bytes(), self.bodies) != NEXT:
            raise Broken(f"one more message into a maildir with a quota: {path.read_bytes()}")
        text = (maildir / "maildirsize").read_text()
        if not re.fullmatch(QUOTA + r"\n(-?\d+ -?\d+\n)+", text):
            raise Broken(f"maildirsize, after {octets}, and one more message: {text!r}")


class Mailboxes:
    """What is in the mailboxes of states of a chain: labels, or what was broken, as an exception. What was seen before is not
    looked at again."""

    def __init__(self, checker):
        self.checker, self.seen, self.deliveries = checker, {}, 0

    def look(self, state):
        key = state.key("home/")
        if key not in self.seen:
            try:
                self.seen[key] = mailboxes(state.names, state.content, self.checker.bodies)
                self.deliver(state, MBOX, self.checker.deliver_to_mbox)
                self.deliver(state, MAILDIRSIZE, self.checker.deliver_within_quota)
            except Broken as e:
                self.seen[key] = e
        if isinstance(self.seen[key], Broken):
            raise self.seen[key]
        return self.seen[key]

    def deliver(self, state, path, one_more):
        key = path, state.key(path)
        if key not in self.seen:
            self.seen[key] = True	# what is broken is said of one state
            self.deliveries += 1
            one_more(bytes(state.content(path)) if path in state.names else b"" if path == MBOX else None)


class Summary:
    def __init__(self):
        self.states, self.distinct, self.starts, self.deliveries, self.served, self.broken = 0, set(), 0, 0, 0, []

    def add(self, other):
        for count in ("states", "starts", "deliveries", "served"):
            setattr(self, count, getattr(self, count) + getattr(other, count))
        self.distinct |= other.distinct
        self.broken += other.broken

    def __str__(self):
        more = f" of the keeper, {self.served} of the whole server, {self.deliveries} more deliveries" if self.deliveries or self.served else ""
        return f"{self.states} states, {len(self.distinct)} distinct, {self.starts} starts{more}, {len(self.broken)} broken"


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
    checker, summary, results = Checker(tree, recording.bodies), Summary(), {}
    boxes = Mailboxes(checker) if recording.world == "chain" else None
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
            history.check(results[key], boxes and boxes.look(state))
        except Broken as e:
            summary.broken.append(f"state {number}, a power cut after line {at} ({' '.join(recording.lines[at])[:80]}): {e}")
            if stop and len(summary.broken) >= stop:
                break
    summary.starts, summary.deliveries = checker.starts, boxes.deliveries if boxes else 0
    return summary


def evenly(recording, count, seed=0, part=0, parts=1):
    """For look(): as many states, evenly chosen from all; of these a part."""
    total = sum(1 for _ in walk(recording, seed))
    chosen = [total * i // count for i in range(count)] if total > count else range(total)
    mine = set(chosen[part::parts])
    return lambda number, state: number in mine


def distinct(recording, count, seed=0, part=0, parts=1):
    """For look(): as many distinct states, evenly chosen, at every moment at which they are possible; of these a part."""
    keys = list(dict.fromkeys(state.key() for _, _, state, _ in walk(recording, seed)))
    chosen = [keys[len(keys) * i // count] for i in range(count)] if len(keys) > count else keys
    mine = set(chosen[part::parts])
    return lambda number, state: state.key() in mine


# --- all programs on a state ---------------------------------------------------------------------------------------------


def serve(recording, server, state, history):
    """Starts all programs of a server whose queue and homes are empty on a state of chain: every message arrives, whole, what is
    made of them too, and one more into the mbox and into the maildir with a quota."""
    home, bodies = server.home, {**recording.bodies, NEXT: NEXT_BODY}
    add_quota(server)
    for path in state.names:
        server.write(path, bytes(state.content(path)), 0o600)
    expected = set().union(*(recording.owed_for(recording.labels[n]) for n in history.accepted)) - recording.later

    def arrived():
        def seen(folder):
            paths = [str(p.relative_to(home)) for p in (home / folder).rglob("*") if p.is_file()]
            return mailboxes(paths, lambda path: (home / path).read_bytes(), bodies)

        try:
            return (expected <= seen("home") and NEXT in seen("home/kim")
                    and NEXT in in_mbox((home / MBOX).read_bytes(), bodies)[0])
        except FileNotFoundError:
            return False

    server.start()
    for to in "mbox", "quota":
        assert server.queue(NEXT_BODY, NEXT, ADDRESSES[to]).returncode == 0
    wait_for(arrived, what=f"every message that was accepted:\n{server.log()[-2000:]}")
    server.stop()
    if "alert" in server.log() + server.log("qmail-queued"):
        raise Broken(server.log() + server.log("qmail-queued"))


def serve_some(recording, installation, top, wanted, seed):
    """serve() at the states that are wanted."""
    summary = Summary()
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
    return summary


# --- the program ------------------------------------------------------------------------------------------------------


def by_parts(jobs, one):
    """The sum of what one(part) returns for each part, each by a process of its own."""
    if jobs == 1:
        return one(0)
    summary = Summary()
    for its in in_parts(jobs, one):
        summary.add(its)
    return summary


def look_with(jobs, recording, installation, top, wanted, **more):
    """look() by several processes, each with a tree of its own."""
    def one(part):
        tree = make_tree(installation, Tree, top / f"look.{recording.world}.{part}")
        return look(recording, tree, lambda number, state: state.key()[0] % jobs == part and wanted(number, state), **more)

    return by_parts(jobs, one)


def serve_with(jobs, recording, installation, top, wanted, seed):
    """serve_some() by several processes."""
    def one(part):
        return serve_some(recording, installation, top,
                          lambda number, state: number % jobs == part and wanted(number, state), seed)

    return by_parts(jobs, one)


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
                wanted = evenly(recording, asked.n // SERVED, asked.s, part - 1, parts)
                summary.add(serve_with(asked.j, recording, installation, top, wanted, asked.s))
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
