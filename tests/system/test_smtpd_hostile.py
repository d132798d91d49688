"""qmail-smtpd and hostile clients: the rows of shared/hostile-inputs.md that are its own, named after their numbers.

Every session has a limit of memory (smtp_session.MEMORY, by setrlimit)."""
import contextlib
import resource
import socket
import threading
import time

import pytest

from conftest import HOST, wait_for
import pop3
import smtp_session
from serving import Service
from smtp_session import CountingQueue, Queue, capped, parts


class Smtp(smtp_session.Smtp):
    """Whatever it was, it is one line in the log."""

    def __init__(self, tree, **more):
        super().__init__(tree, limit=capped(), **more)

    def __exit__(self, *why):
        super().__exit__(*why)
        assert self.said.count(" session pid=") == 1 or why[0], self.said


TO = f"luis@{HOST}"
START = b"MAIL FROM:<evil@x.example>\r\nRCPT TO:<luis@mail.test.example>\r\nDATA\r\nsmuggled\r\n.\r\n"


@pytest.fixture
def queue(tree):
    tree.write("control/rcpthosts", f"{HOST}\n")
    with Queue(tree) as q:
        yield q


@pytest.fixture
def smtp(tree, queue):
    with Smtp(tree) as s:
        yield s


# -- S1: ends of data ------------------------------------------------------------

