"""qmail-smtpd: commands and replies, what comes into the queue, control files (interfaces sections 2, 11, 17, 24)."""
import random
import re
import smtplib
import socket
import threading

import pytest

from conftest import HOST, wait_for
from smtp_session import SANITIZED, Queue, Smtp, capped, parts

ELSEWHERE = "ana@elsewhere.example"


@pytest.fixture
def queue(tree):
    tree.write("control/rcpthosts", f"{HOST}\n.sub.example\n")
    with Queue(tree) as q:
        yield q


@pytest.fixture
def smtp(tree, queue):
    with Smtp(tree) as s:
        yield s


# -- the dialogue -------------------------------------------------------------


def test_greeting(smtp):
    assert smtp.greeting == f"220 {HOST} ESMTP"


def test_greeting_of_smtpgreeting(tree, queue):
    tree.write("control/smtpgreeting", "mx.example.org no fun\n")
    with Smtp(tree) as s:
        assert s.greeting == "220 mx.example.org no fun ESMTP"
        assert s.command("HELO x") == "250 mx.example.org no fun"
        assert s.command("QUIT") == "221 mx.example.org no fun"


def test_no_me_and_no_smtpgreeting(tree, queue):
    (tree.control / "me").unlink()
    with Smtp(tree) as s:
        assert s.greeting == "421 unable to read controls (#4.3.0)"
        assert s.rest() == []
        s.process.wait(10)
        assert s.process.returncode == 1


