"""The helper programs of interfaces section 9 that dot-qmail files call, alone and below qmail-local."""
import contextlib
import email
import mailbox
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from conftest import ignore_children, wait_for
from delivering import MESSAGE, SENDER, Local, envelope, mode_of

DTLINE = "Delivered-To: ana@test.example\n"
VARIABLES = {
    "SENDER": SENDER, "NEWSENDER": "ana-owner@test.example", "DTLINE": DTLINE, "RPLINE": f"Return-Path: <{SENDER}>\n",
    "UFLINE": "From joe@sender.example Thu Jan  1 00:00:00 1970\n", "RECIPIENT": "ana@test.example", "USER": "ana",
}


def row(name, *values):
    return pytest.param(*values, id=name)


@pytest.fixture
def local(tree):
    return Local(tree, "once")


def run(local, program, *args, message=MESSAGE, without=(), env=None, **more):
    """Runs a helper as qmail-local would: a file on descriptor 0, the home the current directory."""
    local.tree.need(program)
    values = {**VARIABLES, **(env or {})}
    for name in without:
        values[name] = None
    with open(local.file("message", message), "rb") as file:
        return local.tree.run(program, *args, stdin=file, env=values, cwd=local.home, **more)


def program(local, text):
    return str(local.tree.write("home/ana/program", f"#!/bin/sh\n{text}\n", 0o755))


# --- bouncesaying, except, condredirect -------------------------------------------

ANSWERS = [
    row("0", "exit 0", "yes"), row("1", "exit 1", "no"), row("99", "exit 99", "no"), row("100", "exit 100", "no"),
    row("126", "exit 126", "no"), row("127", "exit 127", "no"), row("111", "exit 111", "unknown"), row("crash", "kill -SEGV $$", "unknown"),
]


@pytest.mark.parametrize("answer, meaning", ANSWERS)
def test_bouncesaying(local, answer, meaning):
    done = run(local, "bouncesaying", "Go away.", program(local, answer))
    want = {"yes": (100, b"Go away.\n"), "no": (0, b""), "unknown": (111, b"")}[meaning]
    assert (done.returncode, done.stdout) == want


def test_bouncesaying_always(local):
    done = run(local, "bouncesaying", "Go away.")
    assert (done.returncode, done.stdout) == (100, b"Go away.\n")


@pytest.mark.parametrize("answer, meaning", ANSWERS)
def test_except(local, answer, meaning):
    done = run(local, "except", program(local, answer))
    assert done.returncode == {"yes": 100, "no": 0, "unknown": 111}[meaning]


@pytest.mark.parametrize("answer, meaning", ANSWERS)
def test_condredirect(local, answer, meaning):
    with local.keeper() as queue:
        done = run(local, "condredirect", "luis@test.example", program(local, "cat >/dev/null; " + answer))
    assert done.returncode == {"yes": 99, "no": 0, "unknown": 111}[meaning]
    want = [(DTLINE.encode() + MESSAGE, envelope(SENDER, "luis@test.example"))]
    assert queue.submissions == (want if meaning == "yes" else [])


@pytest.mark.parametrize("name, args", [("bouncesaying", ["x"]), ("except", []), ("condredirect", ["a@b"])])
def test_program_that_cannot_be_executed_is_a_no(local, name, args):
    local.file("plain", "no program")
    for path in "no-such-program", "./plain", "/":
        assert run(local, name, *args, path).returncode == 0, path


@pytest.mark.parametrize("name, args, code", [("bouncesaying", ["x"], 100), ("except", [], 100), ("condredirect", ["a@b"], 0)])
def test_the_program_reads_the_message_from_its_start(local, name, args, code):
    answer = "grep -q '^Subject: hello' || exit 111; exit 0"
    if name == "condredirect":
        answer = "grep -q '^Subject: hello' || exit 111; exit 1"
    assert run(local, name, *args, program(local, answer)).returncode == code


