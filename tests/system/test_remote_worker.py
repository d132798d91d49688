"""qmail-remote as a kept worker: sessions that stay, end and begin anew; parameters of an envelope; many jobs."""
import os
import pathlib
import re
import signal
import socket
import struct
import time

import pytest

from conftest import wait_for
from fake_smtp import ALL, CLOSE, Server
from probe import is_sanitized
from remoting import remote_tree, RemoteWorker, route_to, tree  # noqa: F401 (fixtures)
from test_sandbox import has_seccomp, shut_in  # noqa: F401

MESSAGE = b"Subject: x\n\nbody\n"


@pytest.fixture
def remote(tree):
    """A function that starts a server to which all mail goes."""
    servers = []

    def start(reply=None, extensions=(), **more):
        servers.append(Server(reply, extensions, **more))
        route_to(tree, servers[-1])
        return servers[-1]

    yield start
    for server in servers:
        server.close()


# --- sessions ---------------------------------------------------------------------------------

@pytest.mark.parametrize("extensions", [(), ("PIPELINING",), ALL], ids=["plain", "pipelining", "all"])
def test_a_kept_session(tree, remote, extensions):
    server = remote(extensions=extensions)
    with RemoteWorker(tree) as worker:
        for n in range(50):
            ((letter, text),) = worker.deliver(message=b"number %d\n" % n)
            assert letter == ("k" if "DSN" in extensions else "K") and "accepted message." in text
    assert [m.octets for m in server.messages] == [b"number %d\r\n" % n for n in range(50)]
    assert len(server.sessions) == 1
    wait_for(lambda: server.sessions[0].ended)
    assert [c for c in server.commands if c.startswith((b"RSET", b"EHLO", b"QUIT"))] == [b"EHLO mail.test.example", b"QUIT"]
    if extensions == ALL:  # one write, one reply a message, but for the second, which asks by DATA whether all that was said is read
        assert len(server.sessions[0].reads) <= 53
        assert [m.by for m in server.messages] == ["BDAT", "DATA"] + ["BDAT"] * 48


def test_jobs_that_come_at_once(tree, remote):
    server = remote(extensions=ALL)
    with RemoteWorker(tree) as worker:
        for n in range(16):
            worker.put(message=b"number %d\n" % n)
        assert sorted(worker.done()[0] for _ in range(16)) == list(range(1, 17))
    assert [m.octets for m in server.messages] == [b"number %d\r\n" % n for n in range(16)] and len(server.sessions) == 1


def test_a_large_message_by_descriptor(tree, remote, tmp_path):
    server = remote(extensions=ALL)
    path = tmp_path / "message"
    path.write_bytes(b"Subject: large\n\n" + b"line\n" * 200_000)
    with RemoteWorker(tree) as worker:
        for _ in range(3):
            with open(path, "rb") as file:
                worker.put(file=file.fileno())
            assert worker.outcomes(1)[0][0] == "k"
        assert worker.deliver()[0][0] == "k"
        wait_for(lambda: len(os.listdir(f"/proc/{worker.process.pid}/fd")) <= 6)
    assert [m.octets for m in server.messages[:3]] == [path.read_bytes().replace(b"\n", b"\r\n")] * 3
    assert len(server.sessions) == 1


def test_a_file_that_is_shorter_than_announced(tree, remote, tmp_path):
    server = remote(extensions=ALL)
    path = tmp_path / "message"
    path.write_bytes(b"line\n" * 200_000)
    with RemoteWorker(tree) as worker:
        with open(path, "rb") as file:
            stopped = worker.process.pid
            os.kill(stopped, signal.SIGSTOP)
            worker.put(file=file.fileno())
            os.truncate(path, 500)
            os.kill(stopped, signal.SIGCONT)
            ((letter, text),) = worker.outcomes(1)
        assert letter == "Z" and "Unable to read the message" in text
        assert worker.deliver()[0][0] == "k"
    assert [m.octets for m in server.messages] == [MESSAGE.replace(b"\n", b"\r\n")]


