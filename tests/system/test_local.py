"""qmail-local: every rule of interfaces section 8, by the command line and by the worker."""
import mailbox
import os
import re
import signal
import subprocess
import time

import pytest

from delivering import DOMAIN, MESSAGE, SENDER, Local, ending, envelope, mode_of

LINES = b"Return-Path: <joe@sender.example>\nDelivered-To: ana@test.example\n"


@pytest.fixture(params=["once", "worker"])
def local(request, tree):
    return Local(tree, request.param)


@pytest.fixture
def once(tree):
    return Local(tree, "once")


def row(name, *values):
    return pytest.param(*values, id=name)


# --- 8.1 checks -------------------------------------------------------------------

def test_home_is_missing(local):
    result = local.deliver(home="home/nobody")
    assert result.code == 111 and b"home/nobody" in result.text


@pytest.mark.parametrize("mode, code, text", [
    row("others may write", 0o702, 111, b"(#4.7.0)"),
    row("group may write", 0o770, 0, b"did 1+0+0\n"),
    row("sticky", 0o1700, 111, b"(#4.2.1)"),
    row("closed", 0o700, 0, b"did 1+0+0\n"),
])
def test_home_modes(local, mode, code, text):
    os.chmod(local.home, mode)
    result = local.deliver()
    assert result.code == code and text in result.text
    assert len(local.maildir()) == (1 if code == 0 else 0)


@pytest.mark.parametrize("header, code", [
    row("own line", b"X: y\nDelivered-To: ana@test.example\n\n", 100),
    row("own line without newline", b"Delivered-To: ana@test.example", 100),
    row("other letter case", b"Delivered-To: Ana@test.example\n\n", 0),
    row("blank more", b"Delivered-To:  ana@test.example\n\n", 0),
    row("in the body", b"X: y\n\nDelivered-To: ana@test.example\n", 0),
    row("continuation", b"X: y\n Delivered-To: ana@test.example\n\n", 0),
    row("S15: behind 100000 others", b"Delivered-To: luis@test.example\n" * 100000 +
        b"Delivered-To: ana@test.example\n\n", 100),
])
def test_loop(local, header, code):
    result = local.deliver(header)
    assert result.code == code
    assert (b"(#5.4.6)" in result.text) == (code == 100)
    assert len(local.maildir()) == (1 if code == 0 else 0)


def test_umask_is_077(local):
    assert local.output("umask; umask 0") == b"0077"


# --- 8.2 which file ---------------------------------------------------------------

@pytest.mark.parametrize("files, ext, want, default", [
    row("exact", ["a-b", "a-default", "default"], "a-b", "a-b", None),
    row("default at the last dash", ["a-default", "default"], "a-b", "a-default", "b"),
    row("default at the first dash", ["a-default", "default"], "a-b-c", "a-default", "b-c"),
    row("plain default", ["default"], "a-b", "default", "a-b"),
    row("lower case", ["foo"], "FOO", "foo", None),
    row("dots are colons", ["a:b"], "a.b", "a:b", None),
    row("DEFAULT keeps its case", ["default"], "Foo.Bar", "default", "Foo.Bar"),
    row("exact name that ends in default", ["a-default"], "a-default", "a-default", "default"),
    row("exact default", ["default"], "default", "default", "default"),
    row("dash at the end", ["a-default"], "a-", "a-default", ""),
    row("255 octets", ["x" * 248], "x" * 248, "x" * 248, None),
    row("too long counts as absent", ["default"], "x" * 300, "default", "x" * 300),
])
def test_search(local, files, ext, want, default):
    for name in files:
        local.qmail(f"|echo {name} ${{DEFAULT-unset}}\n", f".qmail-{name}")
    result = local.extension(ext)
    assert ending(result.text) == [f"{want} {'unset' if default is None else default}".rstrip(), "did 0+0+1"] or \
        ending(result.text) == [f"{want} {default}", "did 0+0+1"]
    assert result.code == 0


def test_no_dash_and_no_extension(local):
    local.qmail("|echo plain\n", ".qmaildefault")
    assert ending(local.deliver().text) == ["plain", "did 0+0+1"]
    local.qmail("|echo first\n")
    assert ending(local.deliver().text) == ["first", "did 0+0+1"]