ENDS = [b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r\n.\0\r\n",
        b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\r\n.\r\n\r\n.\r\n", b"\n\r\n.\r\r\n", b"\r\n.\r\0\n", b"\n\n.\n\n", b"\r\n .\r\n", b"\r\n..\r\n"]


@pytest.mark.parametrize("split", ["one write", "each octet"])
@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_S1_smuggling(smtp, queue, end, split):
    """Only CR LF . CR LF ends the data: what follows another form is part of the same message."""
    smtp.ehlo()
    smtp.envelope()
    smtp.expect(354, "DATA")
    octets = b"Subject: one\r\n\r\nbody" + end + START.replace(b"\r\n.\r\n", b"\r\n")
    if end.endswith(b"\r\n.\r\n"):
        octets = b"body\r\r"       # CR CR LF . CR LF is an end, of a message that is refused
    for piece in [octets] if split == "one write" else [octets[i:i + 1] for i in range(len(octets))]:
        smtp.send(piece)
    smtp.send(b"\r\n.\r\n")
    is_clean = b"\n" not in end.replace(b"\r\n", b"") and b"\r" not in end.replace(b"\r\n", b"") and not end.endswith(b"\r\n.\r\n")
    assert smtp.reply()[:9] == ("250 2.0.0" if is_clean else "550 5.6.0")
    smtp.expect(250, "NOOP")
    smtp.expect(221, "QUIT")
    assert smtp.rest() == []
    if is_clean:
        assert len(queue.messages) == 1 and parts(queue.messages[0][1])[0] == "Fana@client.example"
        assert b"smuggled" in queue.messages[0][0]
    else:
        assert queue.messages == []


# -- S2: bare CR and LF --------------------------------------------------------------


@pytest.mark.parametrize("octets", [
    b"NOOP\nMAIL FROM:<evil@x>\r\n", b"NOOP\n\r\n", b"\nNOOP\r\n", b"NOOP\rMAIL FROM:<evil@x>\r\n", b"NOOP\r\r\n", b"\rNOOP\r\n",
    b"MAIL FROM:<a@b>\nRCPT TO:<luis>\r\n", b"EHLO x\nMAIL FROM:<a@b>\r\n", b"VRFY a\nDATA\r\n", b"NOOP\nNOOP\n", b"QUIT x\r.\r\n",
    b"MAIL FROM:<a\nb@c>\r\n", b"MAIL FROM:<a@b> ENVID=a\rb\r\n", b"NOOP\r\nNOOP\nNOOP\r\n",
], ids=repr)
def test_S2_bare_in_commands(smtp, queue, octets):
    """Around it nothing counts: 500, and the connection ends."""
    smtp.send(octets)
    said = [line for line in smtp.rest() if not line.startswith("250 ok")]
    assert len(said) == 1 and said[0].startswith("500 "), said


def test_S2_lone_LF_of_a_hand_typed_command(smtp):
    smtp.send(b"NOOP\n")
    assert smtp.reply() == "500 a line ends with CR LF (#5.5.2)"
    smtp.expect(250, "NOOP")


def test_S2_command_split_after_a_bare_LF(smtp):
    """A second packet that does not wait for the reply is as bad as one."""
    smtp.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    smtp.send(b"NOOP x\n")
    smtp.send(b"MAIL FROM:<evil@x>\r\n")
    assert [line[:4] for line in smtp.rest()] == ["500 "]


@pytest.mark.parametrize("octets", [b"\n", b"a\nb", b"\r", b"a\rb", b"Subject: x\nFrom: y\r\n\r\n", b"\r\n\rx", b"a\r\n\nb", b"a\0\n"], ids=repr)
@pytest.mark.parametrize("how", ["DATA", "BDAT"])
def test_S2_bare_in_data(smtp, queue, how, octets):
    smtp.ehlo()
    smtp.envelope()
    if how == "DATA":
        assert smtp.data(octets).startswith("550 5.6.0 ")
    else:
        smtp.send(b"BDAT %d LAST\r\n" % (len(octets) + 2) + octets + b"\r\n")
        assert smtp.reply().startswith("550 5.6.0 ")
    assert smtp.message().startswith("250 ")
    assert len(queue.messages) == 1


# -- S4: what was sent too early -------------------------------------------------------


@pytest.mark.parametrize("octets,replies", [
    (b"EHLO x\r\nMAIL FROM:<a@b>\r\n", ["503"]), (b"HELO x\r\nNOOP\r\n", ["503"]),
    (b"MAIL FROM:<a@b>\r\nRCPT TO:<luis>\r\nDATA\r\nx\r\n.\r\n", ["250", "250", "503"]),
    (b"MAIL FROM:<a@b>\r\nRCPT TO:<luis@no.example>\r\nDATA\r\nMAIL FROM:<evil@x>\r\n.\r\n", ["250", "553", "503"]),
    (b"DATA\r\nMAIL FROM:<evil@x>\r\n", ["503"]),
])
def test_S4_not_waited_for_the_reply(smtp, queue, octets, replies):
    smtp.send(octets)
    assert [line[:3] for line in smtp.rest()] == replies
    assert queue.messages == []


def test_S4_spoke_before_the_greeting(tree, queue):
    tree.write("control/greetdelay", "1\n")
    with Smtp(tree, greet=False) as s:
        s.send(b"EHLO x\r\n")
        assert [line[:4] for line in s.rest()] == ["554 "]
    assert 'end=refused' in s.said and "before the greeting" in s.said
    started = time.monotonic()
    with Smtp(tree) as s:
        assert time.monotonic() - started >= 1
        s.ehlo()
    with Smtp(tree, env={"RELAYCLIENT": ""}, greet=False) as s:
        s.send(b"HELO x\r\n")
        assert s.reply()[:3] == "220" and s.reply()[:3] == "250"


# -- S6: BDAT -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["-1", "4294967296x", "18446744073709551616", "9223372036854775808", "", "LAST", "0x10", "1 2", "1 LAST LAST", "+1", "1e3", "9" * 100])
def test_S6_nobody_knows_the_size(smtp, queue, size):
    smtp.ehlo()
    smtp.envelope()
    smtp.send(f"BDAT {size}\r\nMAIL FROM:<evil@x>\r\n")
    assert [line[:3] for line in smtp.rest()] == ["501"]


@pytest.mark.parametrize("size", [2**31, 2**32, 2**62])
def test_S6_more_than_anybody_sends(tree, queue, size):
    tree.write("control/databytes", "100000\n")
    tree.write("control/timeoutsmtpd", "1\n")
    with Smtp(tree) as s:
        s.ehlo()
        s.envelope()
        s.send(f"BDAT {size} LAST\r\n".encode() + b"MAIL FROM:<evil@x>\r\n" * 20000)
        assert s.reply().startswith("451 4.4.2 ")
        assert s.rest() == []
    assert queue.messages == []


def test_S6_zero(smtp, queue):
    smtp.ehlo()
    smtp.envelope()
    smtp.expect(250, "BDAT 0")
    smtp.expect(250, "BDAT 0 LAST")
    assert len(queue.messages) == 1
    smtp.expect(503, "BDAT 0 LAST")


@pytest.mark.parametrize("inside,code", [("MAIL FROM:<x@y>", 503), ("RCPT TO:<luis>", 503), ("DATA", 503), ("NOOP", 250), ("VRFY x", 252), ("XYZZY", 502)])
def test_S6_commands_between_chunks(smtp, queue, inside, code):
    smtp.ehlo()
    smtp.envelope()
    smtp.send(b"BDAT 3\r\na\r\n")
    smtp.reply()
    smtp.expect(code, inside)
    smtp.send(b"BDAT 3 LAST\r\nb\r\n")
    assert smtp.reply().startswith("250 ")
    assert queue.messages[0][0].endswith(b"\na\nb\n")


@pytest.mark.parametrize("inside", ["RSET", "EHLO x", "HELO x"])
def test_S6_what_ends_the_chunks(smtp, queue, inside):
    smtp.ehlo()
    smtp.envelope()
    smtp.send(b"BDAT 3\r\na\r\n")
    smtp.reply()
    smtp.expect(250, inside)
    smtp.expect(503, "BDAT 0 LAST")
    assert smtp.message().startswith("250 ")
    assert len(queue.messages) == 1


@pytest.mark.parametrize("before", [[], ["MAIL FROM:<a@b>"], ["MAIL FROM:<a@b>", "RCPT TO:<luis@no.example>"]])
def test_S6_octets_of_a_refused_chunk_are_no_commands(smtp, queue, before):
    smtp.ehlo()
    for command in before:
        smtp.command(command)
    smtp.send(b"BDAT %d LAST\r\n" % len(START) + START + b"NOOP\r\n")
    assert [r[:3] for r in smtp.replies(2)] == ["503", "250"]
    assert queue.messages == []


def test_S6_dot_lines_inside(smtp, queue):
    smtp.ehlo()
    smtp.envelope()
    smtp.send(b"BDAT 12 LAST\r\n.\r\n..\r\n.x\r\n.")
    assert smtp.reply().startswith("250 ")
    assert queue.messages[0][0].split(b"\n", 2)[2] == b".\n..\n.x\n."


@pytest.mark.parametrize("below,above", [([999], 999), ([500, 500], 1), ([100] * 10, 1), ([], 100000)])
@pytest.mark.parametrize("last", ["", " LAST"])
def test_S6_sizes_that_add_beyond_the_limit(tree, queue, below, above, last):
    """Each chunk is within it, or one alone is beyond: refused at the chunk with which the sum is, whatever comes later."""
    tree.write("control/databytes", "1000\n")
    with Smtp(tree) as s:
        s.ehlo()
        s.envelope()
        for size in below:
            s.send(b"BDAT %d\r\n" % size + b"x" * size)
            assert s.reply().startswith("250 ")
        s.send(f"BDAT {above}{last}\r\n" + "x" * above)
        assert s.reply().startswith("552 5.3.4 ")
        s.send(b"BDAT 9 LAST\r\n" + b"x" * 9)
        assert s.reply().startswith("503 ")
        s.expect(250, "RSET")
        assert s.message().startswith("250 ")
    assert len(queue.messages) == 1


def test_S6_data_after_a_failed_chunk(tree, queue):
    tree.write("control/databytes", "10\n")
    with Smtp(tree) as s:
        s.ehlo()
        s.envelope()
        s.send(b"BDAT 20\r\n" + b"x" * 20)
        assert s.reply().startswith("552 ")
        s.expect(503, "DATA")
        s.expect(503, "BDAT 0 LAST")
        s.expect(250, "RSET")
        assert s.message(b"x").startswith("250 ")
    assert len(queue.messages) == 1


# -- S7: HELO ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["HELO", "EHLO"])
@pytest.mark.parametrize("name,code", [
    (b"", 501), (b"x" * 255, 250), (b"x" * 256, 501), (b"x" * 65000, 500), (b"a\0b", 500), (b"\xfc.example", 501), (b"a b", 501),
    (b"[192.0.2.1]", 250), (b"[IPv6:2001:db8::1]", 250), (b"[IPv6:2001:db8:::1]", 501), (b"[IPv6:", 501), (b"[", 501), (b"[]", 501),
    (b"[192.0.2.1]x", 501), (b"[192.0.2.1]> <x@y", 501), (b"a\x1bb", 501), (b"_x.y", 250), (b"$(reboot)", 250),
])
def test_S7_helo(smtp, verb, name, code):
    smtp.expect(code, verb.encode() + b" " + name)
    smtp.expect(250, "NOOP")


# -- S8: addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize("path,code", [
    (b'<"">', 501), (b'<""@d>', 501), (b'<"a@d>', 501), (b'<"a\\', 501), (b"<@a,@b:luis@mail.test.example>", 250),
    (b"<@mail.test.example:x@no.example>", 553), (b"<a%b@mail.test.example>", 250), (b"<a%mail.test.example@no.example>", 553),
    (b"<\xfc@mail.test.example>", 501), ("<ü@mail.test.example>".encode(), 553), (b"<a\0@mail.test.example>", 500),
    (b"<a b@mail.test.example>", 501), (b"<" + b"a" * 10240 + b"@mail.test.example>", 500), (b"<luis>", 250), (b"<@mail.test.example>", 501),
    (b"<luis@.>", 501), (b"<luis@mail.test.example.>", 501), (b"<luis@[192.0.2.1]>", 250), (b"<>", 501), (b"", 501), (b"<luis@mail.test.example", 501),
    (b"<<luis@mail.test.example>>", 501), (b"<luis@mail.test.example> x", 555), (b"<|/bin/sh@mail.test.example>", 250), (b"</etc/passwd>", 250),
    (b"<luis@mail.test.example@no.example>", 501), (b"<" + b"a" * 1500 + b"@mail.test.example>", 555),
])
def test_S8_addresses(smtp, queue, path, code):
    smtp.expect(250, "MAIL FROM:<a@b>")
    smtp.expect(code, b"RCPT TO:" + path)
    smtp.expect(250, "RCPT TO:<luis>")
    assert smtp.data(b"x").startswith("250 ")


