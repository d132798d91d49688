"""qmail-smtpd and TLS: STARTTLS and TLS from the first octet by the engine, a UCSPI-TLS server in front, clients that others wrote,
and hostile ones."""
import contextlib
import functools
import os
import pathlib
import re
import select
import shutil
import smtplib
import socket
import ssl
import struct
import subprocess
import threading
from email.message import EmailMessage

import pytest

from conftest import HOST, WAIT, wait_for
from probe import is_sanitized
from serving import Service, compile_rules, read_all
from smtp_session import Queue, Smtp, capped
from test_tls import Tls, authority, client_hello, in_records, new_context, pem, record, server_name

GREETING = f"220 {HOST} ESMTP"
CIPHER = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
ANA, EVA = f"ana@{HOST}", "eva@client.example"
MESSAGE = f"From: {EVA}\r\nTo: {ANA}\r\nSubject: hello\r\n\r\nfirst\r\n.\r\nlast\r\n"


@pytest.fixture
def idle(new_tree):
    """A tree with a key, no engine running."""
    server = new_tree(Tls)
    server.need("qmail-smtpd", "qmail-keyd", "qmail-tlsd")
    server.write("tls/ec.pem", pem("P-256", HOST), 0o400)
    server.write("control/rcpthosts", f"{HOST}\n")
    return server


@pytest.fixture
def engine(idle):
    idle.start_engine()
    return idle


@pytest.fixture
def queue(idle):
    with Queue(idle) as q:
        yield q


@pytest.fixture
def smtpd(engine, queue):
    with Service(engine, "qmail-smtpd", "-X", limits=capped()) as service:
        yield service


@pytest.fixture
def smtps(engine, queue):
    """The same with TLS before the greeting."""
    with Service(engine, "qmail-smtpd", "-X", env={"SMTPS": "1"}, limits=capped()) as service:
        yield service


class Client(Smtp):
    """A session over a connection to a Service. at_once: TLS before the greeting."""

    def __init__(self, service, at_once=False, source=None, **how):
        self.socket, self.octets = service.connect(source), b""
        if at_once:
            self.protect(**how)
        self.greeting = self.reply()

    def __exit__(self, *why):
        self.socket.close()

    def protect(self, host=HOST, alpn=None):
        context = new_context()
        if alpn:
            context.set_alpn_protocols(alpn)
        self.socket = context.wrap_socket(self.socket, server_hostname=host, suppress_ragged_eofs=False)

    def starttls(self, **how):
        assert "\n250-STARTTLS\n" in self.ehlo()
        self.expect(220, "STARTTLS")
        assert self.octets == b""
        self.protect(**how)

    def close_notify(self):
        """Says that no more comes, and returns the connection below."""
        return self.socket.unwrap()


def protocol(message):
    """What the Received field says of the protocol."""
    return re.match(rb"Received: from \S+ \(.*?\n  by \S+ with ([^;]*);", message)[1].decode()


# --- STARTTLS -----------------------------------------------------------------------------------------------------------

def test_starttls(smtpd, queue):
    with Client(smtpd) as s:
        s.starttls()
        assert "STARTTLS" not in s.ehlo()
        assert s.command("STARTTLS").startswith("503 5.5.1 ")
        assert s.message().startswith("250 2.0.0 ok ")
        s.expect(250, "MAIL FROM:<a@b> SMTPUTF8")
        s.expect(250, f"RCPT TO:<{ANA}>")
        assert s.data(b"x").startswith("250 ")
        s.expect(221, "QUIT")
        assert s.rest() == []  # close_notify, or rest() would fail
    assert [protocol(m[0]) for m in queue.messages] == [f"ESMTPS (TLSv1.2) tls {CIPHER}", f"UTF8SMTPS (TLSv1.2) tls {CIPHER}"]
    log = smtpd.logged("qmail-smtpd: session")
    assert log.count(f" tls=TLSv1.2 cipher={CIPHER} sni={HOST} auth=- ") == 3
    assert "end=quit messages=2 " in log


def test_without_starttls_all_is_as_it_was(smtpd, queue):
    with Client(smtpd) as s:
        s.ehlo()
        s.message()
        s.expect(221, "QUIT")
    assert protocol(queue.messages[0][0]) == "ESMTP"
    assert " tls=no auth=-" in smtpd.logged("qmail-smtpd: session")