def test_nothing_found_with_a_dash(local):
    result = local.extension("nobody")
    assert result.code == 100 and b"(#5.1.1)" in result.text
    assert local.maildir() == []


def test_nothing_found_without_a_dash(local):
    assert local.deliver(default="#\n./Maildir/\n./Mailbox") == (0, b"did 2+0+0\n")
    assert len(local.maildir()) == 1 and (local.home / "Mailbox").exists()


def test_default_delivery_may_be_anything(local):
    assert local.deliver(default="|echo hi").text == b"hi\ndid 0+0+1\n"


def test_empty_file(local):
    local.qmail("")
    assert local.deliver() == (0, b"did 1+0+0\n")
    local.qmail("", ".qmail-x")
    assert local.extension("x") == (0, b"did 1+0+0\n")


@pytest.mark.parametrize("prepare, code", [
    row("others may write", lambda l: l.qmail("#\n", mode=0o602), 111),
    row("group may write", lambda l: l.qmail("#\n", mode=0o660), 0),
    row("not readable", lambda l: l.qmail("#\n", mode=0o000), 111),
    row("L2: FIFO", lambda l: (os.mkfifo(l.home / ".qmail"), l.tree.own(l.home)), 111),
    row("L2: device", lambda l: os.symlink("/dev/zero", l.home / ".qmail"), 111),
    row("L2: link to itself", lambda l: os.symlink(".qmail", l.home / ".qmail"), 111),
    row("L2: 1 GiB", lambda l: os.truncate(l.qmail(""), 1 << 30), 111),
    row("L2: 4 MiB and one octet", lambda l: l.qmail("#" * ((4 << 20) + 1)), 111),
    row("4 MiB", lambda l: l.qmail("#" * (4 << 20)), 0),
    row("L2: NUL", lambda l: l.qmail("#\0\n"), 111),
    row("directory", lambda l: os.mkdir(l.home / ".qmail"), 0),
    row("link to nothing", lambda l: os.symlink("nothing", l.home / ".qmail"), 0),
])
def test_files_that_are_not_obeyed(local, prepare, code):
    prepare(local)
    start = time.monotonic()
    result = local.deliver()
    assert result.code == code
    assert time.monotonic() - start < 20
    if code:
        assert result.text and local.maildir() == []


@pytest.mark.parametrize("mode, code", [row("L2: of another owner", 0o644, 111), row("the same, forward-only", 0o744, 0)])
def test_owner(local, mode, code):
    if os.getuid():
        pytest.skip("needs root, to give a file to somebody else")
    os.chown(local.qmail("#\n", mode=mode), 12345, 12345)
    result = local.deliver()
    assert result.code == code
    assert (b"(#4.7.0)" in result.text) == (code == 111)


def test_permission_error_is_not_absence(local):
    os.mkdir(local.home / "closed", 0o700)
    local.tree.own(local.home / "closed")
    os.symlink("closed/file", local.home / ".qmail-x")
    local.file("closed/file", "#\n")
    os.chmod(local.home / "closed", 0)
    try:
        assert local.extension("x").code == 111
    finally:
        os.chmod(local.home / "closed", 0o700)
    assert local.extension("x").code == 0


@pytest.mark.parametrize("text", ["./Mailbox\n", "./Maildir/\n", "|true\n"])
def test_forward_only_by_mode(local, text):
    local.qmail(text, mode=0o700)
    result = local.deliver()
    assert result.code == 111 and b"(#4.7.0)" in result.text
    assert local.maildir() == [] and not (local.home / "Mailbox").exists()


# --- 8.3 lines --------------------------------------------------------------------

@pytest.mark.parametrize("text, report", [
    row("comment", "#./Mailbox\n", "did 0+0+0"),
    row("program", "|true\n", "did 0+0+1"),
    row("mbox", "./Mailbox\n", "did 1+0+0"),
    row("maildir", "./Maildir/\n", "did 1+0+0"),
    row("trailing blanks", "./Maildir/ \t\n", "did 1+0+0"),
    row("no newline at the end", "./Maildir/", "did 1+0+0"),
    row("empty line later", "#\n\n./Maildir/\n", "did 1+0+0"),
    row("other words after +", "+lists\n./Maildir/\n", "did 1+0+0"),
    row("in order", "./Maildir/\n|test -n \"$(ls Maildir/new)\"\n./Mailbox\n", "did 2+0+1"),
])
def test_lines(local, text, report):
    local.qmail(text)
    assert local.deliver() == (0, report.encode() + b"\n")