@pytest.mark.parametrize("name, args", [("bouncesaying", []), ("except", []), ("condredirect", ["a@b"]),
                                        ("preline", []), ("preline", ["-x", "cat"]), ("qreceipt", []), ("qreceipt", ["a", "b"]),
                                        ("qbiff", ["x"]), ("maildirmake", []), ("maildirmake", ["a", "b"]),
                                        ("maildir2mbox", ["x"]), ("maildirwatch", ["x"]), ("tcp-env", []),
                                        ("tcp-env", ["-t", "x", "true"])])
def test_usage(local, name, args):
    done = run(local, name, *args)
    assert done.returncode == 100 and b"usage" in done.stderr


@pytest.mark.parametrize("name, args, variable", [
    ("condredirect", ["a@b", "true"], "SENDER"), ("condredirect", ["a@b", "true"], "DTLINE"), ("forward", ["a@b"], "NEWSENDER"),
    ("forward", ["a@b"], "DTLINE"), ("preline", ["cat"], "UFLINE"), ("preline", ["-frd", "cat"], "UFLINE"),
    ("preline", ["-frd", "cat"], "RPLINE"), ("preline", ["-frd", "cat"], "DTLINE"), ("qreceipt", ["a@b"], "SENDER"),
    ("qbiff", [], "SENDER"), ("qbiff", [], "RECIPIENT"), ("qbiff", [], "USER"), ("maildir2mbox", [], "MAILDIR"),
    ("maildirwatch", [], "MAILDIR"),
])
def test_variable_that_is_not_set(local, name, args, variable):
    with local.keeper() as queue:
        done = run(local, name, *args, without=[variable])
    assert done.returncode == 100 and variable.encode() in done.stderr
    assert queue.submissions == []


# --- forward ----------------------------------------------------------------------

def test_forward(local):
    with local.keeper(number=77) as queue:
        done = run(local, "forward", "a@b", "-x@c", "d")
    assert done.returncode == 0 and done.stderr == b"forward: qp 77\n"
    assert queue.submissions == [(DTLINE.encode() + MESSAGE, envelope("ana-owner@test.example", "a@b", "-x@c", "d"))]


@pytest.mark.parametrize("name, args", [("forward", ["a@b"]), ("condredirect", ["a@b", "true"])])
@pytest.mark.parametrize("code, want", [(31, 100), (11, 100), (53, 111), (81, 111)])
def test_queue_refuses(local, name, args, code, want):
    with local.keeper(code=code):
        done = run(local, name, *args)
    assert done.returncode == want and done.stderr


def test_forward_to_a_program(local):
    """QMAILQUEUE"""
    script = program(local, 'cat >"$HOME/out"; cat <&1 >"$HOME/out2"')
    assert run(local, "forward", "a@b", env={"QMAILQUEUE": script}).returncode == 0
    assert (local.tree.home / "out").read_bytes() == DTLINE.encode() + MESSAGE
    assert (local.tree.home / "out2").read_bytes() == envelope("ana-owner@test.example", "a@b")


@pytest.mark.parametrize("name, args, want", [("forward", ["a@b"], 0), ("condredirect", ["a@b", "true"], 99), ("qreceipt", ["ana@test.example"], 0)])
def test_a_program_where_the_caller_ignores_its_children(local, name, args, want):
    """What it exits with is known all the same: of a message that is queued nobody hears that it is not."""
    script = program(local, 'cat >"$HOME/out"; cat <&1 >"$HOME/out2"')
    message = b"Notice-Requested-Upon-Delivery-To: ana@test.example\n" + MESSAGE
    assert run(local, name, *args, message=message, env={"QMAILQUEUE": script}, preexec_fn=ignore_children).returncode == want
    assert (local.tree.home / "out2").read_bytes().endswith(b"\0\0")


