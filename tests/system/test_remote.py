"""qmail-remote from outside: what it says to servers, what it reports, and servers that do all they can. Rows C1, C3 and C4
of the hostile inputs; reports of interfaces section 10."""
import email
import email.policy
import socket
import time

import pytest

import fake_smtp
from conftest import wait_for
from fake_smtp import ALL, CLOSE, SILENCE, Server, undot
from remoting import HOST, remote_tree, RemoteWorker, reports, route_to, send, took, tree  # noqa: F401 (fixtures)

PLAIN, PIPELINED = (), ("PIPELINING",)
WAYS = pytest.mark.parametrize("extensions", [PLAIN, PIPELINED, ALL, ("CHUNKING",)], ids=["plain", "pipelining", "all", "chunking"])
STAGES = ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "end"]
# those that a client has to be led to, and what the server offers for that besides
LED = {"HELO": (), "AUTH": ("AUTH LOGIN",), "login": ("AUTH LOGIN",), "RSET": ("LIMITS RCPTMAX=1",), "chunk": ("CHUNKING",)}
LARGE = b"x" * 70 + b"\n" + b"y" * 150_000


def at(stage, what):
    """A reply function: what is said at one stage."""
    return lambda session, verb, line: what if verb == stage else None


def led_to(tree, remote, stage, reply, extensions=PLAIN):
    """Sends a message to a server that leads the client to the stage, where reply says what is said.
    Returns the server, the reports, and seconds."""
    def lead(session, verb, line):
        if verb == stage:
            return reply(session, verb, line)
        if (stage, verb) == ("HELO", "EHLO") or stage == "RSET" and b"<refused@" in line:
            return b"550 5.5.0 no"
        return None

    server = remote(lead, (*extensions, *LED.get(stage, ())))
    if "AUTH LOGIN" in LED.get(stage, ()):
        tree.write("control/smtproutes", f":[{server.host}]:{server.port}|ana|secret\n")
    recipients = ("refused@dest.example", "b@dest.example") if stage == "RSET" else ("b@dest.example",)
    result, seconds = took(lambda: send(tree, *recipients, message=LARGE if stage == "chunk" else b"Subject: x\n\nbody\n"))
    if stage == "RSET":
        assert result[0][0] == "h"
        result = [result[0], (result[1][0], result[1][1] + result[2][1])]
    return server, result, seconds


def arrived(message):
    """The octets of a message, as they were before dots were doubled."""
    return message.octets if message.by == "BDAT" else undot(message.octets)


@pytest.fixture
def remote(tree):
    """A function that starts a server (see fake_smtp) to which all mail of the tree goes."""
    servers = []
    tree.write("control/helohost", "me.test.example\n")

    def start(reply=None, extensions=(), **more):
        server = Server(reply, extensions, **more)
        servers.append(server)
        route_to(tree, server)
        return server

    yield start
    for server in servers:
        server.close()


def accepted(text="250 2.0.0 taken\n"):
    return f"127.0.0.1 accepted message.\nRemote host said: {text}"


# --- what is said ------------------------------------------------------------------------------

@WAYS
def test_a_message(tree, remote, extensions):
    server = remote(extensions=extensions)
    octets = b"Subject: x\n\n.\n..\r\nbare\rCR\n\ndots.\n.end"
    assert send(tree, "a@dest.example", "b@dest.example", message=octets) == [("r", ""), ("r", ""), ("K", accepted())]
    (message,) = server.messages
    assert message.recipients == ["a@dest.example", "b@dest.example"]
    lines = b"Subject: x\r\n\r\n.\r\n..\r\nbare CR\r\n\r\ndots.\r\n.end\r\n"
    assert (message.octets if message.by == "BDAT" else undot(message.octets)) == lines
    assert message.by == ("BDAT" if "CHUNKING" in extensions else "DATA")
    assert server.commands[0] == b"EHLO me.test.example"
    assert server.commands[1].startswith(b"MAIL FROM:<ana@mail.test.example>")
    wait_for(lambda: server.sessions[0].ended)
    assert len(server.sessions) == 1


@WAYS
@pytest.mark.parametrize("octets, wire", [(b"", b""), (b"\n", b"\r\n"), (b"x", b"x\r\n"), (b"x\r", b"x\r\n"), (b".", b".\r\n"),
                                          (b"a\0\n", b"a\0\r\n"), (b"\r.\r\n", b" .\r\n"), (b"a\n.\n.b\n", b"a\r\n.\r\n.b\r\n")])