def test_ehlo_offers(smtp):
    lines = smtp.ehlo().split("\n")
    assert lines[0] == f"250-{HOST}"
    offers = {line[4:].split()[0]: line[4:] for line in lines[1:]}
    assert set(offers) == {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING", "LIMITS"}
    assert offers["SIZE"] == "SIZE 0" and offers["LIMITS"] == "LIMITS MAILMAX=100000 RCPTMAX=1000"


def test_ehlo_without_limits_of_the_administrator(tree, queue):
    """0 is no limit but the program's, and that is said."""
    for name in "maxmail", "maxrcpt":
        tree.write(f"control/{name}", "0\n")
    with Smtp(tree) as s:
        assert s.ehlo().split("\n")[-1] == "250 LIMITS MAILMAX=999999 RCPTMAX=100000"


def test_a_message_in_the_classic_dialogue(smtp, queue):
    assert smtp.command("helo client.example") == f"250 {HOST}"
    assert smtp.command("mail from:<ana@client.example>") == "250 ok"
    assert smtp.command("rcpt to:<luis@mail.test.example>") == "250 ok"
    assert smtp.command("data") == "354 go ahead"
    smtp.send(b"Subject: x\r\n\r\n..dot\r\n.\r\n")
    assert smtp.reply() == "250 ok 1700000000 qp 1"
    assert smtp.command("quit") == f"221 {HOST}"
    assert smtp.rest() == []
    message, envelope = queue.messages[0]
    assert re.fullmatch(rb"Received: from unknown \(HELO client\.example\) \(192\.0\.2\.7\)\n"
                        rb"  by mail\.test\.example with SMTP; \d+ \w{3} \d{4} \d\d:\d\d:\d\d -0000\n"
                        rb"Subject: x\n\n\.dot\n", message)
    assert parts(envelope) == ["Fana@client.example", "Tluis@mail.test.example"]


def test_a_message_with_ehlo(smtp, queue):
    smtp.ehlo()
    assert smtp.command("MAIL FROM:<>") == "250 2.1.0 ok"
    assert smtp.command("RCPT TO:<luis@mail.test.example>") == "250 2.1.5 ok"
    assert smtp.data(b"x") == "250 2.0.0 ok 1700000000 qp 1"
    assert b" with ESMTP; " in queue.messages[0][0]
    assert parts(queue.messages[0][1]) == ["F", "Tluis@mail.test.example"]


def test_received_names(tree, queue):
    env = {"TCPREMOTEHOST": "client.example", "TCPREMOTEINFO": "ana (x)", "TCPREMOTEIP": "2001:db8::7", "TCPLOCALHOST": None}
    with Smtp(tree, env=env) as s:
        s.expect(250, "HELO client.example")
        s.message(b"x")
        s.expect(250, "HELO a(b)\"c<d>")
        s.message(b"x")
    first, second = (m[0] for m in queue.messages)
    assert first.startswith(b"Received: from client.example (ana??x?@2001:db8::7)\n  by 192.0.2.1 with SMTP; ")
    assert second.startswith(b"Received: from client.example (HELO a?b??c?d?) (ana??x?@2001:db8::7)\n")


def test_received_smtputf8(smtp, queue):
    smtp.ehlo()
    smtp.expect(250, "MAIL FROM:<año@client.example> SMTPUTF8")
    smtp.expect(250, "RCPT TO:<luis@mail.test.example>")
    smtp.data(b"x")
    assert b" with UTF8SMTP; " in queue.messages[0][0]
    assert parts(queue.messages[0][1])[:2] == ["Faño@client.example", "PSMTPUTF8"]


def test_stock_replies(smtp):
    smtp.expect(250, "HELO x")
    assert smtp.command("VRFY luis") == "252 send some mail, i'll try my best"
    assert smtp.command("EXPN list") == "502 unimplemented (#5.5.1)"
    assert smtp.command("XYZZY") == "502 unimplemented (#5.5.1)"
    assert smtp.command("RCPT TO:<luis@mail.test.example>") == "503 MAIL first (#5.5.1)"
    assert smtp.command("DATA") == "503 MAIL first (#5.5.1)"
    assert smtp.command("NOOP") == "250 ok"
    assert smtp.command("RSET") == "250 flushed"
    assert smtp.command("HELP").startswith("214 ")
    smtp.expect(250, "MAIL FROM:<a@b>")
    assert smtp.command("DATA") == "503 RCPT first (#5.5.1)"
    assert smtp.command(f"RCPT TO:<{ELSEWHERE}>") == "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"
    assert smtp.command("MAIL FROM:<" + "a" * 901 + "@b>").startswith("555 ")


@pytest.mark.parametrize("forgets", ["RSET", "HELO x", "EHLO x", "MAIL FROM:<new@x>"])
def test_what_forgets_a_transaction(smtp, queue, forgets):
    smtp.envelope()
    smtp.expect(250, forgets)
    said = smtp.command("DATA")
    assert said.startswith("503"), said


def test_data_forgets_the_transaction(smtp):
    smtp.message()
    smtp.expect(503, "RCPT TO:<luis@mail.test.example>")


def test_mail_without_helo(smtp, queue):
    assert smtp.message(b"x").startswith("250 ok ")
    assert queue.messages[0][0].startswith(b"Received: from unknown (192.0.2.7)\n")


def test_pipelining(smtp, queue):
    smtp.ehlo()
    smtp.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<luis@mail.test.example>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\n")
    assert [r[:3] for r in smtp.replies(4)] == ["250", "250", "553", "354"]
    smtp.send(b"x\r\n.\r\nRSET\r\nMAIL FROM:<c@d>\r\nRCPT TO:<luis@mail.test.example>\r\nDATA\r\n")
    assert [r[:3] for r in smtp.replies(5)] == ["250"] * 4 + ["354"]
    smtp.send(b"y\r\n.\r\nQUIT\r\n")
    assert [r[:3] for r in smtp.replies(2)] == ["250", "221"]
    assert [m[0].split(b"\n")[-2] for m in queue.messages] == [b"x", b"y"]


def test_replies_of_a_group_come_in_one_write(smtp):
    smtp.ehlo()
    smtp.send(b"NOOP\r\n" * 20)
    first = smtp.socket.recv(65536)
    assert first == b"250 2.0.0 ok\r\n" * 20


def test_commands_that_come_octet_by_octet(smtp, queue):
    for octet in b"EHLO x\r\n":
        smtp.send(bytes([octet]))
    smtp.reply()
    for octet in b"MAIL FROM:<a@b>\r\nRCPT TO:<luis@mail.test.example>\r\n":
        smtp.send(bytes([octet]))
    smtp.replies(2)
    smtp.expect(354, "DATA")
    for octet in b"a\r\n..b\r\n.\r\n":
        smtp.send(bytes([octet]))
    assert smtp.reply().startswith("250 ")
    assert queue.messages[0][0].endswith(b"\na\n.b\n")


# -- parameters -----------------------------------------------------------------


def test_parameters_go_into_the_queue(smtp, queue):
    smtp.ehlo()
    smtp.expect(250, "MAIL FROM:<a@b> SIZE=100 BODY=8BITMIME RET=hdrs ENVID=QQ+2B31")
    smtp.expect(250, "RCPT TO:<luis@mail.test.example> NOTIFY=success,failure ORCPT=rfc822;luis@h.example")
    smtp.expect(250, "RCPT TO:<ana@mail.test.example>")
    smtp.data(b"x")
    assert parts(queue.messages[0][1]) == [
        "Fa@b", "PBODY=8BITMIME RET=HDRS ENVID=QQ+2B31",
        "Tluis@mail.test.example", "PNOTIFY=SUCCESS,FAILURE ORCPT=rfc822;luis@h.example", "Tana@mail.test.example"]


def test_smtputf8_needs_its_parameter_and_ehlo(smtp):
    smtp.expect(250, "HELO x")
    smtp.expect(555, "MAIL FROM:<año@b> SMTPUTF8")
    smtp.ehlo()
    assert smtp.command("MAIL FROM:<año@b>").startswith("550 5.6.7 ")
    smtp.expect(250, "MAIL FROM:<a@b>")
    assert smtp.command("RCPT TO:<año@mail.test.example>").startswith("553 5.6.7 ")
    smtp.expect(250, "MAIL FROM:<a@b> SMTPUTF8")
    smtp.expect(250, "RCPT TO:<año@mail.test.example>")


def test_size(tree, queue):
    tree.write("control/databytes", "1000\n")
    with Smtp(tree) as s:
        assert "250-SIZE 1000\n" in s.ehlo()
        assert s.command("MAIL FROM:<a@b> SIZE=1001").startswith("552 5.3.4 ")
        s.expect(250, "MAIL FROM:<a@b> SIZE=1000")
        s.expect(250, "RCPT TO:<luis@mail.test.example>")
        assert s.data(b"x" * 999).startswith("250 ")      # and LF: 1000
        s.envelope()
        assert s.data(b"x" * 1000) == "552 5.3.4 sorry, that message size exceeds my databytes limit (#5.3.4)"
        s.envelope()
        assert s.data(b"x" * 3000000).startswith("552 ")
        s.envelope()
        assert s.data(b"..\r\n" * 499).startswith("250 ")  # counted as stored
    assert len(queue.messages) == 2
    with Smtp(tree, env={"DATABYTES": "0"}) as s:
        assert s.message(b"x" * 2000).startswith("250 ")
    with Smtp(tree, env={"DATABYTES": "4294967295"}) as s:
        assert s.message(b"x" * 2000).startswith("250 ")
    with Smtp(tree, env={"DATABYTES": "10"}) as s:
        assert s.message(b"x" * 11).startswith("552 ")


# -- BDAT -------------------------------------------------------------------------


def test_bdat(smtp, queue):
    smtp.ehlo()
    smtp.envelope()
    smtp.send(b"BDAT 8\r\na\r\n.\r\n..BDAT 5 LAST\r\nb\r\nc\r")
    assert smtp.reply() == "250 2.0.0 8 octets received"
    assert smtp.reply().startswith("550 5.6.0 ")          # ends with a CR
    smtp.envelope()
    smtp.send(b"BDAT 8\r\na\r\n.\r\n..BDAT 5 LAST\r\nb\r\nc\n")
    assert smtp.reply().startswith("250 ")
    assert smtp.reply().startswith("550 5.6.0 ")          # a bare LF
    smtp.envelope()
    smtp.send(b"BDAT 9\r\na\r\n.\r\n..\rBDAT 0\r\nBDAT 4 LAST\r\n\nc\r\nNOOP\r\n")
    assert [r[:3] for r in smtp.replies(4)] == ["250"] * 4
    assert [m[0].split(b"\n", 2)[2] for m in queue.messages] == [b"a\n.\n..\nc\n"]


def test_bdat_last_alone(smtp, queue):
    smtp.ehlo()
    smtp.envelope()
    smtp.expect(250, "BDAT 0 LAST")
    smtp.envelope()
    smtp.send(b"BDAT 3\r\na\r\n")
    smtp.reply()
    smtp.expect(250, "BDAT 0 LAST")
    assert len(queue.messages) == 2


# -- who may send what to whom -----------------------------------------------------


@pytest.mark.parametrize("recipient,code", [
    ("luis@mail.test.example", 250), ("luis@MAIL.test.example", 250), ("luis@a.sub.example", 250), ("luis@a.b.SUB.example", 250),
    ("luis@sub.example", 553), ("luis@mail.test.example.", 501), ("luis@xmail.test.example", 553), ("luis", 250), ("postmaster", 250),
    ("a@mail.test.example@elsewhere.example", 501), ('"a@mail.test.example"@elsewhere.example', 553),
    ('"x@elsewhere.example"@mail.test.example', 250), ("x%elsewhere.example@mail.test.example", 250),
    ("@mail.test.example:x@elsewhere.example", 553), ("luis@[192.0.2.1]", 250), ("luis@[127.0.0.1]", 250), ("luis@[192.0.2.9]", 553),
    ("luis@[IPv6:::1]", 250), ("luis@[IPv6:2001:db8::9]", 553),
])
def test_rcpthosts(smtp, recipient, code):
    smtp.expect(250, "MAIL FROM:<a@b>")
    smtp.expect(code, f"RCPT TO:<{recipient}>")


def test_no_open_relay_without_rcpthosts(tree, queue):
    (tree.control / "rcpthosts").unlink()
    with Smtp(tree) as s:
        s.expect(250, "MAIL FROM:<a@b>")
        s.expect(553, f"RCPT TO:<{ELSEWHERE}>")
        s.expect(250, f"RCPT TO:<luis@{HOST}>")
        s.expect(250, "RCPT TO:<luis>")


def test_empty_rcpthosts(tree, queue):
    tree.write("control/rcpthosts", "")
    with Smtp(tree) as s:
        s.expect(250, "MAIL FROM:<a@b>")
        s.expect(553, f"RCPT TO:<luis@{HOST}>")
        s.expect(250, "RCPT TO:<luis>")


def test_morercpthosts(tree, queue):
    tree.write("control/morercpthosts", "More.Example\n.even.example\n")
    tree.run("qmail-newmrh", check=True)
    with Smtp(tree) as s:
        s.expect(250, "MAIL FROM:<a@b>")
        for domain, code in (("more.EXAMPLE", 250), ("a.more.example", 553), ("x.even.example", 250), ("even.example", 553)):
            s.expect(code, f"RCPT TO:<luis@{domain}>")


def test_damaged_morercpthosts_is_temporary(tree, queue):
    tree.write("control/morercpthosts.cdb", b"\xff" * 3000)
    with Smtp(tree, greet=False) as s:
        said = s.rest() if s.line().startswith("421 ") else s.command("MAIL FROM:<a@b>") and s.command("RCPT TO:<a@x>")
        assert said == [] or said.startswith("421 ")


def test_relayclient(tree, queue):
    with Smtp(tree, env={"RELAYCLIENT": ""}) as s:
        s.message(b"x", ELSEWHERE)
    with Smtp(tree, env={"RELAYCLIENT": "@fixup.example"}) as s:
        s.message(b"x", ELSEWHERE)
    assert [parts(m[1])[1] for m in queue.messages] == [f"T{ELSEWHERE}", f"T{ELSEWHERE}@fixup.example"]


def test_localiphost(tree, queue):
    tree.write("control/localiphost", "our.ip.example\n")
    with Smtp(tree) as s:
        s.envelope("a@b")
    with Smtp(tree, env={"RELAYCLIENT": ""}) as s:
        s.message(b"x", "luis@[192.0.2.1]", "luis@[192.0.2.9]")
    assert parts(queue.messages[0][1])[1:] == ["Tluis@our.ip.example", "Tluis@[192.0.2.9]"]


def test_quoted_local_parts_are_stored_without_quotes(smtp, queue):
    smtp.message(b"x", '"a b\\"c"@mail.test.example', sender='"x y"@client.example')
    assert parts(queue.messages[0][1]) == ["Fx y@client.example", 'Ta b"c@mail.test.example']


@pytest.mark.parametrize("file,line,sender,recipient,env,code", [
    ("badmailfrom", "bad@x.example", "Bad@x.example", "luis", {}, 553),
    ("badmailfrom", "@x.example", "any@X.example", "luis", {}, 553),
    ("badmailfrom", "@x.example", "any@y.x.example", "luis", {}, 250),
    ("badmailfrom", "@x.example", "any@x.example", "luis", {"RELAYCLIENT": ""}, 553),
    ("badmailfrom", "@x.example", "any@x.example", "postmaster", {}, 250),
    ("badmailfromnorelay", "@x.example", "any@x.example", "luis", {}, 553),
    ("badmailfromnorelay", "@x.example", "any@x.example", "luis", {"RELAYCLIENT": ""}, 250),
    ("badrcptto", "luis@mail.test.example", "a@b", "LUIS@mail.test.example", {}, 553),
    ("badrcptto", "@mail.test.example", "a@b", "luis@mail.test.example", {}, 553),
    ("badrcptto", "@mail.test.example", "a@b", "postmaster@mail.test.example", {}, 250),
    ("badrcpttonorelay", "@mail.test.example", "a@b", "luis@mail.test.example", {"RELAYCLIENT": ""}, 250),
    ("badrcpttonorelay", "@mail.test.example", "a@b", "luis@mail.test.example", {}, 553),
    ("badhelo", "client.EXAMPLE", "a@b", "luis", {}, 553),
    ("badhelo", ".example", "a@b", "luis", {}, 553),
    ("badhelo", ".example", "a@b", "luis", {"NOBADHELO": ""}, 250),
    ("badhelo", ".example", "a@b", "postmaster", {}, 250),
    ("badhelonorelay", ".example", "a@b", "luis", {"RELAYCLIENT": ""}, 250),
    ("rejectnullsenders", "1", "", "luis", {}, 553),
    ("rejectnullsenders", "1", "", "postmaster", {}, 553),
    ("badmailfrom", r"bad\.example$", "any@x.Bad.Example", "luis", {}, 553),
    ("badmailfrom", r"bad\.example$", "any@badxexample", "luis", {}, 250),
    ("badmailfrom", r"bad\.example$", "any@bad.example", "postmaster", {}, 250),
    ("badmailfrom", r"!@.*\.example$", "any@x.test", "luis", {}, 553),
    ("badmailfrom", r"!@.*\.example$", "any@x.example", "luis", {}, 250),
    ("badmailfrom", r"!@.*\.example$", "", "luis", {}, 250),
    ("badmailfrom", "@x.test", "any@x.test", "luis", {"DISABLE_BADMAILFROM": ""}, 250),
    ("badmailfrom", "a+b@x.example", "aab@x.example", "luis", {}, 250),
    ("badmailfrom", "!a@x.example", "any@x.example", "luis", {}, 250),
    ("badmailfrom", "^a@x.example", "^a@x.example", "luis", {}, 553),
    ("badmailfromnorelay", r"@.*\.test$", "any@x.test", "luis", {}, 553),
    ("badmailfromnorelay", r"@.*\.test$", "any@x.test", "luis", {"RELAYCLIENT": ""}, 250),
    ("badmailfromnorelay", r"@.*\.test$", "any@x.test", "luis", {"DISABLE_BADMAILFROM": ""}, 250),
    ("badrcptto", r"[%!]", "a@b", "a%b@mail.test.example", {}, 553),
    ("badrcpttonorelay", r"^luis@.*", "a@b", "luis@mail.test.example", {}, 553),
    ("badrcpttonorelay", r"^luis@.*", "a@b", "luis@mail.test.example", {"RELAYCLIENT": ""}, 250),
    ("badhelo", r"!\.", "a@b", "luis", {}, 250),
    ("badhelo", r"^client\.", "a@b", "luis", {}, 553),
    ("badhelonorelay", r"^client\.", "a@b", "luis", {"RELAYCLIENT": ""}, 250),
])
def test_lists(tree, queue, file, line, sender, recipient, env, code):
    tree.write(f"control/{file}", line + "\n")
    with Smtp(tree, env=env) as s:
        s.ehlo()
        said = s.command(f"MAIL FROM:<{sender}>")
        if said.startswith("250 "):
            said = s.command(f"RCPT TO:<{recipient}>")
        assert said.startswith(str(code)), said
    if code == 553:
        assert 'reason="sorry, ' in s.said


def test_bad_expressions_are_named_and_count_for_nothing(tree, queue):
    tree.write("control/badmailfrom", "[a-z@x.example\n!(a)\\1\n@bad\\.example\n")
    with Smtp(tree) as s:
        s.envelope("ok@x.example", "luis")
        assert s.command("MAIL FROM:<a@bad.example>").startswith("250 ")
        assert s.command("RCPT TO:<luis>").startswith("553 ")
    warning = "qmail-smtpd: warning: control/badmailfrom: ignored: "
    assert [line[len(warning):] for line in s.said.splitlines() if line.startswith(warning)] == [
        "[a-z@x.example: Unmatched [, [^, [:, [., or [=", r"!(a)\1: it has a back reference"]


def test_expression_that_grows_with_what_it_meets(tree, queue):
    # each such address adds megabytes to what the C library keeps of the expression
    tree.write("control/badmailfrom", "(a|b)*a(a|b){20}c\n")
    with Smtp(tree, limit=capped(80 << 20)) as s:
        for i in range(20):
            local = "".join(random.Random(i).choices("ab", k=850))
            assert s.command(f"MAIL FROM:<{local}@x.example>").startswith("250 ")
        assert s.command(f"MAIL FROM:<a{'b' * 20}c@x.example>").startswith("250 ")
        assert s.command("RCPT TO:<luis>").startswith("553 ")


# -- the queue's answers --------------------------------------------------------------


@pytest.mark.parametrize("code,reply", [
    (31, "554 5.3.0 mail server permanently rejected message (#5.3.0)"), (53, "451 4.3.0 qq write error or disk full (#4.3.0)"),
    (11, "554 5.1.3 envelope address too long for qq (#5.1.3)"), (71, "451 4.3.0 mail server temporarily rejected message (#4.3.0)"),
    (115, "554 5.1.3 envelope address too long for qq (#5.1.3)"), (81, "451 4.3.0 qq crashed (#4.3.0)"),
])
def test_what_the_queue_refuses(tree, code, reply):
    with Queue(tree, codes=[code]) as q, Smtp(tree) as s:
        s.ehlo()
        assert s.message() == reply
        assert s.message().startswith("250 ")
        assert len(q.messages) == 2
    assert ("result=refused" if reply[0] == "5" else "result=deferred") in s.said and "qp=2" in s.said


@pytest.mark.parametrize("body,reply", [
    ('printf "Dgo away (#5.7.9)" >&6; exit 82', "554 5.7.9 go away (#5.7.9)"),
    ('printf "Dgo away" >&6; exit 82', "554 5.3.0 go away (#5.3.0)"),
    ('printf "Zcome back\\nnow\\377" >&6; exit 82', "451 4.3.0 come back (#4.3.0)"),
    ('printf "Z\\033\\377x" >&6; exit 82', "451 4.3.0 ??x (#4.3.0)"),
    ("exit 115", "554 5.1.3 envelope address too long for qq (#5.1.3)"), ("exit 82", "451 4.3.0 qq temporary problem (#4.3.0)"),
    ("kill -9 $$", "451 4.3.0 qq crashed (#4.3.0)"),
])
@pytest.mark.parametrize("how", ["QMAILQUEUE", "replaced"])
def test_programs_instead_of_the_queue(tree, how, body, reply):
    script = f"#!/bin/sh\ncat >/dev/null; cat <&1 >/dev/null\n{body}\n"
    path = tree.replace("qmail-queue", script) if how == "replaced" else tree.write("filter", script, 0o755)
    with Smtp(tree, env={"QMAILQUEUE": None if how == "replaced" else str(path)}) as s:
        s.ehlo()
        assert s.message() == reply
        assert s.message() == reply


def test_qmailqueue_gets_the_message(tree):
    path = tree.write("filter", "#!/bin/sh\ncat >output.message; cat <&1 >output.envelope\n", 0o755)
    with Smtp(tree, env={"QMAILQUEUE": str(path)}) as s:
        s.ehlo()
        s.expect(250, "MAIL FROM:<a@b> BODY=8BITMIME")
        s.expect(250, "RCPT TO:<luis@mail.test.example> NOTIFY=NEVER")
        assert s.data(b"x" * 300000).startswith("250 2.0.0 ok ")
    assert (tree.home / "output.envelope").read_bytes() == b"Fa@b\0Tluis@mail.test.example\0\0"
    assert (tree.home / "output.message").read_bytes().endswith(b"x" * 300000 + b"\n")


def test_queue_that_does_not_answer(tree):
    with Smtp(tree) as s:
        s.envelope()
        s.socket.settimeout(60)
        assert s.data(b"x") == "451 qq: the queue does not answer (#4.3.0)"


# -- the log ------------------------------------------------------------------------------


def test_log(smtp, tree, queue):
    smtp.ehlo()
    smtp.expect(250, "MAIL FROM:<a@b>")
    smtp.expect(553, f"RCPT TO:<{ELSEWHERE}>")
    smtp.expect(250, "RCPT TO:<luis>")
    smtp.expect(250, 'RCPT TO:<"x y\\"<>,"@mail.test.example>')
    smtp.data(b"hello")
    smtp.expect(221, "QUIT")
    smtp.process.wait(10)
    lines = [line for line in smtp.log().splitlines() if "warning" not in line]
    who = f"pid={smtp.process.pid} ip=192.0.2.7 host=unknown helo=client.example tls=no auth=-"
    assert lines[0] == (f"qmail-smtpd: refused {who} command=RCPT from=<a@b> argument=<{ELSEWHERE}> "
                        'reason="sorry, that domain isn\'t in my list of allowed rcpthosts"')
    assert lines[1] == f"qmail-smtpd: message {who} from=<a@b> to=<luis>,<x?y????@mail.test.example> recipients=2 size=6 result=accepted qp=1"
    assert re.fullmatch(rf"qmail-smtpd: session {who} end=quit messages=1 octets=6 recipients=2 refused=1 errors=0 commands=7 ms=\d+", lines[2])


# -- with everything behind it --------------------------------------------------------------


def test_python_smtplib(server):
    with Smtp(server, greet=False) as s:
        client = smtplib.SMTP()
        client.sock, client.file = s.socket, None
        assert client.getreply()[0] == 220
        client.ehlo("client.example")
        assert client.sendmail("ana@client.example", [f"luis@{HOST}", f"ana@{HOST}"], "Subject: x\r\n\r\n.hidden\r\n") == {}
        client.quit()
    for user in ("luis", "ana"):
        assert b"\n.hidden\n" in server.arrived(1, user)[0]
    assert b"Received: from unknown (HELO client.example) (192.0.2.7)\n  by mail.test.example with ESMTP; " in server.maildir("luis")[0]


def test_large_message(server):
    body = b"".join(b"%07d 012345678901234567890123456789012345678901234567890123456789\r\n" % i for i in range(50000))
    with Smtp(server) as s:
        s.ehlo()
        assert s.message(b"Subject: large\r\n\r\n" + body + b"end", f"luis@{HOST}").startswith("250 ")
        s.envelope("a@b", f"ana@{HOST}")
        s.send(b"BDAT %d LAST\r\n" % len(body) + body)
        assert s.reply().startswith("250 ")
    assert server.arrived(1, "luis")[0].endswith(body.replace(b"\r\n", b"\n") + b"end\n")
    assert server.arrived(1, "ana")[0].endswith(body.replace(b"\r\n", b"\n"))
    wait_for(lambda: server.log().count("end msg") == 2)


# -- whether a recipient exists -------------------------------------------------------------


class Accounts:
    """qmail-rcptd of a test: answers by the local part. Counts questions."""

    def __init__(self, tree, **answers):
        self.tree, self.answers, self.asked = tree, answers, []

    def serve(self, connection):
        with connection:
            while question := connection.recv(2000):
                address = question[4:].decode()
                self.asked.append(address)
                answer = self.answers.get(address.split("@")[0], "K")
                connection.send(question[:4] + answer.encode() + b"why")

    def work(self):
        try:
            while True:
                threading.Thread(target=self.serve, args=[self.listener.accept()[0]], daemon=True).start()
        except OSError:
            pass

    def __enter__(self):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.path = self.tree.home / "run/qmail-rcptd/socket"
        self.path.parent.mkdir(exist_ok=True)
        self.listener.bind(str(self.path))
        self.path.chmod(0o666)
        self.listener.listen()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        self.path.unlink()


def test_unknown_recipients(tree, queue):
    with Accounts(tree, nobody="U", later="T", shut="?", remote="R", postmaster="U") as accounts, Smtp(tree) as s:
        s.ehlo()
        s.expect(250, "MAIL FROM:<a@b>")
        assert s.command(f"RCPT TO:<nobody@{HOST}>") == "550 5.1.1 sorry, no mailbox here by that name (#5.1.1)"
        assert s.command(f"RCPT TO:<later@{HOST}>").startswith("451 4.3.5 ")
        for known in ("luis", "shut", "remote", "postmaster"):
            s.expect(250, f"RCPT TO:<{known}@{HOST}>")
        s.expect(553, "RCPT TO:<luis@elsewhere.example>")
        assert s.data(b"x").startswith("250 ")
    assert accounts.asked == [f"{x}@{HOST}" for x in ("nobody", "later", "luis", "shut", "remote")]
    assert re.search(rf'command=qmail-rcptd .* argument=<later@{HOST}> reason="why"', s.said)


def test_unknown_recipients_of_relay_clients(tree, queue):
    with Accounts(tree, nobody="U") as accounts:
        with Smtp(tree, env={"RELAYCLIENT": ""}) as s:
            s.expect(250, "MAIL FROM:<a@b>")
            s.expect(550, f"RCPT TO:<nobody@{HOST}>")
        with Smtp(tree, env={"RELAYCLIENT": ".fixup"}) as s:
            s.expect(250, "MAIL FROM:<a@b>")
            s.expect(250, f"RCPT TO:<nobody@{HOST}>")
    assert len(accounts.asked) == 1


def test_a_domain_of_others_is_asked_about_once(tree, queue):
    """What percenthack may send elsewhere is asked about all the same; what is here each time it is another address."""
    with Accounts(tree, a="R", b="R", c="R", **{"b%else": "R"}) as accounts, Smtp(tree, env={"RELAYCLIENT": ""}) as s:
        s.expect(250, "MAIL FROM:<a@b>")
        for address in ("a@far.example", "b@far.example", "b%else@far.example", "b@else.example", "c@far.example", "d@here.example", "e@here.example", "d@here.example"):
            s.expect(250, f"RCPT TO:<{address}>")
    assert accounts.asked == ["a@far.example", "b%else@far.example", "b@else.example", "d@here.example", "e@here.example"]


@pytest.mark.parametrize("body,code", [
    ("exit 0", "250 2.1.5 ok"), ("exit 100", "550 5.1.1 sorry, no mailbox here by that name (#5.1.1)"),
    ("exit 111", "451 4.3.0 unable to check the recipient (#4.3.0)"), ("exit 112", "550 5.1.1 sorry, no mailbox here by that name (#5.1.1)"),
    ("exit 113", "421 4.7.1 over limit (#4.7.1)"), ("exit 120", "451 4.3.0 unable to check the recipient (#4.3.0)"),
    ("kill -9 $$", "451 4.3.0 unable to check the recipient (#4.3.0)"),
    ("echo no $RECIPIENT from $SENDER at $HELO >&4; exit 100", "550 5.1.1 no nobody@mail.test.example from a@b at client.example (#5.1.1)"),
    ("echo 554 5.7.1 own words >&4; exit 100", "554 5.7.1 own words (#5.7.1)"),
    ("echo 450 4.2.1 own words >&4; exit 111", "450 4.2.1 own words (#4.2.1)"),
    ("echo 250 own words >&4; exit 100", "550 5.1.1 250 own words (#5.1.1)"),
    ("printf 'own\\r\\n250 words' >&4; exit 100", "550 5.1.1 own (#5.1.1)"),
])
def test_rcptcheck(tree, queue, body, code):
    path = tree.write("check", f"#!/bin/sh\n{body}\n", 0o755)
    with Accounts(tree, nobody="U"), Smtp(tree, env={"RCPTCHECK": str(path)}) as s:
        s.ehlo()
        s.expect(250, "MAIL FROM:<a@b>")
        assert s.command(f"RCPT TO:<nobody@{HOST}>") == code
        if code[:3] == "421":
            assert s.rest() == []
        else:
            s.expect(250, "RCPT TO:<postmaster>")


def test_rcptcheck_of_relay_clients(tree, queue):
    path = tree.write("check", "#!/bin/sh\nexit 100\n", 0o755)
    for more, code in (({}, 250), ({"RCPTCHECKRELAYCLIENT": "1"}, 550)):
        with Smtp(tree, env={"RCPTCHECK": str(path), "RELAYCLIENT": "", **more}) as s:
            s.expect(250, "MAIL FROM:<a@b>")
            s.expect(code, f"RCPT TO:<luis@{HOST}>")


@pytest.mark.parametrize("value,reply", [("-go away", "553 5.7.1 go away (#5.7.1)"), ("come back", "451 4.7.1 come back (#4.7.1)"), ("", "250")])
def test_rblsmtpd_variable(tree, queue, value, reply):
    with Smtp(tree, env={"RBLSMTPD": value}) as s:
        s.ehlo()
        s.expect(250, "MAIL FROM:<a@b>")
        assert s.command("RCPT TO:<luis>").startswith(reply)
        s.expect(250, "RCPT TO:<postmaster>")
    with Smtp(tree, env={"RBLSMTPD": value, "RELAYCLIENT": ""}) as s:
        s.expect(250, "MAIL FROM:<a@b>")
        s.expect(250, "RCPT TO:<luis>")


# -- what is shut in --------------------------------------------------------------------------


def is_shut_in(status):
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return values["NoNewPrivs"] == "1" and values["Seccomp"] == "2"


@pytest.mark.skipif(SANITIZED, reason="a sanitizer build has no filter")
@pytest.mark.parametrize("how", ["QMAILQUEUE", "replaced", "RCPTCHECK"])
def test_the_session_is_shut_in_and_its_programs_are_not(tree, queue, how):
    save = "#!/bin/sh\ncat /proc/self/status >output.status\nls -l /proc/self/fd >output.fds\n"
    if how == "replaced":
        tree.replace("qmail-queue", save)
        env = {}
    else:
        env = {how: str(tree.write("program", save, 0o755))}
    with Smtp(tree, env=env) as s:
        s.ehlo()
        s.message()
        assert is_shut_in(open(f"/proc/{s.process.pid}/status").read())
        assert not is_shut_in((tree.home / "output.status").read_text())
        fds = (tree.home / "output.fds").read_text()
        links = [line.split(" -> ")[1] for line in fds.splitlines() if " -> " in line]
        assert not [x for x in links if x.startswith("socket:")], fds


def test_qmailqueue_that_outlives_its_session(tree):
    """The program sees the end of a message that was cut off, and of no envelope; nobody waits for it."""
    path = tree.write("filter", "#!/bin/sh\ncat >output.message; cat <&1 >output.envelope; : >output.done\n", 0o755)
    with Smtp(tree, env={"QMAILQUEUE": str(path)}) as s:
        s.envelope("a@b", "luis")
        s.expect(354, "DATA")
        s.send(b"x" * 200000)
        wait_for(lambda: (tree.home / "output.message").exists())
        s.process.kill()
        s.process.wait()
        wait_for(lambda: (tree.home / "output.done").exists())
        s.process.returncode = 0
    assert (tree.home / "output.envelope").read_bytes() == b""