@pytest.mark.parametrize("text, mark", [
    row("empty first line", "\n./Maildir/\n", b"(#4.2.1)"),
    row("blank first line", "  \n./Maildir/\n", b"(#4.2.1)"),
    row("program after +list", "+list\n|true\n", b"(#4.7.0)"),
    row("file after +list", "#\n+list\n./Maildir/\n", b"(#4.7.0)"),
    row("forward to no address", "&\n", b"(#4.2.1)"),
])
def test_lines_that_defer(local, text, mark):
    local.qmail(text)
    result = local.deliver()
    assert result.code == 111 and mark in result.text
    assert local.maildir() == []


def test_absolute_paths(local):
    local.qmail(f"{local.home}/Maildir/\n{local.home}/Mailbox\n")
    assert local.deliver() == (0, b"did 2+0+0\n")
    assert len(local.maildir()) == 1


@pytest.mark.parametrize("text, recipients", [
    row("with &", "&luis@test.example\n", ["luis@test.example"]),
    row("without &", "luis@test.example\n", ["luis@test.example"]),
    row("several, one submission", "&a@b\n&c@d\n&a@b\n", ["a@b", "c@d", "a@b"]),
    row("taken as it is", "&Luis <luis@test.example>\n", ["Luis <luis@test.example>"]),
    row("without domain", "luis\n", ["luis"]),
    row("after +list", "+list\n&a@b\n", ["a@b"]),
    row("after a comment", "#\n&a@b\n", ["a@b"]),
])
def test_forwards(local, text, recipients):
    local.qmail(text)
    with local.keeper(number=99) as queue:
        assert local.deliver() == (0, b"did 0+%d+0\nqp 99\n" % len(recipients))
    assert queue.submissions == [(b"Delivered-To: ana@test.example\n" + MESSAGE, envelope(SENDER, *recipients))]


def test_forward_of_a_forward_only_file(local):
    local.qmail("&a@b\n", mode=0o700)
    with local.keeper() as queue:
        assert local.deliver().code == 0
    assert len(queue.submissions) == 1


@pytest.mark.parametrize("code, want", [row("too long an address", 11, 100), row("refused", 31, 100),
                                         row("disk full", 53, 111), row("unknown", 77, 111)])
def test_queue_refuses_a_forward(local, code, want):
    local.qmail("./Maildir/\n&a@b\n")
    with local.keeper(code=code):
        result = local.deliver()
    assert result.code == want and b"did" not in result.text
    assert len(local.maildir()) == 1  # earlier effects stay


def test_forward_through_qmailqueue(local):
    local.qmail("&a@b\n")
    out = local.tree.write("envelope", "")
    program = local.tree.write("scanner", f"#!/bin/sh\ncat >{local.tree.home}/message\ncat <&1 >{out}\n", 0o755)
    result = local.deliver(env={"QMAILQUEUE": str(program)})
    assert result.code == 0 and re.fullmatch(rb"did 0\+1\+0\nqp \d+\n", result.text)
    assert out.read_bytes() == envelope(SENDER, "a@b")
    assert (local.tree.home / "message").read_bytes() == b"Delivered-To: ana@test.example\n" + MESSAGE


@pytest.mark.parametrize("status, code", [
    *[row(f"exit {n}", f"exit {n}", 100) for n in (64, 65, 70, 76, 77, 78, 100, 112)],
    *[row(f"exit {n}", f"exit {n}", 111) for n in (1, 2, 66, 69, 71, 75, 79, 98, 101, 111, 126, 127, 255)],
    row("crash", "kill -SEGV $$", 111),
    row("killed", "kill -KILL $$", 111),
    row("no such program", "no-such-program", 111),
])
def test_program_fails(local, status, code):
    """A failing line stops everything: earlier effects stay, forwards are not sent."""
    local.qmail(f"&a@b\n./Maildir/\n|echo why; {status}\n./Mailbox\n")
    with local.keeper() as queue:
        result = local.deliver()
    assert result.code == code and result.text.startswith(b"why\n") and b"did " not in result.text
    assert queue.submissions == []
    assert len(local.maildir()) == 1 and not (local.home / "Mailbox").exists()