@pytest.mark.parametrize("how", ["quietly", "421", "with a reset"])
@pytest.mark.parametrize("extensions", [(), ALL], ids=["plain", "all"])
def test_a_session_that_ended_while_idle(tree, remote, extensions, how):
    server = remote(extensions=extensions)
    with RemoteWorker(tree) as worker:
        for n in range(5):
            ((letter, text),) = worker.deliver(message=b"number %d\n" % n)
            assert letter in "kK", text
            session = server.sessions[-1]
            if how == "421":
                session.say(b"421 4.4.2 idle for too long\r\n")
            if how == "with a reset":
                session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                session.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                assert how == "421"  # the client was faster
            wait_for(lambda: session.ended)
    assert [m.octets for m in server.messages] == [b"number %d\r\n" % n for n in range(5)]
    assert len(server.sessions) == 5


@pytest.mark.parametrize("extensions", [(), ALL], ids=["plain", "all"])
@pytest.mark.parametrize("what", [CLOSE, b"421 4.4.2 idle for too long"], ids=["close", "421"])
def test_a_session_that_ends_at_the_next_MAIL(tree, remote, extensions, what):
    """The server's time was over at the moment when the next message came."""
    server = remote(lambda session, verb, line: what if verb == "MAIL" and session.messages else None, extensions)
    with RemoteWorker(tree) as worker:
        for n in range(5):
            ((letter, text),) = worker.deliver(message=b"number %d\n" % n)
            assert letter in "kK", text
    assert [m.octets for m in server.messages] == [b"number %d\r\n" % n for n in range(5)]


def test_a_server_that_closes_after_each_message(tree, remote):
    def reply(session, verb, line):
        if verb == "end":
            session.say(b"250 2.0.0 the only one\r\n")
            return CLOSE

    server = remote(reply)
    with RemoteWorker(tree) as worker:
        for n in range(10):
            worker.put(message=b"number %d\n" % n)
        assert [worker.done()[2] for _ in range(10)] == ["K"] * 10
    assert [m.octets for m in server.messages] == [b"number %d\r\n" % n for n in range(10)]


def test_a_server_that_is_gone(tree, remote):
    server = remote()
    with RemoteWorker(tree) as worker:
        assert worker.deliver()[0][0] == "K"
        server.close()
        ((letter, text),) = worker.deliver()
        assert letter == "Z" and "(#4.4.1)" in text
        again = Server(port=server.port)
        assert worker.deliver()[0][0] == "K"
        again.close()


def test_junk_while_idle_ends_the_session(tree, remote):
    server = remote(extensions=ALL)
    with RemoteWorker(tree) as worker:
        assert worker.deliver()[0][0] == "k"
        server.sessions[0].say(b"250 2.0.0 taken\r\n" * 3)
        wait_for(lambda: server.sessions[0].ended)
        assert worker.deliver()[0][0] == "k"
    assert [len(s.messages) for s in server.sessions] == [1, 1]


@pytest.mark.parametrize("wait", [0, 0.005, 0.05])
@pytest.mark.parametrize("first, second", [(b"554 5.7.1 spam", b"250 2.0.0 taken"), (b"250 2.0.0 taken", b"250 2.0.0 taken"),
                                           (b"250 2.0.0 taken", b"554 5.7.1 spam")])
@pytest.mark.parametrize("extensions", [("PIPELINING",), ALL], ids=["pipelining", "all"])
def test_a_second_reply_that_comes_late(tree, remote, extensions, first, second, wait):
    """It is no answer to the next message, which is queued already: that one is refused by the server in truth, and not taken
    where the reply to RCPT is read as the one to its mail data."""
    def reply(session, verb, line):
        if verb != "end" or session is not server.sessions[0] or len(session.messages) > 1:
            return b"550 5.6.0 no" if verb == "end" else None
        session.say(first + b"\r\n")
        time.sleep(wait)
        return second

    server = remote(reply, extensions)
    with RemoteWorker(tree) as worker:
        worker.put(message=b"number 1\n")
        worker.put(message=b"number 2\n")
        answers = {number: (letter, text) for number, _, letter, text in (worker.done(), worker.done())}
    if answers[1][0] == "Z":  # with the refusal behind the acceptance: to which of them BDAT was the question, nobody knows
        assert extensions == ALL and second[:1] == b"5" and b"Possible duplicate!" in answers[1][1]
    else:
        assert answers[1][0] == ("D" if first[:1] == b"5" else "k" if extensions == ALL else "K")
    assert answers[2][0] == "D" and b"550 5.6.0 no" in answers[2][1], answers
    assert [[m.octets for m in s.messages] for s in server.sessions] == [[b"number 1\r\n"], [b"number 2\r\n"]]


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",), ALL], ids=["plain", "pipelining", "all"])
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "end"])
def test_a_refused_message_does_not_hurt_the_next(tree, remote, extensions, stage):
    """RSET, pipelined, clears what the server may remember; the next message goes over the same session."""
    server = remote(lambda session, verb, line: b"550 5.7.1 no" if verb == stage and session.server.refuses else None, extensions)
    if stage == "DATA" and "CHUNKING" in extensions:
        pytest.skip("no DATA with CHUNKING")
    with RemoteWorker(tree) as worker:
        for n in range(6):
            server.refuses = n % 2
            ((letter, text),) = worker.deliver(message=b"number %d\n" % n)
            assert letter == ("D" if n % 2 else "k" if extensions == ALL else "K"), text
    assert len(server.sessions) == 1
    got = [m.octets for m in server.messages]
    assert [m for m in got if m in (b"number 0\r\n", b"number 2\r\n", b"number 4\r\n")] == [b"number 0\r\n", b"number 2\r\n", b"number 4\r\n"]
    assert server.commands.count(b"RSET") == 2