def test_mail_data(tree, remote, extensions, octets, wire):
    server = remote(extensions=extensions)
    assert send(tree, message=octets)[-1][0] == "K"
    (message,) = server.messages
    assert arrived(message) == wire


@WAYS
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_large_message(tree, remote, extensions, end):
    """Above every buffer, lines of all lengths, dots where buffers end."""
    server = remote(extensions=extensions)
    octets = b"\n".join(b"." * (n % 7) + b"x" * (n % 131) for n in range(60_000)) + end
    assert send(tree, message=octets)[-1][0] == "K"
    (message,) = server.messages
    got = arrived(message)
    assert got == octets.rstrip(b"\r\n").replace(b"\n", b"\r\n") + b"\r\n"


def test_round_trips(tree, remote):
    """A small message costs one write after EHLO where the server offers all, two with PIPELINING alone."""
    server = remote(extensions=ALL)
    send(tree, "a@dest.example", "b@dest.example")
    reads = b"".join(server.sessions[0].reads[1:]).split(b"\r\n")
    assert len(server.sessions[0].reads) <= 3 and reads[3].startswith(b"BDAT")
    server = remote(extensions=PIPELINED)
    send(tree, "a@dest.example", "b@dest.example")
    assert server.sessions[0].reads[1].endswith(b"DATA\r\n") and b"Subject" in server.sessions[0].reads[2]


def test_message_from_a_pipe(tree, remote):
    """Wrappers around qmail-remote pipe the message into it."""
    server = remote(extensions=ALL)
    for octets in (b"Subject: small\n\nx\n", b"large\n" * 200_000):
        done = tree.run("qmail-remote", HOST, "s@x.example", "r@dest.example", input=octets)
        assert reports(done.stdout)[-1][0] == "K"
        assert server.messages[-1].octets == octets.replace(b"\n", b"\r\n")


def test_HELO_where_EHLO_is_refused(tree, remote):
    for code in (b"500 what", b"502 5.5.1 no", b"550 no"):
        server = remote(at("EHLO", code))
        assert send(tree)[-1][0] == "K"
        assert server.commands[:3] == [b"EHLO me.test.example", b"HELO me.test.example", b"MAIL FROM:<ana@mail.test.example>"]


@pytest.mark.parametrize("address, command", [
    ("a b@dest.example", b'RCPT TO:<"a b"@dest.example>'), ('a"\\b@dest.example', b'RCPT TO:<"a\\"\\\\b"@dest.example>'),
    ("a@b@dest.example", b'RCPT TO:<"a@b"@dest.example>'), (".a@dest.example", b'RCPT TO:<".a"@dest.example>'),
    ("a>b@dest.example", b'RCPT TO:<"a>b"@dest.example>'), ("postmaster", b"RCPT TO:<postmaster>"),
    ("a@[192.0.2.1]", b"RCPT TO:<a@[192.0.2.1]>")])
def test_quoting(tree, remote, address, command):
    server = remote()
    assert send(tree, address)[0] == ("r", "")
    assert server.commands[2] == command


@pytest.mark.parametrize("address", ["a\r\nRCPT TO:<b@dest.example>@dest.example", "a@dest.example> SIZE=1", "a\tb@dest.example",
                                     "a\x7f@dest.example", "a@dest.example\nQUIT", "", "a" * 2000 + "@dest.example"])
def test_an_address_that_SMTP_cannot_carry(tree, remote, address):
    server = remote(extensions=ALL)
    first, second, message = send(tree, address, "b@dest.example")
    assert first[0] == "h" and "(#5.1.3)" in first[1] and second == ("r", "") and message[0] == "K"
    assert server.messages[0].recipients == ["b@dest.example"]
    if address:
        (only,) = send(tree, sender=address)
        assert only[0] == "D" and "(#5.1.7)" in only[1] and len(server.messages) == 1


def test_the_sender_of_a_double_bounce_is_the_null_one(tree, remote):
    """<#@[]> is no path (RFC 5321 section 4.1.2): most servers refuse it."""
    server = remote()
    assert send(tree, sender="#@[]")[-1][0] == "K"
    assert server.commands[1] == b"MAIL FROM:<>"


def test_null_sender(tree, remote):
    server = remote()
    assert send(tree, sender="")[-1][0] == "K"
    assert server.commands[1] == b"MAIL FROM:<>"