@pytest.mark.parametrize("path,code", [
    (b'<"">', 501), (b'<""@d>', 501), (b'<"a@d>', 501), (b'<"a\\', 501), (b"<@a,@b:eva@no.example>", 250), (b"<@a,@b>", 501),
    (b"<a%b@no.example>", 250), (b"<\xfc@no.example>", 501), ("<ü@no.example>".encode(), 550), (b"<a\0@no.example>", 500),
    (b"<a b@no.example>", 501), (b"<" + b"a" * 10240 + b"@no.example>", 500), (b"<eva>", 250), (b"<@no.example>", 501), (b"<eva@.>", 501),
    (b"<eva@no.example.>", 501), (b"<eva@[192.0.2.1]>", 250), (b"<>", 250), (b"", 501), (b"<eva@no.example", 501), (b"<<eva@no.example>>", 501),
    (b"<eva@no.example> x", 555), (b"<|/bin/sh@no.example>", 250), (b"</etc/passwd>", 250), (b"<eva@no.example@no.example>", 501),
    (b"<" + b"a" * 1500 + b"@no.example>", 555),
])
def test_S8_reverse_paths(smtp, queue, path, code):
    smtp.expect(code, b"MAIL FROM:" + path)
    smtp.expect(250 if code == 250 else 503, "RCPT TO:<luis>")
    smtp.expect(250, "RSET")
    assert smtp.message().startswith("250 ")
    assert [parts(envelope)[0] for _, envelope in queue.messages] == ["Fana@client.example"]