def test_what_was_said_before_is_forgotten(smtpd, queue):
    with Client(smtpd) as s:
        s.ehlo()
        s.envelope()
        s.starttls()
        assert s.command("DATA").startswith("503 ")
        assert s.command(f"RCPT TO:<{ANA}>") == "503 MAIL first (#5.5.1)"
        assert s.command(f"MAIL FROM:<{EVA}>") == "503 EHLO first (#5.5.1)"
        s.expect(250, "HELO again.example")
        assert s.message(b"x").startswith("250 ")
    message = queue.messages[0][0]
    assert protocol(message) == f"SMTP (TLSv1.2) tls {CIPHER}" and b"(HELO again.example)" in message


def test_who_has_spoken_tls_gets_no_process_again(smtpd, queue):
    for _ in range(2):
        with Client(smtpd) as s:
            s.starttls()
            s.ehlo()
            s.message()
            s.expect(221, "QUIT")
            s.rest()
    log = smtpd.logged("qmail-smtpd: session", 2)
    assert len(set(re.findall(r"pid=(\d+)", log))) == 2


def test_large_messages(smtpd, queue):
    body = os.urandom(3_000_000).hex().encode()
    text = b"\r\n".join(body[i:i + 900] for i in range(0, len(body), 900))
    with Client(smtpd) as s:
        s.starttls()
        s.ehlo()
        assert s.message(text).startswith("250 ")
        s.envelope()
        s.send(b"BDAT %d LAST\r\n%s\r\n" % (len(text) + 2, text))
        assert s.reply().startswith("250 ")
    assert [m[0].split(b"\n", 2)[2] for m in queue.messages] == [text.replace(b"\r", b"") + b"\n"] * 2


def test_under_tcpserver(engine, queue):
    """One process for one connection that somebody else has accepted."""
    with Smtp(engine) as s:
        assert "\n250-STARTTLS\n" in s.ehlo()
        s.expect(220, "STARTTLS")
        s.socket = new_context().wrap_socket(s.socket, server_hostname=HOST)
        s.ehlo()
        s.message()
        s.expect(221, "QUIT")
        assert s.rest() == []
    assert protocol(queue.messages[0][0]).startswith("ESMTPS ")


def test_behind_a_proxy_it_is_not_offered(engine, queue):
    """0 and 1 are pipes: there is no connection to hand over."""
    done = engine.run("qmail-smtpd", input=b"EHLO x\r\nSTARTTLS\r\nQUIT\r\n", env={"TCPREMOTEIP": "192.0.2.7"})
    assert b"STARTTLS" not in done.stdout
    done = engine.run("qmail-smtpd", input=b"STARTTLS\r\n", env={"TCPREMOTEIP": "192.0.2.7"})
    assert b"502 " in done.stdout


# --- an engine that is not there ------------------------------------------------------------------------------------------

def test_without_an_engine_it_is_not_offered(idle, queue):
    with Service(idle, "qmail-smtpd", "-X") as service, Client(service) as s:
        assert "STARTTLS" not in s.ehlo()
        assert s.command("STARTTLS").startswith("502 ")
        assert s.message().startswith("250 ")


def test_an_engine_for_other_users(idle, queue):
    """Under tcpserver qmail-smtpd may be any user; a client that was promised TLS would come back for it in vain."""
    idle.start_keyd(idle.uid)
    idle.users = lambda: [12345]
    idle.start_tlsd()
    with Smtp(idle) as s:
        assert "STARTTLS" not in s.ehlo()
        assert s.command("STARTTLS").startswith("502 ")
        s.message()
    assert protocol(queue.messages[0][0]) == "ESMTP"
    assert "a user who may not ask was turned away" in idle.errors("qmail-tlsd")


@pytest.mark.parametrize("which", ["tlsd", "keyd"])
def test_an_engine_that_died(smtpd, engine, queue, which):
    """It is offered, because nobody looks; whoever asks is told, and the session goes on."""
    process = getattr(engine, which)
    process.kill()
    process.wait()
    wait_for(lambda: not engine.children(f"qmail-{which}"))
    with Client(smtpd) as s:
        assert "\n250-STARTTLS\n" in s.ehlo()
        s.envelope()
        assert s.command("STARTTLS") == "454 4.7.0 TLS is not available now (#4.7.0)"
        assert s.data(b"x").startswith("250 ")  # nothing was forgotten
    assert protocol(queue.messages[0][0]) == "ESMTP"
    assert 'command=STARTTLS from=<ana@client.example> argument=<> reason="no TLS: ' in smtpd.logged("refused")
    getattr(engine, f"start_{which}")()
    with Client(smtpd) as s:
        s.starttls()