def test_another_host(tree, remote):
    server = remote()
    other = Server()
    tree.write("control/smtproutes", f":[127.0.0.1]:{server.port}\nother.example:[127.0.0.1]:{other.port}\n")
    with RemoteWorker(tree) as worker:
        for host in ("dest.example", "DEST.example", "other.example", "dest.example"):
            assert worker.deliver(host=host)[0][0] == "K"
    other.close()
    assert [len(s.messages) for s in server.sessions] == [2, 1] and len(other.messages) == 1


def test_domains_behind_one_relay(tree, remote):
    """One transaction for all of a message, and one session for all messages."""
    server = remote(reply=lambda session, verb, line: b"550 5.1.1 no" if b"TO:<bad" in line else None)
    with RemoteWorker(tree, host="one.example") as worker:
        done = worker.deliver("a@one.example", "b@two.example", "bad@three.example", "c@ONE.example", host="one.example")
        assert [letter for letter, _ in done] == ["K", "K", "D", "K"]
        assert worker.deliver("d@four.example", host="four.example")[0][0] == "K"
    assert len(server.sessions) == 1
    assert [m.recipients for m in server.messages] == [["a@one.example", "b@two.example", "c@ONE.example"], ["d@four.example"]]


@pytest.mark.parametrize("line", ["two.example:[127.0.0.1]:{other}", "two.example:[127.0.0.1]:{other}\n.example:[127.0.0.1]:{port}"])
def test_domains_that_no_longer_go_the_same_way(tree, remote, line):
    """What qmail-send put together when control/smtproutes said so: each goes where it says now, and each has its own result."""
    server = remote()
    other = Server(lambda session, verb, line: b"550 5.1.1 no" if verb == "RCPT" else None)
    tree.write("control/smtproutes", f":[127.0.0.1]:{server.port}\n" + line.format(port=server.port, other=other.port) + "\n")
    with RemoteWorker(tree, host="one.example") as worker:
        done = worker.deliver("a@one.example", "b@two.example", "c@three.example", host="one.example")
    other.close()
    assert [letter for letter, _ in done] == ["K", "D", "K"]
    assert [len(m.recipients) for m in server.messages] == [2] and len(other.sessions) == 1 and other.messages == []


def test_domains_without_a_relay_are_not_one(tree, remote):
    """No entry, or one without a relay: by the DNS, which knows nobody here."""
    server = remote()
    tree.write("control/smtproutes", f"two.example:[127.0.0.1]:{server.port}\none.example:\n")
    tree.write("control/dnsservers", "127.0.0.1:9\n")
    with RemoteWorker(tree, host="one.example") as worker:
        done = worker.deliver("a@one.example", "b@two.example", host="one.example")
    assert [letter for letter, _ in done] == ["Z", "K"] and len(server.messages) == 1


def test_the_end_of_a_worker(tree, remote):
    """Whatever it is about."""
    remote(extensions=ALL)
    worker = RemoteWorker(tree)
    worker.close()
    worker = RemoteWorker(tree)
    worker.deliver()
    worker.sock.sendall(b"\0\0\0\4Jxxxx")
    assert worker.done() is None
    assert worker.process.wait(30) == 0
    super(RemoteWorker, worker).close()


