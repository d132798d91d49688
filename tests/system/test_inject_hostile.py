"""Rows S13, S15 and S16 of hostile-inputs.md as they reach qmail-inject: a memory cap holds, the right exit code, nothing
half-queued."""
import resource
import subprocess
import time

import pytest

from injecting import CLEAN, cap_memory, feed, has_asan, inject, named, names, own_inject, shared_injecting  # noqa: F401

CAP = 96 << 20  # octets of address space: what the manual promises (64 MiB), the program itself and its stack
MIB = 1 << 20
SINK = """#!/bin/sh
exec 3<&1
wc -c > size
cat <&3 > envelope
"""


@pytest.fixture
def hostile(inject):
    """Runs qmail-inject under the cap; the stand-in for the queue keeps the size and the envelope only."""
    sink = inject.tree.write("sink", SINK, 0o755)

    def run(pieces, *args, **env):
        (inject.home / "envelope").unlink(missing_ok=True)
        process = inject.tree.popen("qmail-inject", *args, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE, env=CLEAN | {"QMAILQUEUE": str(sink)} | env,
                                    preexec_fn=cap_memory(CAP))
        code, said = feed(process, pieces)
        envelope = (inject.home / "envelope").read_bytes() if (inject.home / "envelope").exists() else b""
        assert code == 0 and envelope.endswith(b"\0\0") or code == 100 and not envelope and said.count(b"\n") == 1, (code, said)
        return code, said, envelope
    return run