def test_SIZE(tree, remote):
    server = remote(extensions=("SIZE 100",))
    assert send(tree, message=b"x\n" * 33)[-1][0] == "K"
    assert b"SIZE=99" in server.commands[1]
    ((letter, text),) = send(tree, message=b"x\n" * 34)
    assert letter == "D" and "(#5.3.4)" in text
    assert [c for c in server.sessions[1].commands if not c.startswith((b"EHLO", b"QUIT"))] == []
    for line in ("SIZE", "SIZE 0", "SIZE x", "SIZE 99999999999999999999999999"):
        server = remote(extensions=(line,))
        assert send(tree, message=b"x\n" * 34)[-1][0] == "K"


def test_8BITMIME(tree, remote):
    octets = b"Subject: x\n\n\xc3\xa4\n"
    server = remote(extensions=("8BITMIME",))
    assert send(tree, message=octets)[-1][0] == "K"
    assert server.commands[1].endswith(b" BODY=8BITMIME") and arrived(server.messages[0]) == octets.replace(b"\n", b"\r\n")
    send(tree)
    assert server.sessions[1].commands[1].endswith(b">")


def decoded(message):
    """The texts of the parts of a message that is ASCII, in lines of RFC 2045 section 6.7."""
    octets = arrived(message)
    assert octets.isascii() and all(len(line) <= 76 for line in octets.split(b"\r\n"))
    parsed = email.message_from_bytes(octets, policy=email.policy.SMTP)
    assert not any(part.defects for part in parsed.walk())
    return [part.get_payload(decode=True).replace(b"\r\n", b"\n") for part in parsed.walk() if not part.is_multipart()]


LONG = "Ein l\u00e4ngerer Text. ".encode() * 30 + b"\n.\n-- \n--b\xc3\xa4\n"
MIXED = (b"Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n--b\n"
         b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + LONG + b"\n--b\n"
         b"Content-Type: message/rfc822\n\nSubject: y\n\n" + LONG + b"\n--b\n"
         b"Content-Type: application/x\nContent-Transfer-Encoding: base64\n\nw6Q=\n--b--\n")


@pytest.mark.parametrize("extensions", [None, (), PIPELINED, ("CHUNKING",)], ids=["HELO", "EHLO", "PIPELINING", "CHUNKING"])
def test_a_server_without_8BITMIME_gets_7bit_MIME(tree, remote, extensions):
    """RFC 6152 section 3. Python's parser reads the text that was there."""
    server = remote(extensions=extensions or ())
    if extensions is None:
        server.reply = lambda session, verb, line: b"502 no" if verb == "EHLO" else None
    assert send(tree, message=b"Subject: x\n\n" + LONG)[-1][0] == "K"
    assert send(tree, message=MIXED)[-1][0] == "K"
    assert [decoded(m) for m in server.messages] == [[LONG], [LONG, LONG, b"\xc3\xa4"]]
    assert not any(b"BODY=" in c for c in server.commands)


def test_what_cannot_be_converted_is_not_sent_to_it(tree, remote):
    server = remote()
    for header in (b"Subject: \xc3\xa4\n", b"Content-Type: multipart/signed; boundary=b\n", b"Content-Transfer-Encoding: base64\n"):
        ((letter, text),) = send(tree, message=header + b"\n--b\n\n\xc3\xa4\n--b--\n")
        assert letter == "D" and "it does not know 8BITMIME" in text and text.endswith("(#5.6.3)\n")
    assert server.messages == []


def test_many_recipients(tree, remote):
    """One message to 100 recipients is one transaction, to 250 three."""
    server = remote(extensions=PIPELINED)
    addresses = [f"r{n}@dest.example" for n in range(100)]
    assert send(tree, *addresses) == [("r", "")] * 100 + [("K", accepted())]
    assert [m.recipients for m in server.messages] == [addresses]
    assert len(server.sessions[0].reads) <= 6
    addresses = [f"r{n}@dest.example" for n in range(250)]
    assert send(tree, *addresses) == [("r", "")] * 250 + [("K", accepted())]
    assert [r for m in server.messages[1:] for r in m.recipients] == addresses and len(server.messages) == 4


def test_outgoingip(tree, remote):
    seen = []
    server = remote()
    server.reply = lambda session, verb, line: seen.append(session.socket.getpeername()[0]) if verb == "MAIL" else None
    send(tree)
    tree.write("control/outgoingip", "127.0.0.3\n::1\n")
    send(tree)
    tree.write("control/outgoingip", "0.0.0.0\n")
    send(tree)
    assert seen == ["127.0.0.1", "127.0.0.3", "127.0.0.1"]
    tree.write("control/outgoingip", "nonsense\n")
    ((letter, text),) = send(tree)
    assert letter == "Z" and "control/outgoingip" in text


def test_no_name_of_this_host(tree, remote):
    remote()
    (tree.control / "me").unlink()
    (tree.control / "helohost").unlink()
    ((letter, text),) = send(tree)
    assert letter == "Z" and "helohost" in text


