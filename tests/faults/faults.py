"""Faults: one system call of one program fails, in the middle of a whole server that takes and delivers mail (inject.c), and what is
promised must hold all the same. README.md says what is done and what is checked.

    faults.py [-n FAULTS] [-s SEED] [-p I/K] [-j JOBS] [-k KIND] [-m EXPRESSION] [-o 'NAME CALLS FIRST LAST WHAT NUMBER'] [-l]

Exit code 3 if a promise was broken, which is said with the fault that did it, 4 if too many faults never came about, 77 if a kind was
not tried, because it cannot be done here; -o makes one fault alone, -l says which there are."""
import argparse
import collections
import contextlib
import errno
import functools
import os
import pathlib
import pickle
import random
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import threading
import time
import traceback

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from conftest import CRASHES, HOST, SAYS_CRASH, SOURCE, Server, make_tree, new_installation, processes_of, pytest_configure, wait_for  # noqa: E402
import fake_smtp  # noqa: E402
import nonsense  # noqa: E402
from parts import in_parts  # noqa: E402

RING_MIB = 8
TOLD_LATER = 60		# seconds after which the keeper tells what it could not, as it says: SAY_RETRY of keeper.h
LIMIT = 45		# seconds that a run may take: the longest documented wait of a client, and some
CLIENT = 30		# seconds for which a client tries to reach the keeper, qmail-queue(8): it has its answer by then
SEVERAL = 6		# times three mails, while daemons are restarted
SPREAD = 0.06		# seconds between two of them
DISTURBANCES = 15	# meanwhile
END = 15		# seconds for a daemon to end
COUNTING = 4		# runs in which calls are counted
SAME_MAX = 1		# times that one line of trouble, of the same delivery, may be logged in a run with one fault
STORM_MAX = 25		# lines of trouble of a run in which a fault lasts: 15 at most were seen in 270 runs, where a table of users could not be read
POKE = 0.2		# seconds between two SIGALRM to qmail-send, where mail was deferred
DAY = 86400
TURNS = 200		# times that mail is submitted until it is accepted
AGAIN = 0.05		# seconds after which a client that was refused tries again
LASTING = 0.7		# seconds that it lasts
STORM_SAME_MAX = round(LASTING / AGAIN)	# one line of them: of each client that was refused meanwhile
DISK_MIB = 96
LARGE = 300_000		# octets: more than the ring takes
NUMBERS = {"single": 2400, "kill": 600, "lasting": 300, "restarts": 30, "full": 1, "clock": 1, "nonsense": len(nonsense.ALL)}	# faults of a kind, evenly chosen
EXIT_BROKEN, EXIT_MISSED, EXIT_NOT_TRIED = 3, 4, 77
MISSED_SHARE = 0.02	# of the faults may never come about though the call did in each run that was counted: those are slower, and take more turns of loops. 1 of 185 was seen
NOTHING = "nothing listen 1 1 hold"	# no program's fault: who runs with it is traced for its crashes, and those of what it starts

