"""Power cuts, the short form of `make crash`: some hundred states of the disk, and the real keeper started on each.

$CRASH_STATES says how many (default 100, in each of the two worlds)."""
import copy
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
import crash  # noqa: E402
from conftest import *  # noqa: E402,F401,F403
from conftest import BUILD, new_directory  # noqa: E402
from probe import is_sanitized  # noqa: E402

STATES = int(os.environ.get("CRASH_STATES", "100"))
pytestmark = pytest.mark.xdist_group("crash")


@pytest.fixture(scope="module")
def recorded(installation):
    """A function: the recording of a world, made once."""
    if not shutil.which("cc"):
        pytest.skip("no compiler for the recorder")
    if is_sanitized(BUILD / "bin/qmail-queued"):
        pytest.skip("a start for each state takes too long with the sanitizers")
    top, made = new_directory(), {}

    def recording(world):
        if world not in made:
            made[world] = crash.record(installation, world, top / world, {"keeper": 24, "chain": 16}[world])
        return made[world]

    yield recording
    shutil.rmtree(top)


@pytest.mark.parametrize("world", crash.WORLDS)
def test_power_cut(recorded, tree, world):
    recording = recorded(world)
    assert sum(line[0] == "syncdir" for line in recording.lines) > 20, "no files were made: nothing to test"
    summary = crash.look(recording, tree, crash.evenly(recording, STATES), stop=5)
    assert summary.states == STATES and len(summary.distinct) > STATES // 2
    assert not summary.broken, "\n".join(summary.broken)


@pytest.mark.parametrize("world, verb, where", [
    ("keeper", "flush", ""), ("keeper", "syncdir", ""), ("chain", "flush", ""), ("chain", "syncdir", "home/ana/Maildir/new"),
])
def test_a_forgotten_flush_is_found(recorded, tree, world, verb, where):
    """The same with a record from which the flushes of one kind are taken out. Which of the chosen states show it depends on how
    the programs took turns: where none does, more are chosen."""
    whole = recorded(world)
    forgetful = copy.copy(whole)
    forgetful.lines = [line for line in whole.lines if line[0] != verb or not where in ("", line[1])]
    assert len(forgetful.lines) < len(whole.lines)
    assert any(crash.look(forgetful, tree, crash.evenly(forgetful, n * STATES), stop=1).broken for n in (1, 5, 25))


def test_all_programs_go_on(recorded, new_tree):
    """The whole server is started in the middle of deliveries, and at the end."""
    recording = recorded("chain")
    wanted = crash.evenly(recording, 3)
    for number, _, state, history in crash.walk(recording):
        if number and wanted(number, state):
            crash.serve(recording, new_tree(crash.Server), state, history)
