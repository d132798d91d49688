"""Escape, the short form of `make escape`: what some of the programs could do, and that SECURITY says the same."""
import dataclasses
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
import escape  # noqa: E402
from conftest import *  # noqa: E402,F401,F403
from conftest import BUILD  # noqa: E402
from probe import is_sanitized  # noqa: E402
from world import ANY_USER, PLACES  # noqa: E402

pytestmark = [pytest.mark.xdist_group("escape"), pytest.mark.skipif(not shutil.which("s6-svscan"), reason="s6 is not installed")]
PROGRAMS = ("qmail-submitd", "qmail-getpw", "qmail-keyd, who signs", "qmail-tlsd, a connection", "qmail-smtpd, a session", "qmail-remote")


@pytest.fixture(scope="module")
def seen():
    if is_sanitized(BUILD / "bin/qmail-queued"):
        pytest.skip("no filters of system calls in a build with sanitizers")
    if (lack := escape.lacks()):
        pytest.skip(lack)
    return escape.rows(PROGRAMS)


def test_security_says_what_they_can_do(seen):
    assert [row.name for row in seen] == [ANY_USER, *PROGRAMS]
    assert not escape.differences(seen)


def test_security_has_lines_of_all_programs_and_of_no_other():
    names = [line.removeprefix("  ")[:escape.NAME].strip() for line in escape.parts(escape.SECURITY.read_text())[1].splitlines()]
    half = names.index("Open in them, beside /dev/"[:escape.NAME].strip())
    headings = 2
    assert names[headings:half - 1] == names[half + 1:] == [*PLACES], names


@pytest.mark.parametrize("column, word", [("reads", "keys"), ("writes", "tmp"), ("more", "tcp"), ("touches", "qmail-send")])
def test_one_word_more_is_a_difference(seen, column, word):
    row = next(r for r in seen if r.name == "qmail-submitd")
    column = {"more": "network"}.get(column, column)
    worse = dataclasses.replace(row, words={**row.words, column: [*row.words[column], word]})
    assert word in escape.differences([seen[0], worse])


def test_a_program_that_is_not_shut_in_is_a_difference(seen):
    assert escape.differences([seen[0], dataclasses.replace(seen[0], name="qmail-submitd", user="qmailu:nofiles")])


def test_security_has_a_line_of_each_program():
    inside = escape.parts(escape.SECURITY.read_text())[1]
    for name in PLACES:
        assert inside.count(f"\n{name:{escape.NAME}} ") == 1 and inside.count(f"\n  {name:{escape.NAME}} ") == 1, name