# What may come of a call, on a file or on another descriptor: the first is what happens most. To remove a file takes room on a file system
# that copies what it changes.
DISK, OPEN, DESCRIPTORS = ("ENOSPC", "EIO", "EDQUOT"), ("EMFILE", "EINTR", "EIO", "ENOMEM"), ("EMFILE", "ENOMEM")
WRITE, READ, WAIT, FORK, LOOK = (*DISK, "EINTR", "short"), ("EIO", "EINTR", "short"), ("EINTR", "ENOMEM"), ("EAGAIN", "ENOMEM"), ("EIO", "ENOMEM")
SEND, RECEIVE = ("EPIPE", "EINTR", "EAGAIN", "short"), ("ECONNRESET", "EINTR", "short")
ACCEPT, LATE = ("EMFILE", "EINTR", "ENOMEM", "ECONNABORTED"), ("late EIO", "late EINTR")
FAULTS = {
    "write:file": WRITE, "writev:file": WRITE, "pwrite64:file": WRITE, "fsync:file": DISK, "fdatasync:file": DISK, "ftruncate:file": DISK,
    "close:file": LATE, "openat": OPEN, "open": OPEN, "openat:new": (*OPEN, "ENOSPC", "EDQUOT"), "open:new": (*OPEN, "ENOSPC", "EDQUOT"), "renameat": DISK, "renameat2": DISK, "rename": DISK, "linkat": DISK, "link": DISK,
    "unlink": ("EIO", "ENOSPC"), "unlinkat": ("EIO", "ENOSPC"), "mkdir": DISK, "mkdirat": DISK, "read:file": READ, "readv:file": READ, "pread64:file": READ,
    "getdents64": ("EIO",), "newfstatat": LOOK, "stat": LOOK, "lstat": LOOK, "fstat:file": ("EIO",), "lseek:file": ("EIO",),
    "flock": ("EINTR", "ENOMEM"), "fcntl:lock": ("EINTR", "ENOLCK"), "fcntl:dup": DESCRIPTORS, "dup": DESCRIPTORS, "dup2": ("EMFILE",), "dup3": ("EMFILE",),
    "pipe": DESCRIPTORS, "pipe2": DESCRIPTORS, "socket": DESCRIPTORS, "socketpair": DESCRIPTORS, "connect": ("EINTR", "EAGAIN", "ENOMEM"),
    "write:other": SEND, "writev:other": SEND, "read:other": RECEIVE, "readv:other": RECEIVE, "sendmsg:other": (*SEND, "ENOMEM"), "sendto:other": SEND,
    "recvmsg:other": RECEIVE, "recvfrom:other": RECEIVE, "sendmsg:packet": ("EPIPE", "EINTR", "ENOMEM"), "sendto:packet": ("EPIPE", "EINTR", "ENOMEM"),
    "recvmsg:packet": ("ECONNRESET", "EINTR"), "recvfrom:packet": ("ECONNRESET", "EINTR"), "accept": ACCEPT, "accept4": ACCEPT, "setsockopt": ("ENOMEM",),
    "getsockopt": ("ENOMEM",), "poll": WAIT, "ppoll": WAIT, "epoll_wait": ("EINTR",), "epoll_pwait": ("EINTR",), "epoll_create1": DESCRIPTORS,
    "epoll_ctl:add": ("ENOMEM",), "epoll_ctl:mod": ("ENOMEM",), "epoll_ctl:del": ("ENOMEM",), "bind": ("EADDRINUSE", "ENOMEM"), "listen": ("EADDRINUSE",), "clone": FORK, "clone3": FORK, "fork": FORK, "vfork": FORK,
    "execve": ("ENOMEM", "EIO"), "wait4": ("EINTR",), "waitid": ("EINTR",), "mmap": ("ENOMEM",), "chdir": ("EIO",), "fchdir": ("EIO",),
    "getrandom": ("EINTR",), "signalfd4": DESCRIPTORS, "mremap": ("ENOMEM",), "setgroups": ("ENOMEM",), "setresgid": ("ENOMEM",),
    "setresuid": ("EAGAIN", "ENOMEM"), "syncfs": DISK, "timer_create": ("EAGAIN", "ENOMEM"), "seccomp": ("ENOMEM",),
    "landlock_create_ruleset": DESCRIPTORS, "landlock_add_rule": ("ENOMEM",), "landlock_restrict_self": ("ENOMEM",),
    "memfd_create": DESCRIPTORS, "pidfd_open": DESCRIPTORS, "brk": ("ENOMEM",), "getcwd": ("ENOMEM",), "readlink": LOOK, "readlinkat": LOOK,
    "access": LOOK, "faccessat": LOOK, "chmod": DISK, "fchmod": DISK, "fchmodat": DISK,
}
# Calls that cannot fail, as they are used here, or in no way worth trying: to close or look at what is no file; flags of descriptors. Any
# other that is made has to be in FAULTS.
UNTRIED = {"prctl", "close:other", "close:packet", "fstat:other", "fstat:packet", "lseek:other", "lseek:packet", "fcntl:flags"}
# What lasts for a while: calls, and what comes of them. The C library has no word for its start without memory: mmap and brk.
LASTING_FAULTS = (
    ("write:file+writev:file+pwrite64:file+fsync:file+fdatasync:file+openat+openat:new", ("ENOSPC", "EIO")),
    ("openat+openat:new+socket+socketpair+pipe+pipe2+accept+accept4+dup+epoll_create1", ("EMFILE",)), ("mmap+brk", ("ENOMEM",)), ("clone+clone3+fork+vfork", ("EAGAIN",)),
    ("read:file+read:other+write:file+write:other+writev:file+writev:other+sendmsg:other+recvmsg:other+recvfrom:other+sendto:other", ("short",)),
    ("poll+ppoll+epoll_wait+epoll_pwait+wait4", ("EINTR",)), ("fsync:file+fdatasync:file", ("hold 200",)),
    ("read:file+readv:file+pread64:file+write:file+writev:file+pwrite64:file", ("hold 20",)),
)


class Broken(Exception):
    """A promise was not kept."""


def is_crash(code):
    """Whether this is how a program ends that crashed: as Popen says it, or inject."""
    return -code in CRASHES or code - 128 in CRASHES


def fault_of(name, calls, first, what, last=None):
    """The argument of inject."""
    words = what.split()
    if words[0].startswith("E"):
        words = ["error", *words]
    if len(words) > 1 and not words[1].isdigit():
        words[1] = str(getattr(errno, words[1]))
    return f"{name} {calls} {first} {first if last is None else last} {' '.join(words)}"


def build_injector(top):
    path = top / "inject"
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-o", path, SOURCE / "tests/faults/inject.c", SOURCE / "tests/tracer.c"], check=True)
    path.chmod(0o755)
    return path


# --- mail ---------------------------------------------------------------------------------------------------------------