def test_exit_99_stops_with_success(local):
    local.qmail("&a@b\n./Maildir/\n|exit 99\n./Mailbox\n&c@d\n")
    with local.keeper(number=5) as queue:
        assert local.deliver() == (0, b"did 1+1+1\nqp 5\n")
    assert [e for _, e in queue.submissions] == [envelope(SENDER, "a@b")]
    assert len(local.maildir()) == 1 and not (local.home / "Mailbox").exists()


def test_program_is_run_by_sh_in_the_home(local):
    assert local.output("pwd; echo $0") == f"{local.home}\n/bin/sh".encode()


def test_program_gets_the_message_alone_and_rewound(local):
    local.qmail("|cat >one\n|head -c 9 >/dev/null; cat >two\n|cat >three\n")
    assert local.deliver().code == 0
    for name, want in ("one", MESSAGE), ("two", MESSAGE[9:]), ("three", MESSAGE):
        got = (local.home / name).read_bytes()
        assert got == want or name == "two" and got in (MESSAGE[9:], b"")  # head may read ahead


def test_program_can_seek(local):
    code = "import sys; f = sys.stdin.buffer; n = len(f.read()); f.seek(0); print(n, len(f.read()), f.seekable())"
    n = len(MESSAGE)
    assert local.output(f"python3 -c '{code}'") == f"{n} {n} True".encode()


def test_program_has_no_other_descriptors(local):
    assert local.output("ls /proc/self/fd | sort -n | head -3; ls /proc/self/fd | wc -l") == b"0\n1\n2\n4"


def test_program_dies_of_sigpipe(local):
    """With SIGPIPE ignored, yes would complain."""
    assert local.output("yes | head -n 1") == b"y"


def test_program_need_not_read(local):
    assert local.deliver(b"X: y\n\n" + b"x" * 1000000, default="|exec <&-; exit 0") == (0, b"did 0+0+1\n")


def test_program_leaves_a_process_behind(local):
    """It holds output and message; the answer does not wait for it."""
    local.qmail("|sleep 300 & echo $! >pid; echo done\n./Maildir/\n")
    start = time.monotonic()
    try:
        assert local.deliver() == (0, b"done\ndid 1+0+1\n")
        assert time.monotonic() - start < 60
    finally:
        pid = int((local.home / "pid").read_text())
        os.kill(pid, signal.SIGTERM)


def test_program_floods(local):
    local.qmail("|head -c 100000000 /dev/zero | tr '\\0' x; exit 0\n")
    result = local.deliver()
    assert result.code == 0 and len(result.text) <= 3000
    assert re.fullmatch(rb"x{1000,}\ndid 0\+0\+1\n", result.text)


def test_program_and_processes_it_left_flood(local):
    local.qmail("|yes >&2 & echo $! >pid; yes | head -c 1000000 >&2\n")
    try:
        result = local.deliver()
    finally:
        try:
            os.kill(int((local.home / "pid").read_text()), signal.SIGTERM)
        except ProcessLookupError:
            pass
    assert result.code == 0 and len(result.text) <= 3000 and result.text.endswith(b"\ndid 0+0+1\n")


def test_output_of_both_descriptors_up_to_nul(local):
    assert local.output("echo out; echo err >&2; printf 'a\\0b'") == b"out\nerr\na"


# --- 8.4 environment --------------------------------------------------------------

def variables(local, **more):
    text = local.output("env -0 | tr '\\0\\n' '\\n|'", **more)
    return dict(line.split("=", 1) for line in text.decode(errors="surrogateescape").split("\n") if "=" in line)