def test_wrong_arguments_are_no_failure(tree):
    for arguments in ([], ["host"], ["host", "sender"]):
        done = tree.run("qmail-remote", *arguments)
        assert done.returncode == 0 and reports(done.stdout)[0][0] == "Z"


# --- results ----------------------------------------------------------------------------------------

def refuse(replies):
    """A reply to RCPT for those addresses."""
    return lambda session, verb, line: next((r for a, r in replies.items() if verb == "RCPT" and a in line), None)


@WAYS
def test_each_recipient_has_a_result(tree, remote, extensions):
    server = remote(refuse({b"<b@": b"550 5.1.1 no such user", b"<c@": b"450 4.2.0 later", b"<d@": b"251 forwards"}), extensions)
    assert send(tree, *(f"{r}@dest.example" for r in "abcd")) == [
        ("r", ""), ("h", "127.0.0.1 does not like recipient.\nRemote host said: 550 5.1.1 no such user\n"),
        ("s", "127.0.0.1 does not like recipient.\nRemote host said: 450 4.2.0 later\n"), ("r", ""), ("K", accepted())]
    assert server.messages[0].recipients == ["a@dest.example", "d@dest.example"]


@WAYS
def test_nobody_accepted(tree, remote, extensions):
    server = remote(refuse({b"<a@": b"550 5.1.1 no", b"<b@": b"450 4.2.0 later"}), extensions)
    assert send(tree, "a@dest.example", "b@dest.example") == [
        ("h", "127.0.0.1 does not like recipient.\nRemote host said: 550 5.1.1 no\n"),
        ("s", "127.0.0.1 does not like recipient.\nRemote host said: 450 4.2.0 later\n"), ("D", "Giving up on 127.0.0.1.\n")]
    assert not server.messages


def test_nobody_accepted_but_DATA_is(tree, remote):
    """RFC 2920 section 3.1: who takes DATA all the same gets an empty message."""
    got = []

    def odd(session):
        session.do_DATA = lambda line: (session.say(b"354 go on\r\n"), got.append(session.data()), session.say(b"554 5.5.1 none\r\n"))
        fake_smtp.Session.run(session)

    server = remote(lambda session, verb, line: b"550 5.1.1 no" if verb == "RCPT" else None, PIPELINED, raw=odd)
    assert [r[0] for r in send(tree)] == ["h", "D"]
    server.reply = lambda session, verb, line: b"550 5.1.0 no" if verb == "MAIL" else b"503 no" if verb == "RCPT" else None
    assert [r[0] for r in send(tree)] == ["D"]
    wait_for(lambda: all(s.ended for s in server.sessions))
    assert got == [b"", b""] and [s.commands[-1] for s in server.sessions] == [b"QUIT"] * 2


@WAYS
@pytest.mark.parametrize("stage, what", [("MAIL", "Connected to 127.0.0.1 but sender was rejected."),
                                         ("DATA", "127.0.0.1 failed on DATA command."),
                                         ("end", "127.0.0.1 failed after I sent the message.")])
@pytest.mark.parametrize("code, letter", [(b"451", "Z"), (b"554", "D")])
def test_refusals(tree, remote, extensions, stage, what, code, letter):
    if stage == "DATA" and "CHUNKING" in extensions:
        pytest.skip("no DATA with CHUNKING")
    server = remote(at(stage, code + b" " + code[:1] + b".7.1 no"), extensions)
    text = f"{what}\nRemote host said: {code.decode()} {code[:1].decode()}.7.1 no\n"
    assert send(tree) == ([] if stage == "MAIL" else [("r", "")]) + [(letter, text)]
    wait_for(lambda: server.sessions[0].ended)
    assert server.commands[-1] == b"QUIT"


@pytest.mark.parametrize("reply", [b"452 4.5.3 too many recipients", b"452 too many", b"552 too many", b"552 5.5.3 too many"])
@WAYS
def test_too_many_recipients_get_further_transactions(tree, remote, extensions, reply):
    server = remote(lambda session, verb, line: reply if verb == "RCPT" and len(session.recipients) >= 10 else None, extensions)
    addresses = [f"r{n}@dest.example" for n in range(35)]
    assert send(tree, *addresses) == [("r", "")] * 35 + [("K", accepted())]
    assert [len(m.recipients) for m in server.messages] == [10, 10, 10, 5] and len(server.sessions) == 1
    assert [r for m in server.messages for r in m.recipients] == addresses