def test_it_is_thrown_away_after_1000_jobs(tree, remote):
    server = remote(extensions=ALL)
    with RemoteWorker(tree) as worker:
        for n in range(0, 1000, 10):
            for _ in range(10):
                worker.put()
            assert [worker.done()[2] for _ in range(10)] == ["k"] * 10
        assert worker.done() is None
    assert len(server.messages) == 1000 and len(server.sessions) == 1


def test_control_files_that_cannot_be_used_defer(tree, remote):
    remote()
    tree.write("control/outgoingip", "what\n")
    worker = RemoteWorker(tree)
    ((letter, text),) = worker.deliver()
    assert letter == "Z" and "control/outgoingip" in text
    assert worker.done() is None and worker.process.wait(30) == 0
    super(RemoteWorker, worker).close()


def test_memory_of_a_worker(tree, remote):
    if is_sanitized(tree.bin / "qmail-remote"):
        pytest.skip("a sanitizer needs memory of its own")
    remote(extensions=ALL)
    with RemoteWorker(tree) as worker:
        for _ in range(20):
            worker.deliver(message=b"x" * 200_000)
        worker.deliver()
        rollup = pathlib.Path(f"/proc/{worker.process.pid}/smaps_rollup").read_text()
        assert int(re.search(r"Anonymous: *(\d+)", rollup).group(1)) <= 560, rollup


def test_shut_in_before_the_network(tree, remote, has_seccomp):  # noqa: F811
    seen = []
    server = remote(extensions=ALL)
    with RemoteWorker(tree) as worker:
        server.reply = lambda session, verb, line: seen.append(shut_in(worker.process.pid)) if verb == "greeting" else None
        assert worker.deliver()[0][0] == "k"
    assert seen == [(1, 0 if is_sanitized(tree.bin / "qmail-remote") else 1)]


# --- parameters -------------------------------------------------------------------------------------

def test_DSN(tree, remote):
    server = remote(extensions=("DSN",))
    with RemoteWorker(tree) as worker:
        outcomes = worker.deliver(("a@dest.example", "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@x.example"), ("b@dest.example", "NOTIFY=NEVER"),
                                  "c@dest.example", parameters="RET=HDRS ENVID=QQ+2B314159")
    assert [o[0] for o in outcomes] == ["k"] * 3
    assert server.commands[1:5] == [
        b"MAIL FROM:<ana@mail.test.example> RET=HDRS ENVID=QQ+2B314159",
        b"RCPT TO:<a@dest.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@x.example",
        b"RCPT TO:<b@dest.example> NOTIFY=NEVER", b"RCPT TO:<c@dest.example>"]
    server = remote()
    with RemoteWorker(tree) as worker:
        assert worker.deliver(("a@dest.example", "NOTIFY=SUCCESS"), parameters="RET=FULL ENVID=x")[0][0] == "K"
    assert server.commands[1:3] == [b"MAIL FROM:<ana@mail.test.example>", b"RCPT TO:<a@dest.example>"]


@pytest.mark.parametrize("parameters, kept", [
    ("RET=SOME ENVID=x", b" ENVID=x"), ("RET=FULL ENVID=a\rb", b" RET=FULL"), ("RET= ENVID=", b""), ("RET=full", b" RET=full"),
    ("ENVID=" + "x" * 101, b""), ("ENVID=a=b", b""), ("ENVID=\xff", b""), ("RET", b"")])
def test_parameters_of_the_sender_without_sense(tree, remote, parameters, kept):
    server = remote(extensions=ALL)
    with RemoteWorker(tree) as worker:
        assert worker.deliver(parameters=parameters)[0][0] == "k"
    assert server.commands[1] == b"MAIL FROM:<ana@mail.test.example> SIZE=20" + kept


@pytest.mark.parametrize("parameters, kept", [
    ("NOTIFY=SOMETIMES", b""), ("NOTIFY=NEVER,FAILURE", b""), ("NOTIFY=FAILURE,DELAY,SUCCESS", b" NOTIFY=FAILURE,DELAY,SUCCESS"),
    ("NOTIFY=,FAILURE", b""), ("NOTIFY=FAILURE,", b""), ("NOTIFY=failure", b" NOTIFY=failure"), ("ORCPT=none", b""),
    ("ORCPT=rfc822;" + "x" * 500, b""), ("ORCPT=rfc822;a\nb", b""), ("ORCPT=;x", b""), ("ORCPT=rfc822;", b"")])