def test_an_engine_that_is_killed_within_a_message(smtpd, engine, queue):
    with Client(smtpd) as s:
        s.starttls()
        s.ehlo()
        s.envelope()
        s.expect(354, "DATA")
        s.send(b"Subject: half\r\n")
        engine.tlsd.kill()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            s.reply()
    log = smtpd.logged("qmail-smtpd: session")
    assert "result=incomplete" in log and 'reason="TLS ended: the TLS engine has not said how the connection ended"' in log
    assert queue.messages == []
    engine.tlsd.wait()


# --- TLS before the greeting ------------------------------------------------------------------------------------------------

def test_at_once(smtps, queue):
    with Client(smtps, at_once=True) as s:
        assert s.greeting == GREETING
        assert "STARTTLS" not in s.ehlo()
        assert s.message().startswith("250 ")
        s.expect(221, "QUIT")
        assert s.rest() == []
    assert protocol(queue.messages[0][0]) == f"ESMTPS (TLSv1.2) tls {CIPHER}"


def test_at_once_without_an_engine(idle, queue):
    with Service(idle, "qmail-smtpd", "-X", env={"SMTPS": "1"}) as service:
        with service.connect() as c:
            assert read_all(c) == b""
        assert 'end=trouble' in service.logged("qmail-smtpd: session") and 'reason="no TLS: there is no engine"' in service.log()


def test_handshakes_are_bounded_in_number_and_time(idle, queue):
    """Who says nothing counts as a connection, until the engine gives it up."""
    idle.start_keyd()
    idle.start_tlsd("-t", 1)
    with Service(idle, "qmail-smtpd", "-X", "-a", 2, env={"SMTPS": "1"}) as service:
        with service.connect() as one, service.connect() as other:
            wait_for(lambda: len(service.children()) == 2)
            with service.connect() as third:
                assert read_all(third) == b""  # nothing in the clear
            assert read_all(one) == read_all(other) == b""
        assert service.logged("qmail-smtpd: session", 2).count('end=refused') == 2
        assert service.log().count('reason="no TLS: the client took too long"') == 2
        wait_for(lambda: not service.children())
        with Client(service, at_once=True) as s:
            s.expect(221, "QUIT")


# --- what the administrator says ------------------------------------------------------------------------------------------------

def test_tls_that_is_required(engine, queue):
    compile_rules(engine, "rules.cdb", {"127.0.0.2": {"UCSPITLS": "!"}, "127.0.0.3": {"UCSPITLS": "-"}, "127.0.0.4": {"DISABLETLS": "1"}, "": {}})
    with Service(engine, "qmail-smtpd", "-x", "rules.cdb") as service:
        with Client(service, source="127.0.0.2") as s:
            assert "\n250-STARTTLS\n" in s.ehlo()
            for command in (f"MAIL FROM:<{EVA}>", f"RCPT TO:<{ANA}>", "DATA", "VRFY x", "HELO x"):
                assert s.command(command) == "530 5.7.0 must issue a STARTTLS command first (#5.7.0)"
            s.send("BDAT 6 LAST\r\nQUIT\r\n")
            assert s.reply().startswith("503 ")
            s.expect(250, "NOOP")
            s.starttls()
            s.ehlo()
            assert s.message().startswith("250 ")
        for source in ("127.0.0.3", "127.0.0.4"):
            with Client(service, source=source) as s:
                assert "STARTTLS" not in s.ehlo()
                s.expect(502, "STARTTLS")
        with Client(service) as s:
            s.ehlo()
            assert s.message().startswith("250 ")
    assert len(queue.messages) == 2


# --- rows of hostile inputs -------------------------------------------------------------------------------------------------------

EVIL = b"EHLO evil.example\r\nMAIL FROM:<evil@evil.example>\r\nRCPT TO:<%s>\r\n" % ANA.encode()


@pytest.mark.parametrize("behind", [b"RSET\r\n", EVIL, b"E", b"\r\n", b"\0", b"AUTH PLAIN AGEAYg==\r\n", in_records(client_hello())],
                         ids=["RSET", "EHLO", "one octet", "empty line", "NUL", "AUTH", "a handshake"])