def test_environment(local):
    local.qmail("|env -0 | tr '\\0\\n' '\\n|'\n", ".qmail-default")
    result = local.deliver(local="ana-Foo-B.r-c-d", dash="-", ext="Foo-B.r-c-d", domain="a.b.c.example",
                           sender="a b@sender.example", env={"EXTRA": "kept", "DEFAULT": "old"})
    got = dict(line.split("=", 1) for line in ending(result.text) if "=" in line)
    date = r"(Sun|Mon|Tue|Wed|Thu|Fri|Sat) [A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d \d{4}"
    want = {
        "SENDER": "a b@sender.example", "NEWSENDER": "a b@sender.example", "RECIPIENT": "ana-Foo-B.r-c-d@a.b.c.example",
        "USER": "ana", "HOME": str(local.home), "LOCAL": "ana-Foo-B.r-c-d", "HOST": "a.b.c.example", "HOST2": "a.b.c",
        "HOST3": "a.b", "HOST4": "a", "EXT": "Foo-B.r-c-d", "EXT2": "B.r-c-d", "EXT3": "c-d", "EXT4": "d",
        "DEFAULT": "Foo-B.r-c-d", "DTLINE": "Delivered-To: ana-Foo-B.r-c-d@a.b.c.example|",
        "RPLINE": "Return-Path: <\"a b\"@sender.example>|", "EXTRA": "kept",
    }
    assert {k: got.get(k) for k in want} == want
    assert re.fullmatch(rf"From a-b@sender\.example {date}\|", got["UFLINE"])


def test_environment_without_default(local):
    assert "DEFAULT" not in variables(local, env={"DEFAULT": "old"})


def test_environment_of_an_absolute_home(local):
    assert variables(local, home=str(local.home))["HOME"] == str(local.home)


def test_no_function_for_bash(local):
    """CVE-2014-6271: what a shell might take for a function definition is no longer one."""
    evil = "() { :;}; touch pwned; x"
    local.qmail("|bash -c 'declare -F; declare -F | wc -l'\n", ".qmail-default")
    result = local.deliver(sender=evil + "@h", local="ana-" + evil, dash="-", ext=evil, domain="() { :;}; touch pwned")
    assert result == (0, b"0\ndid 0+0+1\n")
    assert not (local.home / "pwned").exists()
    local.qmail("|env\n", ".qmail-default")
    text = local.deliver(sender=evil + "@h", local="ana-" + evil, dash="-", ext=evil, domain="() { a").text
    assert b"=()" not in text
    for name in (b"SENDER", b"NEWSENDER", b"EXT", b"DEFAULT", b"HOST"):
        assert b"\n" + name + b"=_) {" in b"\n" + text


# --- 8.5 forwarding sender --------------------------------------------------------

@pytest.mark.parametrize("files, sender, want", [
    row("no list", [], SENDER, SENDER),
    row("owner", ["x-owner"], SENDER, f"ana-X-owner@{DOMAIN}"),
    row("owner and owner-default", ["x-owner", "x-owner-default"], SENDER, f"ana-X-owner-@{DOMAIN}-@[]"),
    row("owner-default alone", ["x-owner-default"], SENDER, SENDER),
    row("null sender", ["x-owner"], "", ""),
    row("double bounce", ["x-owner"], "#@[]", "#@[]"),
    row("VERP sender", ["x-owner"], "l-@h-@[]", f"ana-X-owner@{DOMAIN}"),
])
def test_new_sender(local, files, sender, want):
    for name in files:
        local.qmail("#\n", f".qmail-{name}")
    local.qmail("&a@b\n", ".qmail-x")
    with local.keeper() as queue:
        assert local.extension("X", sender=sender).code == 0
    assert queue.submissions[0][1] == envelope(want, "a@b")
    local.qmail("|echo \"[$NEWSENDER]\"\n", ".qmail-x")
    assert local.extension("X", sender=sender).text == f"[{want}]\ndid 0+0+1\n".encode()


def test_owner_that_cannot_be_looked_at(local):
    os.symlink(".qmail-x-owner", local.home / ".qmail-x-owner")
    local.qmail("&a@b\n", ".qmail-x")
    with local.keeper() as queue:
        assert local.extension("x").code == 111
    assert queue.submissions == []


# --- 8.6 mbox ---------------------------------------------------------------------