# -- S9: parameters ----------------------------------------------------------------------------


@pytest.mark.parametrize("parameters,code", [
    (b"SIZE=99999999999999999999", 250), (b"SIZE=-1", 501), (b"SIZE=1 SIZE=1", 501), (b"AUTH=a+0Ab", 501), (b"ENVID=" + b"x" * 10240, 500),
    (b"ENVID=" + b"x" * 3000, 501), (b"ENVID=a+0D+0Ab", 501), (b"RET=FULL RET=FULL", 501), (b"X=1", 555), (b"A=1 " * 1000, 555), (b"=", 555),
    (b"BODY=BINARYMIME", 555), (b"SMTPUTF8=x", 501), (b"NOTIFY=NEVER", 555), (b"SIZE=1\0", 500), (b"SIZE=1\x7f", 501), (b"\xff", 555),
])
def test_S9_parameters_of_MAIL(smtp, parameters, code):
    smtp.ehlo()
    smtp.expect(code, b"MAIL FROM:<a@b> " + parameters)
    smtp.expect(250, "MAIL FROM:<a@b>")


@pytest.mark.parametrize("parameters,code", [
    (b"ORCPT=rfc822;a+0D+0ARCPT", 501), (b"ORCPT=rfc822;" + b"x" * 600, 501), (b"ORCPT=;a", 501), (b"NOTIFY=NEVER,DELAY", 501),
    (b"NOTIFY=" + b"DELAY," * 300 + b"DELAY", 250), (b"SIZE=1", 555), (b"ORCPT=utf-8;\\x{A}", 501),
])
def test_S9_parameters_of_RCPT(smtp, parameters, code):
    smtp.ehlo()
    smtp.expect(250, "MAIL FROM:<a@b>")
    smtp.expect(code, b"RCPT TO:<luis> " + parameters)


# -- S10: arguments of other commands --------------------------------------------------------------


@pytest.mark.parametrize("argument", ["'; DROP TABLE users; --", "$(id)", "`id`", "|id", "<\"a\\\"b\">", "#" + "x" * 3000, "../../etc/passwd", "%s%n%s%n"])
def test_S10_arguments(smtp, argument):
    assert smtp.command(f"VRFY {argument}") == "252 send some mail, i'll try my best"
    assert smtp.command(f"EXPN {argument}").startswith("502 ")
    assert smtp.command(f"ETRN {argument}").startswith("502 ")
    assert smtp.command(f"HELP {argument}").startswith("214 ")
    assert smtp.command(f"NOOP {argument}").startswith("250 ")


# -- S12: without end --------------------------------------------------------------------------------


