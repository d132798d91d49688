#!/usr/bin/python3
"""make soak: load that does not stop, and what has to stay the same under it. README.md tells what.

    soak.py [-m minutes] [-i idle sessions] [-p pause] [-k directory]

-m 30, -i 1000: as long, and with so many idle SMTP sessions. -p 0.02: seconds that each of the senders pauses after a message on
average. -k: where the server is made, and kept (default: below $TMPDIR, or /var/tmp; removed at the end)."""
import argparse
import multiprocessing
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

import ledger
import load
import sink
from server import DOMAIN, Server

EVERY = 15		# seconds between two looks at the processes
LOOKS_MIN = 6		# fewer cannot be compared
HURRY = 60		# seconds between two of the signals that have waiting mail tried again
DRAIN = 900		# seconds that it may take until nothing waits any more
GREETING = 1.0		# seconds that a greeting may take
GROWTH, ROOM = 1.10, 256	# what a process may have more in the end: this factor, and so many KiB
DESCRIPTORS = 8
PAGE = os.sysconf("SC_PAGE_SIZE") // 1024
TOTAL_GROWTH = 1.15	# what all together may have more, who come and go: this factor, and so many
TOTAL_ROOM = {"processes": 30, "made KiB": 8192, "descriptors": 300}
IDLE_LEAST = 0.95	# of the idle sessions are open, at the median
KINDS = {"smtp": (load.smtp, 4), "submission": (load.submission, 1), "inject": (load.inject, 1)}


def refusing(recipient):
    return recipient.endswith("@refuse.example") or recipient == f"ana-fails@{DOMAIN}"


def memory(pid):
    """KiB that a process has made; it may share them with the processes that it forked. The kernel has counted them: smaps would
    count them anew, and hold a lock meanwhile that fork waits for, so that who looks would slow down what it looks at."""
    with open(f"/proc/{pid}/statm") as line:
        _, resident, of_files, *_ = map(int, line.read().split())
    return (resident - of_files) * PAGE