def message_of(tag, size=2000):
    line = b"line of " + tag + b"\n"
    return b"Subject: " + tag + b"\nFrom: <ana-bounces@%s>\n\n" % HOST.encode() + line * (size // len(line)) + b"end of " + tag + b"\n"


def local(name):
    return f"{name}@{HOST}"


class Mail:
    """One thing to submit, tried until it is accepted. where: the boxes into which it has to come."""
    where = ("maildir",)

    def __init__(self, run, number=0, delay=0):
        self.delay = delay
        self.run, self.accepted, self.refusals = run, None, []
        self.name = b"%s%d" % (type(self).__name__.encode(), number)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.failure = None

    def work(self):
        try:
            time.sleep(self.delay)
            for turn in range(TURNS):
                tag = b"%s-%s-%d" % (self.run.name, self.name, turn)
                self.run.messages[tag] = message_of(tag, self.size)
                began = time.monotonic()
                refusal = self.submit(self.run.messages[tag], self.run.fault if turn == 0 and self.run.concerns("client") else None)
                if time.monotonic() - began > CLIENT:
                    raise Broken(f"{self.name}: the answer took {time.monotonic() - began:.0f} seconds: {refusal}")
                if refusal is None:
                    self.accepted = tag
                    return
                self.refusals.append(refusal)
                self.run.refused.append(str(refusal))
                time.sleep(AGAIN)
            raise Broken(f"{self.name} was refused each time: {self.refusals[-3:]}")
        except BaseException as e:
            self.failure = e

    size = 2000


class Inject(Mail):
    """By qmail-inject, to everybody."""
    where = ("maildir", "mbox", "program", "forward", "far", "bounce")
    TO = ("ana", "luis", "ana-program", "ana-forward", "nobody-here")

    def submit(self, message, fault):
        code, said = self.run.client("qmail-inject", fault, *map(local, self.TO), "x@far.example", message=message)
        if code == 100:
            raise Broken(f"qmail-inject: a permanent refusal: {said}")
        if code and not said and code <= 128 and "write" not in (fault or ""):
            raise Broken(f"qmail-inject: exit {code} without a word")
        return (code, said) if code else None


class Queue(Mail):
    """By qmail-queue, as another program starts it; large."""
    size, to = LARGE, "ana"

    def submit(self, message, fault):
        code, said = self.run.client("qmail-queue", fault, message=message, envelope=[local("ana-bounces"), local(self.to)])
        if 11 <= code <= 40 or code in (100, 115):
            raise Broken(f"qmail-queue: a permanent refusal: {code}, {said}")
        return (code, said) if code else None


class Small(Queue):
    size = 2000


class Smtp(Mail):
    def submit(self, message, fault):
        try:
            with smtplib.SMTP(*self.run.smtp_address, local_hostname="client.example", timeout=CLIENT) as s:
                self.step("EHLO", s.ehlo())
                self.step("MAIL", s.mail(local("ana-bounces")))
                self.step("RCPT", s.rcpt(local("ana")))
                s.rcpt(local("nobody-here"))  # 550, or later; not accepted while rcptd runs
                code, text = s.data(message.replace(b"\n", b"\r\n"))
                self.step("DATA", (code, text))
                return None
        except TimeoutError:
            raise Broken("SMTP: no answer")
        except smtplib.SMTPResponseException as e:  # smtplib's of the greeting, DATA and QUIT, or step's
            if e.smtp_code >= 500:
                raise Broken(f"SMTP: a permanent refusal: {e!r}")
            return repr(e)
        except (smtplib.SMTPException, OSError) as e:
            return repr(e)

    @staticmethod
    def step(what, reply):
        code, text = reply
        if code >= 400:
            raise smtplib.SMTPResponseException(code, f"{what}: {text}")


# --- a server ---------------------------------------------------------------------------------------------------------------


class World(Server):
    """A server with supervision, whose programs can be made to fail. A run is a start, some mail, and an orderly end."""
    DAEMONS = {"keeper": ("qmail-queued", "-r", RING_MIB), "rcptd": ("qmail-rcptd",), "send": ("qmail-start", "./Maildir/"),
               "smtpd": ("qmail-smtpd", "-X")}
    PARTS = {"qmail-queued": "keeper", "qmail-rcptd": "rcptd", "qmail-smtpd": "smtpd", "qmail-inject": "client", "qmail-queue": "client"}

    def __init__(self, home):
        super().__init__(home)
        self.running, self.starts, self.runs, self.far = {}, {}, 0, None

    def prepare(self, injector):
        self.injector = injector
        self.far = fake_smtp.Server()
        self.write("control/smtproutes", f"far.example:[127.0.0.1]:{self.far.port}\n")
        self.write("control/rcpthosts", HOST + "\n")
        self.write("home/luis/.qmail", "./Mailbox\n", 0o600)
        self.write("home/luis/.qmail-forwarded", "./Maildir/\n", 0o600)
        self.write("home/ana/.qmail-forward", f"&{local('luis-forwarded')}\n", 0o600)
        self.write("home/ana/.qmail-program", "|f=$(mktemp got/XXXXXX) && cat >$f && mv $f $f.whole || exit 111\n", 0o600)
        self.write("home/ana/.qmail-bounces", "./Bounces/\n", 0o600)
        for name in ("got", "Bounces/tmp", "Bounces/new", "Bounces/cur"):
            (self.home / "home/ana" / name).mkdir(parents=True)
        self.own(self.home / "home/ana")
        self.struck_path = self.write("struck", b"")

    # -- one run -------------------------------------------------------------
    def begin(self, fault, clock=None, traced=True):
        """traced: whether daemons are at least looked at for crashes; without, a signal to one in self.running is to the daemon itself."""
        self.runs += 1
        self.name = b"run%d" % self.runs
        self.fault, self.messages, self.codes, self.ends, self.refused = fault, {}, [], [], []
        self.usual = NOTHING if traced else None
        self.poked, self.log_then, self.heard = 0, None, None  # when qmail-send had its last SIGALRM, its log then, what it knows to be due
        self.environ = {"INJECT_CLOCK": str(clock)} if clock else {}
        self.struck_path.write_bytes(b"")
        for path in [*self.boxes().values(), [p for p in (self.home / "output").iterdir()]]:
            for p in path:
                p.unlink()
        self.over, self.ending, self.lock = threading.Event(), set(), threading.Lock()
        self.tracers, self.restarts, self.failure, self.seen = [], 0, None, {}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.smtp_address = self.listener.getsockname()[:2]
        for name in self.DAEMONS:
            self.launch(name, fault if self.concerns(name) else self.usual)
        self.supervisor = threading.Thread(target=self.supervise, daemon=True)
        self.supervisor.start()

    def concerns(self, name):
        """Whether the fault can be one of what this daemon is or starts."""
        return self.fault == "-" or self.environ or self.fault and self.PARTS.get(self.fault.split()[0], "send") == name

    def command(self, fault, program, *args):
        return [self.injector, self.struck_path, fault, self.bin / program, *args] if fault else [self.bin / program, *args]

    def launch(self, name, fault=None):
        """Starts a daemon; the thread in self.starts ends when it is ready, or has ended."""
        program, *args = self.DAEMONS[name]
        ours, theirs = os.pipe()
        command = self.command(fault, program, "-d", theirs, *args)
        with open(self.home / "output" / program, "ab") as log:
            self.running[name] = self.popen(str(command[0]), *command[1:], stdin=self.listener if name == "smtpd" else subprocess.DEVNULL,
                                            stdout=log, stderr=log, pass_fds=[theirs], start_new_session=True, env=self.environ)
        os.close(theirs)
        self.sessions.add(self.running[name].pid)
        if fault:
            self.tracers.append(self.running[name])
        self.starts[name] = threading.Thread(target=self.until_ready, args=[ours], daemon=True)
        self.starts[name].start()

    @staticmethod
    def until_ready(ours):
        with open(ours, "rb") as ready:
            ready.readline()

    def supervise(self):
        try:
            while not self.over.wait(0.01):
                with self.lock:
                    for name, process in list(self.running.items()):
                        if process.poll() is not None and name not in self.ending:
                            self.codes.append((name, process.returncode))
                            self.ends.append((name, process.returncode))
                            self.restarts += 1
                            self.launch(name, self.usual)
        except BaseException as e:
            self.failure = e

    def client(self, program, fault, *args, message, envelope=None):
        """Runs a client; returns its exit code and what it said."""
        command = self.command(fault, program, *args)
        more = {}
        with contextlib.ExitStack() as files:
            def file_of(octets):
                name = files.enter_context(open(os.memfd_create("x"), "w+b"))
                name.write(octets)
                name.seek(0)
                return name
            more["stdin"] = file_of(message)
            if envelope:
                more["stdout"] = file_of(b"F" + envelope[0].encode() + b"\0" + b"".join(b"T" + r.encode() + b"\0" for r in envelope[1:]) + b"\0")
            env = {"QMAILHOST": HOST, "QMAILUSER": "ana-bounces", **(self.environ if fault else {})}
            process = self.popen(str(command[0]), *command[1:], env=env, stderr=subprocess.PIPE, **more)
            if fault:
                self.tracers.append(process)
            try:
                _, said = process.communicate(timeout=CLIENT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise Broken(f"{program} hangs")
        self.ends.append(("client", process.returncode))
        return process.returncode, said.decode(errors="replace")

    def calm(self):
        """Ends a fault that lasts."""
        for process in self.tracers:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGUSR1)

    def told(self, event):
        """What the tracer said: struck, spared."""
        return [line.split() for line in self.struck_path.read_text().splitlines() if line.startswith(event)]

    def crashes(self):
        """What tells of a program that crashed: the tracer, an exit code, a line of a log or of a refusal. A program that finds no memory before its first line
        may, where that is the fault."""
        may = self.fault.split()[0] if self.fault and "mmap" in self.fault else None
        told = [line for line in self.struck_path.read_text().splitlines() if line.startswith("signal") and line.split()[1] != may]
        ended = [f"{part} ended with {code}" for part, code in self.ends if is_crash(code) and not (may and self.concerns(part))]
        said = [line for text in [*self.all_logs().values(), *self.refused] for line in SAYS_CRASH.findall(text)]
        # what qmail-local says of a program that SIGKILL ended, ours as well
        return told + ended + ([] if may else [line for line in said if not (self.tears() and "A_program_of_the_dot-qmail_file_crashed" in line)])

    # -- what arrived -----------------------------------------------------------
    def boxes(self):
        ana, luis = self.home / "home/ana", self.home / "home/luis"
        return {"maildir": [*(ana / "Maildir/new").iterdir()], "bounce": [*(ana / "Bounces/new").iterdir()],
                "program": [*(ana / "got").glob("*.whole")], "forward": [*(luis / "Maildir/new").iterdir()],
                "mbox": [p for p in [luis / "Mailbox"] if p.exists()],
                "rubbish": [*(ana / "Maildir/tmp").iterdir(), *(ana / "Bounces/tmp").iterdir(), *(luis / "Maildir/tmp").iterdir()]}

    def tears(self):
        """Whether a process may be killed while it writes an mbox."""
        return not self.fault or self.fault.split()[4:5] == ["kill"]

    def arrived(self, at_last=False):
        """{(box, tag): how often}; what is there in part only breaks a promise: at the end of an mbox, at last."""
        found = collections.Counter()
        for box, paths in self.boxes().items():
            for path in paths if box != "rubbish" else []:
                key = path, path.stat().st_size
                if key not in self.seen:
                    octets = path.read_bytes()
                    texts = re.split(rb"(?m)^(?=From )", octets)[1:] if box == "mbox" else [octets]
                    try:
                        self.seen[key] = [self.whole(box, path.name, text) for text in texts]
                    except Broken:
                        if box != "mbox" or at_last and not self.tears():
                            raise
                        continue
                for tag in self.seen[key]:
                    found[box, tag] += 1
        for message in self.far.messages:
            octets = fake_smtp.undot(message.octets).replace(b"\r\n", b"\n")
            if self.name + b"-" in octets:
                found["far", self.whole("far", "SMTP", octets)] += 1
        return found

    def whole(self, box, name, octets):
        """The tag of what lies there."""
        tag = re.search(rb"(?m)^Subject: (run\d+-\w+-\d+)$", octets)
        if box == "bounce":
            return self.bounced(octets, tag)
        if not tag or tag[1] not in self.messages:
            raise Broken(f"{box}: {name} is nothing that was submitted: {octets[:300]}")
        body = self.messages[tag[1]].split(b"\n\n", 1)[1]
        if not octets.rstrip(b"\n").endswith(body.rstrip(b"\n")) or b"\n\n" + body not in octets:
            raise Broken(f"{box}: {name} is not whole: {len(octets)} octets, {octets[-300:]}")
        return tag[1]

    @staticmethod
    def bounced(octets, tag):
        failed = set(re.findall(rb"(?m)^Final-Recipient: rfc822; *(\S+)", octets))
        if failed != {local("nobody-here").encode()}:
            raise Broken(f"a bounce that should not be: {failed}: {octets[:3000].decode(errors='replace')}")
        if not tag:
            raise Broken(f"a bounce of what was not submitted: {octets[:3000]}")
        return tag[1]

    # -- until all is done ---------------------------------------------------------
    def all_logs(self):
        return {p.name: p.read_text(errors="replace") for p in (self.home / "output").iterdir()}

    def finish(self, mails, lasting=False, disturb=None, waiting=0):
        """Waits until what was accepted has arrived; returns the seconds that it took, and what arrived. waiting: so many messages are
        deferred on purpose; then no time comes before it would."""
        began = time.monotonic()
        calm_at = began + LASTING if lasting else None
        for m in mails:
            m.thread.start()
        if disturb:
            disturb(self)
        while True:
            now = time.monotonic()
            if calm_at and now > calm_at:
                calm_at = None
                self.calm()
            for m in mails:
                if m.failure:
                    raise m.failure
            if self.failure:
                raise self.failure
            if all(not m.thread.is_alive() for m in mails) and not calm_at and not self.missing(mails):
                break
            if not waiting and not calm_at:
                self.poke_if_asked(lasting)
            if now - began > LIMIT and (now - began > LIMIT + TOLD_LATER or "it is told later" not in self.log("qmail-queued")):
                raise Broken(f"hangs: missing {self.missing(mails)}, submitting {[m.name for m in mails if m.thread.is_alive()]}: {self.log('qmail-start')[-1500:]}")
            time.sleep(0.01)
        took = time.monotonic() - began
        self.until_left(waiting, lasting)
        return took, self.arrived(at_last=True)

    def poke(self):
        if not self.starts["send"].is_alive():  # one that starts knows no SIGALRM yet
            with contextlib.suppress(ProcessLookupError):
                self.running["send"].send_signal(signal.SIGALRM)

    def poke_if_asked(self, lasting):
        """Tells qmail-send that all is due, where its log has said that something waits, or it was started again: until it has heard it while
        nothing was under way, since the signal is not for a message of which a delivery runs. lasting: always, for a fault that lasts may
        have been the log's."""
        if time.monotonic() - self.poked < POKE:
            return
        log = self.log("qmail-start")
        asks = len(WAITS.findall(log)), self.restarts
        if lasting or asks[0] and asks != self.heard:
            if log == self.log_then and IDLE.search(log):
                self.heard = asks
            self.poked, self.log_then = time.monotonic(), log
            self.poke()

    def missing(self, mails):
        found = self.arrived()
        return [(box, m.accepted) for m in mails if m.accepted for box in m.where if not found[box, m.accepted]]

    def until_left(self, waiting, lasting):
        end = time.monotonic() + END
        while not (done := self.run("qmail-qstat")).stdout.startswith(b"messages in queue: %d\n" % waiting):
            if time.monotonic() > end:
                raise Broken(f"messages stay in the queue: {done.stdout} {done.stderr}")
            if not waiting:
                self.poke_if_asked(lasting)
            time.sleep(0.02)

    def end_run(self, check=True):
        """Ends the daemons in order: the keeper last, which qmail-send needs to the end, and which is started again until then."""
        wrong = []
        for name in ("smtpd", "send", "rcptd", "keeper"):
            with self.lock:
                self.ending.add(name)
                process = self.running[name]
            self.starts[name].join(END)  # one that has just been started again knows no SIGTERM yet
            if process.poll() is None:
                process.terminate()
            try:
                code = process.wait(END)
                self.ends.append((name, code))
                # a fault that strikes now ends a daemon as it would at any time: it says so
                has_said = code == 111 and re.search(r"(?m)^qmail-\w+: fatal: |alert: lost qmail-", "\n".join(self.all_logs().values()))
                if code and not self.tears() and not has_said:
                    wrong.append(f"{name} ended with {code} on SIGTERM")
            except subprocess.TimeoutExpired:
                wrong.append(f"{name} does not end")
                process.kill()
                process.wait()
        self.over.set()
        self.supervisor.join()
        self.running.clear()
        self.listener.close()
        end = time.monotonic() + 5
        while (left := processes_of(self.sessions, self.home)) and time.monotonic() < end:
            time.sleep(0.01)
        for pid, _ in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if left:
            wrong.append(f"processes left: {left}")
        self.sessions = set()
        if os.listdir(self.home / "queue/damaged"):
            wrong.append(f"set aside as damaged: {os.listdir(self.home / 'queue/damaged')}")
        if check and wrong:
            raise Broken("; ".join(wrong))

    def stop(self):
        self.over = getattr(self, "over", threading.Event())
        if self.running:
            self.end_run(check=False)
        if self.far:
            self.far.close()


# A refusal that no program said: nobody took the connection, or it was lost; exit codes and texts of a submitter, exceptions of smtplib.
UNSPOKEN = re.compile(r"^\((?:62|74), |the queue does not answer|communication with mail server failed|^\w+\((?!4\d\d, )")
TROUBLE = re.compile(r"(?m)^(?!.* session pid=.* end=quit ).*(?:alert|warning|fatal|unable|cannot|deferral|deferred|failure|lost|rror| session pid=).*$")
WAITS = re.compile("deferral: |warning: ")
IDLE = re.compile(r"status: local 0/\d+ remote 0/\d+\n(?!(?s:.*)status: )")


class Result:
    def __init__(self, fault):
        self.fault, self.broken, self.struck, self.took, self.twice, self.restarts, self.codes, self.crashes, self.refusals = fault, None, [], 0, [], 0, [], [], []
        self.logs, self.spared = {}, []

    def has_come(self):
        """Whether the call came about to which the fault was to happen."""
        return bool(self.struck or self.spared)

    def __str__(self):
        return f"{self.fault}: {self.broken}; struck {self.struck[:2]}, codes {self.codes}"


def trouble(logs):
    """Lines that tell of trouble, by how often each was said, numbers aside. What is said of a delivery is said of a message's recipient: one
    fault may defer all who wait for the same."""
    lines = collections.Counter()
    for text in logs.values():
        whose = {}
        for line in text.splitlines():
            about = re.match(r"(?:starting )?delivery (\d+): ", line)
            if about and line.startswith("starting"):
                whose[about[1]] = line[about.end():]
            elif TROUBLE.match(line) and not (about and "failure: " in line):  # nobody-here
                lines[re.sub(r"\d+", "N", line), about and whose.get(about[1])] += 1
    return lines


def make(world, fault, mails=(Inject, Queue, Smtp), disturb=None, traced=True):
    """One run with one fault. disturb: called with the world while mail is submitted. Returns a Result."""
    result = Result(fault)
    lasting = bool(fault) and fault != "-" and fault.split()[3] == "0"
    try:
        world.begin(fault, traced=traced)
        try:
            made = [kind(world, n, n * SPREAD if disturb else 0) for n, kind in enumerate(mails)]
            result.took, found = world.finish(made, lasting, disturb)
            result.twice = [(box, tag.decode()) for (box, tag), times in found.items() if times > 1]
            result.refusals = [r for m in made for r in m.refusals]
        except BaseException:
            world.end_run(check=False)
            raise
        world.end_run()
        check_logs(world, result, lasting)
    except Exception as e:
        result.broken = str(e) if isinstance(e, Broken) else traceback.format_exc()
    result.logs, result.codes, result.restarts, result.crashes = world.all_logs(), world.codes, world.restarts, world.crashes()
    result.struck, result.spared = (world.told("struck"), world.told("spared")) if fault != "-" else ([], [])
    return result


# --- without a tracer -----------------------------------------------------------------------------------------------------


def restarts(world, seed):
    """Daemons are ended, killed and stopped at random while the others run."""
    def disturb(world):
        rng = random.Random(seed)
        for _ in range(DISTURBANCES):
            time.sleep(rng.uniform(0, 0.1))
            sig = rng.choice((signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP))
            if sig != signal.SIGSTOP:
                with contextlib.suppress(ProcessLookupError):
                    world.running[rng.choice(sorted(world.running))].send_signal(sig)
                continue
            pids = [pid for pid, _ in processes_of(world.sessions, world.home)]
            stopped = rng.choice(pids)
            with contextlib.suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGSTOP)
                time.sleep(rng.uniform(0, 0.3))
                os.kill(stopped, signal.SIGCONT)

    result = make(world, None, [kind for _ in range(SEVERAL) for kind in (Inject, Queue, Smtp)], disturb, traced=False)
    result.fault, result.struck = f"restarts {seed}", [None]
    return result