def test_mbox(local):
    body = b"Subject: x\n\nFrom me\n>From you\nFromage\nend"
    for _ in range(2):
        assert local.deliver(body, default="./Mailbox", sender="a b@c") == (0, b"did 1+0+0\n")
    octets = (local.home / "Mailbox").read_bytes()
    want = rb"From a-b@c \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\nReturn-Path: <\"a b\"@c>\nDelivered-To: ana@test.example\n" \
        rb"Subject: x\n\n>From me\n>>From you\nFromage\nend\n\n"
    assert re.fullmatch(want + want, octets)
    assert mode_of(local.home / "Mailbox") == 0o600
    box = mailbox.mbox(local.home / "Mailbox", create=False)
    assert [m["Subject"] for m in box] == ["x", "x"]
    assert box[1].get_payload() == ">From me\n>>From you\nFromage\nend\n"
    assert box[0].get_from().startswith("a-b@c ")


def test_mbox_null_sender(local):
    assert local.deliver(default="./Mailbox", sender="").code == 0
    octets = (local.home / "Mailbox").read_bytes()
    assert octets.startswith(b"From MAILER-DAEMON ") and b"\nReturn-Path: <>\n" in octets


def test_mbox_newline_in_the_sender(local):
    """Number 13 of section 24: it becomes _, not \\_."""
    assert local.deliver(default="./Mailbox", sender="a\nb@c").code == 0
    octets = (local.home / "Mailbox").read_bytes()
    assert octets.startswith(b"From a-b@c ") and b"\nReturn-Path: <\"a_b\"@c>\n" in octets


def test_mbox_after_an_unfinished_one(local):
    local.file("Mailbox", "From x y\n\nhalf a li")
    assert local.deliver(default="./Mailbox").code == 0
    assert len(mailbox.mbox(local.home / "Mailbox", create=False)) == 2


def test_mbox_dev_null(local):
    """Number 13 of section 24."""
    assert local.deliver(default="/dev/null") == (0, b"did 1+0+0\n")


@pytest.mark.parametrize("make", [
    row("FIFO", lambda p: os.mkfifo(p)),
    row("directory", lambda p: os.mkdir(p)),
    row("link to itself", lambda p: os.symlink(p, p)),
    row("unwritable", lambda p: (p.write_text("x"), os.chmod(p, 0o400))),
    row("full device", lambda p: os.symlink("/dev/full", p)),
])
def test_mbox_trouble(local, make):
    make(local.home / "Mailbox")
    local.tree.own(local.home)
    result = local.deliver(default="./Mailbox")
    assert result.code == 111 and re.search(rb"\(#4\.(2\.1|3\.1)\)\n$", result.text)


LOCKS = {
    "flock": "import fcntl,sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX)",
    "fcntl": "import fcntl,sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX)",
}