def test_forward_of_a_pipe(local):
    """What a filter in front of it makes."""
    with local.keeper() as queue:
        done = local.tree.run("forward", "a@b", input=MESSAGE, env=VARIABLES)
    assert done.returncode == 0
    assert queue.submissions == [(DTLINE.encode() + MESSAGE, envelope("ana-owner@test.example", "a@b"))]


def test_forward_of_what_a_filter_makes(local):
    local.qmail("|sed 's/^Subject: .*/Subject: changed/' | forward luis@example.org\n")
    with local.keeper() as queue:
        assert local.deliver().code == 0
    ((message, _),) = queue.submissions
    assert b"\nSubject: changed\n" in message


def test_forward_of_the_rest_of_a_file(local):
    """As qmail's it reads on where the one before it has stopped."""
    local.qmail("|read first; forward luis@example.org\n")
    with local.keeper() as queue:
        assert local.deliver(b"Subject: gone\nSubject: kept\n\nbody\n").code == 0
    ((message, _),) = queue.submissions
    assert message.endswith(b"\nSubject: kept\n\nbody\n") and b"gone" not in message


def test_forward_to_nobody(local):
    """|forward $(cat list), where the list is empty, is a success, as qmail's."""
    with local.keeper() as queue:
        done = run(local, "forward")
    assert (done.returncode, done.stderr, queue.submissions) == (0, b"", [])


def test_forward_below_qmail_local(local):
    local.qmail('|forward "$DEFAULT@example.org"\n', ".qmail-default")
    with local.keeper() as queue:
        assert local.deliver(local="ana-Bob", dash="-", ext="Bob").code == 0
    assert queue.submissions == [(b"Delivered-To: ana-Bob@test.example\n" + MESSAGE, envelope(SENDER, "Bob@example.org"))]


def test_condredirect_below_qmail_local(local):
    local.qmail("|condredirect luis@test.example grep -q hello\n./Maildir/\n")
    with local.keeper() as queue:
        result = local.deliver()
        other = local.deliver(b"Subject: other\n\n")
    assert result.code == 0 and result.text.endswith(b"did 0+0+1\n")
    assert len(queue.submissions) == 1
    assert other == (0, b"did 1+0+1\n") and len(local.maildir()) == 1


def test_bouncesaying_and_except_below_qmail_local(local):
    local.qmail("|bouncesaying 'No hello, no mail.' except grep -q hello\n./Maildir/\n")
    assert local.deliver() == (0, b"did 1+0+1\n")
    local.qmail("|bouncesaying 'No hello.' grep -q hello\n./Maildir/\n")
    assert local.deliver() == (100, b"No hello.\n")


# --- preline ----------------------------------------------------------------------

LINES = {"f": VARIABLES["UFLINE"].encode(), "r": VARIABLES["RPLINE"].encode(), "d": DTLINE.encode()}


@pytest.mark.parametrize("options, letters", [
    ([], "frd"), (["-f"], "rd"), (["-r"], "fd"), (["-d"], "fr"), (["-frd"], ""), (["-f", "-F"], "frd"), (["-frdR"], "r"),
    (["-frdD"], "d"), (["-dD", "-r"], "fd"),
])
def test_preline(local, options, letters):
    done = run(local, "preline", *options, "cat")
    assert done.returncode == 0
    assert done.stdout == b"".join(LINES[c] for c in letters) + MESSAGE


@pytest.mark.parametrize("text, code", [("exit 0", 0), ("exit 3", 3), ("exit 99", 99), ("exit 100", 100), ("exit 111", 111),
                                        ("kill -SEGV $$", 111)])
def test_preline_passes_the_status(local, text, code):
    assert run(local, "preline", program(local, "cat >/dev/null; " + text)).returncode == code


def test_preline_of_a_program_that_stops_reading(local):
    """Number 13 of section 24: it exited 0."""
    large = MESSAGE + b"x" * 10000000
    assert run(local, "preline", "head", "-c", "5", message=large).stdout == b"From "
    for text in "exit 0", "exec <&-; exit 0", "head -c 1 >/dev/null; exit 0":
        assert run(local, "preline", program(local, text), message=large).returncode == 0