class Samples:
    """Memory and descriptors of each process, look by look; which process each service is, and how many idle sessions are open."""

    def __init__(self, server):
        self.server, self.looks = server, []
        self.services, self.again, self.idle = server.services(), [], []

    def take(self, idle):
        services = self.server.services()
        self.again += [f"{name} ({self.services[name]}) is {pid} now" for name, pid in services.items() if pid != self.services[name]]
        self.services = services
        self.idle.append(idle)
        look = {}
        for pid, program in self.server.processes().items():
            try:
                look[pid] = program, memory(pid), len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                pass
        self.looks.append(look)

    def thirds(self):
        """The looks of the second fifth or so, when all is warm, and those of the last third. Of a run that was ended early all are both."""
        n = len(self.looks)
        if n < LOOKS_MIN:
            return self.looks, self.looks
        return self.looks[n // 6:n // 2], self.looks[-(n // 3):]

    def totals(self, looks):
        """{program: (processes, KiB, descriptors)}, medians."""
        names = sorted({program for look in looks for program, *_ in look.values()})
        return {name: tuple(statistics.median(column) for column in zip(*(self.total(look, name) for look in looks))) for name in names}

    @staticmethod
    def total(look, name):
        rows = [row for row in look.values() if row[0] == name]
        return len(rows), sum(r[1] for r in rows), sum(r[2] for r in rows)

    def growth(self):
        """What is wrong with the processes that lived all the time."""
        early, late = self.thirds()
        wrong = []
        for pid in set.intersection(*(set(look) for look in early + late)):
            before, after = ([statistics.median(look[pid][i] for look in looks) for i in (1, 2)] for looks in (early, late))
            if after[0] > before[0] * GROWTH + ROOM:
                wrong.append(f"{late[-1][pid][0]} grew from {before[0]} to {after[0]} KiB")
            if after[1] > before[1] + DESCRIPTORS:
                wrong.append(f"{late[-1][pid][0]} had {before[1]} descriptors, and {after[1]} in the end")
        return wrong

    def totals_growth(self):
        """What all programs together have more in the end."""
        wrong = []
        early, late = ([[sum(column) for column in zip((0, 0, 0), *self.totals([look]).values())] for look in looks] for looks in self.thirds())
        for i, (what, room) in enumerate(TOTAL_ROOM.items()):
            before, after = (statistics.median(look[i] for look in looks) for looks in (early, late))
            if after > before * TOTAL_GROWTH + room:
                wrong.append(f"all programs together had {before:.0f} {what}, and {after:.0f} in the end")
        return wrong

    def too_few(self, idle):
        """Whether idle sessions were open."""
        open_ones = statistics.median(self.idle[len(self.looks) // 6:])
        return [f"of {idle} idle sessions {open_ones:.0f} were open (median): {self.idle}"] if open_ones < idle * IDLE_LEAST else []

    def restarted(self):
        """Daemons that the supervisor or their parent had to start again: the process is another, or a first one is gone. Workers and sessions
        come and go."""
        first, last = self.looks[0], self.looks[-1]
        return self.again + [f"{program} ({pid}) ended" for pid, (program, *_) in first.items()
                if pid not in last and program not in ("qmail-local", "qmail-remote", "qmail-smtpd", "qmail-popup", "qmail-pop3d", "qmail-tlsd",
                                                        "qmail-inject", "qmail-queue", "qmail-loggedin", "checkpassword-accounts")]

    def print(self):
        early, late = map(self.totals, self.thirds())
        print(f"\n{'medians: early, late':<26}{'processes':>16}{'made KiB':>20}{'descriptors':>16}")
        for name in sorted(early.keys() | late.keys()):
            pairs = zip(early.get(name, (0, 0, 0)), late.get(name, (0, 0, 0)))
            print(f"{name:<26}" + "".join(f"{a:>{w}.0f}{b:>8.0f}" for (a, b), w in zip(pairs, (8, 12, 8))))


class Load:
    """The processes of load.py and the sink."""

    def __init__(self, server, world):
        self.stop, self.world, self.began = multiprocessing.Event(), world, time.monotonic()
        self.greetings = multiprocessing.Manager().list()
        self.sink = multiprocessing.Process(target=sink.run, args=[world.directory, server.sink], daemon=True)
        self.others = [self.process(kind, f"{name}{n}") for name, (kind, count) in KINDS.items() for n in range(count)]
        self.others += [self.process(load.reader, user) for user in ("ana", "luis")]
        self.idle = multiprocessing.Value("i", 0)
        self.others += [self.process(load.slow_readers, ""), self.process(load.idlers, self.idle), self.process(load.probe, self.greetings)]
        for process in (self.sink, *self.others):
            process.start()

    def process(self, what, argument):
        return multiprocessing.Process(target=what, args=[self.world, argument, self.stop], name=f"{what.__name__} {argument}"[:20], daemon=True)

    def dead(self):
        return [p.name for p in (self.sink, *self.others) if not p.is_alive()]

    def end(self):
        self.stop.set()
        for process in self.others:
            process.join(load.WAIT)
        return [f"{p.name} ended with {p.exitcode}" for p in self.others if p.exitcode != 0]


def drain(server, world, end):
    """Until nothing waits, and all is fetched. Returns what is wrong."""
    books = {user: ledger.Ledger(world.directory, "arrived", f"{user}.rest") for user in ("ana", "luis")}
    while server.waiting() and time.monotonic() < end:
        server.hurry()
        time.sleep(1)
    for user, book in books.items():
        load.fetch(world, user, book)
    grumpy = ledger.Ledger(world.directory, "arrived", "grumpy")
    for path in (server.home / "home/ana/grumpy").glob("[!.]*"):
        message = path.read_bytes()
        grumpy.add(ledger.FIELD.search(message).group(1).decode(), ledger.digest(message), f"ana-grumpy@{DOMAIN}")
    left = server.waiting()
    return [f"{left} messages still wait after {DRAIN} seconds"] if left else []


def run(server, options, directory):
    server.start()
    work, samples = Load(server, server.world(directory, options.pause, options.idle)), Samples(server)
    end, hurry = time.monotonic() + options.minutes * 60, time.monotonic() + HURRY
    wrong, most = [], 0
    while time.monotonic() < end and not wrong:
        time.sleep(min(EVERY, options.minutes * 60 / 20))
        samples.take(work.idle.value)
        wrong += server.crashes()
        most = max(most, server.waiting())
        wrong += [f"{name} gave up" for name in work.dead()]
        if time.monotonic() > hurry:
            server.hurry()
            hurry += HURRY
    wrong += samples.restarted() + samples.growth() + samples.totals_growth() + samples.too_few(options.idle) + work.end()
    wrong += drain(server, work.world, time.monotonic() + DRAIN)
    wrong += [line for line in server.crashes() if line not in wrong]
    found, arrived = ledger.differences(directory, refusing)
    samples.print()
    greetings = sorted(work.greetings)
    seconds = [g[0] for g in greetings]
    accepted = sum(1 for _ in ledger.read(directory, "accepted"))
    doubtful = sum(1 for _ in ledger.read(directory, "doubtful"))
    print(f"\nidle sessions: {statistics.median(samples.idle):.0f} (median), {min(samples.idle)} to {max(samples.idle)}")
    print(f"{accepted} messages accepted, {accepted / options.minutes / 60:.0f} a second; {arrived} deliveries and bounces; {doubtful} were "
          f"cut off or refused; at most {most} waited\ngreetings: {len(seconds)}, median {seconds[len(seconds) // 2] * 1000:.1f} ms, "
          f"99 of 100 within {seconds[len(seconds) * 99 // 100] * 1000:.1f}, the slowest {seconds[-1] * 1000:.1f}")
    for took, connected, began, late in greetings:
        if took > GREETING:
            found.append(f"a greeting took {took:.2f} seconds after {began - work.began:.0f}, the connection {connected:.2f} of them; who only "
                         f"slept was late by {late:.2f}")
    if not accepted:
        found.append("nothing was accepted")
    return wrong + found


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-m", dest="minutes", type=float, default=30)
    parser.add_argument("-i", dest="idle", type=int, default=1000)
    parser.add_argument("-p", dest="pause", type=float, default=0.02)
    parser.add_argument("-k", dest="keep")
    options = parser.parse_args()
    top = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="tambo-soak-", dir=os.environ.get("TMPDIR", "/var/tmp")))
    top.mkdir(exist_ok=True)
    top.chmod(0o755)
    (top / "ledgers").mkdir()
    server = Server(top / "tambo")
    try:
        wrong = run(server, options, top / "ledgers")
    finally:
        left = server.stop()
    wrong += [f"left behind: {program} ({pid})" for pid, program in left.items()]
    if not options.keep:
        shutil.rmtree(top)
    for line in wrong[:50]:
        print(f"soak: {line}")
    print(f"soak: {len(wrong)} things are wrong" if wrong else "soak: all is as it should be")
    sys.exit(bool(wrong))


main()