def lines(line, octets):
    """About so many octets of whole lines, in pieces."""
    piece = line * max(1, (MIB // len(line)))
    return [piece] * -(-octets // len(piece))


def test_S13_one_field_of_50_MiB(hostile):
    code, said, _ = hostile([b"Subject: ", *lines(b"x", 50 * MIB), b"\n\nbody\n"], "a@b.example")
    assert code == 100 and b"16 MiB" in said


def test_S13_a_header_of_50_MiB_folded(hostile):
    assert hostile([b"Subject: x\n", *lines(b" more\n", 50 * MIB), b"\nbody\n"], "a@b.example")[0] == 100


def test_S13_a_header_without_end(hostile):
    def endless():
        while True:
            yield b"X-Field: value\n" * 70000
    assert hostile(endless(), "a@b.example")[0] == 100


def test_S13_a_million_fields(hostile):
    before = time.monotonic()
    assert hostile([*lines(b"X: 1234567\n", 11_000_000), b"\nbody\n"], "a@b.example")[0] == 0
    assert time.monotonic() - before < 60


def test_S13_a_million_fields_that_are_rewritten(hostile):
    assert hostile([*lines(b"Cc: a@b.cc\n", 8 * MIB), b"\nbody\n"], "-a")[0] == 0


def test_S13_one_line_of_1_GiB_in_the_header(hostile):
    assert hostile([b"Subject: ", *lines(b"x", 1024 * MIB), b"\n\n"], "a@b.example")[0] == 100


def test_S13_one_line_of_1_GiB_in_the_body(hostile, inject):
    code, _, envelope = hostile([b"To: a@b.example\n\n", *lines(b"x", 1024 * MIB)])
    assert code == 0 and envelope == b"Fana@mail.test.example\0Ta@b.example\0\0"
    assert int((inject.home / "size").read_text()) > 1024 * MIB


def test_S13_one_line_of_1_GiB_that_is_no_field(hostile):
    """A name without a colon within 997 octets is no field: the line belongs to the body."""
    assert hostile(lines(b"x", 1024 * MIB), "a@b.example")[0] == 0


@pytest.mark.parametrize("text", [b"a,", b"a ", b"(", b"(x)", b"<a>", b"a.", b'"a"', b"a:b;", b"@", b"\\", b"[", b";", b"<", b"a@b@", b"=?q?="])
def test_S13_an_address_field_of_15_MiB(hostile, text):
    """Whatever it is full of, and although each address grows by being completed."""
    for name in (b"To", b"From"):
        code, said, _ = hostile([name + b": ", *lines(text, 15 * MIB), b"\n\n"])
        assert code in (0, 100)


def test_S13_many_recipients(hostile):
    """A list of 200,000 addresses passes."""
    code, _, envelope = hostile([b"Bcc:", *(b" user%d@host%d.example,\n" % (i, i % 1000) for i in range(200_000)), b"\n"])
    assert code == 0 and envelope.count(b"\0T") == 200_000


def test_S13_a_message_without_end(hostile, inject):
    """The body is carried, not kept: 2 GiB through the cap, and what reads it decides when it is too much."""
    sink = inject.tree.write("refuse", "#!/bin/sh\nhead -c 2147483648 > /dev/null\nexit 31\n", 0o755)

    def endless():
        yield b"To: a@b.example\n\n"
        while True:
            yield bytes(MIB)
    code, said, _ = hostile(endless(), QMAILQUEUE=str(sink))
    assert code == 100 and b"#5.3.0" in said


def test_S13_many_long_arguments(inject):
    """100,000 octets an argument, 1,000,000 in all."""
    argument = ",".join(f"user{i}@h.example" for i in range(5000))
    done = inject.run("\n", *[argument] * 10, preexec_fn=cap_memory(CAP))
    assert done.returncode == 0 and len(inject.record()[2]) == 50_000


@pytest.mark.parametrize("fail", [resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_AS])
def test_S13_no_resources_left_is_temporary(inject, fail):
    if fail == resource.RLIMIT_AS and has_asan():
        pytest.skip("the sanitizers need address space without end")
    limit = {resource.RLIMIT_NOFILE: 4, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_AS: 6 * MIB}[fail]
    big = "To: " + ", ".join(["a@b.example"] * 200_000) + "\n\n" if fail == resource.RLIMIT_AS else "To: a@b.example\n\n"
    done = inject.run(big, preexec_fn=lambda: resource.setrlimit(fail, (limit, limit)))
    assert done.returncode in (111, 0) if fail == resource.RLIMIT_FSIZE else done.returncode == 111, done


def test_S15_a_hundred_thousand_received_lines(hostile):
    """A loop is for the receiving side to find; here they only have to pass, up to 16 MiB of them."""
    line = b"Received: from a.example (b.example [192.0.2.1])\n  by c.example with SMTP; 24 Nov 2026 00:00:00 -0000\n"
    assert len(line) * 100_000 < 16 * MIB
    assert hostile([line * 100_000, b"To: a@b.example\n\nbody\n"])[0] == 0


def test_S15_delivered_to_of_ourselves_passes(inject):
    out = inject.queued("Delivered-To: ana@mail.test.example\n" * 3 + "To: a@b.example\n\n")[0]
    assert len(named(out, "Delivered-To")) == 3


def test_S16_many_from(inject):
    out = inject.queued("From: a@b.example\nFrom: c@d.example\nFROM: e\n\n")[0]
    assert named(out, "From") == [b"a@b.example", b"c@d.example", b"e@mail.test.example"]
    assert named(inject.queued("From: a@b.example, c@d.example\n\n")[0], "From") == [b"a@b.example, c@d.example"]


def test_S16_from_with_leading_space(inject):
    """As the first line it is no field and ends the header; later it continues the field before."""
    out = inject.queued(" From: a@b.example\nTo: t@h.example\n\nx", "-h")[0]
    assert out.endswith(b"\n\n From: a@b.example\nTo: t@h.example\n\nx") and named(out, "From") == [b"ana@mail.test.example"]
    out = inject.queued("Subject: s\n From: a@b.example\n\nx")[0]
    assert named(out, "From") == [b"ana@mail.test.example"] and named(out, "Subject") == [b"s\n From: a@b.example"]


def test_S16_folded_name(inject):
    """A name that is cut by a fold is no name; the header ends before it."""
    out, _, recipients = inject.queued("Subject: s\nFrom\n : a@b.example\nBcc: b@h.example\n\n", "-h")
    assert recipients == [] and out.endswith(b"Subject: s\n\nFrom\n : a@b.example\nBcc: b@h.example\n\n")


def test_S16_folded_right_behind_the_colon(inject):
    out, _, recipients = inject.queued("To:\n\ta@b.example,\n\tc@d.example\n\n")
    assert recipients == [b"a@b.example", b"c@d.example"] and named(out, "To") == [b"a@b.example, c@d.example"]


@pytest.mark.parametrize("field", ["Date", "Message-ID", "To", "Subject", "From"])
def test_S16_duplicates_stay_and_none_is_added(inject, field):
    out = inject.queued(f"{field}: a@b.example\n{field}: c@d.example\n\n", "-a")[0]
    assert named(out, field) == [b"a@b.example", b"c@d.example"]


def test_S16_sender_differs(inject):
    out, sender, _ = inject.queued("From: a@b.example\nSender: c@d.example\n\n")
    assert (named(out, "Sender"), sender) == ([b"c@d.example"], b"ana@mail.test.example")


@pytest.mark.parametrize("name", [b"Fr\0om", b"\0From", b"From\0", b"Fr\x7fom", b"Fr\x01om", "Fröm".encode(), b"Fr om"])
def test_S16_odd_octet_in_a_name(inject, name):
    message = b"Subject: s\n" + name + b": a@b.example\nBcc: b@h.example\n\n"
    out, _, recipients = inject.queued(message, "-h")
    assert recipients == [] and out.endswith(b"Subject: s\n\n" + message[11:])


def test_S16_missing_blank_line(inject):
    out, _, recipients = inject.queued("To: a@b.example\nThis is the body\nBcc: x@h.example\n")
    assert recipients == [b"a@b.example"] and out.endswith(b"To: a@b.example\n\nThis is the body\nBcc: x@h.example\n")


@pytest.mark.parametrize("message, tail", [
    (b"To: a@b.example\rBcc: x@h.example\r\rbody\r", b"Cc: recipient list not shown: ;\nTo: "),
    (b"Subject: s\rBcc: x@h.example\r\rbody\r", b"Subject: s\rBcc: x@h.example\r\rbody\r\n"),
])
def test_S16_CR_only(inject, message, tail):
    """CR alone ends no line: it is one long field, and what is in it is nobody's recipient."""
    if message.startswith(b"To"):
        inject.refused(message, "-h")
        return
    out, _, recipients = inject.queued(message, "-h")
    assert recipients == [] and out.endswith(tail)
    assert "Bcc" not in names(out)


def test_S16_CR_hides_no_recipient(inject):
    """In a list CR is a blank: both are seen, by us and by who reads the header."""
    out, _, recipients = inject.queued("To: a@b.example,\rc@d.example\n\n")
    assert recipients == [b"a@b.example", b"c@d.example"] and named(out, "To") == [b"a@b.example, c@d.example"]
