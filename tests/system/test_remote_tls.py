"""TLS of qmail-remote: with servers of Python's ssl, and with those that keep to nothing. Row C2 of the hostile inputs."""
import os
import random
import socket
import ssl
import struct

import pytest

from certificates import digest, pem, self_signed, server_context
from conftest import wait_for
from fake_dns import FakeDns
from fake_smtp import ALL, CLOSE, SILENCE, Server
from remoting import believe, remote_tree, RemoteWorker, route_to, send, tree  # noqa: F401 (fixtures)

NAME = "mx.dest.example"
RESET = struct.pack("ii", 1, 0)
OFFER = b"250-fake.example\r\n250 STARTTLS\r\n"


@pytest.fixture
def remote(tree):
    """A function that starts a server (see fake_smtp) to which all mail of the tree goes. kind: of its key, None: no TLS."""
    servers = []

    def start(reply=None, extensions=(), kind="prime256v1", ciphers=None, chain=None, **more):
        context = server_context(chain or pem(kind, NAME), ciphers) if kind else None
        server = Server(reply, extensions, tls=context, **more)
        servers.append(server)
        route_to(tree, server)
        return server

    yield start
    for server in servers:
        server.close()


def at(stage, what):
    return lambda session, verb, line: what if verb == stage else None


def in_clear(session, what):
    """A server without TLS of its own: reads up to STARTTLS, and answers it so."""
    session.say(b"220 fake.example\r\n")
    while not session.line().startswith(b"EHLO"):
        pass
    session.say(OFFER)
    if session.line() == b"STARTTLS":
        session.say(what)
        return True
    return False


def only_once(what):
    """A raw session: the first answers STARTTLS so and goes on as what does, those after it are usual ones."""
    def raw(session):
        if len(session.server.sessions) > 1:
            session.run()
        else:
            what(session)
    return raw


# --- where the server has it ------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["rsa", "prime256v1", "secp384r1"])
@pytest.mark.parametrize("extensions", [(), ("PIPELINING",), ALL], ids=["plain", "pipelining", "all"])
def test_a_message(tree, remote, kind, extensions):
    """In clear text nothing is said but EHLO and STARTTLS, and afterwards EHLO again."""
    server = remote(extensions=extensions, kind=kind)
    *_, (letter, text) = send(tree)
    (session,) = server.sessions
    assert letter == "K" and text.startswith("127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 taken\nSent by TLSv1.2 with TLS_ECDHE_")
    assert session.in_clear == [b"EHLO mail.test.example", b"STARTTLS"]
    assert session.commands[0] == b"EHLO mail.test.example" and len(session.messages) == 1