class NoDisk(Exception):
    """No disk of its own can be made here."""


@contextlib.contextmanager
def small_disk(top):
    """A file system in an image, mounted at the path that it gives."""
    if "FAULTS_SPACE" not in os.environ:
        raise NoDisk("it takes root and a mount namespace")
    image, disk = top / "image", top / "disk"
    disk.mkdir()
    with open(image, "wb") as file:
        file.truncate(DISK_MIB << 20)
    for command in (["mkfs.ext4", "-q", "-m", "0", image], ["mount", "-o", "loop", image, disk]):
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            raise NoDisk(done.stderr.decode().strip())
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
        image.unlink()


def fill(path):
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    os.sync()


def full(installation, top, injector):
    """Queue and homes are on a disk that is full, and then is not: small mail is accepted, large mail refused for now, what cannot
    be delivered waits."""
    def disturb(world):
        end = time.monotonic() + LIMIT
        refusals = []
        while "#4.3.1" not in world.log("qmail-start") or not refusals:
            if time.monotonic() > end:
                raise Broken(f"the disk is full, and nobody says so: {world.log('qmail-start')[-1000:]}, {refusals}")
            refusals = [m.refusals for m in mails if isinstance(m, Queue) and m.refusals]
            time.sleep(0.01)
        if any(isinstance(m, Inject) and m.refusals for m in mails):
            raise Broken(f"small mail was refused: {[m.refusals for m in mails]}")
        filler.unlink()

    mails = []

    def begin(kind, *args):
        """A mail that is known to disturb(), and before the first the end of all room."""
        if not mails:
            fill(filler)
        mails.append(kind(*args))
        return mails[-1]

    with small_disk(top) as disk:
        world = new_world(installation, disk, injector)
        shutil.rmtree(world.home / "output")
        (top / "output").mkdir()
        (world.home / "output").symlink_to(top / "output")
        filler = disk / "filler"
        try:
            result = make(world, None)  # makes the ring
            if not result.broken:
                result = make(world, None, [functools.partial(begin, kind) for kind in (Inject, Queue, Smtp)], disturb)
        finally:
            world.stop()
    result.fault, result.struck = "full", [None]
    return result