def test_parameters_of_a_recipient_without_sense(tree, remote, parameters, kept):
    server = remote(extensions=ALL)
    with RemoteWorker(tree) as worker:
        assert worker.deliver(("r@dest.example", parameters))[0][0] == "k"
    assert server.commands[2] == b"RCPT TO:<r@dest.example>" + kept


def test_8BITMIME_as_declared(tree, remote):
    server = remote(extensions=("8BITMIME",))
    with RemoteWorker(tree) as worker:
        worker.deliver(parameters="BODY=8BITMIME")
        worker.deliver(parameters="BODY=7BIT")
        worker.deliver(parameters="BODY=7BIT", message=b"x: y\n\n\xe4\n")
    assert [c[33:] for c in server.commands if c.startswith(b"MAIL")] == [b" BODY=8BITMIME", b"", b" BODY=8BITMIME"]


UTF8 = "jos\u00e9@dest.example"


def test_SMTPUTF8(tree, remote):
    server = remote(extensions=ALL)
    with RemoteWorker(tree) as worker:
        assert worker.deliver(UTF8)[0][0] == "k"
        assert worker.deliver(sender=UTF8)[0][0] == "k"
        assert worker.deliver(parameters="SMTPUTF8")[0][0] == "k"
        assert worker.deliver(message=b"Subject: \xc3\xa9\n\nx\n")[0][0] == "k"
    mails = [c for c in server.commands if c.startswith(b"MAIL")]
    assert [c.endswith(b" SMTPUTF8") for c in mails] == [True, True, True, False]
    assert mails[1].startswith("MAIL FROM:<jos\u00e9@dest.example>".encode())


def test_SMTPUTF8_where_the_server_does_not_have_it(tree, remote):
    server = remote(extensions=("8BITMIME",))
    with RemoteWorker(tree) as worker:
        outcomes = worker.deliver(UTF8, "r@dest.example")
        assert [o[0] for o in outcomes] == ["D", "K"] and "(#5.6.7)" in outcomes[0][1]
        ((letter, text),) = worker.deliver(sender=UTF8)
        assert letter == "D" and "(#5.6.7)" in text
        ((letter, text),) = worker.deliver(parameters="SMTPUTF8", message=b"Subject: \xc3\xa9\n\nx\n")
        assert letter == "D" and "(#5.6.9)" in text
        # a header that needs nothing goes to any server: RFC 6531 section 3.2
        assert worker.deliver(parameters="SMTPUTF8", message=b"Subject: x\n\n\xc3\xa9\n")[0][0] == "K"
        assert worker.deliver(message=b"Subject: \xc3\xa9\n\nx\n")[0][0] == "K"
    assert len(server.messages) == 3 and not any(b"SMTPUTF8" in c for c in server.commands)


def test_a_domain_in_other_letters(tree, remote):
    """With an ASCII local-part any server takes it: RFC 5890 A-labels."""
    server = remote()
    with RemoteWorker(tree) as worker:
        assert worker.deliver("ana@dest.espa\u00f1a.example", sender="a b@b\u00fccher.example")[0][0] == "K"
    assert server.commands[1:3] == [b'MAIL FROM:<"a b"@xn--bcher-kva.example>', b"RCPT TO:<ana@dest.xn--espaa-rta.example>"]
    server = remote(extensions=("SMTPUTF8",))
    with RemoteWorker(tree) as worker:
        assert worker.deliver("ana@b\u00fccher.example")[0][0] == "K"
        ((letter, text),) = worker.deliver("ana@dest.example", sender="x@a\ufffd.example")
        assert letter == "K"
    assert server.commands[2] == "RCPT TO:<ana@b\u00fccher.example>".encode()


def test_outcomes_of_many_recipients(tree, remote):
    server = remote(lambda session, verb, line: b"550 5.1.1 no such user" if b"<x" in line and verb == "RCPT" else None, ALL)
    with RemoteWorker(tree) as worker:
        outcomes = worker.deliver(*(f"{'x' if n % 3 == 0 else 'y'}{n}@dest.example" for n in range(100)))
    assert [o[0] for o in outcomes] == ["D" if n % 3 == 0 else "k" for n in range(100)]
    # one who was refused is not told that others were accepted
    assert outcomes[0][1] == "127.0.0.1 does not like recipient.\nRemote host said: 550 5.1.1 no such user\n"
    assert outcomes[1][1] == "127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 taken\n"
    assert len(server.messages) == 1
