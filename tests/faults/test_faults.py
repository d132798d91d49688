"""Faults, the short form of `make faults`: an even choice of them, that wrong programs are found, and what a step of the clock, a
spawner that talks nonsense and a full disk do.

$FAULTS says how many of each kind (default 8)."""
import contextlib
import errno
import functools
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import types

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
import fake_smtp  # noqa: E402
import faults  # noqa: E402
from conftest import *  # noqa: E402,F401,F403
import sending  # noqa: E402
from conftest import BUILD, HOST, new_directory, wait_for  # noqa: E402
from probe import is_sanitized  # noqa: E402
from smtp_session import capped  # noqa: E402

COUNT = int(os.environ.get("FAULTS", "8"))
TRIES = 5	# how many a fault that does not come about is replaced by, at most
DAY = 86400
FOUND = {  # what once broke a promise, where the count of calls is always the same
    "the keeper waits for connections": "qmail-queued epoll_ctl:add 3 3 error 12",
    "the keeper forgets a reader whose child still runs": "qmail-queued epoll_ctl:del 9 9 error 12",
    "the listener's children cannot be heard": "qmail-smtpd recvmsg:packet 6 6 error 104",
}
ASKED_MAX = 100  # requests to a spawner about two recipients


@pytest.fixture(scope="module")
def injector():
    if not shutil.which("cc"):
        pytest.skip("no compiler for the injector")
    if platform.machine() != "x86_64":
        pytest.skip("the registers of this architecture are not known")
    if is_sanitized(BUILD / "bin/qmail-queued"):
        pytest.skip("the sanitizers' own calls would fail")
    top = new_directory()
    yield faults.build_injector(top)
    shutil.rmtree(top)


@pytest.fixture
def world(new_tree, injector):
    made = new_tree(faults.World)
    made.prepare(injector)
    return made


# --- one call of one program -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def calls(installation, injector):
    """How often each program makes each call."""
    top = new_directory()
    yield faults.count_calls(installation, top, injector)
    shutil.rmtree(top)