def test_preline_of_a_program_that_leaves_a_reader_behind(local):
    """Who holds the pipe and never reads does not hold preline."""
    text = f"sleep 300 <&0 >/dev/null 2>&1 & echo $! >{local.home}/pid; exit 7"
    try:
        done = run(local, "preline", program(local, text), message=MESSAGE + b"x" * 10000000, timeout=50)
        assert done.returncode == 7
    finally:
        os.kill(int((local.home / "pid").read_text()), signal.SIGTERM)


def test_preline_of_a_missing_program(local):
    assert run(local, "preline", "no-such-program").returncode == 100
    local.file("plain", "no program")
    assert run(local, "preline", "./plain").returncode == 100


def test_preline_of_a_message_that_cannot_be_read(local):
    local.tree.need("preline")
    folder = os.open(local.home, os.O_RDONLY)
    try:
        done = local.tree.run("preline", program(local, "cat >/dev/null; exit 0"), stdin=folder, env=VARIABLES)
    finally:
        os.close(folder)
    assert done.returncode == 111


def test_preline_program_dies_of_sigpipe(local):
    done = run(local, "preline", program(local, "cat >/dev/null; yes | head -n 1"))
    assert done.stdout == b"y\n" and done.stderr == b""


# --- qreceipt ---------------------------------------------------------------------

NOTICE = "Notice-Requested-Upon-Delivery-To"


@pytest.mark.parametrize("header, sent", [
    row("plain", f"{NOTICE}: ana@test.example\n", True),
    row("letter case", f"{NOTICE.lower()}: Ana@TEST.example\n", True),
    row("display name and comment", f"{NOTICE}: \"Ana, at home\" (x) <ana@test.example>\n", True),
    row("one of several", f"{NOTICE}: luis@test.example, ana@test.example\n", True),
    row("folded", f"{NOTICE}: luis@test.example,\n ana@test.example\n", True),
    row("second field", f"{NOTICE}: luis@test.example\nX: y\n{NOTICE}: ana@test.example\n", True),
    row("another address", f"{NOTICE}: luis@test.example\n", False),
    row("part of an address", f"{NOTICE}: xana@test.example, ana@test.example.org\n", False),
    row("no field", "To: ana@test.example\n", False),
    row("in the body", f"X: y\n\n{NOTICE}: ana@test.example\n", False),
    row("malformed", f"{NOTICE}: <<((\n", False),
])
def test_qreceipt(local, header, sent):
    message = f"{header}Subject: my\n letter\nMessage-ID: <1@sender.example>\n\nbody\n".encode()
    with local.keeper() as queue:
        done = run(local, "qreceipt", "ana@test.example", message=message)
    assert done.returncode == 0, done
    assert len(queue.submissions) == sent
    if sent:
        octets, addresses = queue.submissions[0]
        assert addresses == envelope("", SENDER)
        notice = email.message_from_bytes(octets)
        assert notice["To"] == f"<{SENDER}>" and "ana@test.example" in notice["From"]
        assert notice["Subject"] == "success notice" and notice["Auto-Submitted"] == "auto-replied"
        assert notice["Date"] and notice["Message-ID"] and notice["In-Reply-To"] == "<1@sender.example>"
        assert not notice.defects
        assert "ana@test.example" in notice.get_payload() and "my letter" in notice.get_payload()


@pytest.mark.parametrize("sender", ["", "#@[]"])
def test_qreceipt_to_nobody(local, sender):
    with local.keeper() as queue:
        done = run(local, "qreceipt", "ana@test.example", message=f"{NOTICE}: ana@test.example\n\n".encode(),
                   env={"SENDER": sender})
    assert done.returncode == 0 and queue.submissions == []