def test_S3_octets_behind_starttls(smtpd, queue, behind):
    """Refused, and nothing of it is run: neither before the handshake nor in it."""
    with Client(smtpd) as s:
        s.ehlo()
        s.send(b"STARTTLS\r\n" + behind)
        assert s.rest() == ["503 5.5.1 you did not wait for the reply to this command (#5.5.1)"]
    log = smtpd.logged("qmail-smtpd: session")
    assert 'commands=2 ' in log and 'reason="did not wait for a reply"' in log and "evil" not in log


def test_S3_octets_between_the_reply_and_the_handshake(smtpd, queue):
    with Client(smtpd) as s:
        s.ehlo()
        s.expect(220, "STARTTLS")
        s.send(EVIL)
        said = s.octets + read_all(s.socket)
        assert not re.search(rb"(?m)^[2-5]\d\d", said)
    log = smtpd.logged("qmail-smtpd: session")
    assert 'commands=2 ' in log and 'reason="no TLS: ' in log and "evil" not in log


def test_S3_a_transaction_from_before_is_not_taken_into_tls(smtpd, queue):
    with Client(smtpd) as s:
        s.ehlo()
        s.envelope("evil@evil.example")
        s.starttls()
        s.ehlo()
        assert s.command("DATA").startswith("503 ")
        s.message()
    assert [b"evil" in m[0] + m[1] for m in queue.messages] == [False]


def begin_message(s, command):
    s.starttls()
    s.ehlo()
    s.envelope()
    if command == "DATA":
        s.expect(354, "DATA")
        s.send(b"Subject: half\r\n\r\nx")
    else:
        s.send(b"BDAT 1000%s\r\nSubject: half\r\n\r\nx" % (b" LAST" if command == "BDAT LAST" else b""))


def incomplete(service, queue, reason):
    log = service.logged("qmail-smtpd: session")
    assert "result=incomplete" in log and "end=closed messages=0 " in log
    last = log.splitlines()[-1]
    assert (f'reason="{reason}' in last) if reason else "reason=" not in last, last
    assert queue.messages == []
    wait_for(lambda: not service.children(), what="the session's process to end")


@pytest.mark.parametrize("command", ["DATA", "BDAT", "BDAT LAST"])
def test_S5_close_notify_within_a_message(smtpd, queue, command):
    """Clear octets that follow are never read, whatever they would complete."""
    with Client(smtpd) as s:
        begin_message(s, command)
        raw = s.close_notify()
        with contextlib.suppress(OSError):
            for _ in range(100):
                raw.sendall(b"x" * 980 + b"\r\n.\r\nQUIT\r\n")
        assert not re.search(rb"(?m)^[2-5]\d\d", read_all(raw))
        raw.close()
    incomplete(smtpd, queue, "")


@pytest.mark.parametrize("command", ["DATA", "BDAT LAST"])
@pytest.mark.parametrize("how, reason", [("end", "TLS ended: the client has closed the connection without close_notify"), ("reset", "TLS ended: "), ("damaged", "TLS ended: ")])
def test_S5_an_end_without_close_notify(smtpd, queue, command, how, reason):
    with Client(smtpd) as s:
        begin_message(s, command)
        raw = socket.socket(fileno=s.socket.detach())
        raw.settimeout(WAIT)
        if how == "reset":
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "damaged":
            raw.sendall(record(23, bytes(64)) + b"\r\n.\r\n" * 100)
            assert not re.search(rb"(?m)^[2-5]\d\d", read_all(raw))
        raw.close()
    incomplete(smtpd, queue, reason)


CLEAR = {"SMTP": b"EHLO x\r\nMAIL FROM:<a@b>\r\n", "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PROXY": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 465\r\n",
         "PROXY 2": b"\r\n\r\n\0\r\nQUIT\n!\0\x0c\0\0\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x19", "SSLv2": b"\x80\x2e\x01\x03\x03\x00\x15\x00\x00\x00\x10" + bytes(37)}


@pytest.mark.parametrize("name", CLEAR)
def test_S17_clear_octets_on_the_port_of_tls(smtps, queue, name):
    said = smtps.ask(CLEAR[name])
    assert not re.search(rb"(?m)^[2-5]\d\d", said)
    assert 'end=refused' in smtps.logged("qmail-smtpd: session") and ' commands=0 ' in smtps.log() and 'reason="no TLS: ' in smtps.log()
    with Client(smtps, at_once=True) as s:
        s.expect(221, "QUIT")