# --- a clock that steps ---------------------------------------------------------------------------------------------------


class Later(Queue):
    """What cannot be delivered until the file go is there."""
    to, size = "ana-later", 2000


def set_clock(world, seconds):
    """By so many seconds from the right time."""
    world.write("clock.new", f"{seconds}\n").rename(world.home / "clock")


def flows(world, number):
    """Other mail is taken, and arrives once."""
    mails = [kind(world, number) for kind in (Small, Smtp)]
    _, found = world.finish(mails, waiting=1)
    assert all(found[box, m.accepted] == 1 for m in mails for box in m.where)


def attempts(world):
    return world.log("qmail-start").count("to local ana-later@")


def deferred(world, times):
    wait_for(lambda: world.log("qmail-start").count("deferral: ") == times, what=f"{times} deferrals:\n{world.log('qmail-start')[-2000:]}")


def step_clock(world):
    """A step forward makes what waits due once. After a step back it waits as long as it would have, not a day longer."""
    world.write("clock", "0\n")
    world.write("home/ana/.qmail-later", "|test -e go || exit 111\n./Maildir/\n", 0o600)
    world.begin(NOTHING, clock=world.home / "clock")
    later = Later(world)
    later.thread.start()
    deferred(world, 1)
    set_clock(world, DAY)
    flows(world, 1)
    deferred(world, 2)
    # the fields have a day of one digit without a 0
    assert time.strftime(" %-d %b %Y ", time.gmtime(time.time() + DAY)) in world.maildir()[-1].decode(), "the clock is not that of the test"
    set_clock(world, 0)
    flows(world, 2)
    assert attempts(world) == 2
    set_clock(world, 2 * 3600)  # after a day, the next attempt is 5,400 seconds later
    flows(world, 3)
    deferred(world, 3)
    set_clock(world, -DAY)
    flows(world, 4)
    assert attempts(world) == 3
    world.write("home/ana/go", "")
    set_clock(world, 0)
    world.poke()
    _, found = world.finish([])
    assert found["maildir", later.accepted] == 1 and attempts(world) == 4 and "failure: " not in world.log("qmail-start")
    world.end_run()
    assert not world.crashes()