def test_no_further_transaction_where_nobody_was_accepted(tree, remote):
    server = remote(at("RCPT", b"452 4.5.3 too many recipients"))
    assert [r[0] for r in send(tree, "a@dest.example", "b@dest.example")] == ["s", "s", "D"]
    assert len([c for c in server.commands if c.startswith(b"MAIL")]) == 1


@pytest.mark.parametrize("status, transactions", [(b"", 2), (b"5.2.2 ", 1)])
def test_a_full_mailbox_is_no_lack_of_room(tree, remote, status, transactions):
    """552 says both: he is asked for again alone, if the status does not tell them apart."""
    server = remote(refuse({b"<b@": b"552 %sover quota" % status, b"<c@": b"552 %sover quota" % status}))
    assert [r[0] for r in send(tree, "b@dest.example", "a@dest.example", "c@dest.example")] == ["h", "r", "h", "K"]
    assert len([c for c in server.commands if c.startswith(b"MAIL")]) == transactions


def test_a_full_mailbox_is_not_asked_again(tree, remote):
    server = remote(refuse({b"<b@": b"452 4.2.2 over quota"}))
    assert [r[0] for r in send(tree, "a@dest.example", "b@dest.example")] == ["r", "s", "K"]
    assert len([c for c in server.commands if c.startswith(b"MAIL")]) == 1


def test_LIMITS(tree, remote):
    server = remote(extensions=("PIPELINING", "LIMITS RCPTMAX=10 MAILMAX=2 RCPTDOMAINMAX=5"))
    addresses = [f"r{n}@dest.example" for n in range(35)]
    assert send(tree, *addresses) == [("r", "")] * 35 + [("K", accepted())]
    assert [[len(m.recipients) for m in s.messages] for s in server.sessions] == [[10, 10], [10, 5]]
    server = remote(extensions=("LIMITS RCPTMAX=0 MAILMAX=x RCPTMAX=99999999999999999999 RCPTMAX= =",))
    assert send(tree, *addresses)[-1][0] == "K" and len(server.messages) == 1


def test_LIMITS_of_domains(tree, remote):
    """A relay that takes no second domain in a session."""
    def reply(session, verb, line):
        if verb == "RCPT" and len({c.rpartition(b"@")[2].lower() for c in session.commands if c.startswith(b"RCPT")}) > 1:
            return b"550 5.5.3 one domain only"

    server = remote(reply, extensions=("PIPELINING", "LIMITS RCPTDOMAINMAX=1"))
    a, b, c, d, e = addresses = ["a@dest.example", "b@other.example", "c@DEST.example", "d@other.example", "e@third.example"]
    assert [r[0] for r in send(tree, *addresses)] == ["r"] * 5 + ["K"]
    assert [[m.recipients for m in s.messages] for s in server.sessions] == [[[a, c]], [[b, d]], [[e]]]
    with RemoteWorker(tree) as worker:
        for address in (a, c, b):
            assert worker.deliver(address)[0][0] == "K"
    assert [[m.recipients for m in s.messages] for s in server.sessions[3:]] == [[[a], [c]], [[b]]]


# --- which server --------------------------------------------------------------------------------------

def test_no_connection(tree, remote):
    server = remote()
    server.close()
    ((letter, text),) = send(tree)
    assert letter == "Z" and "127.0.0.1: Connection refused" in text and text.endswith("(#4.4.1)\n")
    remote()


def test_timeoutconnect(tree):
    """A listener whose queue is full answers no connection."""
    tree.write("control/timeoutconnect", "1\n")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        host, port = listener.getsockname()
        full = []
        for _ in range(3):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((host, port))
            full.append(s)
        tree.write("control/smtproutes", f":[{host}]:{port}\n")
        ((letter, text),), seconds = took(lambda: send(tree))
        assert letter == "Z" and "timed out" in text and "(#4.4.1)" in text and 0.9 < seconds < 10
        for s in full:
            s.close()


@pytest.mark.parametrize("stage, what", [("greeting", "greeting failed."), ("EHLO", "my name was rejected.")])
@pytest.mark.parametrize("code", [b"421", b"450", b"554"])
def test_a_server_that_wants_nothing(tree, remote, stage, what, code):
    remote(lambda session, verb, line: code + b" go away" if verb in (stage, "HELO") else None)
    ((letter, text),) = send(tree)
    assert letter == "Z"  # 5xx as well, as in qmail: the next address may be another
    assert f"Connected to 127.0.0.1 but {what}" in text and f"Remote host said: {code.decode()} go away\n" in text


# --- C1: replies ---------------------------------------------------------------------------------------