def flood(s, octets, count):
    """Sends octets count times, while the replies are read; returns the replies."""
    def send():
        try:
            for _ in range(count // 1000):
                s.send(octets * 1000)
        except OSError:
            pass
    thread = threading.Thread(target=send)
    thread.start()
    lines = s.rest()
    thread.join()
    return lines


def test_S12_a_million_recipients(tree, queue):
    with Smtp(tree) as s:
        s.expect(250, "MAIL FROM:<a@b>")
        lines = flood(s, b"RCPT TO:<luis@mail.test.example>\r\n", 1000000)
    codes = [line[:3] for line in lines]
    assert codes == ["250"] * 1000 + ["452"] * 10000 + ["421"]
    assert "end=refused" in s.said


@pytest.mark.parametrize("command", [b"NOOP\r\n", b"RSET\r\n", b"VRFY x\r\n", b"MAIL FROM:<a@b>\r\n", b"HELP\r\n"])
def test_S12_a_million_commands_for_nothing(smtp, command):
    lines = flood(smtp, command, 1000000)
    assert len(lines) == 501 and lines[-1].startswith("421 ")


@pytest.mark.parametrize("most", [50, 500])
def test_S12_empty_chunks_without_end(tree, queue, most):
    """They do nothing for a message, and no limit of its size ends them."""
    if most != 500:
        tree.write("control/maxsmtpidle", f"{most}\n")
    with Smtp(tree) as s:
        s.ehlo()
        s.envelope()
        lines = flood(s, b"BDAT 0\r\n", 100000)
    assert len(lines) <= most + 1 and lines[-1].startswith("421 "), lines[-3:]
    assert "end=refused" in s.said
    assert queue.messages == []


@pytest.mark.parametrize("command", [b"XYZZY\r\n", b"\r\n", b"RCPT TO:<a@b>\r\n", b"MAIL FROM:<a\r\n", b"A\0\r\n", b"BDAT 1\r\nx"])
def test_S12_wrong_commands(smtp, command):
    lines = flood(smtp, command, 100000)
    assert len(lines) == 22 and lines[-1].startswith("421 "), lines


def test_S12_unknown_recipients(smtp):
    smtp.expect(250, "MAIL FROM:<a@b>")
    lines = flood(smtp, b"RCPT TO:<a@no.example>\r\n", 100000)
    assert len(lines) == 102 and lines[-1].startswith("421 "), lines


def test_S12_refused_recipients_of_a_long_session(tree, queue):
    """A mailing list's many dead addresses, a message's share at a time, are no attack."""
    tree.write("control/brtlimit", "3\n")
    with Smtp(tree) as s:
        for _ in range(3):
            s.expect(250, "MAIL FROM:<a@b>")
            for _ in range(3):
                s.expect(553, "RCPT TO:<a@no.example>")
            s.expect(250, "RCPT TO:<luis>")
            assert s.data(b"x").startswith("250 ")
    assert "refused=9" in s.said


def test_S12_messages_without_end(tree, queue):
    tree.write("control/maxmail", "3\n")
    with Smtp(tree) as s:
        for _ in range(3):
            s.message()
        s.expect(421, "MAIL FROM:<a@b>")
        assert s.rest() == []


def test_S12_tarpit(tree, queue):
    tree.write("control/tarpitcount", "2\n")
    tree.write("control/tarpitdelay", "2\n")
    with Smtp(tree) as s:
        s.envelope("a@b", "luis")
        started = time.monotonic()
        s.expect(250, "RCPT TO:<luis>")
        untouched = time.monotonic()
        s.expect(250, "RCPT TO:<luis>")
        assert time.monotonic() - untouched >= 2 > untouched - started


def test_S12_a_client_that_does_not_read(tree, queue):
    tree.write("control/timeoutsmtpd", "1\n")
    tree.write("control/maxsmtpidle", "1000000000\n")
    with Smtp(tree) as s:
        try:
            while True:
                s.send(b"NOOP\r\n" * 10000)
        except OSError:
            pass
        s.process.wait(20)


# -- S13: larger than memory -----------------------------------------------------------------------------


def stream(s, octets, count):
    try:
        for _ in range(count):
            s.send(octets)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("octets", [b"x" * 65536, b"\0" * 65536, b"MAIL FROM:<" + b"a" * 65536], ids=["x", "NUL", "MAIL"])
def test_S13_command_line_without_end(smtp, octets):
    assert not stream(smtp, octets, 1 << 30)  # until it is cut off, two seconds after the reply
    assert smtp.process.wait(10) == 0
    assert "line without end" in smtp.log()


def test_S13_command_line_too_long(smtp):
    smtp.send(b"NOOP " + b"x" * 4089 + b"\r\nNOOP " + b"x" * 4090 + b"\r\nNOOP " + b"x" * 60000 + b"\r\nNOOP\r\n")
    assert [r[:3] for r in smtp.replies(4)] == ["250", "500", "500", "250"]


@pytest.mark.parametrize("what,piece,count", [
    ("one header of 50 MiB", b"x" * 65536, 800), ("a million header fields", b"X-Field: x\r\n" * 1000, 1000), ("one line of 1 GiB", b"x" * (1 << 20), 1024),
    ("folded header", b"\r\n x" * 10000, 1000),
])
def test_S13_messages_above_databytes(tree, queue, what, piece, count):
    tree.write("control/databytes", "1000000\n")
    with Smtp(tree) as s:
        s.ehlo()
        s.envelope()
        s.expect(354, "DATA")
        s.send(b"Subject: " if "header" in what else b"\r\n")
        assert stream(s, piece, count)
        s.send(b"\r\n.\r\n")
        assert s.reply().startswith("552 5.3.4 ")
        assert s.message().startswith("250 ")
    assert len(queue.messages) == 1


@pytest.fixture
def counting(tree):
    tree.write("control/rcpthosts", f"{HOST}\n")
    with CountingQueue(tree) as q:
        yield q


def test_S13_one_header_of_50_MiB_is_no_trouble(tree, counting):
    with Smtp(tree) as s:
        s.ehlo()
        s.envelope()
        s.expect(354, "DATA")
        s.send(b"Subject: ")
        assert stream(s, b"x" * 65536, 800)
        s.send(b"\r\n\r\n.\r\n")
        assert s.reply().startswith("250 ")
    assert 800 * 65536 < counting.messages[0][0] < 800 * 65536 + 1000


@pytest.mark.parametrize("how", ["DATA", "BDAT"])
def test_S13_a_message_of_200_MiB_is_never_whole_in_memory(tree, counting, how):
    """Three times the memory that the session may have."""
    piece, count = (b"x" * 62 + b"\r\n") * 1024, 3200
    with Smtp(tree) as s:
        s.ehlo()
        s.envelope()
        if how == "DATA":
            s.expect(354, "DATA")
        else:
            s.send(b"BDAT %d LAST\r\n" % (len(piece) * count))
        assert stream(s, piece, count)
        s.send(b".\r\n" if how == "DATA" else b"")
        assert s.reply().startswith("250 ")
    octets = count * 1024 * 63
    assert octets < counting.messages[0][0] < octets + 1000


def test_S13_message_without_end(tree, queue):
    tree.write("control/smtpsessiontime", "3\n")
    with Smtp(tree) as s:
        s.envelope()
        s.expect(354, "DATA")
        thread = threading.Thread(target=stream, args=(s, b"x\r\n" * 1000, 1 << 40))
        thread.start()
        lines = s.rest()
        thread.join()
    assert not lines or lines[0].startswith("421 ")
    assert "result=incomplete" in s.said and "end=session-limit" in s.said
    assert queue.messages == []


# -- S14: slow, silent, gone ---------------------------------------------------------------------------------

STAGES = [b"", b"EHLO x\r\n", b"MAIL FROM:<a@b>\r\n", b"MAIL FROM:<a@b>\r\nRCPT TO:<luis>\r\n", b"MAIL FROM:<a@b>\r\nRCPT TO:<luis>\r\nDATA\r\n",
          b"MAIL FROM:<a@b>\r\nRCPT TO:<luis>\r\nBDAT 100\r\n"]


def reach(s, stage):
    s.send(stage)
    for line in stage.split(b"\r\n")[:-1]:
        if not line.startswith(b"BDAT"):
            s.reply()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("then", [b"", b"N", b"x\r\n."])
def test_S14_silence(tree, queue, stage, then):
    tree.write("control/timeoutsmtpd", "1\n")
    with Smtp(tree) as s:
        reach(s, stage)
        s.send(then)
        lines = s.rest()
        assert lines[-1].startswith("451 ") and len(lines) <= 2, lines
    assert "end=timeout" in s.said
    assert queue.messages == []


def drip(s):
    """Sends an octet now and then, until something comes; returns that, and for how many seconds it went on."""
    started = time.monotonic()
    s.socket.settimeout(0.2)
    said = b""
    while not said and time.monotonic() < started + 20:
        try:
            s.send(b"N")
            said = s.socket.recv(1000)
        except TimeoutError:
            pass
    return said, time.monotonic() - started


@pytest.mark.parametrize("stage", STAGES[:4])
def test_S14_octets_now_and_then_make_no_command(tree, queue, stage):
    """The time for a command begins with the reply to the one before, not with each octet."""
    tree.write("control/timeoutsmtpd", "1\n")
    with Smtp(tree) as s:
        reach(s, stage)
        said, seconds = drip(s)
        assert said.startswith(b"451 ")
        assert seconds < 10
    assert "end=timeout" in s.said
    assert queue.messages == []


@pytest.mark.parametrize("stage", STAGES[4:])
def test_S14_octets_now_and_then_in_data(tree, queue, stage):
    """Slow links are given their time: it is the session's that ends."""
    tree.write("control/timeoutsmtpd", "2\n")
    tree.write("control/smtpsessiontime", "3\n")
    with Smtp(tree) as s:
        reach(s, stage)
        said, _ = drip(s)
        assert said.startswith(b"421 ")
    assert "result=incomplete" in s.said and "end=session-limit" in s.said
    assert queue.messages == []


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", ["closed", "half-closed", "reset"])
def test_S14_gone(tree, queue, stage, how):
    with Smtp(tree) as s:
        reach(s, stage)
        s.send(b"x")
        if how == "half-closed":
            s.socket.shutdown(socket.SHUT_WR)
            s.rest()
        elif how == "reset":
            s.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.socket.close()
        assert s.process.wait(20) == 0
    assert "end=closed" in s.said
    assert queue.messages == []


def test_S14_reset_at_each_octet(tree, queue):
    """Nothing is queued before the end of the data has come, and no process stays."""
    whole = b"MAIL FROM:<a@b>\r\nRCPT TO:<luis>\r\nDATA\r\n"
    data = b"x\r\n.\r\n"
    for cut in range(len(whole) + len(data)):
        with Smtp(tree) as s:
            s.send(whole[:cut])
            if cut >= len(whole):
                s.replies(3)
                s.send(data[:cut - len(whole)])
            s.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert queue.messages == []


def test_S14_ten_thousand_connections_that_say_nothing(tree, queue):
    """As many as the limits allow without a control file are held, the others are told at once; who is held is served all the same."""
    most = 1000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < most + 100:
        pytest.skip(f"{hard} descriptors are too few")
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Service(tree, "qmail-smtpd", "-X", limits=capped()))
        # 50 of an address, 200 of a network
        held = [stack.enter_context(service.connect(f"127.0.{i // 200}.{i % 4 + 1}")) for i in range(most)]
        for connection in held:
            assert connection.recv(100).startswith(b"220 ")
        for i in range(most, 10000):
            with service.connect(f"127.1.{i % 250}.{i % 199 + 1}") as connection:
                assert connection.recv(100).startswith(b"421 4.3.2 ")
        for connection in held:
            connection.sendall(b"QUIT\r\n")
            assert connection.recv(100).startswith(b"221 ")