@pytest.mark.parametrize("cipher, name", [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-ECDSA-AES256-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384")])
def test_the_report_names_the_suite(tree, remote, cipher, name):
    server = remote(ciphers=cipher)
    assert send(tree)[-1][1].endswith(f"\nSent by TLSv1.2 with {name}.\n")
    assert server.sessions[0].cipher == cipher


@pytest.mark.parametrize("extensions", [(), ALL], ids=["plain", "all"])
def test_a_large_message(tree, remote, extensions):
    """Above every buffer."""
    server = remote(extensions=extensions)
    octets = b"x" * 70 + b"\n"
    assert send(tree, message=octets * 60_000)[-1][0] == "K"
    assert server.messages[0].octets == (octets * 60_000).replace(b"\n", b"\r\n")


def test_long_replies(tree, remote):
    """More than a record holds."""
    lines = b"".join(b"250-fake.example " + b"x" * 900 + b"\r\n" for _ in range(60))
    server = remote(at("EHLO", b"250-fake.example\r\n250-STARTTLS\r\n250-SIZE 1\r\n" + lines + b"250 END"))
    *_, (letter, text) = send(tree)
    assert letter == "D" and "5.3.4" in text and server.sessions[0].tls


def test_the_name_is_sent(tree, remote):
    """SNI: a relay's name; an address is none (RFC 6066 section 3)."""
    names = []
    server = remote()
    server.tls.sni_callback = lambda sock, name, context: names.append(name)
    assert send(tree)[-1][0] == "K"
    with FakeDns() as dns:
        dns.add(NAME, "A", "127.0.0.1")
        tree.write("control/dnsservers", dns.server + "\n")
        tree.write("control/smtproutes", f":{NAME}:{server.port}\n")
        assert send(tree)[-1][0] == "K"
    assert names == [None, NAME]


def test_no_TLS_is_nothing_to_tell(tree, remote):
    remote(kind=None)
    assert send(tree)[-1] == ("K", "127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 taken\n")


def test_extensions_of_before_are_forgotten(tree, remote):
    """What was offered in clear text may have been put there by somebody else."""
    def reply(session, verb, line):
        return None if verb != "EHLO" or session.tls else b"250-fake.example\r\n250-SIZE 1\r\n250-DSN\r\n250 STARTTLS"

    server = remote(reply)
    assert send(tree)[-1][0] == "K"
    assert server.sessions[0].commands[1] == b"MAIL FROM:<ana@mail.test.example>"


def test_a_kept_session_and_the_next(tree, remote):
    """Messages go over one session; the next one takes up the TLS session of the one before."""
    def reply(session, verb, line):
        if verb == "QUIT":
            session.tls.unwrap()    # or OpenSSL forgets the TLS session
            return CLOSE
        return None

    server = remote(reply, ("LIMITS MAILMAX=2",), ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")
    server.tls.options |= ssl.OP_NO_TICKET
    with RemoteWorker(tree) as worker:
        for _ in range(2):
            assert worker.deliver()[0][0] == "K"
        wait_for(lambda: server.sessions[0].ended)
        ((letter, text),) = worker.deliver()
        assert letter == "K" and "Sent by TLSv1.2" in text
    assert [(s.is_resumed, len(s.messages)) for s in server.sessions] == [(False, 2), (True, 1)]


def test_a_second_reply_ends_a_kept_session(tree, remote):
    """In a record of its own, right behind the first; two messages are queued at once."""
    def reply(session, verb, line):
        if verb == "end" and session is server.sessions[0]:
            session.say(b"250 2.0.0 taken\r\n")
            return b"250 2.0.0 taken"

    server = remote(reply, ALL)
    with RemoteWorker(tree) as worker:
        worker.put(message=b"number 1\n")
        worker.put(message=b"number 2\n")
        assert [worker.done()[2] for _ in range(2)] == ["k", "k"]
    assert [[m.octets for m in s.messages] for s in server.sessions] == [[b"number 1\r\n"], [b"number 2\r\n"]]


# --- servers that fail at it -------------------------------------------------------------------

REFUSALS = [b"454 4.7.0 not now", b"501 5.5.4 no", b"502 5.5.1 no"]


@pytest.mark.parametrize("reply", REFUSALS)
def test_C2_offered_and_refused(tree, remote, reply):
    """The session goes on without."""
    server = remote(at("STARTTLS", reply))
    *_, (letter, text) = send(tree)
    assert letter == "K" and text.endswith("\nSent in clear text: the server offers TLS and refuses it.\n")
    assert len(server.sessions) == 1


def alert(session):
    """A fatal alert instead of ServerHello: handshake_failure."""
    in_clear(session, b"220 go on\r\n")
    session.more()
    session.say(b"\x15\x03\x03\0\x02\x02\x28")


def garbage(session):
    in_clear(session, b"220 go on\r\n")
    session.more()
    session.say(b"\xff" * 1000)


def hang_up_at_once(session):
    in_clear(session, b"")


def hang_up(session):
    in_clear(session, b"220 go on\r\n")


def reset(session):
    in_clear(session, b"220 go on\r\n")
    session.more()
    session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def empty_records(session):
    in_clear(session, b"220 go on\r\n")
    session.more()
    session.say(b"\x16\x03\x03\0\0" * 1000)


def more_than_220(session):
    in_clear(session, b"220 go on\r\n250-fake.example\r\n250 AUTH PLAIN\r\n")


def huge_record(session):
    in_clear(session, b"220 go on\r\n")
    session.more()
    session.say(b"\x16\x03\x03\xff\xff" + b"x" * 65535)


FAILURES = [(alert, "it sent alert 40"), (garbage, "it does not know TLS 1.2"), (hang_up, "it closed the connection"),
            (hang_up_at_once, "the session ended at STARTTLS"),
            (reset, "it closed the connection"), (empty_records, ""), (huge_record, ""),
            (more_than_220, "octets came in clear text after it was to begin")]
FAILING = pytest.mark.parametrize("what, why", FAILURES, ids=[f.__name__ for f, _ in FAILURES])


@FAILING
def test_C2_a_handshake_that_fails(tree, remote, what, why):
    """Another connection does without."""
    server = remote(raw=only_once(what), kind=None)
    *_, (letter, text) = send(tree)
    assert letter == "K" and f"\nSent in clear text: TLS failed: {why}" in text
    assert len(server.sessions) == 2 and len(server.sessions[1].messages) == 1


@pytest.mark.parametrize("verb, refusal", [("MAIL", b"530 5.7.0 STARTTLS first"), ("RCPT", b"550 5.7.1 only with TLS")])
@pytest.mark.parametrize("what, why", [(alert, "TLS failed: it sent alert 40"), (None, "the server offers TLS and refuses it")])
def test_C2_a_server_that_insists_on_what_fails(tree, remote, verb, refusal, what, why):
    """The next session may be better."""
    def reply(session, stage, line):
        return refusal if stage == verb else b"454 4.7.0 not now" if stage == "STARTTLS" else None
    server = remote(reply, raw=only_once(what)) if what else remote(reply)
    letters = send(tree)
    assert letters[0][0] == "s" if verb == "RCPT" else letters[-1][0] == "Z"
    assert f"\nThe session is in clear text: {why}.\nRemote host said: {refusal.decode()}\n" in "".join(text for _, text in letters)
    assert not server.messages


def test_a_server_of_TLS_1_3_only(tree, remote):
    server = remote()
    server.tls.minimum_version = ssl.TLSVersion.TLSv1_3
    *_, (letter, text) = send(tree)
    assert letter == "K" and "Sent in clear text: TLS failed: it sent alert 70." in text
    assert len(server.sessions) == 2


def test_no_suite_in_common(tree, remote):
    server = remote(kind="rsa", ciphers="AES128-SHA")
    *_, (letter, text) = send(tree)
    assert letter == "K" and "Sent in clear text: TLS failed: it sent alert 40." in text
    assert len(server.sessions) == 2


def test_a_silent_handshake(tree, remote):
    """Takes no longer than a reply may."""
    def silent(session):
        in_clear(session, b"220 go on\r\n")
        while True:
            session.more()

    tree.write("control/timeoutremote", "1\n")
    remote(raw=only_once(silent), kind=None)
    *_, (letter, text) = send(tree)
    assert letter == "K" and "TLS failed: it took too long." in text


# --- row C2, after the handshake ------------------------------------------------------------------

def test_C2_the_reply_to_EHLO_twice(tree, remote):
    """Before TLS and within."""
    twice = b"250-fake.example\r\n250 STARTTLS\r\n250-fake.example\r\n250 STARTTLS"
    for tls in (False, True):
        server = remote(lambda session, verb, line: twice if verb == "EHLO" and bool(session.tls) == tls else None)
        *_, (letter, text) = send(tree)
        assert letter == "Z" and "its answer made no sense" in text
        assert not server.messages and not any(c.startswith(b"MAIL") for c in server.commands)


def ends_at(stage, end):
    def reply(session, verb, line):
        if verb == stage and session.tls:
            end(session)
            return CLOSE
        return None
    return reply


def close_notify(session):
    try:
        session.tls.unwrap()
    except (OSError, ValueError):
        pass


def cut(session):
    session.tls.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("stage", ["EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("end", [cut, close_notify], ids=["cut", "close_notify"])
def test_C2_the_end_in_the_middle(tree, remote, stage, end):
    """Deferred, and not taken for a server without TLS."""
    server = remote(ends_at(stage, end))
    *_, (letter, text) = send(tree)
    assert letter == "Z" and "connection died" in text
    assert len(server.sessions) == 1 and not server.messages
    assert server.sessions[0].in_clear == [b"EHLO mail.test.example", b"STARTTLS"]


def test_C2_close_notify_after_354(tree, remote):
    def reply(session, verb, line):
        if verb == "DATA":
            session.say(b"354 go on\r\n")
            close_notify(session)
            return CLOSE
        return None

    server = remote(reply)
    *_, (letter, text) = send(tree)
    assert letter == "Z" and "connection died" in text and not server.messages


def test_C2_an_alert_in_the_middle(tree, remote):
    """Not even one that is protected: octets in clear text between the records."""
    def reply(session, verb, line):
        if verb == "RCPT":
            os.write(session.tls.fileno(), b"\x15\x03\x03\0\x02\x02\x50")
            return SILENCE
        return None

    remote(reply)
    *_, (letter, text) = send(tree)
    assert letter == "Z" and "its answer made no sense" in text


def test_C2_250_then_reset(tree, remote):
    """The answer counts."""
    def reply(session, verb, line):
        if verb == "end":
            session.say(b"250 2.0.0 taken\r\n")
            session.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return CLOSE
        return None

    server = remote(reply)
    *_, (letter, text) = send(tree)
    assert len(server.messages) == 1
    # a reset may overtake what was not read yet: it is one or the other, and never for good
    assert (letter == "K" and "250 2.0.0 taken" in text) or (letter == "Z" and "Possible duplicate!" in text)


def test_the_end_of_a_session(tree, remote):
    """QUIT, then close_notify: the server sees a proper end."""
    server = remote()
    assert send(tree)[-1][0] == "K"
    wait_for(lambda: server.sessions[0].ended)
    assert server.sessions[0].commands[-1] == b"QUIT"


# --- control/tlspolicy -----------------------------------------------------------------------------

@pytest.fixture
def policy(tree, remote):
    """A function that starts a server and sends it a message under a policy; the relay has a name. Returns server, letter and text."""
    with FakeDns() as dns:
        dns.add(NAME, "A", "127.0.0.1")

        def run(line, *args, relay=NAME, **more):
            server = remote(*args, **more)
            tree.write("control/dnsservers", dns.server + "\n")
            tree.write("control/smtproutes", f":{relay}:{server.port}\n")
            tree.write("control/tlspolicy", line + "\n")
            believe(tree)
            return server, *send(tree)[-1]

        yield run


def test_none(policy):
    server, letter, text = policy(f"{NAME}:none")
    assert (letter, text) == ("K", "127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 taken\n")
    assert server.sessions[0].tls is None


STRICT = pytest.mark.parametrize("word", ["encrypt", "verify", "fingerprint:" + "0" * 64], ids=["encrypt", "verify", "fingerprint"])


@STRICT
def test_never_in_clear_text_to_a_server_without_TLS(policy, word):
    server, letter, text = policy(f":{word}", kind=None)
    assert letter == "Z" and text == "Connected to 127.0.0.1 but it does not offer TLS. (#4.7.4)\n"
    assert server.commands[1:] in ([], [b"QUIT"])


@STRICT
@pytest.mark.parametrize("reply", REFUSALS)
def test_never_in_clear_text_where_TLS_is_refused(policy, word, reply):
    server, letter, text = policy(f":{word}", at("STARTTLS", reply))
    assert letter == "Z" and "but it offers TLS and refuses it. (#4.7.4)" in text
    assert not server.messages and not any(c.startswith(b"MAIL") for c in server.commands)


@STRICT
@FAILING
def test_never_in_clear_text_after_a_handshake_that_fails(policy, word, what, why):
    server, letter, text = policy(f".dest.example:{word}", raw=only_once(what), kind="prime256v1")
    assert letter == "Z" and f"but TLS failed: {why}" in text and text.endswith("(#4.7.5)\n")
    assert len(server.sessions) == 1


def test_encrypt(policy):
    server, letter, text = policy(f"{NAME}:encrypt", chain=self_signed("other.example"))
    assert letter == "K" and server.sessions[0].tls
    assert not text.endswith("verified.\n")


@pytest.mark.parametrize("kind", ["rsa", "prime256v1", "secp384r1"])
def test_verify(policy, kind):
    _, letter, text = policy(f"{NAME}:verify", kind=kind)
    assert letter == "K" and text.endswith(", verified.\n")


@pytest.mark.parametrize("names, ok", [("MX.dest.example", True), ("other.example:mx.dest.example", True), (".dest.example", True), (".EXAMPLE", True),
                                       ("dest.example", False), (".mx.dest.example", False), ("x.dest.example", False), (".st.example", False)])
def test_verify_for_names(policy, names, ok):
    _, letter, text = policy(f":verify:{names}")
    assert letter == ("K" if ok else "Z")
    assert ok or "TLS failed: its certificate is for another name. (#4.7.5)" in text


BAD = [({"chain": self_signed(NAME)}, "comes from no authority that is known here"),
       ({"chain": pem("prime256v1", NAME, days=-1)}, "has expired, or is not valid yet"),
       ({"chain": pem("prime256v1", "other.example")}, "is for another name"),
       ({"chain": pem("prime256v1", "*.mx.dest.example", "x.mx.dest.example", "dest.example")}, "is for another name")]


@pytest.mark.parametrize("more, why", BAD, ids=["self-signed", "expired", "another name", "names around it"])
def test_verify_refuses(policy, more, why):
    server, letter, text = policy(":verify", **more)
    assert letter == "Z" and f"but TLS failed: its certificate {why}. (#4.7.5)" in text
    assert len(server.sessions) == 1 and not server.messages


def test_verify_takes_a_wildcard(policy):
    assert policy(":verify", chain=pem("prime256v1", "*.dest.example"))[1] == "K"


def test_verify_without_authorities(policy, tree):
    """Defers what needs them, nothing else."""
    server, letter, _ = policy(":verify")
    assert letter == "K"
    tree.write("control/tlscafile", "/nonexistent\n")
    (letter, text), = send(tree)
    assert letter == "Z" and "no certificate authority is known here" in text
    tree.write("control/tlspolicy", ".other.example:verify\n")
    assert send(tree)[-1][0] == "K"


def test_the_MX_of_a_domain(tree, remote):
    """The domain or a name below it counts, and not that the MX is called so."""
    server = remote(chain=pem("prime256v1", "mx.elsewhere.example"))
    with FakeDns() as dns:
        dns.add("mx.elsewhere.example", "A", "127.0.0.1")
        tree.write("control/dnsservers", dns.server + "\n")
        believe(tree)
        tree.write("control/tlspolicy", "dest.example:verify\n")
        tree.write("control/smtproutes", f":mx.elsewhere.example:{server.port}\n")
        # a relay is the administrator's word, and has a policy of its own
        assert send(tree)[-1][1].endswith("SHA384.\n")
        tree.write("control/tlspolicy", "mx.elsewhere.example:verify\n")
        assert send(tree)[-1][1].endswith(", verified.\n")


@pytest.mark.parametrize("what", ["certificate", "key"])
def test_fingerprint(policy, what):
    chain = self_signed("whatever.example")
    other = "0" * 64
    for value in (digest(chain, what), f"{other}:{digest(chain, what)}"):
        _, letter, text = policy(f":fingerprint:{value}", chain=chain)
        assert letter == "K" and text.endswith(", fingerprint known.\n")
    _, letter, text = policy(f":fingerprint:{other}", chain=chain)
    assert letter == "Z" and "TLS failed: its certificate has another fingerprint. (#4.7.5)" in text


@pytest.mark.parametrize("line", [":encrpyt", ":", ":fingerprint", ":fingerprint:abcd", ":fingerprint:" + "g" * 64, ":encrypt:x",
                                  ":fingerprint:" + "a" * 64 * 17])
def test_a_line_without_sense(policy, line):
    server, letter, text = policy(line)
    assert letter == "Z" and f"The line of control/tlspolicy for {NAME} makes no sense. (#4.3.5)" in text
    assert not server.sessions


def test_a_file_without_sense(policy):
    server, letter, text = policy("dest.example encrypt")
    assert letter == "Z" and "control/tlspolicy" in text and not server.sessions


def test_S18_a_long_chain(policy):
    """More certificates than are looked at."""
    chain = self_signed(NAME)
    certificate = chain[chain.index(b"-----BEGIN CERT"):]
    _, letter, text = policy(":encrypt", chain=chain + certificate * 100)
    assert letter == "K"
    _, letter, text = policy(":verify", chain=chain + certificate * 100)
    assert letter == "Z" and "TLS failed: its certificate comes from no authority" in text


# --- AUTH and port 465 -------------------------------------------------------------------------------

USER, PASSWORD = "ann@x.example", "s3:cr|t \u00fc"


def log_in_at(tree, server, user=USER, password=PASSWORD, host="[127.0.0.1]"):
    tree.write("control/smtproutes", f":{host}:{server.port}|{user}|{password}\n")
    return send(tree)[-1]


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN", "CRAM-MD5 LOGIN PLAIN"])
@pytest.mark.parametrize("kind", ["prime256v1", None], ids=["by TLS", "on this host"])
@pytest.mark.parametrize("user", ["a", "ab", "abc", USER, "u" * 255])
def test_a_login(tree, remote, mechanisms, kind, user):
    server = remote(extensions=(f"AUTH {mechanisms}",), kind=kind)
    letter, text = log_in_at(tree, server, user)
    assert letter == "K"
    assert server.sessions[0].login == f"\0{user}\0{PASSWORD}".encode()
    assert (b"AUTH LOGIN" in server.commands) == ("PLAIN" not in mechanisms)


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("verb, reply", [("login", b"535 5.7.8 no"), ("login", b"454 4.7.0 later"), ("login", b"334 more?"), ("AUTH", b"504 5.5.4 no")])
def test_a_login_that_is_refused(tree, remote, mechanisms, verb, reply):
    """Never for good: the password is the administrator's."""
    server = remote(at(verb, reply), (f"AUTH {mechanisms}",))
    letter, text = log_in_at(tree, server)
    if (mechanisms, verb) == ("PLAIN", "AUTH"):
        assert letter == "K"    # PLAIN is one step
        return
    assert letter == "Z" and "but login was rejected. (#4.7.8)" in text and f"Remote host said: {reply.decode()}\n" in text
    assert not server.messages and PASSWORD not in text


def test_no_mechanism_in_common(tree, remote):
    server = remote(extensions=("AUTH CRAM-MD5",))
    letter, text = log_in_at(tree, server)
    assert letter == "Z" and "but it offers neither AUTH PLAIN nor AUTH LOGIN. (#4.7.4)" in text
    assert not any(c.startswith((b"AUTH", b"MAIL")) for c in server.commands)


@pytest.fixture
def other_address():
    """An address of this host that is not one of loopback; none: the test cannot be done here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no network")
        return s.getsockname()[0]


@pytest.mark.parametrize("reply", [None, *REFUSALS])
def test_no_password_in_clear_text(tree, remote, other_address, reply):
    server = remote(at("STARTTLS", reply), ("AUTH PLAIN LOGIN",), kind="prime256v1" if reply else None, host=other_address)
    letter, text = log_in_at(tree, server, host=f"[{other_address}]")
    assert letter == "Z" and "(#4.7.4)" in text
    assert not any(c.startswith((b"AUTH", b"MAIL")) for c in server.commands)


def on_465(remote, **more):
    """At an address that hardly anybody else has."""
    try:
        return remote(host="127." + ".".join(str(random.randint(1, 254)) for _ in range(3)), port=465, **more)
    except PermissionError:
        pytest.skip("port 465 needs root")


@pytest.mark.parametrize("line", ["", ":none\n", ":encrypt\n"])
def test_port_465(tree, remote, line):
    """TLS before the greeting, whatever the policy."""
    server = on_465(remote, at_once=True)
    tree.write("control/tlspolicy", line)
    *_, (letter, text) = send(tree)
    assert letter == "K" and "Sent by TLSv1.2" in text
    assert server.sessions[0].in_clear == [] and server.sessions[0].commands[0].startswith(b"EHLO")


def test_port_465_without_TLS(tree, remote):
    server = on_465(remote, kind=None)
    *_, (letter, text) = send(tree)
    assert letter == "Z" and "TLS failed: " in text and "(#4.7.5)" in text
    assert len(server.sessions) == 1 and not server.messages