ENDLESS = {"endless lines": b"250-more and more\r\n", "endless line": b"2" * 5000, "endless text": b"250 " + b"x" * 5000,
           "NUL": b"\0" * 5000, "empty lines": b"\r\n"}


@pytest.mark.parametrize("stage", [*STAGES, *LED])
@pytest.mark.parametrize("name, extensions", [*((n, PLAIN) for n in ENDLESS), ("endless lines", ALL), ("endless text", ALL)],
                         ids=lambda v: v if isinstance(v, str) else "all" if v else "plain")
def test_C1_endless_reply(tree, remote, stage, name, extensions):
    """Up to 2 GiB, if the client takes them; it has 48 MiB."""
    def flood(session, verb, line):
        if name == "endless text":
            session.say(b"250 ")
        for _ in range((2 << 30) // 500_000):
            session.say(ENDLESS[name] * (500_000 // len(ENDLESS[name])))
        return SILENCE

    if stage == "DATA" and "CHUNKING" in extensions:
        pytest.skip("no DATA with CHUNKING")
    _, result, seconds = led_to(tree, remote, stage, flood, extensions)
    assert seconds < 20
    if stage == "RSET" and extensions == PLAIN:  # no answer to what was not said yet: another session is asked
        assert result[-1][0] == "r"
    else:
        assert result[-1][0] in "Zs" and ("made no sense" in result[-1][1] or "connection died" in result[-1][1])


@pytest.mark.parametrize("stage", [*STAGES, *LED])
@pytest.mark.parametrize("reply", [b"250-no end", b"250-a\r\n550 b", b"354-a\r\n250 b", b"hello", b"", b"25", b"99 x", b"2500 x", b"\xff\xfe",
                                   b"150 wait", b"699 x"], ids=repr)
@pytest.mark.parametrize("extensions", [PLAIN, ALL], ids=["plain", "all"])
def test_C1_reply_without_sense(tree, remote, extensions, stage, reply):
    tree.write("control/timeoutremote", "1\n")
    _, result, seconds = led_to(tree, remote, stage, lambda session, verb, line: reply, extensions)
    assert result[-1][0] in "ZKsr" and seconds < 10
    if result[-1][0] == "K":
        assert stage == "DATA" and extensions == ALL  # which is not said then
    if result[-1][0] == "r":
        assert stage == "RSET" and extensions == PLAIN  # over another session


def test_C1_code_alone(tree, remote):
    server = remote(lambda session, verb, line: {"greeting": b"220", "EHLO": b"250", "MAIL": b"250", "DATA": b"354", "RCPT": b"250",
                                                 "end": b"250"}.get(verb))
    assert send(tree) == [("r", ""), ("K", accepted("250\n"))]
    assert len(server.messages) == 1


def test_C1_text_of_a_reply(tree, remote):
    """Nothing that ends a line of a log or a paragraph of a bounce, and no escape sequence."""
    nasty = b"550-5.1.1 \033[2J\033]0;x\007 a\0b\x7f\x9b31m \xc2\x9b31m\r\n550-\r\n550-caf\xc3\xa9 \xff\r550 x\r\n550 <other@x.example>:"
    remote(at("RCPT", nasty))
    (_, text), _ = send(tree)
    assert text == ("127.0.0.1 does not like recipient.\nRemote host said: 550-5.1.1 ?[2J?]0;x? a?b??31m ??31m\n"
                    "550-\n550-caf\u00e9 ??550 x\n550 <other@x.example>:\n")


def test_C1_long_texts_are_cut(tree, remote):
    remote(at("RCPT", b"\r\n".join([b"550-" + b"x" * 5000] * 10) + b"\r\n550 end"))
    assert len(send(tree, *(f"{n}@dest.example" for n in range(100)))[0][1]) < 5000


# --- C3: replies that do not fit -------------------------------------------------------------------------

@WAYS
@pytest.mark.parametrize("stage, reply", [("MAIL", b"354 go on"), ("RCPT", b"354 go on"), ("DATA", b"250 ok"), ("DATA", b"220 hi"),
                                          ("end", b"354 more"), ("EHLO", b"354 x"), ("HELO", b"354 x"), ("chunk", b"354 x"),
                                          ("AUTH", b"235 welcome"), ("AUTH", b"250 ok"), ("login", b"334 x"), ("login", b"250 ok")])
def test_C3_another_reply(tree, remote, extensions, stage, reply):
    if stage == "DATA" and "CHUNKING" in extensions:
        pytest.skip("no DATA with CHUNKING")
    server, result, _ = led_to(tree, remote, stage, lambda session, verb, line: reply, extensions)
    if (stage, reply[:3]) == ("AUTH", b"235"):
        assert result[-1][0] == "K"  # who asks for no password has let us in
    else:
        # chunks do not wait for one another with PIPELINING
        assert result[-1][0] == "Z" and (stage == "end" or (stage == "chunk" and "PIPELINING" in extensions) or not server.messages)


@WAYS
@pytest.mark.parametrize("reply", [b"354 x", b"334 x", b"503 5.5.1 no", b"220 hi"])
def test_C3_another_reply_to_RSET(tree, remote, extensions, reply):
    """It says nothing of the message."""
    server, result, _ = led_to(tree, remote, "RSET", lambda session, verb, line: reply, extensions)
    assert result[-1][0] == "r" and [m.recipients for m in server.messages] == [["b@dest.example"]]


@WAYS
@pytest.mark.parametrize("stage", LED)
@pytest.mark.parametrize("what", [b"421 4.3.2 going down", CLOSE], ids=["421", "close"])
def test_C3_the_end_where_a_client_is_led_to(tree, remote, extensions, stage, what):
    server, result, _ = led_to(tree, remote, stage, lambda session, verb, line: what, extensions)
    if stage == "RSET":  # it may have ended before
        assert result[-1][0] == "r" and len(server.sessions) == 2
    elif what is CLOSE:
        assert result[-1][0] == "Z" and "connection died" in result[-1][1]
    else:
        assert result[-1][0] == "Z" and "Remote host said: 421 4.3.2 going down\n" in result[-1][1]
    wait_for(lambda: server.sessions[0].ended)


@WAYS
@pytest.mark.parametrize("stage", STAGES)
def test_C3_421_at_each_stage(tree, remote, extensions, stage):
    server = remote(at(stage, b"421 4.3.2 going down"), extensions)
    if stage == "DATA" and "CHUNKING" in extensions:
        pytest.skip("no DATA with CHUNKING")
    result = send(tree, "a@dest.example", "b@dest.example")
    assert result[-1][0] == "Z" and not [r for r in result[:-1] if r[0] == "h"]
    assert "Remote host said: 421 4.3.2 going down\n" in "".join(text for _, text in result)
    wait_for(lambda: server.sessions[0].ended)


@WAYS
@pytest.mark.parametrize("stage", STAGES)
def test_C3_hanging_up_at_each_stage(tree, remote, extensions, stage):
    remote(at(stage, CLOSE), extensions)
    if stage == "DATA" and "CHUNKING" in extensions:
        pytest.skip("no DATA with CHUNKING")
    result = send(tree, "a@dest.example", "b@dest.example")
    assert result[-1][0] == "Z" and "connection died" in result[-1][1]
    if stage == "end":
        assert "Possible duplicate!" in result[-1][1]
    if stage in ("greeting", "EHLO", "DATA") or (stage in ("MAIL", "RCPT") and extensions != ALL):
        assert "Possible duplicate!" not in result[-1][1]


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA"])
def test_C3_reply_before_the_command(tree, remote, stage):
    """Two replies to one command: the second would be taken for the answer to the next."""
    usual = {"greeting": b"220 hi", "DATA": b"354 go on"}.get(stage, b"250 ok")
    server = remote(at(stage, usual + b"\r\n250 ok\r\n250 ok"))
    result = send(tree)
    assert result[-1][0] == "Z" and not server.messages
    assert "made no sense" in result[-1][1]


@pytest.mark.parametrize("stage, usual", [("HELO", b"250 hi"), ("AUTH", b"334 go on"), ("login", b"235 hi"), ("RSET", b"250 ok"),
                                          ("chunk", b"250 ok")])
def test_C3_reply_before_a_command_that_a_client_is_led_to(tree, remote, stage, usual):
    server, result, _ = led_to(tree, remote, stage, lambda session, verb, line: usual + b"\r\n250 ok\r\n250 ok")
    if stage == "RSET":
        assert result[-1][0] == "r" and [len(s.messages) for s in server.sessions] == [0, 1]
    else:
        assert result[-1][0] == "Z" and "made no sense" in result[-1][1] and not server.messages


def test_C3_acceptance_before_the_end(tree, remote):
    """250 while the message is still being sent, and then nothing: it counts for nothing."""
    tree.write("control/timeoutremote", "2\n")

    def early(session):
        session.do_DATA = lambda line: (session.say(b"354 go on\r\n"), session.more(), session.say(b"250 ok\r\n"), time.sleep(0.3), session.data())
        fake_smtp.Session.run(session)

    remote(raw=early)
    result = send(tree, message=b"x" * 70 + b"\n" + b"y" * 12_000_000)
    assert result[-1][0] == "Z" and "Possible duplicate!" in result[-1][1]


@pytest.mark.parametrize("extensions", [PLAIN, ALL], ids=["plain", "all"])
def test_C3_refusal_before_the_end(tree, remote, extensions):
    """A server that has seen enough says so and hangs up."""
    def early(session):
        def stop(line):
            if line == b"DATA":
                session.say(b"354 go on\r\n")
            session.more()
            session.say(b"552 5.3.4 too large\r\n")
            raise fake_smtp.Gone
        session.do_DATA = session.do_BDAT = stop
        fake_smtp.Session.run(session)

    remote(raw=early, extensions=extensions)
    result = send(tree, message=b"y" * 9_000_000)
    assert result[-1][0] in "DZ"
    if result[-1][0] == "D":
        assert "552 5.3.4 too large" in result[-1][1]


def test_C3_failure_then_success_after_the_dot(tree, remote):
    server = remote(lambda s, v, l: b"554 5.7.1 spam\r\n250 ok" if v == "end" and len(server.messages) == 1 else None)
    with RemoteWorker(tree) as worker:
        assert worker.deliver()[0][0] == "D"
        assert worker.deliver()[0][0] == "K"
    assert [len(s.messages) for s in server.sessions] == [1, 1]  # nothing was asked over the session that went wrong


# --- C4: time ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("stage", [*STAGES, *LED])
@pytest.mark.parametrize("extensions", [PLAIN, PIPELINED, ALL], ids=["plain", "pipelining", "all"])
def test_C4_dripping_reply(tree, remote, extensions, stage):
    """An octet now and then: the time counts for the whole reply."""
    def drip(session, verb, line):
        for octet in b"250-" + b"x" * 100:
            session.say(bytes([octet]))
            time.sleep(0.2)
        return SILENCE

    if stage == "DATA" and "CHUNKING" in extensions:
        pytest.skip("no DATA with CHUNKING")
    tree.write("control/timeoutremote", "1\n")
    _, result, seconds = led_to(tree, remote, stage, drip, extensions)
    assert result[-1][0] in "Zs" and 0.9 < seconds < 6


def test_C4_dripping_replies(tree, remote):
    """A whole reply just in time, for each of many recipients: there is a limit for all of them."""
    tree.write("control/timeoutremote", "1\n")
    remote(lambda session, verb, line: time.sleep(0.7) if verb == "RCPT" else None)
    result, seconds = took(lambda: send(tree, *(f"r{n}@dest.example" for n in range(20))))
    assert result[-1][0] == "Z" and seconds < 8


def test_C4_silence_after_the_dot(tree, remote):
    tree.write("control/timeoutremote", "1\n")
    remote(at("end", SILENCE))
    result, seconds = took(lambda: send(tree))
    assert result[-1][0] == "Z" and "Possible duplicate!" in result[-1][1] and "(#4.4.2)" in result[-1][1] and seconds < 6


@pytest.mark.parametrize("extensions", [PLAIN, ("CHUNKING",), ALL], ids=["plain", "chunking", "all"])
def test_C4_a_server_that_reads_nothing(tree, remote, extensions):
    def stop(session):
        def sleep(line):
            session.say(b"354 go on\r\n" if line == b"DATA" else b"250-")
            wait_for(lambda: session.socket.fileno() < 0 or over)
        over = []
        session.do_DATA = session.do_BDAT = sleep
        sessions.append(over)
        fake_smtp.Session.run(session)

    sessions = []
    tree.write("control/timeoutremote", "1\n")
    remote(raw=stop, extensions=extensions)
    result, seconds = took(lambda: send(tree, message=b"x" * 70_000 + b"\n" + b"y" * 9_000_000))
    for over in sessions:
        over.append(1)
    assert result[-1][0] == "Z" and seconds < 20 and "Possible" not in result[-1][1]


def test_C4_a_server_that_reads_slowly(tree, remote):
    """Octets now and then: a message has to be gone within timeoutremote and a second for 1,000 octets."""
    def sip(session):
        def read(line):
            session.say(b"354 go on\r\n")
            session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            while session.socket.recv(100) and not session.server.is_closing:
                time.sleep(0.05)
            raise fake_smtp.Gone
        session.do_DATA = read
        fake_smtp.Session.run(session)

    tree.write("control/timeoutremote", "1\n")
    remote(raw=sip)
    result, seconds = took(lambda: send(tree, message=b"y" * 9_000_000))
    assert result[-1][0] == "Z" and seconds < 30