@pytest.mark.xdist_group("faults")  # the calls are counted once
@pytest.mark.parametrize("kind, count", [("single", COUNT), ("kill", COUNT // 2), ("lasting", COUNT // 3), ("restarts", 1)])
def test_faults(installation, injector, calls, kind, count):
    """An even choice, another one each day; a call that does not come this time is replaced by another."""
    chosen = faults.evenly(faults.KINDS[kind](calls), TRIES * count, int(time.time()) // DAY)
    top = new_directory()
    results = []
    try:
        for part in range(TRIES):
            missing = count - sum(bool(r.struck) for r in results)
            if missing:
                results += faults.some(installation, top / str(part), injector, chosen[part::TRIES][:missing])
    finally:
        shutil.rmtree(top)
    assert not [str(r) for r in results if r.broken]
    assert sum(bool(r.struck) for r in results) == count, "the faults do not come about"


@pytest.mark.parametrize("fault", FOUND.values(), ids=FOUND)
def test_a_fault_that_was_found(world, fault):
    result = faults.make(world, fault)
    assert result.struck and result.broken is None


SHORTENS = '#!/bin/sh\nhead -c 1000 >half.$$\nexec libexec/qmail-local "$@" <half.$$\n'
LOSES = "#!/bin/sh\ncat >/dev/null\ncat <&1 >/dev/null\n"
REFUSES = LOSES + "exit 31\n"
FAILS = '#!/bin/sh\ncase "$*" in *" bounces "*) exec libexec/qmail-local "$@";; esac\necho no\nexit 100\n'


@pytest.mark.parametrize("program, script, what", [
    ("qmail-local", SHORTENS, "is not whole"), ("qmail-queue", LOSES, "hangs: missing [("), ("qmail-queue", REFUSES, "a permanent refusal"),
    ("qmail-local", FAILS, "a bounce that should not be"),
], ids=["shortens", "loses", "refuses", "fails"])
def test_wrong_programs_are_found(world, monkeypatch, program, script, what):
    """make faults-mutants has those that are wrong only where a call fails."""
    monkeypatch.setattr(faults, "LIMIT", 3)
    world.replace(program, script)
    assert what in faults.make(world, None).broken


CRASHES = '#!/bin/sh\ntest -e crashed || { >crashed; kill -SEGV $$; }\nexec libexec/%s "$@"\n'


@pytest.mark.parametrize("program", ["qmail-local", "qmail-remote", "qmail-queue"])
@pytest.mark.parametrize("fault, traced", [("qmail-rcptd read:file 1 1 error 4", True), (None, True), (None, False)], ids=["other", "none", "untraced"])
def test_a_crash_is_found(world, program, fault, traced):
    """Of a program that the fault is not about, and that is replaced: so the mail is delivered all the same."""
    world.replace(program, CRASHES % program)
    result = faults.make(world, fault, traced=traced)
    assert "crash" in result.broken and result.crashes


@pytest.mark.parametrize("name", faults.World.DAEMONS)
def test_a_crash_of_a_daemon_is_found(world, name):
    """Without a tracer."""
    result = faults.make(world, None, disturb=lambda w: w.running[name].send_signal(signal.SIGABRT), traced=False)
    assert result.broken == f"a crash: ['{name} ended with -6']"


@pytest.mark.parametrize("verb", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "end", "QUIT"])
def test_a_permanent_refusal_by_smtp_is_found(verb):
    """One for now is none."""
    for text in (b"554 5.3.0 no", b"451 4.3.0 later"):
        server = fake_smtp.Server(lambda session, at, line, text=text: text if at == verb else None)
        mail = faults.Smtp(types.SimpleNamespace(name=b"x", smtp_address=("127.0.0.1", server.port)))
        try:
            with pytest.raises(faults.Broken, match="permanent") if text.startswith(b"5") else contextlib.nullcontext():
                assert "later" in mail.submit(b"Subject: x\n\nx\n", None)
        finally:
            server.close()


def test_slices_are_all():
    """-p: each fault is in one part."""
    parts = [list(range(100))[faults.slice_of(f"{i}/7")] for i in range(1, 8)]
    assert sorted(sum(parts, [])) == list(range(100))


def test_full_disk():
    done = subprocess.run(["/usr/bin/python3", faults.__file__, "-k", "full"], check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=120, env={**os.environ, "BUILD": str(BUILD)})
    if b"skipped" in done.stdout:
        pytest.skip(done.stdout.decode())
    assert done.returncode == 0 and b"full: 1 faults" in done.stdout, done.stdout.decode()


# --- S20 of the hostile inputs: a quota is hit -------------------------------------------------------------------------------------
# Not one of the kernel: few kernels that tests run under have any, and setting it takes root.

@pytest.mark.parametrize("calls, says", [
    ("qmail-queued write:file 1 1", r"qmail-queued: .*large message \d+: Disk quota exceeded"),
    ("qmail-queued pwrite64:file 3 3", r"qmail-queued: alert: unable to write or flush the journal.*: Disk quota exceeded"),
    ("qmail-local write:file+writev:file 1 2", r"deferral: \S*Disk_quota_exceeded\._\(#4\.2\.2\)"),
], ids=["file of the queue", "journal", "box"])
def test_S20_quota_hit(world, monkeypatch, calls, says):
    """What meets it is refused or deferred for now, nothing is there in part, and all arrives once there is room. Every program
    has a limit of memory."""
    monkeypatch.setattr(world, "popen", functools.partial(world.popen, preexec_fn=capped()))
    assert faults.make(world, None).broken is None  # makes the ring
    result = faults.make(world, f"{calls} error {errno.EDQUOT}")
    assert result.struck and result.broken is None, result
    assert re.search(says, "\n".join(result.logs.values())), result.logs


# --- the clock ------------------------------------------------------------------------------------------------------------

class Later(faults.Queue):
    """What cannot be delivered until the file go is there."""
    to, size = "ana-later", 2000


@pytest.fixture
def clock(world):
    """A function that sets the clock of a world whose programs run, by so many seconds from the right time."""
    path = world.write("clock", "0\n")
    world.write("home/ana/.qmail-later", "|test -e go || exit 111\n./Maildir/\n", 0o600)
    world.begin("nothing listen 1 1 hold", path)

    def set_clock(seconds):
        world.write("clock.new", f"{seconds}\n").rename(path)
    yield set_clock
    if world.running:
        world.end_run()


def attempts(world):
    return world.log("qmail-start").count("to local ana-later@")


def flows(world, number, waiting=1):
    """Other mail is taken, and arrives once."""
    mails = [kind(world, number) for kind in (faults.Small, faults.Smtp)]
    _, found = world.finish(mails, waiting=waiting)
    assert all(found[box, m.accepted] == 1 for m in mails for box in m.where)


def deferred(world, times):
    wait_for(lambda: world.log("qmail-start").count("deferral: ") == times, what=f"{times} deferrals:\n{world.log('qmail-start')[-2000:]}")


def test_a_clock_that_steps_a_day(world, clock):
    """A step forward makes what waits due once. After a step back it waits as long as it would have, not a day longer."""
    later = Later(world)
    later.thread.start()
    deferred(world, 1)
    clock(DAY)
    flows(world, 1)
    deferred(world, 2)
    assert time.strftime("%d %b %Y", time.gmtime(time.time() + DAY)) in world.maildir()[-1].decode(), "the clock is not that of the test"
    clock(0)
    flows(world, 2)
    assert attempts(world) == 2
    clock(2 * 3600)  # after a day, the next attempt is 5,400 seconds later
    flows(world, 3)
    deferred(world, 3)
    clock(-DAY)
    flows(world, 4)
    assert attempts(world) == 3
    world.write("home/ana/go", "")
    clock(0)
    world.poke()
    _, found = world.finish([])
    assert found["maildir", later.accepted] == 1 and attempts(world) == 4 and "failure: " not in world.log("qmail-start")


# --- a spawner that talks nonsense ---------------------------------------------------------------------------------------------

def frame(kind, payload):
    return struct.pack(">I", len(payload)) + kind + payload


def to(number, *strings):
    return struct.pack(">I", number) + b"".join(s + b"\0" for s in strings)


# what qmail-lspawn answers to the request with that number
NONSENSE = {
    "a frame that is none": lambda number: frame(b"Q", to(number)),
    "a frame that is too long": lambda number: b"\xff\xff\xff\xffK",
    "no number": lambda number: frame(b"K", b"\0"),
    "a number that nobody gave": lambda number: frame(b"Z", to(number + 77) + b"later"),
    "two answers": lambda number: 2 * frame(b"Z", to(number) + b"later"),
    "no facts": lambda number: frame(b"K", to(number)),
    "too few facts": lambda number: frame(b"K", to(number, b"ana", b"1000")),
    "facts without an end": lambda number: frame(b"K", to(number, b"ana", b"1000", b"1000", b"/home/ana", b"") + b"x"),
    "no user": lambda number: frame(b"K", to(number, b"", b"1000", b"1000", b"/home/ana", b"", b"")),
    "a user that is no number": lambda number: frame(b"K", to(number, b"ana", b"-1", b"99999999999", b"/home/ana", b"", b"")),
    "too many facts": lambda number: frame(b"K", to(number, *[b"ana"] * 1000)),
    "octets": lambda number: bytes(range(256)) * 20,
    "a file for a worker": "/dev/null",
    "a worker of somebody else": "socket",
}


@pytest.mark.parametrize("what", NONSENSE)
def test_a_spawner_that_talks_nonsense(tree, what):
    """Mail is deferred, or qmail-send ends and says why, to be started again with another: nothing fails for good."""
    world = sending.World(tree)
    tree.write("control/locals", f"{HOST}\n")
    try:
        asked = spoil(world, NONSENSE[what])
        world.start()
        message = world.message(f"ana@{HOST}", f"luis@{HOST}")
        world.until(lambda: len(asked) > ASKED_MAX or world.process.poll() is not None or "deferral: " in world.log or message.ended)
        if world.process.poll() is not None:
            world.logged("status: exiting")
            assert world.process.returncode == 111 and world.log.count("alert: lost qmail-lspawn: ") == 1
        else:
            world.quiet(0.1)
        assert not message.ended and "D" not in message.states.values() and "failure: " not in world.log
        assert len(asked) <= ASKED_MAX and len(world.log.splitlines()) < 50
    finally:
        world.close()


def spoil(world, nonsense):
    """qmail-lspawn answers nonsense to each request, or starts something that is no worker. Returns the list of requests."""
    asked, usual = [], world.spawner_frame

    def answer(channel, kind, payload):
        number = struct.unpack(">I", payload[:4])[0]
        asked.append(kind)
        spawner = world.spawners[channel]
        if callable(nonsense):
            spawner.out += nonsense(number)
            spawner.flush()
        elif kind == "S":
            fd = os.open(nonsense, os.O_RDWR) if nonsense != "socket" else socket.socket(socket.AF_UNIX).detach()
            user = payload[4:] if nonsense != "socket" else b"mallory"
            spawner.send("K", to(number, user, b"1000", b"1000", b"/home/x", b"", b""), fd)
            os.close(fd)
        else:
            usual(channel, kind, payload)
    world.spawner_frame = answer
    return asked
