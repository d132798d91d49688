"""qmail-qmtpd, under tcpserver (a socket on 0 and 1) and on a listening socket, and its hostile clients."""
import contextlib
import os
import resource
import signal
import socket
import subprocess
import time

import pytest

from conftest import HOST, WAIT, wait_for
from fake_dns import FakeDns
from serving import Keeper, Service, compile_rules, is_read, netstring, qmtp, read_all, read_netstring, stays_open

MESSAGE = b"Subject: hello\n\nhello\n"
OK = b"Kok 1700000000 qp %d"


@pytest.fixture
def keeper(tree):
    with Keeper(tree) as k:
        yield k


def session(tree, octets, env=None, end=True, program="qmail-qmtpd", limits=None, stderr=subprocess.PIPE):
    """One connection as tcpserver gives it: (what it answered, exit code, log)."""
    ours, theirs = socket.socketpair()
    process = tree.popen(program, stdin=theirs, stdout=theirs, stderr=stderr, preexec_fn=limits,
                         env={"TCPREMOTEIP": "192.0.2.7", "PROTO": "TCP", "TCPLOCALHOST": "us.example", **(env or {})})
    theirs.close()
    with ours:
        ours.settimeout(WAIT)
        with contextlib.suppress(OSError):
            ours.sendall(octets)
            if end:
                ours.shutdown(socket.SHUT_WR)
        said = read_all(ours)
    try:
        _, log = process.communicate(timeout=WAIT)
    finally:
        process.kill()
    return said, process.returncode, (log or b"").decode()


def answers(octets):
    """The netstrings in octets."""
    found, at = [], 0
    while at < len(octets):
        colon = octets.index(b":", at)
        end = colon + 1 + int(octets[at:colon])
        assert octets[end:end + 1] == b","
        found.append(octets[colon + 1:end])
        at = end + 1
    return found


WHOLE = qmtp(MESSAGE, "s", f"r@{HOST}")


# --- what is taken ------------------------------------------------------------------------------------

def test_a_message(tree, keeper):
    said, code, log = session(tree, qmtp(MESSAGE, "s@h.example", f"a@{HOST}", f"b@{HOST}"), env={
        "TCPREMOTEHOST": "out.example", "TCPREMOTEINFO": "ana"})
    assert (answers(said), code) == ([OK % 1, OK % 1], 0)
    message, envelope = keeper.got[0]
    assert message.startswith(b"Received: from out.example (ana@192.0.2.7)\n  by us.example with QMTP; ")
    assert message.endswith(b" -0000\n" + MESSAGE)
    assert envelope == f"Fs@h.example\0Ta@{HOST}\0Tb@{HOST}\0\0".encode()
    assert f"from=<s@h.example> to=<a@{HOST}>,<b@{HOST}> recipients=2 size=22 result=accepted qp=1" in log


def test_messages_one_after_another(tree, keeper):
    octets = b"".join(qmtp(MESSAGE, "", f"r{i}@{HOST}") for i in range(50))
    said, code, _ = session(tree, octets)
    assert (answers(said), code) == ([OK % (i + 1) for i in range(50)], 0)
    assert [envelope for _, envelope in keeper.got] == [f"F\0Tr{i}@{HOST}\0\0".encode() for i in range(50)]


def test_an_answer_comes_before_the_next_message(tree, keeper):
    ours, theirs = socket.socketpair()
    with tree.popen("qmail-qmtpd", stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL) as process, ours:
        theirs.close()
        ours.settimeout(WAIT)
        for i in range(3):
            ours.sendall(qmtp(MESSAGE, "", f"r@{HOST}"))
            assert read_netstring(ours) == OK % (i + 1)
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(WAIT) == 0