def alone(check, fault, *args):
    """The Result of a check that is a run of its own, and raises what is wrong."""
    result = Result(fault)
    result.struck = [None]
    try:
        check(*args)
    except (Exception, pytest.fail.Exception):
        result.broken = traceback.format_exc()
    return result


def run(world, fault):
    """One run, as the fault is called in KINDS. Returns a Result."""
    kind, _, which = fault.partition(" ")
    if kind == "restarts":
        return restarts(world, int(which))
    if kind == "clock":
        return alone(step_clock, fault, world)
    if kind == "nonsense":
        return alone(nonsense.check, fault, world, *which.split(" ", 1))
    return make(world, fault)


# --- what is logged -------------------------------------------------------------------------------------------------------


def is_mute(world):
    """Whether a program could not say anything: the log itself was struck, or it found no memory before its first line."""
    return any("/output/" in word for line in world.told("struck") for word in line) or \
        "mmap" in world.fault and any(is_crash(code) for _, code in world.codes)


def unlogged(world, result):
    """Refusals of which the program that refused said nothing: the keeper to those who submit, qmail-smtpd to clients. Where programs are
    killed, those that are a reply, not a connection that ended, and not of the program that was killed: its log may lack the last line."""
    logs, fault = world.all_logs(), world.fault or ""
    if world.concerns("client"):  # it is its own, and was looked at
        return []
    refusals = [r for r in result.refusals if not (world.tears() and UNSPOKEN.search(str(r)))]
    by = {"qmail-queued": [r for r in refusals if not isinstance(r, str)], "qmail-smtpd": [r for r in refusals if isinstance(r, str)]}
    # a submitter that went away says nothing to the keeper's log
    if re.match(r"qmail-queued recvmsg.* 104$|qmail-queued sendmsg.* 32$", fault):
        del by["qmail-queued"]
    if world.tears():
        by.pop(fault.split(" ")[0], None)
    return [(program, refusals) for program, refusals in by.items() if refusals and not TROUBLE.search(logs[program])]


