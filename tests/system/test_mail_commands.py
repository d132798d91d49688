"""mailsubj, predate, datemail: interfaces section 9."""
import email.utils
import os
import re
import time

import pytest

from conftest import ignore_children
from injecting import inject, named, own_inject, shared_injecting  # noqa: F401


def command(inject, program, message, *args, **more):
    return inject.queued(message, *args, program=program, **more)


# -- mailsubj ------------------------------------------------------------------------

def test_mailsubj(inject):
    message, sender, recipients = command(inject, "mailsubj", "body\nFrom me\n", "Hello Ñandú", "a@b", "Joe <c@d.example>", cwd="/")
    assert recipients == [b"a@b.dd.example", b"c@d.example"] and sender == b"ana@mail.test.example"
    assert named(message, "Subject") == ["Hello Ñandú".encode()]
    assert named(message, "To") == [b"a@b.dd.example, Joe <c@d.example>"]
    assert message.endswith(b"\n\nbody\nFrom me\n")


def test_mailsubj_cannot_be_made_to_add_fields(inject):
    message, _, recipients = command(inject, "mailsubj", "x", "s\r\nBcc: b@h.example", "a@h.example,\nc@h.example")
    assert named(message, "Subject") == [b"s  Bcc: b@h.example"] and recipients == [b"a@h.example", b"c@h.example"]
    inject.refused("x", "s", "a@h.example\nBcc: b@h.example", program="mailsubj", says=b"unable to parse")


def test_mailsubj_many_addresses(inject):
    many = [f"user{i}@h.example" for i in range(500)]
    message, _, recipients = command(inject, "mailsubj", "x", "s", *many)
    assert [r.decode() for r in recipients] == many and len(named(message, "To")) == 1


@pytest.mark.parametrize("arguments", [[], ["subject"]])
def test_mailsubj_usage(inject, arguments):
    inject.refused("x", *arguments, program="mailsubj", name=b"mailsubj", says=b"usage")


@pytest.mark.parametrize("code, status", [(31, 100), (53, 111)])
def test_mailsubj_passes_the_status_on(inject, code, status):
    inject.tree.write("code", str(code))
    assert inject.run("x", "s", "a@h.example", program="mailsubj").returncode == status


def test_mailsubj_an_input_that_cannot_be_read_is_not_half_mailed(own_inject):
    """What reads is killed before it can take the end of the pipe for the end of the message."""
    own_inject.tree.replace("qmail-inject", "#!/bin/sh\ncat > input\ntouch mailed\n")
    folder = os.open(own_inject.home, os.O_RDONLY)
    done = own_inject.run("", "s", "a@h.example", program="mailsubj", stdin=folder)
    os.close(folder)
    assert done.returncode == 111 and b"unable to read" in done.stderr
    assert not (own_inject.home / "mailed").exists()


# -- predate, datemail --------------------------------------------------------------------

@pytest.mark.parametrize("zone, offset", [("UTC0", "+0000"), ("XXX-1", "+0100"), ("YYY3:30", "-0330")])
def test_predate(inject, zone, offset):
    done = inject.run("To: x\n\nbody\0\r\n", "cat", program="predate", env={"TZ": zone})
    assert done.returncode == 0
    date, rest = done.stdout.split(b"\n", 1)
    assert rest == b"To: x\n\nbody\0\r\n"
    match = re.fullmatch(rb"Date: ((Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z][a-z] \d{4} \d\d:\d\d:\d\d " + re.escape(offset.encode()) + rb")", date)
    assert match and abs(email.utils.parsedate_to_datetime(match[1].decode()).timestamp() - time.time()) < 60


def test_predate_dates_in_english_wherever(inject):
    done = inject.run("", "cat", program="predate", env={"LC_ALL": "C.UTF-8", "LANG": "de_DE.UTF-8"})
    assert email.utils.parsedate_to_datetime(done.stdout[6:].decode())


@pytest.mark.parametrize("script, status", [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 111), ("exit 100", 100)])
def test_predate_passes_the_status_on(inject, script, status):
    assert inject.run("x" * 1_000_000, "sh", "-c", script, program="predate").returncode == status


@pytest.mark.parametrize("status", [0, 100])
def test_predate_learns_the_status_where_its_caller_ignores_its_children(inject, status):
    done = inject.run("x\n", "sh", "-c", f"cat; exit {status}", program="predate", preexec_fn=ignore_children)
    assert done.returncode == status and done.stdout.endswith(b"\nx\n")


def test_predate_without_a_program(inject):
    done = inject.run("x", "/nonexistent", program="predate")
    assert done.returncode == 111 and b"/nonexistent" in done.stderr
    inject.refused("x", program="predate", name=b"predate", says=b"usage")


def test_predate_a_program_that_reads_nothing_is_no_error(inject):
    assert inject.run("x" * 1_000_000, "true", program="predate").returncode == 0


def test_predate_lets_its_program_be_killed_by_a_pipe(inject):
    """It ignores SIGPIPE itself, but the program does not inherit that."""
    done = inject.run("", "sh", "-c", "grep SigIgn /proc/$$/status", program="predate")
    assert int(done.stdout.split()[1], 16) & (1 << 12) == 0


def test_datemail(inject):
    message, sender, recipients = command(inject, "datemail", "To: t@h.example\n\nx\n", "-t", "-f", "s@h.example", "a@h.example", cwd="/")
    assert (sender, recipients) == (b"s@h.example", [b"a@h.example", b"t@h.example"])
    assert len(named(message, "Date")) == 1 and not named(message, "Date")[0].endswith(b"-0000")


def test_datemail_runs_a_script_in_place_of_sendmail(own_inject):
    inject = own_inject
    inject.tree.replace("sendmail", "#!/bin/sh\necho \"$@\"; cat\n")
    done = inject.run("x\n", "-t", "a", program="datemail", cwd="/")
    assert done.stdout.startswith(b"-t a\nDate: ") and done.stdout.endswith(b"\nx\n")


def test_datemail_starts_in_the_callers_directory(inject):
    (inject.home / "elsewhere").mkdir()
    inject.tree.write("elsewhere/lists", "list@h.example\n")
    message = command(inject, "datemail", "To: list@h.example\n\n", "-t", env={"QMAILMFTFILE": "lists"}, cwd=inject.home / "elsewhere")[0]
    assert named(message, "Mail-Followup-To") == [b"list@h.example"]