# -- S15: loops ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields,code", [(99, "250"), (100, "554"), (100000, "554")])
def test_S15_received_fields(smtp, queue, fields, code):
    smtp.ehlo()
    assert smtp.message(b"Received: x\r\n" * fields + b"\r\nbody").startswith(code)
    assert len(queue.messages) == (code == "250")


def test_S15_control_maxhops(tree, queue):
    tree.write("control/maxhops", "3\n")
    with Smtp(tree) as s:
        assert s.message(b"Received: x\r\ndelivered-to: y\r\n\r\nReceived: in the body").startswith("250 ")
        assert s.message(b"Received: x\r\nDELIVERED-to: y\r\nreceived-spf: z") == "554 too many hops, this message is looping (#5.4.6)"


# -- S16: odd header sections -------------------------------------------------------------------------------------


ODD_HEADERS = [
    b"From: a@b\r\nFrom: c@d\r\n\r\nx\r\n", b" From: a@b\r\n\r\nx\r\n", b"From\r\n : a@b\r\n\r\nx\r\n", b"Date: x\r\nDate: y\r\nMessage-ID: <a>\r\nMessage-ID: <b>\r\n\r\n",
    b"Fr\0om: a@b\r\n\r\nx\r\n", b"no header at all\r\n", b"\r\n\r\n\r\n", b"Subject: x\r\nbody without a blank line\r\n", b"From: \xff\xfe\r\n\r\n",
    b"To: a@b\r\nTo: eva@no.example\r\nCc: c@d\r\nCc: c@d\r\n\r\nx\r\n", b"From: a@b\r\nSender: c@d\r\nSender: e@f\r\nReply-To: g@h\r\n\r\nx\r\n",
]