def check_logs(world, result, lasting):
    """What the logs and the places where files are made look like afterwards. Restarts at random, and kills, leave what they leave."""
    if world.crashes():
        raise Broken(f"a crash: {world.crashes()}")
    said, left, missing = trouble(world.all_logs()), world.boxes()["rubbish"], unlogged(world, result)
    most = max(said.values(), default=0)
    if world.fault and (lasting and sum(said.values()) > STORM_MAX or most > (STORM_SAME_MAX if lasting else SAME_MAX)):
        raise Broken(f"too much is logged: {said.most_common(5)}")
    if world.tears():
        if missing:
            raise Broken(f"a refusal that nobody logged: {missing}")
        return
    if not is_mute(world) and (not said and world.codes or missing):
        raise Broken(f"trouble that nobody logged: {missing}, {world.codes}")
    if left and "unlink" not in world.fault and not lasting:
        raise Broken(f"left behind: {left}")


# --- which faults there are -----------------------------------------------------------------------------------------------

Times = collections.namedtuple("Times", "least most")  # not all runs are alike


def counts(world):
    """How often each program makes each call in a run: {(name, call): Times}."""
    runs = []
    for run in range(1 + COUNTING):
        result = make(world, "-")
        if result.broken:
            raise Broken(f"without a fault: {result.broken}")
        lines = [line.split() for line in world.struck_path.read_text().splitlines() if line.startswith("call qmail-")]
        if run:  # the first makes the ring, too
            runs.append(collections.Counter((name, call) for _, name, call in lines))
    unknown = {call for _, call in set().union(*runs)} - FAULTS.keys() - UNTRIED
    if unknown:
        raise Broken(f"neither in FAULTS nor in UNTRIED: {sorted(unknown)}")
    return {key: Times(min(r[key] for r in runs), max(r[key] for r in runs)) for key in set().union(*runs)}


def count_calls(installation, top, injector):
    world = new_world(installation, top, injector)
    try:
        return counts(world)
    finally:
        world.stop()
        shutil.rmtree(top / "tambo")


def single(found):
    """Each call once, with each error."""
    return [fault_of(name, call, n, what) for (name, call), times in sorted(found.items())
            if call not in UNTRIED for n in range(1, times.most + 1) for what in FAULTS[call]]


def kills(found):
    """SIGKILL before each call, and before each other."""
    return [fault_of(name, call, n, "kill") for (name, call), times in sorted(found.items()) if call not in UNTRIED for n in range(1, times.most + 1)]