def test_S17_a_handshake_on_the_clear_port(smtpd, queue):
    said = smtpd.ask(in_records(client_hello()))
    assert said.endswith(b"500 this port speaks SMTP, not TLS (#5.5.1)\r\n")
    assert 'reason="TLS without STARTTLS"' in smtpd.logged("qmail-smtpd: session")


@pytest.mark.parametrize("protocols", [["http/1.1", "h2"], ["pop3"], ["x" * 200]])
def test_S17_another_protocol_by_ALPN(smtpd, smtps, queue, protocols):
    with pytest.raises(ssl.SSLError, match="no application protocol"), Client(smtpd) as s:
        s.starttls(alpn=protocols)
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        Client(smtps, at_once=True, alpn=protocols)
    assert 'reason="no TLS: the client wants another protocol"' in smtpd.logged("qmail-smtpd: session", 2)


def test_our_protocol_by_ALPN(smtpd, queue):
    with Client(smtpd) as s:
        s.starttls(alpn=["h2", "smtp"])
        assert s.socket.selected_alpn_protocol() == "smtp"
        s.ehlo()


@pytest.mark.parametrize("name", [b"mail\\", b"a\nqmail-smtpd: message", b"a b\"c", b"\0", b"x" * 255, b"x" * 65000, b"../../etc/passwd", b"\xff" * 50],
                         ids=["backslash", "LF", "blank", "NUL", "255", "65000", "path", "octets"])
def test_S18_names(smtps, queue, name):
    """Whatever becomes of the handshake, nothing of it gets into the log but what a host can be called."""
    with smtps.connect() as c:
        c.sendall(in_records(client_hello(server_name(name))))
        assert c.recv(2) in (b"\x16\x03", b"\x15\x03", b"")
        c.shutdown(socket.SHUT_WR)
        read_all(c)
    log = smtps.logged("qmail-smtpd: session")
    assert log.count("\n") == 1 and re.fullmatch(r"[\x20-\x7e]*\n", log) and "\\" not in log and 'reason="no TLS: ' in log
    with Client(smtps, at_once=True) as s:
        s.expect(221, "QUIT")


def test_S18_the_longest_name_is_logged(smtps, queue):
    name = ".".join(["x" * 49] * 5)
    context = new_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(smtps.connect(), server_hostname=name) as c:
        c.sendall(b"QUIT\r\n")
        read_all(c)
    assert f" sni={name} " in smtps.logged("qmail-smtpd: session")