@pytest.mark.parametrize("octets", ODD_HEADERS)
def test_S16_headers_stay_as_they_are(smtp, queue, octets):
    smtp.ehlo()
    smtp.message(octets[:-2])
    assert queue.messages[0][0].split(b"\n", 2)[2] == octets.replace(b"\r\n", b"\n")


def test_S16_headers_from_SMTP_to_POP3_and_in_bounces(stopped):
    """The envelope alone says where a message goes, and where its bounce. Daemons and sessions have a limit of memory."""
    stopped.limits = capped()
    stopped.write("control/rcpthosts", f"{HOST}\n")
    stopped.keeper = stopped.start_daemon("qmail-queued", "qmail-queued", "-r", 8)  # it reads its journal at once
    stopped.start_send()
    for octets in ODD_HEADERS:
        with Smtp(stopped) as s:
            s.ehlo()
            assert s.message(octets[:-2], TO, f"nobody-here@{HOST}", sender=f"ana@{HOST}").startswith("250 ")
    texts = sorted(octets.replace(b"\r\n", b"\n") for octets in ODD_HEADERS)
    stopped.logged("end msg ", 2 * len(ODD_HEADERS))

    stored = stopped.maildir("luis")
    top = f"Return-Path: <ana@{HOST}>\nDelivered-To: {TO}\nReceived: ".encode()
    assert all(octets.startswith(top) for octets in stored)
    assert sorted(octets.split(b"\n", 5)[5] for octets in stored) == texts
    with pop3.Session(stopped, user="luis", preexec_fn=capped()) as s:
        numbers = [line.split()[0] for line in s.listing("LIST")]
        fetched = [(s.fine(f"RETR {n}"), b"".join(line + b"\r\n" for line in s.lines()))[1] for n in numbers]
        s.fine("QUIT")
    assert sorted(fetched) == sorted(map(pop3.wire, stored))

    bounces = stopped.maildir("ana")
    assert len(bounces) == len(texts)
    for text in texts:
        (bounce,) = [octets for octets in bounces if octets.endswith(b"\n" + text) or b"\n" + text + b"\n--" in octets]
        header = bounce.split(b"\n\n", 1)[0]
        assert header.startswith(b"Return-Path: <>\n") and f"\nTo: ana@{HOST}\n".encode() in header
    assert "to remote" not in stopped.log()


