"""Helpers of the tests of qmail-inject, sendmail and the programs around them."""
import re
import resource
import shutil
import subprocess

import pytest

from conftest import BUILD, Tree, make_tree, new_directory

DATE = rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d -0000"
IDENTIFIER = rb"<\d{14}\.\d+\.qmail@mail\.test\.example>"

# Stands in for qmail-queue (QMAILQUEUE): keeps what it gets, exits as the file "code" says.
RECORDER = """#!/bin/sh
exec 3<&1
cat > message.tmp && cat <&3 > envelope
mv message.tmp message
[ -e text ] && cat text >&6
[ -e code ] && exit $(cat code)
exit 0
"""

# Every variable that qmail-inject looks at, so that the caller's own never matter.
CLEAN = {name: None for name in (
    "QMAILUSER MAILUSER LOGNAME QMAILHOST MAILHOST QMAILNAME MAILNAME NAME QMAILSUSER QMAILSHOST QMAILDEFAULTDOMAIN "
    "QMAILDEFAULTHOST QMAILPLUSDOMAIN QMAILIDHOST QMAILMFTFILE QMAILQUEUE QMAILINJECT PROTO").split()}


class Injecting:
    """A tree whose mail goes to a recorder; host mail.test.example, domains dd.example and plus.example."""

    def __init__(self, tree: Tree):
        tree.need("qmail-inject", "sendmail", "mailsubj", "predate", "datemail")
        self.tree = tree
        self.home = tree.home
        self.own = set(p.name for p in tree.home.iterdir())
        self.reset()

    def reset(self):
        """As it was at first, but for what a test changed in bin/."""
        for path in self.home.iterdir():
            if path.name not in self.own:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(self.tree.control)
        self.tree.write("control/me", "mail.test.example\n")
        self.tree.write("control/defaultdomain", "dd.example\n")
        self.tree.write("control/plusdomain", "plus.example\n")
        self.recorder = self.tree.write("recorder", RECORDER, 0o755)

    def run(self, message, *args, program="qmail-inject", env=None, **more):
        message = message.encode() if isinstance(message, str) else message
        variables = CLEAN | {"QMAILQUEUE": str(self.recorder)} | (env or {})
        return self.tree.run(program, *args, input=message, env=variables, **more)

    def queued(self, message, *args, **more):
        """Runs it; returns (message, sender, [recipients]) as they came to the queue."""
        done = self.run(message, *args, **more)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        return self.record()

    def record(self):
        envelope = (self.home / "envelope").read_bytes()
        assert envelope.endswith(b"\0\0") and envelope[:1] == b"F"
        sender, *recipients = envelope[:-2].split(b"\0")
        assert all(r[:1] == b"T" for r in recipients)
        return (self.home / "message").read_bytes(), sender[1:], [r[1:] for r in recipients]

    def printed(self, message, *args, **more):
        """Runs it with -n; returns the whole output."""
        done = self.run(message, "-n", *args, **more)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    def refused(self, message, *args, code=100, says=b"", program="qmail-inject", name=b"qmail-inject", **more):
        """It exits with this code, says why in one line, and queues nothing: no envelope that has an end."""
        (self.home / "envelope").unlink(missing_ok=True)
        done = self.run(message, *args, program=program, **more)
        assert done.returncode == code, done
        assert done.stderr.startswith(name + b": ") and done.stderr.count(b"\n") == 1
        assert says in done.stderr
        envelope = self.home / "envelope"
        assert not envelope.exists() or not envelope.read_bytes().endswith(b"\0\0")
        return done


@pytest.fixture(scope="module")
def shared_injecting(installation):
    top = new_directory()
    yield Injecting(make_tree(installation, Tree, top / "tambo"))
    shutil.rmtree(top)


@pytest.fixture
def inject(shared_injecting):
    """One for all tests of a file, made fresh for each: they leave bin/ alone."""
    shared_injecting.reset()
    return shared_injecting


@pytest.fixture
def own_inject(tree):
    """One that is thrown away."""
    return Injecting(tree)


def fields(octets):
    """The fields of a header that ends at the first empty line, each with its folds, without the last LF."""
    header = octets.split(b"\n\n", 1)[0].rstrip(b"\n")
    return re.split(rb"\n(?![ \t])", header) if header else []


def named(octets, name):
    """The values of all fields of this name."""
    return [f.split(b":", 1)[1].strip() for f in fields(octets)
            if f.split(b":", 1)[0].strip().lower() == name.lower().encode()]


def names(octets):
    return [f.split(b":", 1)[0].decode() for f in fields(octets)]


def has_asan():
    """Whether the programs under test are built with the sanitizers, which need address space without end."""
    return b"__asan_init" in (BUILD / "bin/qmail-inject").read_bytes()


def cap_memory(octets):
    """preexec_fn that lets a program have no more than this for data, stack and everything mapped."""
    if has_asan():
        return None
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (octets, octets))


def feed(process, pieces):
    """Writes pieces until the process takes no more; returns (exit status, what it said on descriptor 2)."""
    try:
        for piece in pieces:
            process.stdin.write(piece)
        process.stdin.close()
    except BrokenPipeError:
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    return process.returncode, process.stderr.read()