def held(pid):
    """Descriptors and anonymous memory (KiB) of a process."""
    memory = re.search(r"RssAnon:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
    return len(os.listdir(f"/proc/{pid}/fd")), int(memory[1])


def test_S18_ten_thousand_handshakes_without_data(smtps, engine):
    """They leave nothing behind in what serves others."""
    count = 500 if is_sanitized(engine.bin / "qmail-smtpd") else 10_000
    servers = smtps.process.pid, engine.tlsd.pid, engine.keyd.pid
    context, failures = new_context(), []

    def shake_hands(times):
        for _ in range(times):
            try:
                with context.wrap_socket(smtps.connect(), server_hostname=HOST):
                    pass
            except OSError as e:
                failures.append(e)

    def shake_all(times):
        threads = [threading.Thread(target=shake_hands, args=(times // 4,)) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        wait_for(lambda: not smtps.children() and len(engine.children("qmail-tlsd")) == 1, what="all processes to end")
        return [held(pid) for pid in servers]

    before = shake_all(count // 10)
    after = shake_all(count)
    assert not failures
    for (descriptors, memory), (descriptors_after, memory_after) in zip(before, after):
        assert descriptors == descriptors_after and memory_after <= memory + 256
    with Client(smtps, at_once=True) as s:
        s.ehlo()
        s.expect(221, "QUIT")


def test_S18_handshakes_without_data(smtpd, engine, queue):
    for i in range(100):
        with Client(smtpd) as s:
            s.starttls()
            if i % 2:
                s.close_notify().close()
    smtpd.logged("qmail-smtpd: session", 100)
    wait_for(lambda: not smtpd.children() and len(engine.children("qmail-tlsd")) == 1, what="all processes to end")
    with Client(smtpd) as s:
        s.starttls()
        s.ehlo()
        assert s.message().startswith("250 ")


@pytest.mark.parametrize("octets", [record(22, b"") * 10_000, record(21, b"\1\x5a") * 10_000, in_records(b"\x0b\x10\0\0" + bytes(1 << 20)),
                                    in_records(client_hello()) * 2], ids=["empty records", "alerts", "certificate of 1 MiB", "hello twice"])
def test_S18_octets_that_are_no_handshake(smtps, queue, octets):
    said = smtps.ask(octets)
    assert not said or said[:2] in (b"\x15\x03", b"\x16\x03")
    assert 'reason="no TLS: ' in smtps.logged("qmail-smtpd: session")
    with Client(smtps, at_once=True) as s:
        s.expect(221, "QUIT")


def test_S18_renegotiation(smtpd, queue):
    text = s_client(smtpd, "-starttls", "smtp", "-crlf", input=b"R\nQUIT\n")
    assert "RENEGOTIATING" in text and "no renegotiation" in text
    smtpd.logged("qmail-smtpd: session")


# --- clients that others wrote ----------------------------------------------------------------------------------------------------

def run(*command, input=b"", code=0):
    try:
        done = subprocess.run([str(c) for c in command], input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                              env={**os.environ, "HOME": "/nonexistent"})
    except FileNotFoundError:
        pytest.fail(f"the package with {command[0]} is missing: see the file packages")
    assert code is None or done.returncode == code, done.stdout
    return done.stdout.decode(errors="replace")


def s_client(service, *args, input):
    return run("openssl", "s_client", "-connect", "%s:%d" % service.address, "-CAfile", f"{authority().name}/ca.pem", "-servername", HOST, *args,
               input=input, code=None)


@pytest.fixture(params=["starttls", "at once"])
def either(request, engine, queue):
    """A service, and what name its way has."""
    with Service(engine, "qmail-smtpd", "-X", env={"SMTPS": "1"} if request.param == "at once" else {}) as service:
        service.at_once = request.param == "at once"
        yield service


@pytest.fixture
def message(tmp_path):
    path = tmp_path / "message"
    path.write_bytes(MESSAGE.encode())
    return path


def arrived(queue, count=1):
    wait_for(lambda: len(queue.messages) == count, what="the message")
    for text, envelope in queue.messages:
        # msmtp of 2025 says SMTPUTF8
        assert protocol(text) in (f"ESMTPS (TLSv1.2) tls {CIPHER}", f"UTF8SMTPS (TLSv1.2) tls {CIPHER}")
        envelope = envelope.replace(b"PSMTPUTF8\0", b"")
        assert text.replace(b"\r", b"").endswith(b"\n\nfirst\n.\nlast\n") and envelope.startswith(b"F" + EVA.encode() + b"\0T" + ANA.encode() + b"\0")


def test_openssl(either, queue):
    how = [] if either.at_once else ["-starttls", "smtp"]
    command = ["openssl", "s_client", "-connect", "%s:%d" % either.address, "-CAfile", f"{authority().name}/ca.pem", "-servername", HOST, "-quiet", "-crlf",
               "-verify_return_error", *how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        def expect(code, line=None):
            if line:
                client.stdin.write(f"{line}\n".encode())
                client.stdin.flush()
            while not (said := client.stdout.readline()).startswith(b"%d " % code):
                assert said.startswith(b"250-"), said

        try:
            if either.at_once:
                expect(220)
            expect(250, "EHLO client.example")
            expect(250, f"MAIL FROM:<{EVA}>")
            expect(250, f"rcpt to:<{ANA}>")  # it takes a capital R for its own
            expect(354, "DATA")
            expect(250, "Subject: hello\n\nfirst\n..\nlast\n.")
            expect(221, "QUIT")
            client.stdin.close()
            assert client.wait(WAIT) == 0
        finally:
            client.kill()
    arrived(queue)


def test_swaks(either, queue, message):
    # one of 2024 looks at the name as well
    target = ["--tls-verify-target", HOST] if b"tls-verify-target" in pathlib.Path(shutil.which("swaks") or "/dev/null").read_bytes() else []
    run("swaks", "--server", either.address[0], "--port", either.address[1], "--helo", "client.example", "--from", EVA, "--to", ANA, "--data", f"@{message}", *target,
        "--tls-on-connect" if either.at_once else "--tls", "--tls-verify", "--tls-ca-path", f"{authority().name}/ca.pem", "--tls-sni", HOST)
    wait_for(lambda: len(queue.messages) == 1)
    assert protocol(queue.messages[0][0]) == f"ESMTPS (TLSv1.2) tls {CIPHER}"
    assert f" sni={HOST} " in either.logged("qmail-smtpd: session")


def test_curl(either, queue, message):
    host, port = either.address
    run("curl", "--silent", "--show-error", f"{'smtps' if either.at_once else 'smtp'}://{HOST}:{port}/client.example", "--resolve", f"{HOST}:{port}:{host}",
        "--ssl-reqd", "--cacert", f"{authority().name}/ca.pem", "--mail-from", EVA, "--mail-rcpt", ANA, "--upload-file", message)
    arrived(queue)


def test_msmtp(either, queue, message):
    host, port = either.address
    run("msmtp", "--file=/dev/null", f"--host={host}", f"--port={port}", "--tls=on", f"--tls-starttls={'off' if either.at_once else 'on'}",
        f"--tls-trust-file={authority().name}/ca.pem", f"--tls-host-override={HOST}", "--auth=off", "--domain=client.example", f"--from={EVA}", ANA,
        input=MESSAGE.replace("\r", "").encode())
    arrived(queue)


def test_smtplib(either, queue):
    letter = EmailMessage()
    letter["From"], letter["To"] = EVA, ANA
    letter.set_content("first\n.\nlast\n")

    class Named(smtplib.SMTP_SSL):
        def _get_socket(self, host, port, timeout):
            self._host = HOST
            return super()._get_socket(host, port, timeout)

    host, port = either.address
    kind = functools.partial(Named, context=new_context()) if either.at_once else smtplib.SMTP
    with kind(host, port, local_hostname="client.example", timeout=WAIT) as s:
        if not either.at_once:
            s._host = HOST
            s.starttls(context=new_context())
        s.send_message(letter)
    arrived(queue)


# --- a UCSPI-TLS server in front --------------------------------------------------------------------------------------------------

class Ucspi:
    """The least that such a server does: waits for a letter on the control socket, does the handshake, tells variables, and passes octets.
    variables: what it tells."""

    def __init__(self, tree, variables=(b"SSL_PROTOCOL=TLSv1.3", b"SSL_CIPHER=TLS_AES_256_GCM_SHA384", b"SSL_TLS_SNI_SERVERNAME=mail.client.example"), program=("qmail-smtpd",), **env):
        listener = socket.create_server(("127.0.0.1", 0))
        self.client = socket.create_connection(listener.getsockname(), WAIT)
        self.accepted, _ = listener.accept()
        listener.close()
        self.control, control = socket.socketpair()
        read, self.write = os.pipe()
        self.read, write = os.pipe()
        self.variables, self.letter = variables, None
        self.log = tree.home / "output/ucspi"
        with open(self.log, "wb") as errors:
            self.process = tree.popen(*program, stdin=self.accepted, stdout=self.accepted, stderr=errors, pass_fds=[control.fileno(), read, write],
                                      env={"TCPREMOTEIP": "192.0.2.7", "SSLCTLFD": str(control.fileno()), "SSLREADFD": str(read), "SSLWRITEFD": str(write), **env})
        for fd in (read, write):
            os.close(fd)
        control.close()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        self.letter = self.control.recv(1)
        if self.letter:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.chain)
            with contextlib.suppress(OSError):
                with context.wrap_socket(self.accepted, server_side=True) as connection:
                    self.control.sendall(b"".join(v + b"\0" for v in self.variables) + b"\0" * (1 if self.variables else 2))
                    self.relay(connection)
        self.control.close()
        self.accepted.close()
        self.end_input()
        os.close(self.read)

    def end_input(self):
        if self.write is not None:
            os.close(self.write)
        self.write = None

    def relay(self, connection):
        """Until the program has ended its output."""
        while True:
            ready, _, _ = select.select([self.read, *([connection] if self.write else [])], [], [], WAIT)
            assert ready
            if connection in ready:
                if octets := connection.recv(65536):
                    os.write(self.write, octets)
                else:
                    self.end_input()
            elif octets := os.read(self.read, 65536):
                connection.sendall(octets)
            else:
                connection.unwrap()
                return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.socket.close()
        self.thread.join(WAIT)
        assert not self.thread.is_alive()
        assert self.process.wait(WAIT) == 0


@pytest.fixture
def chain(tmp_path):
    path = tmp_path / "chain.pem"
    path.write_bytes(pem("P-256", HOST))
    Ucspi.chain = path
    return path


class UcspiClient(Client):
    def __init__(self, server):
        self.socket, self.octets = server.client, b""
        server.session = self
        self.greeting = self.reply()


def test_ucspi_tls(idle, queue, chain):
    with Ucspi(idle, UCSPITLS="") as server:
        s = UcspiClient(server)
        s.ehlo()
        s.envelope()
        s.starttls()
        assert s.command(f"MAIL FROM:<{EVA}>") == "503 EHLO first (#5.5.1)"
        assert "STARTTLS" not in s.ehlo()
        assert s.message(os.urandom(100_000).hex().encode()).startswith("250 ")
        s.expect(221, "QUIT")
        assert s.rest() == []
    assert server.letter == b"Y"
    assert protocol(queue.messages[0][0]) == "ESMTPS (TLSv1.3) tls TLS_AES_256_GCM_SHA384"
    assert " tls=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 sni=mail.client.example " in server.log.read_text()


def test_ucspi_tls_that_tells_nothing(idle, queue, chain):
    with Ucspi(idle, variables=(), UCSPITLS="?") as server:
        s = UcspiClient(server)
        s.starttls()
        s.ehlo()
        s.message()
    assert protocol(queue.messages[0][0]) == "ESMTPS (TLS cipher unknown)"


@pytest.mark.parametrize("wanted", [None, "-"])
def test_ucspi_tls_that_is_not_wanted(engine, queue, chain, wanted):
    """The engine does not step in."""
    with Ucspi(engine, **({"UCSPITLS": wanted} if wanted else {})) as server:
        s = UcspiClient(server)
        assert "STARTTLS" not in s.ehlo()
        s.expect(502, "STARTTLS")
        s.message()
    assert server.letter == b"" and protocol(queue.messages[0][0]) == "ESMTP"


def test_ucspi_tls_that_is_required(idle, queue, chain):
    with Ucspi(idle, UCSPITLS="!") as server:
        s = UcspiClient(server)
        s.ehlo()
        s.expect(530, f"MAIL FROM:<{EVA}>")
        s.starttls()
        s.ehlo()
        assert s.message().startswith("250 ")


def test_ucspi_tls_before_the_greeting(idle, queue, chain):
    with Ucspi(idle, UCSPITLS="", SMTPS="1") as server:
        server.client = new_context().wrap_socket(server.client, server_hostname=HOST)
        s = UcspiClient(server)
        assert s.greeting == GREETING
        s.ehlo()
        s.message()
    assert protocol(queue.messages[0][0]).startswith("ESMTPS ")


def test_S3_ucspi_tls(idle, queue, chain):
    with Ucspi(idle, UCSPITLS="") as server:
        s = UcspiClient(server)
        s.ehlo()
        s.send(b"STARTTLS\r\n" + EVIL)
        assert [line[:3] for line in s.rest()] == ["503"]
    assert server.letter == b""


def test_ucspi_tls_whose_handshake_fails(idle, queue, chain):
    with Ucspi(idle, UCSPITLS="") as server:
        s = UcspiClient(server)
        s.ehlo()
        s.expect(220, "STARTTLS")
        s.send(EVIL)
        assert not re.search(rb"(?m)^[2-5]\d\d", read_all(s.socket))
    assert 'reason="no TLS: the UCSPI-TLS server: ' in server.log.read_text()


def test_S5_ucspi_tls(idle, queue, chain):
    with Ucspi(idle, UCSPITLS="") as server:
        s = UcspiClient(server)
        begin_message(s, "DATA")
        s.close_notify().close()
    assert "result=incomplete" in server.log.read_text() and queue.messages == []


def test_a_server_in_front_that_has_done_it(engine, queue):
    """As sslserver on port 465: neither TLS again nor STARTTLS."""
    with Smtp(engine, env={"SSL_PROTOCOL": "TLSv1.2", "SSL_CIPHER": "ECDHE-RSA-AES128-GCM-SHA256", "SMTPS": "1", "UCSPITLS": "!"}) as s:
        assert "STARTTLS" not in s.ehlo()
        assert s.message().startswith("250 ")
    assert protocol(queue.messages[0][0]) == "ESMTPS (TLSv1.2 cipher ECDHE-RSA-AES128-GCM-SHA256)"