def lock(local, kind):
    """A process that holds a lock on Mailbox until its input ends."""
    code = LOCKS[kind] + "; print('locked', flush=True); sys.stdin.read()"
    local.file("Mailbox")
    process = local.tree.popen("/usr/bin/python3", "-c", code, local.home / "Mailbox", stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    return process


@pytest.mark.parametrize("kind", LOCKS)
def test_mbox_waits_for_a_lock(once, kind):
    holder = lock(once, kind)
    with open(os.devnull) as null, open(once.file("message", MESSAGE), "rb") as message:
        process = once.tree.popen("qmail-local", "--", "ana", "home/ana", "ana", "", "", DOMAIN, SENDER, "./Mailbox",
                                  stdin=message, stdout=subprocess.PIPE, stderr=null)
        blocked = f"/proc/{process.pid}/syscall"

        def waits():
            with open(blocked) as f:
                return f.read().split()[0] in ("72", "73")  # fcntl, flock

        if os.uname().machine == "x86_64" and os.access(blocked, os.R_OK):
            from conftest import wait_for
            wait_for(waits)
        assert (once.home / "Mailbox").stat().st_size == 0
        assert process.poll() is None
        holder.communicate()
        assert process.communicate()[0] == b"did 1+0+0\n" and process.returncode == 0
    assert (once.home / "Mailbox").stat().st_size > 0


def test_mbox_gives_a_lock_up_after_30_seconds(once):
    holder = lock(once, "flock")
    start = time.monotonic()
    result = once.deliver(default="./Mailbox")
    assert result.code == 111 and 29 < time.monotonic() - start < 50
    holder.communicate()
    assert (once.home / "Mailbox").stat().st_size == 0


# --- 8.7 maildir ------------------------------------------------------------------

def test_maildir(local):
    message = b"Subject: \xc3\xa9\n\n\0\xff\rFrom x\n.\nno newline"
    for sender in SENDER, "":
        assert local.deliver(message, sender=sender) == (0, b"did 1+0+0\n")
    one, two = local.maildir()
    assert one == LINES + message
    assert two == b"Return-Path: <>\nDelivered-To: ana@test.example\n" + message
    names = os.listdir(local.home / "Maildir/new")
    host = os.uname().nodename
    for name in names:
        match = re.fullmatch(rf"(\d+)\.M(\d+)P(\d+)Q(\d+)\.{re.escape(host)},S=(\d+)", name)
        assert match, name
        path = local.home / "Maildir/new" / name
        assert int(match[5]) == path.stat().st_size and mode_of(path) == 0o600
        assert abs(time.time() - int(match[1])) < 100
    assert local.left_in_tmp() == []
    box = local.tree.mailbox()
    assert len(box) == 2 and {m.get_subdir() for m in box} == {"new"}


def test_maildir_that_is_a_link(local):
    os.rename(local.home / "Maildir", local.home / "Mail")
    os.symlink("Mail", local.home / "Maildir")
    assert local.deliver().code == 0
    assert len(local.maildir("Mail")) == 1


@pytest.mark.parametrize("prepare", [
    row("missing", lambda m: os.rename(m, str(m) + "x")),
    row("tmp is missing", lambda m: os.rmdir(m / "tmp")),
    row("new is missing", lambda m: os.rmdir(m / "new")),
    row("a file", lambda m: (os.rename(m, str(m) + "x"), m.write_text(""))),
    row("tmp is closed", lambda m: os.chmod(m / "tmp", 0o500)),
    row("new is closed", lambda m: os.chmod(m / "new", 0o500)),
    row("new cannot be entered", lambda m: os.chmod(m / "new", 0)),
    row("link to itself", lambda m: (os.rename(m, str(m) + "x"), os.symlink("Maildir", m))),
])
def test_maildir_trouble(local, prepare):
    if os.geteuid() == local.tree.uid == 0:
        pytest.skip("root may write everywhere")
    prepare(local.home / "Maildir")
    result = local.deliver()
    assert result.code == 111 and b"(#4.2.1)" in result.text
    for folder in "Maildir", "Maildirx":
        for sub in "tmp", "new":
            path = local.home / folder / sub
            if path.is_dir() and mode_of(path):
                assert os.listdir(path) == []


def test_L5_maildir_of_255_octets(local):
    name = "m" * 255
    for sub in "tmp", "new", "cur":
        (local.home / name / sub).mkdir(parents=True)
    local.tree.own(local.home / name)
    assert local.deliver(default=f"./{name}/").code == 0
    assert len(local.maildir(name)) == 1
    assert local.deliver(default=f"./{name}x/").code == 111


def test_large_message(local):
    message = b"Subject: large\n\n" + b"0123456789abcde\n" * 500000
    assert local.deliver(message, default="./Maildir/\n./Mailbox\n|cat >copy") == (0, b"did 2+0+1\n")
    assert local.maildir() == [LINES + message]
    assert (local.home / "copy").read_bytes() == message
    assert (local.home / "Mailbox").read_bytes().endswith(message + b"\n")


def test_real_messages(local, corpus):
    for name, octets in corpus[::8]:
        octets = octets.replace(b"\r\n", b"\n")
        assert local.deliver(octets, default="./Maildir/\n./Mailbox").code == 0, name
        [(path, got)] = [(p, p.read_bytes()) for p in (local.home / "Maildir/new").iterdir()]
        assert got == LINES + octets, name
        path.unlink()


# --- the command line -------------------------------------------------------------

@pytest.mark.parametrize("args", [
    row("no arguments", []),
    row("too few", ["ana", "home/ana", "ana", "", "", DOMAIN, SENDER]),
    row("too many", ["ana", "home/ana", "ana", "", "", DOMAIN, SENDER, "./Maildir/", "x"]),
    row("unknown option", ["-x", "ana", "home/ana", "ana", "", "", DOMAIN, SENDER, "./Maildir/"]),
    row("-C without -W", ["-C", "ana", "home/ana", "ana", "", "", DOMAIN, SENDER, "./Maildir/"]),
    row("-W with too many", ["-W", "ana", "home/ana", "ana", "./Maildir/"]),
])
def test_usage(once, args):
    done = once.tree.run("qmail-local", *args)
    assert done.returncode == 100 and b"usage" in done.stderr


def say(once, text=None, **more):
    if text is not None:
        once.qmail(text)
    args = {"ext": "", "dash": "", **more}
    done = once.tree.run("qmail-local", "-n", "ana", "home/ana", "ana", args["dash"], args["ext"], DOMAIN, SENDER, "./Mailbox",
                         stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout.decode()


@pytest.mark.parametrize("text, code, out", [
    row("each kind", "#\n./Maildir/\n./Mailbox\n|cat\n&a@b\nc\n", 0,
        "maildir ./Maildir/\nmbox ./Mailbox\nprogram cat\nforward a@b\nforward c\ndid 2+2+1\n"),
    row("default delivery", None, 0, "mbox ./Mailbox\ndid 1+0+0\n"),
])
def test_say(once, text, code, out):
    assert say(once, text) == (code, out)
    assert once.maildir() == [] and not (once.home / "Mailbox").exists()


def test_say_is_not_stopped_by_a_sticky_home(once):
    os.chmod(once.home, 0o1700)
    code, out = say(once)
    assert code == 0 and "(#4.2.1)" in out and "mbox ./Mailbox\n" in out


def test_say_of_a_list_with_a_file(once):
    code, out = say(once, "+list\n&a@b\n./Mailbox\n")
    assert code == 111 and out.startswith("forward a@b\n")


def test_say_nobody(once):
    code, out = say(once, dash="-", ext="x")
    assert code == 100 and "(#5.1.1)" in out


def test_message_that_is_no_file(once):
    done = once.tree.run("qmail-local", "--", "ana", "home/ana", "ana", "", "", DOMAIN, SENDER, "./Maildir/", input=MESSAGE)
    assert done.returncode == 111


def test_message_is_read_from_its_start(once):
    with open(once.file("message", MESSAGE), "rb") as message:
        os.lseek(message.fileno(), 5, os.SEEK_SET)
        done = once.tree.run("qmail-local", "--", "ana", "home/ana", "ana", "", "", DOMAIN, SENDER, "./Maildir/", stdin=message)
    assert done.returncode == 0 and once.maildir() == [LINES + MESSAGE]


def test_closed_descriptors(once):
    """L1: what is opened first must not become descriptor 1 or 2."""
    script = 'exec "$@" <"$HOME/home/ana/message" >&- 2>&-'
    once.file("message", MESSAGE)
    done = once.tree.run("/bin/sh", "-c", script, "-", once.tree.bin / "qmail-local", "--", "ana", "home/ana", "ana", "", "",
                         DOMAIN, SENDER, "./Maildir/\n|echo hi\n./Mailbox")
    assert done.returncode == 0 and once.maildir() == [LINES + MESSAGE]
    assert b"did" not in (once.home / "Mailbox").read_bytes()


@pytest.mark.parametrize("limit", [row("L1: RLIMIT_FSIZE=0", "ulimit -f 0"), row("L1: RLIMIT_NOFILE=3", "ulimit -n 3")])
def test_limits(once, limit):
    script = f'exec <"$HOME/home/ana/message"; {limit}; exec "$@"'
    once.file("message", MESSAGE)
    done = once.tree.run("/bin/sh", "-c", script, "-", once.tree.bin / "qmail-local", "--", "ana", "home/ana", "ana", "", "",
                         DOMAIN, SENDER, "./Maildir/\n./Mailbox")
    if b"shared libraries" in done.stderr:
        pytest.skip("linked with shared libraries, which cannot be opened")
    assert done.returncode == 111
    assert once.maildir() == [] and once.left_in_tmp() == []