def test_S16_header_that_ends_its_lines_with_CR(smtp, queue):
    smtp.ehlo()
    assert smtp.message(b"From: a@b\rSubject: x\r\rbody").startswith("550 5.6.0 ")


# -- S17: other protocols -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("octets", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.0\r\nContent-Length: 99\r\n\r\n" + START, b"CONNECT x:25 HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\nEHLO x\r\n",
    bytes.fromhex("16030100c8010000c40303") + bytes(range(200)), bytes.fromhex("1603010005010000"),
])
def test_S17_other_protocols(smtp, queue, octets):
    smtp.send(octets)
    assert [line[:4] for line in smtp.rest()] == ["500 "]
    assert queue.messages == []


def test_S17_proxy_protocol_in_octets(smtp):
    smtp.send(b"\r\n\r\n\0\r\nQUIT\n!\0\x0c\0\0\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x19")
    assert [line[:3] for line in smtp.rest()][-1] == "500"


# -- S19: names of the client -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["x" * 255, "a" * 5000, "$(id)`id`;|&.example", "a\nX-Field: y", "a b\tc\"<>()\\", "\xff\x1b[31m", ""])
def test_S19_hostile_names(tree, queue, host):
    with Smtp(tree, env={"TCPREMOTEHOST": host, "TCPREMOTEINFO": host}) as s:
        s.message(b"x")
    field = queue.messages[0][0].split(b"; ")[0]
    assert field.count(b"\n") == 1 and len(field) < 1000
    assert not set(field.replace(b"\n", b"")) - set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.@%+/=:-[]? ()")
    assert s.said.isprintable() or all(line.isprintable() for line in s.said.splitlines())


@pytest.mark.parametrize("address", ["256.1.1.1", "::1::2", "\n", "x" * 1000])
def test_S19_addresses_that_are_none(tree, queue, address):
    with Smtp(tree, env={"TCPREMOTEIP": address}) as s:
        assert s.message(b"x").startswith("250 ")


# -- S20: a queue that cannot ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [51, 52, 53, 54, 56, 61, 62, 74, 81, 99])
def test_S20_queue_trouble_is_temporary(tree, code):
    with Queue(tree, codes=[code]), Smtp(tree) as s:
        s.ehlo()
        assert s.message().startswith("451 4.")
        assert s.message().startswith("250 ")


def test_S20_queue_goes_away_during_a_large_message(tree, queue):
    with Smtp(tree) as s:
        s.ehlo()
        s.envelope()
        s.expect(354, "DATA")
        s.send(b"x" * 1000 + b"\r\n")
        s.send((b"x" * 998 + b"\r\n") * 200)
        wait_for(lambda: queue.connections)
        for connection in list(queue.connections):
            connection.shutdown(socket.SHUT_RDWR)
        s.send((b"x" * 998 + b"\r\n") * 1000 + b".\r\n")
        assert s.reply().startswith("451 4.")
        assert s.message().startswith("250 ")