def test_qreceipt_of_a_hostile_sender(local):
    with local.keeper() as queue:
        done = run(local, "qreceipt", "ana@test.example", message=f"{NOTICE}: ana@test.example\n\n".encode(),
                   env={"SENDER": "a\nBcc: x@y\n\nb@c"})
    assert done.returncode == 0
    notice = email.message_from_bytes(queue.submissions[0][0])
    assert notice["Bcc"] is None and notice["To"]


@pytest.mark.parametrize("code, want", [(31, 100), (53, 111)])
def test_qreceipt_refused(local, code, want):
    with local.keeper(code=code):
        done = run(local, "qreceipt", "ana@test.example", message=f"{NOTICE}: ana@test.example\n\n".encode())
    assert done.returncode == want


# --- qbiff ------------------------------------------------------------------------

def test_qbiff_without_a_login(local):
    assert run(local, "qbiff").returncode == 0


def utmp_entry(user, line):
    """glibc's struct utmp: a user process."""
    return struct.pack("hi32s4s32s256shhiii4i20s", 7, os.getpid(), line.encode(), b"x", user.encode(), b"", 0, 0, 0, 0, 0,
                       0, 0, 0, 0, b"")


@pytest.mark.parametrize("mode, told", [(0o720, True), (0o620, False)])
def test_qbiff(local, mode, told):
    """In a namespace of its own, where /run holds nothing but the utmp of the test."""
    if os.getuid():
        pytest.skip("needs root, to give a terminal to the user")
    ours, theirs = pty.openpty()
    terminal = os.ttyname(theirs)
    os.chown(terminal, local.tree.uid, -1)
    os.chmod(terminal, mode)
    utmp = local.file("utmp", utmp_entry("luis", terminal[5:]) + utmp_entry("ana", terminal[5:]) + utmp_entry("ana", "../null"))
    message = local.file("message", b"Subject: hi\x1b[2J\n\tthere\n\nbody\n")
    run_directory = "/run" if os.path.exists("/run") else "/var/run"
    script = f'mount -t tmpfs tmpfs {run_directory} && install -m 644 {utmp} {run_directory}/utmp || exit 99; ' \
        f'exec setpriv --reuid {local.tree.uid} --regid {local.tree.gid} --clear-groups "$@" <{message}'
    try:
        done = subprocess.run(["unshare", "-m", "sh", "-c", script, "-", local.tree.bin / "qbiff"],
                              env={**local.tree.environment(), **VARIABLES, "SENDER": "joe\x07@sender.example"}, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode == 99 or not shutil.which("setpriv"):
            pytest.skip(f"no mount: {done.stderr}")
        assert done.returncode == 0, done
        os.set_blocking(ours, False)
        try:
            got = os.read(ours, 10000)
        except BlockingIOError:
            got = b""
        if told:
            assert b"mail for ana@test.example from joe?@sender.example" in got and b"hi?[2J?there" in got
            assert got.count(b"mail for") == 1
        else:
            assert got == b""
    finally:
        os.close(ours)
        os.close(theirs)


# --- maildirmake, maildir2mbox, maildirwatch --------------------------------------

def test_maildirmake(local):
    assert run(local, "maildirmake", "Box").returncode == 0
    for path in "Box", "Box/tmp", "Box/new", "Box/cur":
        assert mode_of(local.home / path) == 0o700
    assert sorted(os.listdir(local.home / "Box")) == ["cur", "new", "tmp"]
    assert run(local, "maildirmake", "Box").returncode == 111
    assert run(local, "maildirmake", "no/Box").returncode == 111
    assert local.deliver(default="./Box/").code == 0
    assert len(mailbox.Maildir(local.home / "Box", create=False)) == 1


def convert(local, **env):
    return run(local, "maildir2mbox", env={"MAILDIR": str(local.home / "Maildir"), "MAIL": str(local.home / "Mailbox"),
                                           "MAILTMP": str(local.home / "Mailbox.tmp"), **env})


def put(local, path, octets, age):
    file = local.file(f"Maildir/{path}", octets)
    os.utime(file, (age, age))


def test_maildir2mbox(local):
    put(local, "new/b", b"Return-Path: <b@h>\nSubject: two\n\nFrom x\nno newline", 2000)
    put(local, "cur/a:2,S", b"Return-Path: <>\nSubject: one\n\n1\n", 1000)
    put(local, "new/c", b"Subject: three\n\n3\n", 3000)
    local.file("Mailbox", "From old x\n\nold\n\n", 0o640)
    assert convert(local).returncode == 0
    date = r"Thu Jan  1 00:\d\d:\d\d 1970"
    want = "From old x\n\nold\n\n" \
        f"From MAILER-DAEMON {date}\nReturn-Path: <>\nSubject: one\n\n1\n\n" \
        f"From b@h {date}\nReturn-Path: <b@h>\nSubject: two\n\n>From x\nno newline\n\n" \
        f"From MAILER-DAEMON {date}\nSubject: three\n\n3\n\n"
    assert re.fullmatch(want, (local.home / "Mailbox").read_text())
    assert mode_of(local.home / "Mailbox") == 0o640
    assert local.maildir() == [] and not (local.home / "Mailbox.tmp").exists()
    assert len(mailbox.mbox(local.home / "Mailbox", create=False)) == 4


def test_maildir2mbox_without_mail(local):
    assert convert(local).returncode == 0
    assert not (local.home / "Mailbox").exists()


def test_maildir2mbox_makes_the_mbox(local):
    put(local, "new/a", MESSAGE, 1)
    assert convert(local).returncode == 0
    assert mode_of(local.home / "Mailbox") == 0o600 and local.maildir() == []


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_maildir2mbox_writes_no_warning_into_the_mbox(local, closed):
    """Where nobody gave it a descriptor to write warnings to."""
    put(local, "new/a", MESSAGE, 1)
    (local.home / "Maildir/new").chmod(0o500)  # it cannot be removed
    try:
        done = local.tree.run("/bin/sh", "-c", f'"$0" {closed}', str(local.tree.bin / "maildir2mbox"), cwd=local.home, env={
            "MAILDIR": "Maildir", "MAIL": "../Mailbox", "MAILTMP": "../Mailbox.tmp"})
    finally:
        (local.home / "Maildir/new").chmod(0o700)
    assert done.returncode == 0 and len(local.maildir()) == 1
    assert (local.home / "Mailbox").read_bytes().endswith(b"\n" + MESSAGE + b"\n")


def test_maildir2mbox_relative_names_lie_inside_the_maildir(local):
    put(local, "new/a", MESSAGE, 1)
    assert convert(local, MAIL="Mailbox", MAILTMP="temporary").returncode == 0
    assert (local.home / "Maildir/Mailbox").exists() and local.maildir() == []


@pytest.mark.parametrize("prepare, code", [
    row("mbox is a directory", lambda l: os.mkdir(l.home / "Mailbox"), 111),
    row("mbox and the new file are one", lambda l: (l.file("Mailbox", "x"), os.link(l.home / "Mailbox", l.home / "Mailbox.tmp")), 100),
    row("the new file cannot be made", lambda l: os.mkdir(l.home / "Mailbox.tmp"), 111),
    row("a message cannot be read", lambda l: os.chmod(l.home / "Maildir/new/a", 0), 111),
    row("no cur", lambda l: os.rmdir(l.home / "Maildir/cur"), 111),
])
def test_maildir2mbox_trouble_changes_nothing(local, prepare, code):
    put(local, "new/a", MESSAGE, 1)
    prepare(local)
    local.tree.own(local.home)
    before = (local.home / "Mailbox").read_bytes() if (local.home / "Mailbox").is_file() else b""
    assert convert(local).returncode == code
    assert os.listdir(local.home / "Maildir/new") == ["a"]
    if (local.home / "Mailbox").is_file():
        assert (local.home / "Mailbox").read_bytes() == before


def test_L5_maildir2mbox_odd_entries(local):
    """Names with newline, colon, 255 octets; directories and links are no messages."""
    names = ["a\nb", "c:d", "e" * 255, "-x", " y"]
    for i, name in enumerate(names):
        put(local, f"new/{name}", b"Subject: %d\n\n" % i, i + 1)
    os.mkdir(local.home / "Maildir/new/directory")
    os.symlink("/etc/passwd", local.home / "Maildir/new/link")
    os.mkfifo(local.home / "Maildir/cur/fifo")
    local.file("Maildir/new/.hidden", "x")
    local.tree.own(local.home)
    assert convert(local).returncode == 0
    assert [m["Subject"] for m in mailbox.mbox(local.home / "Mailbox", create=False)] == ["0", "1", "2", "3", "4"]
    assert sorted(os.listdir(local.home / "Maildir/new")) == [".hidden", "directory", "link"]


def test_maildir2mbox_beside_deliveries(local):
    """Deliveries into the mbox by qmail-local while it is replaced: none is lost."""
    local.file("Mailbox")
    for i in range(200):
        put(local, f"new/{i}", b"Subject: m%d\n\n" % i, i)
    stop = threading.Event()
    delivered = []

    def deliver():
        while not stop.is_set():
            assert local.deliver(b"Subject: d%d\n\n" % len(delivered), default="./Mailbox").code == 0
            delivered.append(1)

    with contextlib.ExitStack() as stack:
        thread = threading.Thread(target=deliver)
        thread.start()
        stack.callback(lambda: (stop.set(), thread.join()))
        for turn in range(10):
            put(local, f"new/more{turn}", b"Subject: t%d\n\n" % turn, 1000 + turn)
            assert convert(local).returncode == 0
        wait_for(lambda: len(delivered) > 5)
    subjects = [m["Subject"] for m in mailbox.mbox(local.home / "Mailbox", create=False)]
    assert len(subjects) == len(set(subjects)) == 200 + 10 + len(delivered)


def test_maildirwatch(local):
    put(local, "new/a", b"From: a@h\nTo: ana@test.example\nSubject: one\x1b[2J\n\n", 1)
    put(local, "new/b\x1b", b"From: b@h\nSubject: two\n folded\n\n", 2)
    put(local, "cur/c", b"From: c@h\n\n", 3)
    os.mkdir(local.home / "Maildir/new/directory")
    local.tree.own(local.home)
    local.tree.need("maildirwatch")
    process = local.tree.popen("maildirwatch", env={"MAILDIR": str(local.home / "Maildir")}, stdout=subprocess.PIPE)
    try:
        lines = [process.stdout.readline().decode() for _ in range(3)]
    finally:
        process.kill()
        process.communicate()
    assert lines[0].startswith("\x1b[H\x1b[J") and "New mail" in lines[0]
    assert lines[1] == "From b@h To  Subject: two folded\r\n"
    assert lines[2] == "From a@h To ana@test.example Subject: one?[2J\r\n"


def test_maildirwatch_ends_with_its_terminal(local):
    local.tree.need("maildirwatch")
    ours, theirs = os.pipe()
    os.close(ours)
    process = local.tree.popen("maildirwatch", env={"MAILDIR": str(local.home / "Maildir")}, stdout=theirs,
                               stderr=subprocess.DEVNULL)
    os.close(theirs)
    assert process.wait(30) in (111, -signal.SIGPIPE)


def test_maildirwatch_without_a_maildir(local):
    assert run(local, "maildirwatch", env={"MAILDIR": "/no/such/maildir"}).returncode == 111


# --- tcp-env ----------------------------------------------------------------------

def tcp_env(local, *options, family=socket.AF_INET, address="127.0.0.1", ident=None):
    """The variables that a program gets on a connection from address; ident: what an ident server answers."""
    local.tree.need("tcp-env")
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen(1)
        with socket.create_connection(listener.getsockname()[:2]) as client, listener.accept()[0] as server:
            ports = client.getsockname()[1], server.getsockname()[1]
            done = local.tree.run("tcp-env", *options, "env", stdin=server,
                                  env={"TCPREMOTEHOST": "old", "TCPREMOTEINFO": "old", "TCP6REMOTEIP": "old", "KEPT": "x"})
    assert done.returncode == 0, done
    return dict(line.split("=", 1) for line in done.stdout.decode().splitlines()), *ports


def test_tcp_env(local):
    got, remote, here = tcp_env(local, "-R")
    want = {"PROTO": "TCP", "TCPLOCALIP": "127.0.0.1", "TCPLOCALPORT": str(here), "TCPREMOTEIP": "127.0.0.1",
            "TCPREMOTEPORT": str(remote), "KEPT": "x"}
    assert {k: got.get(k) for k in want} == want
    assert got.get("TCPREMOTEHOST") != "old"
    assert "TCPREMOTEINFO" not in got and "TCP6REMOTEIP" not in got


def test_tcp_env_ipv6(local):
    try:
        got, remote, _ = tcp_env(local, "-R", family=socket.AF_INET6, address="::1")
    except OSError as e:
        pytest.skip(f"no IPv6: {e}")
    want = {"PROTO": "TCP6", "TCPREMOTEIP": "::1", "TCP6REMOTEIP": "::1", "TCP6REMOTEPORT": str(remote)}
    assert {k: got.get(k) for k in want} == want


def test_tcp_env_no_ident_server(local):
    start = time.monotonic()
    got, _, _ = tcp_env(local, "-r", "-t", "5")
    assert "TCPREMOTEINFO" not in got and time.monotonic() - start < 60


@pytest.mark.parametrize("answer, want", [
    row("user", b"%d, %d : USERID : UNIX : stjohns\r\n", "stjohns"),
    row("odd octets", b"%d, %d : USERID : UNIX : a b$(id)\x01\xff'\r\n", "a?b??id????"),
    row("error", b"%d, %d : ERROR : NO-USER\r\n", None),
    row("rubbish", b"rubbish\r\n", None),
    row("no end", b"%d, %d : USERID : UNIX : " + b"x" * 5000, "x" * 100),
    row("nothing", b"", None),
])
def test_tcp_env_ident(local, answer, want):
    if os.getuid():
        pytest.skip("needs root, for port 113")
    host = f"127.{20 + os.getpid() % 200}.7.9"  # not that of another test
    with socket.socket() as ident:
        ident.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            ident.bind((host, 113))
        except OSError as e:
            pytest.skip(f"port 113: {e}")
        ident.listen(1)
        asked = []

        def serve():
            with ident.accept()[0] as connection:
                line = connection.recv(100)
                asked.append(line)
                ports = tuple(int(p) for p in line.split(b","))
                with contextlib.suppress(OSError):
                    connection.sendall(answer % ports if b"%d" in answer else answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with socket.socket() as listener, socket.socket() as client:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            client.bind((host, 0))
            client.connect(listener.getsockname())
            with listener.accept()[0] as server:
                done = local.tree.run("tcp-env", "env", stdin=server)
            ports = client.getsockname()[1], listener.getsockname()[1]
        thread.join()
    got = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert got.get("TCPREMOTEINFO") == want
    assert asked == [b"%d , %d\r\n" % ports]


def test_tcp_env_without_a_connection(local):
    done = run(local, "tcp-env", "env", env={"TCPREMOTEIP": "old"})
    assert done.returncode == 0 and b"\nPROTO=TCP\n" in b"\n" + done.stdout and b"TCPREMOTEIP" not in done.stdout


def test_tcp_env_missing_program(local):
    assert run(local, "tcp-env", "-R", "no-such-program").returncode == 111