def lasting(found):
    """From a call on they all fail, for a while."""
    made = []
    for name in sorted({name for name, _ in found}):
        for calls, errors in LASTING_FAULTS:
            times = sum(found[name, call].most for call in calls.split("+") if (name, call) in found)
            made += [fault_of(name, calls, n, what, 0) for what in errors for n in sorted({1, *range(1, times + 1, 1 + times // 6)}) if times]
    return made


def is_sure(found, fault):
    """Whether its call came about in each run that was counted."""
    name, calls, first = fault.split()[:3]
    return int(first) <= sum(found[name, call].least for call in calls.split("+") if (name, call) in found)


def seeds(_):
    return [f"restarts {seed}" for seed in range(1000)]


COUNTED = {"single", "kill", "lasting"}	# kinds whose faults are told by counts of calls
KINDS = {"single": single, "kill": kills, "lasting": lasting, "restarts": seeds, "full": lambda _: ["full"],
         "clock": lambda _: ["clock"], "nonsense": lambda _: [f"nonsense {spawner} {what}" for spawner, what in nonsense.ALL]}


def slice_of(text):
    """I/K as a slice of a list: each K-th from the I-th, which is 1 or more."""
    first, each = map(int, text.split("/"))
    if not 1 <= first <= each:
        raise argparse.ArgumentTypeError("I/K, from 1/K to K/K")
    return slice(first - 1, None, each)


def evenly(faults, count, seed=0):
    """As many, evenly chosen: other ones with each seed."""
    if len(faults) <= count:
        return faults
    return [faults[(len(faults) * i // count + seed * 7919) % len(faults)] for i in range(count)]


# --- the program ---------------------------------------------------------------------------------------------------------------


def new_world(installation, top, injector):
    world = make_tree(installation, World, top / "tambo")
    world.prepare(injector)
    return world


def run_until_it_comes(world, fault):
    """Its call need not come about in each run: if not, once more."""
    result = run(world, fault)
    return result if result.broken or result.has_come() else run(world, fault)


def some(installation, top, injector, faults, first=False, verbose=False):
    world = new_world(installation, top, injector)
    results = []
    try:
        for fault in faults:
            results.append(run_until_it_comes(world, fault))
            if verbose or results[-1].broken:
                print(f"  {results[-1]}", flush=True)
            if results[-1].broken:  # and what it left must not be taken for the next one's
                world.stop()
                shutil.rmtree(top / "tambo")
                world = new_world(installation, top, injector)
            if first and results[-1].broken:
                break
    finally:
        world.stop()
    return results


def some_with(jobs, installation, top, injector, faults, **more):
    def one(part):
        place = top / f"part.{part}"
        place.mkdir()
        return some(installation, place, injector, faults[part::jobs], **more)

    return [result for its in in_parts(jobs, one) for result in its]


def summary(kind, results, found, seconds):
    """Says what came of the faults of a kind. Returns how many broke a promise, and whether too many never came about."""
    struck = [r for r in results if r.struck]
    broken = [r for r in results if r.broken]
    twice = collections.Counter(r.fault.split()[0] for r in results if r.twice)
    slow = sorted((r for r in results if r.took > 5), key=lambda r: -r.took)
    print(f"{kind}: {len(results)} faults, {len(struck)} struck, {sum(bool(r.refusals) for r in results)} refused mail, "
          f"{sum(bool(r.restarts) for r in results)} ended a daemon, {len(broken)} broken, {seconds:.0f} seconds")
    print(f"    delivered twice after a fault of: {dict(twice)}; longer than 5 seconds: {[(r.fault, round(r.took)) for r in slow[:20]]}", flush=True)
    missed = [r.fault for r in results if not r.has_come()]
    sure = [fault for fault in missed if is_sure(found, fault)]
    if missed:
        print(f"    never came about: {len(missed)}, of which {len(sure)} did in each run that was counted: {sure}; "
              f"others: {[fault for fault in missed if fault not in sure]}", flush=True)
    return len(broken), len(sure) > 1 + MISSED_SHARE * len(results)


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("-n", type=int, help=f"faults of each kind, evenly chosen; unless told {NUMBERS}")
    words.add_argument("-s", type=int, default=0, help="seed: other faults")
    words.add_argument("-p", type=slice_of, metavar="I/K", help="part I of K of all faults of each kind, in the place of -n")
    words.add_argument("-j", type=int, default=os.cpu_count(), help="processes")
    words.add_argument("-k", choices=KINDS, action="append", help="this kind only")
    words.add_argument("-m", help="only faults that match this expression")
    words.add_argument("-o", help="this fault alone; prints the logs")
    words.add_argument("-l", action="store_true", help="says which faults there are")
    words.add_argument("-d", help="keeps the results (pickle) in this file")
    words.add_argument("--first", action="store_true", help="end at the first that is broken")
    asked = words.parse_args()
    broken, too_many, not_tried, kept = 0, False, [], {}
    pytest_configure()
    with new_installation() as (installation, top):
        injector = build_injector(top)
        if asked.o:
            (result,) = some(installation, top, injector, [asked.o])
            print(*(f"--- {name}\n{text}" for name, text in result.logs.items()), result, f"took {result.took:.1f}, twice {result.twice}, refusals {result.refusals}", sep="\n")
            return EXIT_BROKEN if result.broken else 0
        kinds = asked.k or KINDS
        found = count_calls(installation, top, injector) if COUNTED & set(kinds) else {}
        for kind in kinds:
            faults = [f for f in KINDS[kind](found) if not asked.m or re.search(asked.m, f)]
            if asked.l:
                print(*faults, f"{kind}: {len(faults)}", sep="\n")
                continue
            chosen = faults[asked.p] if asked.p else evenly(faults, asked.n or NUMBERS[kind], asked.s)
            began = time.monotonic()
            if kind == "full" and chosen:
                try:
                    results = [full(installation, top, injector)]
                    if results[0].broken:
                        print(f"  {results[0]}")
                except NoDisk as e:
                    not_tried.append(f"{kind}: no small disk can be made here: {e}")
                    continue
            else:
                results = some_with(asked.j, installation, top, injector, chosen, first=asked.first)
            for part in top.glob("part.*"):
                shutil.rmtree(part)
            kept[kind] = results
            wrong, has_missed = summary(kind, results, found, time.monotonic() - began)
            broken, too_many = broken + wrong, too_many or has_missed
        if asked.d:
            pathlib.Path(asked.d).write_bytes(pickle.dumps(kept))
    if too_many:
        print("too many faults never came about")
    for why in not_tried:
        print(f"not tried: {why}")
    return EXIT_BROKEN if broken else EXIT_MISSED if too_many else EXIT_NOT_TRIED if not_tried else 0


def enter_space():
    """What is mounted is mounted for this run alone, and goes with it."""
    unshare = ["unshare", "-m"]
    if os.getuid() or "FAULTS_SPACE" in os.environ or subprocess.run([*unshare, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        return
    os.environ["FAULTS_SPACE"] = "own"
    os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])


if __name__ == "__main__":
    enter_space()
    sys.exit(main())
