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
import subprocess
import sys
import time
import types

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
import fake_smtp  # noqa: E402
import faults  # noqa: E402
from conftest import *  # noqa: E402,F401,F403
import nonsense  # noqa: E402
from conftest import BUILD, new_directory  # noqa: E402
from probe import is_sanitized  # noqa: E402
from smtp_session import capped  # noqa: E402

COUNT = int(os.environ.get("FAULTS", "8"))
TRIES = 5	# how many a fault that does not come about is replaced by, at most
FOUND = {  # what once broke a promise, where the count of calls is always the same
    "the keeper waits for connections": "qmail-queued epoll_ctl:add 3 3 error 12",
    "the keeper forgets a reader whose child still runs": "qmail-queued epoll_ctl:del 9 9 error 12",
    "the listener's children cannot be heard": "qmail-smtpd recvmsg:packet 6 6 error 104",
}


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
    chosen = faults.evenly(faults.KINDS[kind](calls), TRIES * count, int(time.time()) // faults.DAY)
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


SUBMITTER, CLIENT = (53, ""), "SMTPDataError(451, b'4.3.0 later')"


@pytest.mark.parametrize("refusal, log, found", [
    (SUBMITTER, {"qmail-queued": "qmail-queued: warning: the journal is full"}, False), (CLIENT, {"qmail-smtpd": "qmail-smtpd: warning: x"}, False),
    (SUBMITTER, {"qmail-smtpd": "qmail-smtpd: warning: x"}, True), (CLIENT, {"qmail-queued": "qmail-queued: alert: x"}, True),
    (CLIENT, {"qmail-smtpd": "qmail-smtpd: session pid=1 end=quit errors=0"}, True), (CLIENT, {"qmail-smtpd": "qmail-smtpd: session pid=1 end=lost"}, False),
])
def test_a_refusal_that_nobody_logged_is_found(refusal, log, found):
    """Another program's line, or that of a session without fault, is not the line about it."""
    world = types.SimpleNamespace(fault="", all_logs=lambda: {"qmail-queued": "", "qmail-smtpd": "", **log},
                                  concerns=lambda name: False, tears=lambda: False)
    assert bool(faults.unlogged(world, types.SimpleNamespace(refusals=[refusal]))) == found


@pytest.mark.parametrize("fault, refusal, found", [
    ("qmail-send read:file 1 1 kill", CLIENT, True), ("qmail-smtpd read:file 1 1 kill", CLIENT, False), (None, CLIENT, True),
    (None, SUBMITTER, True), (None, (74, ""), False), (None, "SMTPServerDisconnected('Connection unexpectedly closed')", False),
])
def test_a_refusal_that_nobody_logged_is_found_among_kills(fault, refusal, found):
    """One that was said, by another program than the one that was killed."""
    world = types.SimpleNamespace(fault=fault, all_logs=lambda: {"qmail-queued": "", "qmail-smtpd": ""}, concerns=lambda name: False, tears=lambda: True)
    assert bool(faults.unlogged(world, types.SimpleNamespace(refusals=[refusal]))) == found


def test_what_nobody_asked_for_is_not_made_due(monkeypatch):
    """A message that is forgotten without a line stays where it is; after a line, qmail-send is told until it has heard it while idle."""
    monkeypatch.setattr(faults, "POKE", 0)
    busy, idle, waits = "status: local 1/10 remote 0/20\n", "status: local 0/10 remote 0/20\n", "delivery 1: deferral: x/\n"
    log, pokes = [], []
    world = types.SimpleNamespace(log=lambda name: "".join(log), poke=lambda: pokes.append(1), restarts=0, poked=0, log_then=None, heard=None)

    def told(*lines, times=5):
        log.extend(lines)
        pokes.clear()
        for _ in range(times):
            faults.World.poke_if_asked(world, False)
        return len(pokes)
    assert [told(idle), told(waits, busy), told(idle), told(), told(busy, idle), told(waits, idle)] == [0, 5, 2, 0, 0, 2]
    world.restarts = 1
    assert [told(), told()] == [1, 0]


def test_faults_that_never_come_about_are_told(capsys):
    """One for which no call came, though it came in each run that was counted; not one that the call cannot have."""
    found = {("qmail-x", "read:file"): faults.Times(2, 3)}
    results = [faults.Result(f"qmail-x read:file {n} {n} error 5") for n in (1, 2, 2, 3)]
    assert faults.summary("single", results, found, 0) == (0, True)
    assert "never came about: 4, of which 3 did" in capsys.readouterr().out
    results[0].struck = results[1].spared = [["x"]]
    assert faults.summary("single", results, found, 0) == (0, False)
    assert "never came about: 2, of which 1 did" in capsys.readouterr().out


def test_slices_are_all():
    """-p: each fault is in one part."""
    parts = [list(range(100))[faults.slice_of(f"{i}/7")] for i in range(1, 8)]
    assert sorted(sum(parts, [])) == list(range(100))


def test_full_disk():
    done = subprocess.run(["/usr/bin/python3", faults.__file__, "-k", "full"], check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=120, env={**os.environ, "BUILD": str(BUILD)})
    if done.returncode == faults.EXIT_NOT_TRIED:
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

def test_a_clock_that_steps_a_day(world):
    faults.step_clock(world)


# --- a spawner that talks nonsense ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("spawner, what", nonsense.ALL)
def test_a_spawner_that_talks_nonsense(tree, spawner, what):
    nonsense.check(tree, spawner, what)