@pytest.mark.parametrize("wire, stored", [
    (b"a\r\nb\r\n", b"a\nb\n"), (b"", b""), (b"no end", b"no end"), (b"\r\n.\r\n..\r\n", b"\n.\n..\n"), (b"a\0b\r\n", b"a\0b\n"),
])
def test_crlf_lines(tree, keeper, wire, stored):
    said, _, _ = session(tree, qmtp(wire, "s", f"r@{HOST}", ending=b"\r"))
    assert answers(said) == [OK % 1]
    assert keeper.got[0][0].split(b" -0000\n", 1)[1] == stored


@pytest.mark.parametrize("wire", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\r\n", b"a\n", b"a\r", b"a\r\n.\n", b"\n"])
def test_crlf_lines_with_a_bare_cr_or_lf(tree, keeper, wire):
    said, code, _ = session(tree, qmtp(wire, "s", f"r@{HOST}", ending=b"\r") + qmtp(MESSAGE, "s", f"r@{HOST}"))
    first, second = answers(said)
    assert first.startswith(b"Da CR or LF stands alone") and second == OK % 1
    assert code == 0 and len([g for g in keeper.got if len(g) == 2]) == 1


def test_a_large_message_is_not_kept_in_memory(tree, keeper):
    def limits():
        if not os.environ.get("ASAN_OPTIONS"):
            resource.setrlimit(resource.RLIMIT_AS, (24 << 20, 24 << 20))

    body = (b"x" * 77 + b"\n") * (50 << 20 >> 6)
    said, _, _ = session(tree, qmtp(body, "s", f"r@{HOST}"), limits=limits)
    assert answers(said) == [OK % 1]
    assert len(keeper.got[0][0]) > len(body)


def test_relayclient(tree, keeper):
    said, _, _ = session(tree, qmtp(MESSAGE, "s", "r@elsewhere.example", "x"), env={"RELAYCLIENT": "@gw"})
    assert answers(said) == [OK % 1] * 2
    assert keeper.got[0][1] == b"Fs\0Tr@elsewhere.example@gw\0Tx@gw\0\0"


def test_an_address_too_long_with_relayclient_is_refused_alone(tree, keeper):
    said, _, _ = session(tree, qmtp(MESSAGE, "s", "x" * 999, "y"), env={"RELAYCLIENT": "@gw.example"})
    assert [a[:1] for a in answers(said)] == [b"D", b"K"]
    assert keeper.got[0][1] == b"Fs\0Ty@gw.example\0\0"


# --- what is refused ------------------------------------------------------------------------------------

def test_recipients_are_judged_one_by_one(tree, keeper):
    tree.write("control/rcpthosts", f"{HOST}\n.sub.example\n")
    tree.write("control/badrcptto", f"bad@{HOST}\n")
    recipients = [f"a@{HOST}", "r@elsewhere.example", "r@x.sub.example", "r@sub.example", f"bad@{HOST}", "x" * 990 + f"@{HOST}",
                  "nul\0@" + HOST, "local", f"Z@{HOST.upper()}", f"x@elsewhere.example@{HOST}", f"x@{HOST}@elsewhere.example"]
    said, _, log = session(tree, qmtp(MESSAGE, "s", *recipients))
    letters = [a[:1] for a in answers(said)]
    assert letters == [b"K", b"D", b"K", b"D", b"D", b"D", b"D", b"K", b"K", b"K", b"D"]
    assert keeper.got[0][1] == b"Fs\0" + b"".join(
        b"T%s\0" % recipients[i].encode() for i in (0, 2, 7, 8, 9)) + b"\0"
    assert log.count("refused") == 6
    assert " from=<s> to=<r@elsewhere.example> reason=\"sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)\"\n" in log


def test_no_open_relay_without_rcpthosts(tree, keeper):
    (tree.control / "rcpthosts").unlink(missing_ok=True)
    said, _, _ = session(tree, qmtp(MESSAGE, "s", "r@elsewhere.example", f"r@{HOST}"))
    assert [a[:1] for a in answers(said)] == [b"D", b"K"]


def test_nobody_left(tree, keeper):
    said, code, _ = session(tree, qmtp(MESSAGE, "s", "r@elsewhere.example") + qmtp(MESSAGE, "s"))
    assert [a[:1] for a in answers(said)] == [b"D"] and code == 0
    assert not [g for g in keeper.got if len(g) == 2]


def test_bad_sender(tree, keeper):
    tree.write("control/badmailfrom", "@spam.example\n")
    said, _, _ = session(tree, qmtp(MESSAGE, "s@spam.example", f"r@{HOST}", "postmaster"))
    assert [a[:1] for a in answers(said)] == [b"D", b"K"]


@pytest.mark.parametrize("sender", ["", "#@[]"])
def test_rejectnullsenders(tree, keeper, sender):
    octets = qmtp(MESSAGE, sender, f"r@{HOST}")
    assert [a[:1] for a in answers(session(tree, octets)[0])] == [b"K"]
    tree.write("control/rejectnullsenders", "1\n")
    assert [a[:1] for a in answers(session(tree, octets + qmtp(MESSAGE, "s", f"r@{HOST}"))[0])] == [b"D", b"K"]


@pytest.mark.parametrize("sender", ["x" * 1000, "nul\0@h"])
def test_a_sender_that_is_none(tree, keeper, sender):
    said, _, _ = session(tree, qmtp(MESSAGE, sender, f"r@{HOST}") + qmtp(MESSAGE, "s", f"r@{HOST}"))
    assert [a[:1] for a in answers(said)] == [b"D", b"K"]


def test_databytes(tree, keeper):
    tree.write("control/databytes", "100\n")
    octets = qmtp(b"x" * 100, "s", f"r@{HOST}") + qmtp(b"x" * 101, "s", f"r@{HOST}") + qmtp(b"x" * 9, "s", f"r@{HOST}")
    said, _, _ = session(tree, octets)
    assert [a[:1] for a in answers(said)] == [b"K", b"D", b"K"]
    said, _, _ = session(tree, qmtp(b"x" * 101, "s", f"r@{HOST}"), env={"DATABYTES": "101"})
    assert answers(said)[0][:1] == b"K"


def test_maxrcpt(tree, keeper):
    tree.write("control/maxrcpt", "3\n")
    said, _, _ = session(tree, qmtp(MESSAGE, "s", *[f"r{i}@{HOST}" for i in range(5)]))
    assert [a[:1] for a in answers(said)] == [b"K"] * 3 + [b"Z"] * 2


@pytest.mark.parametrize("field", [b"Received: x\n", b"DELIVERED-to: x\n", b"received-spf: x\n"])
def test_hops(tree, keeper, field):
    octets = qmtp(field * 99 + b"Subject: x\n\n" + field * 9, "s", f"r@{HOST}") + qmtp(field * 100 + b"\n", "s", f"r@{HOST}")
    said, _, _ = session(tree, octets)
    assert [a[:1] for a in answers(said)] == [b"K", b"D"]


def test_queue_refuses(tree):
    for code, letter in ((31, b"D"), (53, b"Z")):
        with Keeper(tree, code=code):
            said, _, log = session(tree, qmtp(MESSAGE, "s", f"r@{HOST}"))
            assert answers(said)[0][:1] == letter
            assert "result=refused" in log if letter == b"D" else "result=deferred" in log


def test_a_program_instead_of_the_queue(tree, keeper):
    tree.write("mine", "#!/bin/sh\ncat >got.message; cat <&1 >got.envelope\n", 0o755)
    said, _, _ = session(tree, qmtp(MESSAGE, "s", f"r@{HOST}"), env={"QMAILQUEUE": "./mine"})
    assert answers(said)[0].startswith(b"Kok ")
    assert (tree.home / "got.message").read_bytes().endswith(MESSAGE)
    assert (tree.home / "got.envelope").read_bytes() == f"Fs\0Tr@{HOST}\0\0".encode()
    assert keeper.got == []


def test_unknown_recipient(server):
    """With qmail-rcptd, nobody's address is refused, and no bounce has to say it."""
    server.need("qmail-rcptd")
    server.assign()
    server.write("control/locals", f"{HOST}\n")
    rcptd = server.start_daemon("qmail-rcptd", "qmail-rcptd")
    try:
        said, _, _ = session(server, qmtp(MESSAGE, "s@h.example", f"ana@{HOST}", f"nobody-at-all@{HOST}"))
        known, unknown = answers(said)
        assert known.startswith(b"Kok ")
        assert unknown == b"Dsorry, no mailbox here by that name (#5.1.1)"
        assert len(server.arrived(1)) == 1
        # RELAYCLIENT's value makes another address of it, which is not looked up
        for value, letter in (("", b"D"), ("@gw.example", b"K")):
            said, _, _ = session(server, qmtp(MESSAGE, "s@h.example", f"nobody-at-all@{HOST}"), env={"RELAYCLIENT": value})
            assert answers(said)[0][:1] == letter
    finally:
        server.end(rcptd, signal.SIGTERM)


# --- DNS lists and RCPTCHECK ---------------------------------------------------------------------------------

@pytest.fixture
def dns(tree):
    tree.need("qmail-dnsbl")
    with FakeDns() as server:
        tree.write("control/dnsservers", server.server + "\n")
        server.add("7.2.0.192.a.example", "A", "127.0.0.2")
        server.add("7.2.0.192.a.example", "TXT", b"see http://bl.example/")
        yield server


@pytest.mark.parametrize("lists, env, want", [
    (["-a.example"], {}, b"Dsee http://bl.example/ (#5.7.1)"), (["a.example"], {}, b"Zsee http://bl.example/ (#4.7.1)"),
    (["=a.example"], {}, b"K"), (["-b.example"], {}, b"K"), ([], {}, b"K"), (["-a.example"], {"DNSBLSKIP": ""}, b"K"),
    (["-a.example"], {"RBLSMTPD": ""}, b"K"), ([], {"RBLSMTPD": "-go away"}, b"Dgo away (#5.7.1)"), ([], {"RBLSMTPD": "later"}, b"Zlater (#4.7.1)"),
    (["-a.example"], {"RELAYCLIENT": ""}, b"K"),
])
def test_dns_lists(tree, keeper, dns, lists, env, want):
    if lists:
        tree.write("control/dnsbllist", "".join(line + "\n" for line in lists))
    said, code, log = session(tree, qmtp(MESSAGE, "s", f"r@{HOST}", f"q@{HOST}", "postmaster") + WHOLE, env=env)
    first, second, postmaster, again = answers(said)
    assert first.startswith(want) and second.startswith(want) and postmaster[:1] == b"K" and again.startswith(want)
    assert code == 0
    assert log.count(f" from=<s> to=<q@{HOST}> reason=\"{want[1:].decode()}\"\n") == (want != b"K")
    assert log.count("qmail-qmtpd: lists ") == (want != b"K" or lists == ["=a.example"])


def test_dns_lists_and_the_next_connection(tree, keeper, dns):
    tree.write("control/dnsbllist", "-a.example\n")
    dns.add("1.0.0.127.a.example", "A", "127.0.0.2")
    dns.add("1.0.0.127.a.example", "TXT", b"go away")
    with Service(tree, "qmail-qmtpd", "-X") as service:
        for _ in range(3):
            assert answers(service.ask(WHOLE, "127.0.0.1")) == [b"Dgo away (#5.7.1)"]
            assert answers(service.ask(WHOLE, "127.0.0.2")) == [OK % len(keeper.got)]


CHECK = """#!/bin/sh
echo "$SENDER $RECIPIENT ($HELO)" >>asked
case $RECIPIENT in
no@*) exit 100 ;;
why@*) echo '552 5.2.2 this one is full' >&4; exit 100 ;;
later@*) echo 'not now' >&4; exit 111 ;;
limit@*) exit 113 ;;
lost@*) exit 7 ;;
esac
exit 0
"""


def test_rcptcheck(tree, keeper):
    tree.write("check", CHECK, 0o755)
    names = ["no", "why", "why", "later", "limit", "lost", "yes"]
    octets = qmtp(MESSAGE, "s@h.example", *[f"{n}@{HOST}" for n in names])
    said, code, log = session(tree, octets * 2, env={"RCPTCHECK": "./check"})
    want = [b"Dsorry, no mailbox here by that name (#5.1.1)", b"Dthis one is full (#5.2.2)", b"Dthis one is full (#5.2.2)", b"Znot now (#4.3.0)",
            b"Zover limit (#4.7.1)", b"Zunable to check the recipient (#4.3.0)"]
    assert (answers(said), code) == ([*want, OK % 1, *want, OK % 2], 0)
    assert keeper.got[1][1] == f"Fs@h.example\0Tyes@{HOST}\0\0".encode()
    assert (tree.home / "asked").read_text().split("\n")[:2] == [f"s@h.example {n}@{HOST} ()" for n in ("no", "why")]
    assert f" from=<s@h.example> to=<lost@{HOST}> reason=\"RCPTCHECK ended with an exit code that means nothing here\"" in log
    # clients that may relay are asked about only where that is wanted
    for env, letter in (({}, b"K"), ({"RCPTCHECKRELAYCLIENT": "1"}, b"D")):
        said, _, _ = session(tree, qmtp(MESSAGE, "s", f"no@{HOST}"), env={"RCPTCHECK": "./check", "RELAYCLIENT": "", **env})
        assert answers(said)[0][:1] == letter


def test_rcptcheck_texts_are_bounded(tree, keeper):
    """Of texts that all differ as many are kept as fit; the other recipients are answered all the same."""
    tree.write("check", "#!/bin/sh\nprintf '%s %0800d' \"$RECIPIENT\" 0 >&4\nexit 111\n", 0o755)
    said, code, _ = session(tree, qmtp(MESSAGE, "s", *[f"{i}@{HOST}" for i in range(100)]), env={"RCPTCHECK": "./check"})
    got = answers(said)
    assert code == 0 and len(got) == 100 and all(a[:1] == b"Z" for a in got)
    assert got[5].startswith(f"Z5@{HOST} 000".encode()) and got[-1] == b"Zunable to take mail to that address now (#4.3.0)"


# --- hostile clients (S4 and alike) ------------------------------------------------------------------------

HOSTILE = {
    "no number": b"x" + WHOLE,
    "no digits": b":" + WHOLE,
    "a sign": b"-1:",
    "blank": b" 5:",
    "zeros in front": b"0005:",
    "a number without end": b"9" * 100000,
    "a number of 19 digits": b"1234567890123456789:",
    "no encoding": b"0:,",
    "encoding is no line end": netstring(b"xyz") + netstring("s") + netstring(netstring("r")),
    "no comma behind the message": b"5:\nabcdX" + WHOLE,
    "no comma behind the sender": netstring(b"\nabc") + b"1:s;" + netstring(netstring("r")),
    "recipient larger than its list": netstring(b"\nabc") + netstring("s") + b"3:9:r,,",
    "recipient ends behind its list": netstring(b"\nabc") + netstring("s") + b"3:1:r,",
    "list ends in a number": netstring(b"\nabc") + netstring("s") + b"2:12,",
    "list without commas": netstring(b"\nabc") + netstring("s") + b"4:1:rr,",
    "SMTP": b"EHLO x\r\nMAIL FROM:<>\r\n",
    "zeros": b"\0" * 100000,
    "random": bytes(i * 7919 % 256 for i in range(100000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(tree, keeper, name):
    said, code, _ = session(tree, HOSTILE[name])
    assert code == 100 and said == b""
    assert not [g for g in keeper.got if len(g) == 2]


def test_cut_off_anywhere(tree, keeper):
    for n in range(1, len(WHOLE)):
        said, code, _ = session(tree, WHOLE[:n])
        assert (said, code) == (b"", 100)
    assert not [g for g in keeper.got if len(g) == 2]


def test_a_length_that_nobody_has(tree, keeper):
    """A petabyte is announced: what comes is passed on, and nothing is kept for it."""
    said, code, _ = session(tree, b"999999999999999:\n" + b"x" * 3000000)
    assert (said, code) == (b"", 100)


def test_hundreds_of_thousands_of_recipients(tree, keeper):
    tree.write("control/maxrcpt", "10\n")

    def limits():
        if not os.environ.get("ASAN_OPTIONS"):
            resource.setrlimit(resource.RLIMIT_AS, (32 << 20, 32 << 20))

    ours, theirs = socket.socketpair()
    with tree.popen("qmail-qmtpd", stdin=theirs, stdout=theirs, stderr=open(tree.home / "log.txt", "wb"),
                    preexec_fn=limits) as process, ours:
        theirs.close()
        ours.settimeout(WAIT)
        ours.sendall(netstring(b"\n" + MESSAGE) + netstring("s") + netstring(b"0:," * 300000))
        ours.shutdown(socket.SHUT_WR)
        got = answers(read_all(ours))
        assert process.wait(WAIT) == 0
    assert len(got) == 300000 and got[0][:1] == b"K" and got[-1][:1] == b"Z"
    log = (tree.home / "log.txt").read_text()
    assert "299990 recipients in all" in log and len(log) < 10000


def test_a_client_that_does_not_read(tree, keeper):
    tree.write("control/timeoutsmtpd", "1\n")
    tree.write("control/maxrcpt", "1\n")
    ours, theirs = socket.socketpair()
    with tree.popen("qmail-qmtpd", stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL) as process, ours:
        theirs.close()
        ours.settimeout(WAIT)
        ours.sendall(netstring(b"\n" + MESSAGE) + netstring("s") + netstring(b"0:," * 100000))
        process.wait(WAIT)


def test_a_client_that_is_silent(tree, keeper):
    tree.write("control/timeoutsmtpd", "1\n")
    for octets in (b"", WHOLE[:9], WHOLE[:-1]):
        start = time.monotonic()
        said, code, log = session(tree, octets, end=False)
        assert (said, code) == (b"", 111) and "timeout" in log
        assert time.monotonic() - start < 20


def test_on_a_listening_socket(tree, keeper):
    compile_rules(tree, "control/tcp.qmtp.cdb", {"127.0.0.1": {"RELAYCLIENT": ""}})
    with Service(tree, "qmail-qmtpd", "-x", "control/tcp.qmtp.cdb") as service:
        octets = qmtp(MESSAGE, "s", "r@elsewhere.example")
        assert answers(service.ask(octets, "127.0.0.1")) == [OK % 1]
        assert answers(service.ask(octets, "127.0.0.2"))[0][:1] == b"D"
        # changed control files count for the next connection
        tree.write("control/rcpthosts", "elsewhere.example\n")
        wait_for(lambda: answers(service.ask(octets, "127.0.0.2"))[0][:1] == b"K")


def closed(service):
    try:
        service.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_server_stops_between_two_messages(tree, keeper):
    with Service(tree, "qmail-qmtpd") as service, service.connect() as c:
        c.sendall(WHOLE)
        assert read_netstring(c) == OK % 1
        c.sendall(WHOLE[:10])
        wait_for(lambda: is_read(c))
        assert stays_open(c)
        service.process.send_signal(signal.SIGTERM)
        wait_for(lambda: closed(service), what="the server to stop listening")
        c.sendall(WHOLE[10:] + WHOLE)
        assert answers(read_all(c)) == [OK % 2]
        assert service.process.wait(WAIT) == 0


def test_is_shut_in(tree, keeper):
    if "ASAN_OPTIONS" in os.environ:
        pytest.skip("a sanitizer build has no filter")
    with Service(tree, "qmail-qmtpd") as service, service.connect() as c:
        c.sendall(WHOLE)
        assert read_netstring(c) == OK % 1
        status = open(f"/proc/{service.children()[0]}/status").read()
        assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status
        assert "Seccomp:\t0" in open(f"/proc/{service.process.pid}/status").read()
