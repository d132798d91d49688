"""qmail-tlsd and qmail-keyd behind a network server that knows nothing of TLS (tls-echo.c): OpenSSL's own client, Python's ssl, and
clients that keep to nothing."""
import contextlib
import functools
import hashlib
import os
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import textwrap
import threading
import time

import pytest

from certificates import authority, openssl, pem
from conftest import BUILD, HOST, SOURCE, WAIT, Server, processes_of, wait_for
from probe import is_sanitized
from serving import call, read_all
from smtp_session import MEMORY, capped

OTHER = "smtp.other.example"


# --- clients ------------------------------------------------------------------------------------------------------------

def new_context():
    """What a client needs that believes the authority, and takes no end without close_notify for one that was meant."""
    context = ssl.create_default_context(cafile=f"{authority().name}/ca.pem")
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def subject(connection):
    """The names in the certificate that an ssl socket got."""
    return [name for _, name in connection.getpeercert()["subjectAltName"]]


# --- the server ---------------------------------------------------------------------------------------------------------

@functools.cache
def echo_program():
    path = BUILD / "tls-echo"
    with tempfile.TemporaryDirectory(dir=BUILD) as made:
        sources = ["tests/system/tls-echo.c", "bin-src/lib/tls_engine.c", "bin-src/lib/service_socket.c"]
        subprocess.run(["cc", "-O2", "-static", "-D_GNU_SOURCE", "-iquote", "bin-src/lib", "-o", f"{made}/tls-echo", *sources], cwd=SOURCE, check=True)
        os.rename(f"{made}/tls-echo", path)
    return path


class Tls(Server):
    """A server with the engine, whose programs have a limit of memory."""
    keyd = tlsd = None
    limits = staticmethod(capped(2 * MEMORY))  # the keeper reads its journal of 64 MiB at once

    def start_keyd(self, *args):
        self.keyd = self.start_daemon("qmail-keyd", "qmail-keyd", *(args or self.users()))

    def start_tlsd(self, *args):
        self.tlsd = self.start_daemon("qmail-tlsd", "qmail-tlsd", *args, *self.users())

    def users(self):
        """Who may ask: the server's user, and the test itself."""
        return self.uid, os.getuid()

    def start_engine(self, *args):
        self.start_keyd()
        self.start_tlsd(*args)

    def stop(self):
        for process in (self.tlsd, self.keyd):
            if process:
                self.end(process, signal.SIGTERM)
        super().stop()

    def errors(self, name):
        return self.log(f"{name}.stderr")

    @contextlib.contextmanager
    def echo(self, mode="tls", *alpn):
        """A tls-echo that listens; the functions below connect to it."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.address = listener.getsockname()
        program = self.home / "tls-echo"  # where the server's user can reach it
        if not program.exists():
            shutil.copy(echo_program(), program)
        with open(self.home / "output/echo", "ab") as log:
            process = self.popen(str(program), mode, *alpn, stdin=listener, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)
        listener.close()
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            wait_for(lambda: not processes_of({process.pid}, "/nonexistent"), what="the sessions to end")

    def said(self, text, count=1):
        wait_for(lambda: self.log("echo").count(text) >= count, what=f"{text!r} from tls-echo:\n{self.log('echo')[-2000:]}")
        return self.log("echo")

    def connect(self):
        connection = socket.create_connection(self.address, WAIT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def client(self, host=HOST, ciphers=None, alpn=None, verify=True):
        """An ssl socket after its handshake."""
        context = new_context()
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if ciphers:
            context.set_ciphers(ciphers)
        if alpn:
            context.set_alpn_protocols(alpn)
        return context.wrap_socket(self.connect(), server_hostname=host, suppress_ragged_eofs=False)

    def works(self):
        with self.client(verify=False) as c:
            c.sendall(b"hello\nbye\n")
            return read_tls(c) == b"hello\nbye\n"

    def s_client(self, *args, input=b"hello\nbye\n"):
        done = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % self.address, "-CAfile", f"{authority().name}/ca.pem", *args], input=input,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        return done.stdout.decode(errors="replace")


def read_tls(connection):
    """What comes until close_notify; anything else than that is an exception."""
    said = []
    while octets := connection.recv(65536):
        said.append(octets)
    return b"".join(said)


@pytest.fixture
def idle(new_tree):
    """A tree with an ECDSA and an RSA chain for HOST, and nothing running."""
    server = new_tree(Tls)
    server.need("qmail-keyd", "qmail-tlsd")
    server.write("tls/ec.pem", pem("P-256", HOST), 0o400)
    server.write("tls/rsa.pem", pem("rsa", HOST), 0o400)
    return server


@pytest.fixture
def engine(idle):
    idle.start_engine()
    with idle.echo():
        yield idle


# --- clients that keep to the protocol ------------------------------------------------------------------------------------

@pytest.mark.parametrize("ciphers, name", [
    ("ALL", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"), ("aRSA", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-RSA-AES128-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
    ("ECDHE-ECDSA-AES256-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"),
    ("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    ("ECDHE-RSA-AES256-SHA:@SECLEVEL=0", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    ("ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
])
def test_suites(engine, ciphers, name):
    """AEAD first, whatever the client prefers."""
    with engine.client(ciphers=ciphers) as c:
        assert c.version() == "TLSv1.2" and c.compression() is None
        c.sendall(b"hello\nbye\n")
        assert read_tls(c) == b"hello\nbye\n"
    engine.said(f"TLS: TLSv1.2 {name} host={HOST} alpn=\n")


@pytest.mark.parametrize("curve", ["P-384", "P-521"])
def test_keys_on_other_curves(idle, curve):
    idle.write("tls/ec.pem", pem(curve, HOST), 0o400)
    idle.start_engine()
    with idle.echo():
        assert "Verify return code: 0 (ok)" in idle.s_client("-cipher", "ECDSA", "-servername", HOST)


@pytest.mark.parametrize("group, key", [("X25519:P-256", "X25519"), ("P-256", "prime256v1"), ("P-384", "secp384r1"), ("P-521", "secp521r1")])
def test_groups(engine, group, key):
    text = engine.s_client("-groups", group, "-cipher", "aRSA")
    assert "Verify return code: 0 (ok)" in text and re.search(f"(Server|Peer) Temp Key: .*{key}", text)


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(engine, version):
    text = engine.s_client(version, "-cipher", "ALL:@SECLEVEL=0")
    assert "Cipher is (NONE)" in text
    engine.said("no TLS: ")
    assert engine.works()


def test_tls_1_3_is_not_there(engine):
    assert "Cipher is (NONE)" in engine.s_client("-tls1_3")
    assert "Protocol  : TLSv1.2" in engine.s_client()


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-CCM", "aNULL:@SECLEVEL=0"])
def test_suites_that_are_not_there(engine, cipher):
    assert "Cipher is (NONE)" in engine.s_client("-tls1_2", "-cipher", cipher)
    assert engine.works()


def test_renegotiation_is_refused(engine):
    text = engine.s_client("-tls1_2", input=b"R\nhello\n")
    assert "no renegotiation" in text and "RENEGOTIATING" in text
    assert engine.works()


def test_nothing_is_resumed(engine):
    assert "Reused, " not in engine.s_client("-tls1_2", "-reconnect", input=b"bye\n")


@pytest.mark.parametrize("host, wanted", [(HOST, HOST), (HOST.upper(), HOST), (OTHER, OTHER), (f"pop.{OTHER}", f"*.{OTHER}"),
                                          (f"a.pop.{OTHER}", HOST), ("unknown.example", HOST), (None, HOST)])
def test_names(idle, host, wanted):
    idle.write("tls/a.pem", pem("P-256", OTHER), 0o400)
    idle.write("tls/b.pem", pem("rsa", f"*.{OTHER}", "third.example"), 0o400)
    idle.start_engine()
    with idle.echo():
        text = idle.s_client(*(["-servername", host] if host else ["-noservername"]))
        leaf = openssl("x509", "-noout", "-ext", "subjectAltName", input=text.encode()).decode()
        assert re.findall(r"DNS:(\S+?)(?:,|$)", leaf, re.M)[0] == wanted
        idle.said(f"host={host or ''} ")


def test_a_certificate_of_an_authority_counts_before_the_one_of_set_up(idle):
    """Also of RSA before ECDSA, and whatever the files are called."""
    assert (idle.home / "tls/self-signed.pem").exists()
    (idle.home / "tls/ec.pem").unlink()
    (idle.home / "tls/rsa.pem").rename(idle.home / "tls/zzz.pem")
    idle.start_engine()
    with idle.echo():
        with idle.client(ciphers="ECDHE-RSA-AES128-GCM-SHA256") as c:
            assert subject(c) == [HOST]
        with idle.client(ciphers="aECDSA", verify=False) as c:
            assert c.cipher()[0].startswith("ECDHE-ECDSA")


def test_the_certificate_of_set_up(idle):
    for name in ("ec", "rsa"):
        (idle.home / f"tls/{name}.pem").unlink()
    idle.start_engine()
    with idle.echo():
        assert re.search("subject=O ?= ?self-signed", idle.s_client("-servername", HOST))
        assert idle.works()


def test_protocol_names(idle):
    idle.start_engine()
    with idle.echo("tls", "smtp", "esmtp"):
        with idle.client(alpn=["http/1.1", "smtp"]) as c:
            assert c.selected_alpn_protocol() == "smtp"
        idle.said("alpn=smtp\n")
        with idle.client() as c:
            assert c.selected_alpn_protocol() is None
        with pytest.raises(ssl.SSLError, match="no application protocol"):
            idle.client(alpn=["http/1.1", "h2"])
        idle.said("no TLS: the client wants another protocol\n")


# --- octets --------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [1, 16384, 16385, 30_000_000])
def test_octets_both_ways(engine, size):
    sent, got = os.urandom(size), hashlib.sha256()
    with engine.client() as c:
        c.setblocking(False)
        view, left = memoryview(sent), size
        while left:
            select.select([c], [c] if view else [], [], WAIT)
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                while view:
                    view = view[c.send(view[:16384]):]
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                while left:
                    octets = c.recv(65536)
                    assert octets
                    got.update(octets)
                    left -= len(octets)
        c.setblocking(True)
        c.sendall(b"bye\n")
        assert read_tls(c) == b"bye\n"
    assert got.digest() == hashlib.sha256(sent).digest()


def test_what_the_server_wrote_before_it_ended_arrives(engine):
    """It has gone by then."""
    sent = b"x" * 100_000 + b"bye\n"
    with engine.client() as c:
        c.sendall(sent)
        engine.said("end: ")
        assert read_tls(c) == sent


def test_S3_what_was_sent_before_the_handshake_is_not_taken_for_protected(idle):
    """Commands behind STARTTLS in one packet are thrown away by the server, or fail the handshake; never are they answered in it."""
    idle.start_engine()
    with idle.echo("starttls"):
        with idle.connect() as c:
            c.sendall(b"STARTTLS\r\nevil\n")
            assert c.recv(100) == b"220 go on\r\n"
            with new_context().wrap_socket(c, server_hostname=HOST, suppress_ragged_eofs=False) as protected:
                protected.sendall(b"good\nbye\n")
                assert read_tls(protected) == b"good\nbye\n"
        with idle.connect() as c:
            c.sendall(b"STARTTLS\r\n")
            assert c.recv(100) == b"220 go on\r\n"
            c.sendall(b"evil\n")
            assert b"evil" not in read_all(c)
        idle.said("no TLS: ")
        assert idle.log("echo").count("TLS: TLS") == 1


def test_S5_close_notify_ends_the_octets(engine):
    """Nothing that follows it in the clear gets to the server, and the server can say nothing in the clear."""
    with engine.client() as c:
        c.sendall(b"half a message")
        assert c.recv(100) == b"half a message"
        raw = c.unwrap()  # sends close_notify, and waits for the other
        with contextlib.suppress(OSError):
            raw.sendall(b"\r\n.\r\nQUIT\r\n" * 10)
        assert read_all(raw) == b""
    engine.said("end: closed \n")


@pytest.mark.parametrize("how", ["end", "reset", "damaged"])
def test_S5_an_end_without_close_notify_is_told(engine, how):
    with engine.client() as c:
        c.sendall(b"half a message")
        assert c.recv(100) == b"half a message"
        with socket.socket(fileno=c.detach()) as raw:
            if how == "reset":
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "damaged":
                raw.sendall(b"\x17\x03\x03\x00\x30" + bytes(48))
    text = engine.said("end: broken: ")
    assert {"end": "without close_notify", "reset": "connection was broken", "damaged": "record was damaged"}[how] in text


# --- many, and hostile ----------------------------------------------------------------------------------------------------------

def test_1000_handshakes(engine):
    failures = []

    def some():
        try:
            for _ in range(125):
                assert engine.works()
        except Exception as e:  # noqa: BLE001: told below
            failures.append(e)

    threads = [threading.Thread(target=some) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    engine.said("end: closed", 0)
    assert engine.log("echo").count("TLS: TLSv1.2 ") == 1000
    wait_for(lambda: len(engine.children("qmail-tlsd")) == 1, what="the processes to end")


def record(kind, octets, version=b"\x03\x03"):
    return bytes([kind]) + version + struct.pack(">H", len(octets)) + octets


def client_hello(*extensions):
    """A ClientHello with these extensions besides what BearSSL needs, as one handshake message."""
    def extension(number, octets):
        return struct.pack(">HH", number, len(octets)) + octets

    always = [(10, b"\0\4\0\x1d\0\x17"), (11, b"\1\0"), (13, b"\0\4\4\3\4\1"), (0xff01, b"\0")]
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\4\xc0\x2b\xc0\x2f" + b"\1\0"
    all_of_them = b"".join(extension(*e) for e in (*always, *extensions))
    body += struct.pack(">H", len(all_of_them)) + all_of_them
    return b"\1" + struct.pack(">I", len(body))[1:] + body


def server_name(name):
    return 0, struct.pack(">HBH", len(name) + 3, 0, len(name)) + name


def in_records(message, size=16384):
    return b"".join(record(22, message[i:i + size]) for i in range(0, len(message), size))


HOSTILE = {
    "S17 HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "S17 SMTP": b"EHLO x\r\nMAIL FROM:<>\r\n" * 10, "S17 PROXY": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    "garbage": bytes(range(256)) * 300, "zeros": bytes(100_000), "one octet": b"\x16", "half a header": b"\x16\x03\x01",
    "SSLv2": b"\x80\x2e\x01\x03\x03\x00\x15\x00\x00\x00\x10" + bytes(37), "S18 empty records": record(22, b"") * 10_000,
    "empty data": record(23, b"") * 1000, "data first": record(23, b"x" * 100), "alerts": record(21, b"\1\x5a") * 10_000,
    "fatal alert": record(21, b"\2\x28"), "large record": record(22, b"\1" + b"x" * 18_000), "largest record": b"\x16\x03\x03\xff\xff" + bytes(65535),
    "endless hello": in_records(b"\1\xff\xff\xff" + bytes(200_000)), "hello twice": in_records(client_hello()) * 2,
    "octet by octet": in_records(client_hello(), 1), "S18 64 KiB of SNI": in_records(client_hello(server_name(b"a" * 65_000))),
    "SNI with a length that lies": in_records(client_hello((0, b"\xff\xff\0\xff\xffx"))), "change cipher": record(20, b"\1") * 100,
    "finished first": record(22, b"\x14\0\0\x0c" + bytes(12)), "heartbeat": record(24, b"\1\xff\xff" + bytes(10)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_octets(engine, name):
    with engine.connect() as c:
        with contextlib.suppress(OSError):
            c.sendall(HOSTILE[name])
            c.shutdown(socket.SHUT_WR)
        said = read_all(c)
    # an alert, or a flight that begins with ServerHello; nothing in the clear
    assert not said or said[:2] in (b"\x15\x03", b"\x16\x03")
    engine.said("no TLS: ")
    assert engine.works()
    wait_for(lambda: len(engine.children("qmail-tlsd")) == 1, what="its process to end")


@pytest.mark.parametrize("name, told", [(b"mail\\", ""), (b"a\nb", ""), (b"\x00", ""), (b"x" * 255, "x" * 255), (b"x" * 256, ""), (b"", ""),
                                        (b"-", "-"), (b"../../tls/ec.pem", ""), (b"\xff" * 50, "")],
                         ids=["backslash", "LF", "NUL", "255", "256", "empty", "dash", "path", "octets"])
def test_S18_odd_names(engine, name, told):
    """They are no names of hosts: the handshake goes on without one, or is refused. A process that crashes is found by its silence."""
    with engine.connect() as c:
        c.sendall(in_records(client_hello(server_name(name))))
        assert c.recv(2) in (b"\x16\x03", b"\x15\x03")
    assert engine.works()
    with contextlib.suppress(ssl.SSLError), engine.client(host=None, verify=False) as c:
        c.sendall(b"bye\n")
    assert "\\" not in engine.log("echo")


def test_S18_client_certificate_of_1_MiB(engine):
    """None was asked for: it is refused before it was read."""
    with engine.connect() as c:
        c.sendall(in_records(client_hello()))
        c.recv(100)
        with contextlib.suppress(OSError):
            c.sendall(in_records(b"\x0b\x10\0\0" + bytes(1 << 20)))
        read_all(c)
    engine.said("no TLS: ")
    assert engine.works()


def test_S18_handshakes_without_data(idle):
    """A flood of them is bounded: who comes when there are too many is told so before TLS begins, and all of it passes."""
    idle.start_keyd()
    idle.start_tlsd("-c", 50)
    with idle.echo("starttls"):
        def begin():
            c = idle.connect()
            c.sendall(b"STARTTLS\r\n")
            return c, c.recv(100)

        clients = [begin() for _ in range(60)]
        assert [said for _, said in clients] == [b"220 go on\r\n"] * 50 + [b"454 no TLS\r\n"] * 10
        assert len(idle.children("qmail-tlsd")) == 51
        idle.said("no engine: the TLS engine is busy\n", 10)
        assert idle.errors("qmail-tlsd").count("as many connections as there may be") == 1
        for c, _ in clients:
            c.close()
        wait_for(lambda: len(idle.children("qmail-tlsd")) == 1, what="the processes to end")
        c, said = begin()
        c.close()
        assert said == b"220 go on\r\n"


def test_a_slow_handshake_ends(idle):
    """Whatever the client sends meanwhile."""
    idle.start_keyd()
    idle.start_tlsd("-t", 1)
    with idle.echo():
        silent, busy = idle.connect(), idle.connect()
        with silent, busy:
            with contextlib.suppress(OSError):
                while True:
                    busy.sendall(record(21, b"\1\x5a"))
                    if busy.recv(100, socket.MSG_DONTWAIT) == b"":
                        break
            assert read_all(silent) == b""
        idle.said("no TLS: the client took too long\n")
        assert idle.works()


# --- failures ---------------------------------------------------------------------------------------------------------------------

def test_without_qmail_keyd_nothing_is_begun(idle):
    idle.start_tlsd()
    with idle.echo("starttls"):
        with idle.connect() as c:
            c.sendall(b"STARTTLS\r\n")
            assert read_all(c) == b"454 no TLS\r\n"
        idle.said("no engine: qmail-keyd cannot be reached\n")


def test_without_qmail_tlsd(idle):
    with idle.echo("starttls"):
        with idle.connect() as c:
            c.sendall(b"STARTTLS\r\n")
            assert read_all(c) == b"454 no TLS\r\n"
        idle.said("no engine: unable to reach the TLS engine: No such file or directory\n")


def test_qmail_keyd_is_killed_within_a_handshake(engine):
    with engine.connect() as c:
        engine.said("", 0)
        wait_for(lambda: len(engine.children("qmail-tlsd")) == 2)
        engine.keyd.kill()
        engine.keyd.wait()
        wait_for(lambda: not engine.children("qmail-keyd"), what="its workers to end with it")
        c.sendall(in_records(client_hello()))
        assert read_all(c)[:2] in (b"", b"\x15\x03")
    engine.said("no TLS: qmail-keyd does not answer\n")
    engine.start_keyd()
    assert engine.works()


def test_a_worker_of_qmail_keyd_is_killed(engine):
    """Then all of it ends, for s6 to start it anew."""
    worker = next(pid for pid in engine.children("qmail-keyd") if pid != engine.keyd.pid)
    os.kill(worker, signal.SIGKILL)
    assert engine.keyd.wait(WAIT) == 111
    wait_for(lambda: not engine.children("qmail-keyd"))


@pytest.mark.parametrize("who", ["all of it", "one process"])
def test_qmail_tlsd_is_killed_within_a_session(engine, who):
    with engine.client() as c:
        c.sendall(b"hello\n")
        assert c.recv(100) == b"hello\n"
        pids = engine.children("qmail-tlsd")
        os.kill(engine.tlsd.pid if who == "all of it" else next(p for p in pids if p != engine.tlsd.pid), signal.SIGKILL)
        with pytest.raises((ssl.SSLError, ConnectionResetError), match="(?i)unexpected.eof|reset"):  # no end that was meant
            c.recv(100)
    engine.said("end: gone: ")
    if who == "all of it":
        engine.tlsd.wait()
        wait_for(lambda: not engine.children("qmail-tlsd"))
        engine.start_tlsd()
    assert engine.works()


def test_the_server_is_killed_within_a_session(idle):
    idle.start_engine()
    with idle.echo() as server, idle.client() as c:
        c.sendall(b"hello\n")
        assert c.recv(100) == b"hello\n"
        server.kill()
        assert read_tls(c) == b""
        wait_for(lambda: len(idle.children("qmail-tlsd")) == 1, what="its process to end")


def test_stopping_gives_sessions_their_time(engine):
    with engine.client() as c:
        engine.tlsd.send_signal(signal.SIGTERM)
        c.sendall(b"hello\nbye\n")
        assert read_tls(c) == b"hello\nbye\n"
    assert engine.tlsd.wait(WAIT) == 0


def test_a_connection_that_has_ended_counts_no_more(idle):
    """Though it ended within the turn that takes the next one: strace has each accept of that turn take 0.5 s."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    if idle.run("/usr/bin/strace", "-qq", "-o", "/dev/null", "/bin/true").returncode:
        pytest.skip("strace is not allowed here")
    idle.write("slow", f'#!/bin/sh\nexec strace -D -o /dev/null -e trace=accept4 -e inject=accept4:delay_exit=500000 {idle.bin}/qmail-tlsd "$@"\n', 0o755)
    idle.start_keyd()
    idle.tlsd = idle.start_daemon("qmail-tlsd", idle.home / "slow", "-c", "1", *idle.users())
    with call(idle, "qmail-tlsd") as first, call(idle, "qmail-tlsd") as second:
        first.close()
        assert second.recv(100) == b"R"


def test_a_stop_is_heard_while_there_are_no_descriptors(idle):
    idle.start_engine()
    idle.run("/usr/bin/prlimit", "--pid", idle.tlsd.pid, "--nofile=3:", check=True)
    with call(idle, "qmail-tlsd"):
        time.sleep(0.3)  # it has begun to try
        idle.tlsd.send_signal(signal.SIGTERM)
        assert idle.tlsd.wait(2) == 0


# --- keys ---------------------------------------------------------------------------------------------------------------------------

def test_reload_drops_nothing(engine):
    with engine.client() as old, engine.connect() as half:
        wait_for(lambda: len(engine.children("qmail-tlsd")) == 3)
        engine.write("tls/new.pem", pem("P-256", OTHER), 0o400)
        engine.keyd.send_signal(signal.SIGHUP)
        wait_for(lambda: "the keys were read again" in engine.errors("qmail-keyd"))
        with engine.client(OTHER) as c:
            assert subject(c) == [OTHER]
        old.sendall(b"hello\n")
        assert old.recv(100) == b"hello\n"
        half.sendall(in_records(client_hello()))  # served by a worker that has been replaced
        assert half.recv(2) == b"\x16\x03"
    workers = os.cpu_count() if os.cpu_count() < 8 else 8
    wait_for(lambda: len(engine.children("qmail-keyd")) == 1 + workers, what="the old workers to end")


@pytest.mark.parametrize("document, pattern", [("bin-src/tls/qmail-keyd.8", r"(#!/bin/sh\ncd /var/qmail .*?)\.Ed\n"),
                                               ("INSTALL", r"( +#!/bin/sh\n +cd /var/qmail .*?\n)\n")])
def test_the_deploy_hook_of_the_documents(engine, document, pattern):
    """As certbot starts it. s6-svc is a script here that signals qmail-keyd, and the owner is whoever runs the test."""
    (hook,) = re.findall(pattern, (SOURCE / document).read_text(), re.DOTALL)
    hook = textwrap.dedent(hook)
    assert " -o qmailk -g nofiles " in hook and "/var/qmail" in hook
    hook = hook.replace("/var/qmail", str(engine.home)).replace("-o qmailk -g nofiles", f"-o {engine.uid} -g {engine.gid}")
    engine.write("hook", hook, 0o755)
    engine.write("stand-in/s6-svc", f'#!/bin/sh\n[ "$*" = "-h service/qmail-keyd" ] && kill -HUP {engine.keyd.pid}\n', 0o755)
    key, mark, chain = pem("P-256", OTHER).partition(b"-----BEGIN CERTIFICATE")
    engine.write(f"live/{OTHER}/privkey.pem", key)
    engine.write(f"live/{OTHER}/fullchain.pem", mark + chain)
    subprocess.run([engine.home / "hook"], check=True, env={"PATH": f"{engine.home}/stand-in:{os.environ['PATH']}",
                                                            "RENEWED_LINEAGE": f"{engine.home}/live/{OTHER}"})
    wait_for(lambda: "the keys were read again" in engine.errors("qmail-keyd"))
    assert (engine.home / f"tls/{OTHER}.pem").stat().st_mode & 0o777 == 0o400
    with engine.client(OTHER) as c:
        assert subject(c) == [OTHER]


@pytest.mark.parametrize("text, why", [
    (b"", "there is no certificate in it"), (b"nonsense", "there is no certificate in it"), (b"-----BEGIN CERTIFICATE-----\n*\n", "damaged"),
    (pem("P-256", HOST) + pem("P-256", OTHER), "more than one private key"), (b"x" * 300_000, "too long"),
], ids=["empty", "nonsense", "damaged", "two keys", "long"])
def test_reload_of_a_file_that_cannot_be_used(engine, text, why):
    """The old keys stay."""
    engine.write("tls/bad.pem", text, 0o400)
    engine.keyd.send_signal(signal.SIGHUP)
    wait_for(lambda: "unable to read the keys again, the old ones stay" in engine.errors("qmail-keyd"))
    assert re.search(rf"alert: qmail-keyd: tls/bad.pem: .*{why}", engine.errors("qmail-keyd"))
    assert engine.works()


def test_a_key_of_another_certificate(idle):
    key, _, _ = pem("P-256", OTHER).partition(b"-----BEGIN CERTIFICATE")
    _, mark, chain = pem("P-256", HOST).partition(b"-----BEGIN CERTIFICATE")
    idle.write("tls/wrong.pem", key + mark + chain, 0o400)
    done = idle.run("qmail-keyd")
    assert done.returncode == 111 and b"tls/wrong.pem: the private key is not that of the first certificate" in done.stderr


def test_no_file_at_all(idle):
    for path in (idle.home / "tls").glob("*.pem"):
        path.unlink()
    done = idle.run("qmail-keyd")
    assert done.returncode == 111 and b"tls: there is no file NAME.pem in it" in done.stderr


class Asking:
    """Somebody who asks qmail-keyd, or hands over to qmail-tlsd, by the protocol, or not."""

    def __init__(self, server, name):
        self.socket = call(server, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, packet):
        """The answer, b"" if the connection was closed."""
        try:
            self.socket.send(packet)
            return self.socket.recv(70_000)
        except (BrokenPipeError, ConnectionResetError):
            return b""


EXCHANGE = bytes(64) + b"\x03\x00\x1d\x20" + bytes(32)


@pytest.mark.parametrize("question, answer", [
    (b"C\x0fmail.test.example", b"C"), (b"C\x01", b"C\x01"), (b"C\x02", b"C\x02"), (b"C\x04", b"N"), (b"C\x00", b"N"), (b"C\xff" + b"a" * 255, b"C"),
    (b"C\xff" + b"a" * 256, b""), (b"C", b""), (b"X", b""), (b"", b""), (b"S\0\0\0\0", b""), (b"S\0\0\0\0\4\3" + EXCHANGE, b"S"),
    (b"S\0\0\0\0\4\1" + EXCHANGE, b"N"), (b"S\0\0\0\0\2\3" + EXCHANGE, b"N"), (b"S\0\0\0\0\4\3" + EXCHANGE[:-1], b"N"),
    (b"S\0\0\0\0\4\3" + EXCHANGE + b"x", b"N"), (b"S\0\0\0\0\4\3" + bytes(32), b"N"), (b"S\0\0\0\x09\4\3" + EXCHANGE, b"N"),
    (b"S\xff\xff\xff\xff\4\3" + EXCHANGE, b"N"), (b"S\0\0\0\0\4\3" + bytes(60_000), b""),
    (b"S\0\0\0\0\4\3" + bytes(64) + b"\x01\x00\x1d\x20" + bytes(32), b"N"), (b"S\0\0\0\0\4\3" + bytes(64) + b"\x03\x00\x1e\x38" + bytes(56), b"N"),
])
def test_qmail_keyd_signs_handshakes_and_nothing_else(idle, question, answer):
    idle.start_keyd()
    with Asking(idle, "qmail-keyd") as client:
        said = client.ask(question)
        assert said.startswith(answer) if answer else said == b""
    with Asking(idle, "qmail-keyd") as client:
        assert client.ask(b"C\x0f").startswith(b"C")


@pytest.fixture
def clients(idle):
    """With key pairs of clients as well, which nobody else than the test may use."""
    for name, kind in (("rsa", "rsa"), ("ec", "secp384r1")):
        idle.write(f"tls/client/{name}.pem", pem(kind, "client.example"), 0o400)
    return idle


@pytest.mark.parametrize("question, answer", [
    (b"Pec", b"P\4\0\0\0\0"), (b"Prsa", b"P\1\0\0\0\1"), (b"Pself-signed", b"N"), (b"P../x", b"N"), (b"P" + b"x" * 100, b"N"),
    (b"P" + b"x" * 101, b""), (b"P", b""), (b"H\0\0\0\0\4\3" + bytes(32), b"H"), (b"H\0\0\0\1\6\1" + bytes(64), b"H"),
    (b"H\0\0\0\0\4\1" + bytes(32), b"N"), (b"H\0\0\0\0\2\3" + bytes(20), b"N"), (b"H\0\0\0\0\4\3" + bytes(33), b"N"), (b"H\0\0\0\2\4\3" + bytes(32), b"N"),
    (b"H\0\0\0\0\4", b""), (b"C\x0f", b""), (b"S\0\0\0\0\4\3" + EXCHANGE, b""), (b"X", b"")])
def test_keys_of_clients_sign_a_hash(clients, question, answer):
    """And who may use them may not use those of servers."""
    clients.start_keyd("-c", os.getuid(), 54321)
    with Asking(clients, "qmail-keyd") as client:
        said = client.ask(question)
        assert said.startswith(answer) if answer else said == b""


@pytest.mark.parametrize("question", [b"Pec", b"H\0\0\0\0\4\3" + bytes(32)])
def test_who_may_use_keys_of_servers_may_not_use_those_of_clients(clients, question):
    clients.start_keyd("-c", 54321, os.getuid())
    with Asking(clients, "qmail-keyd") as client:
        assert client.ask(b"C\x0f")[:1] == b"C"
        assert client.ask(question) == b""


def test_clients_may_ask_more(clients):
    clients.start_keyd("-c", os.getuid(), 54321)
    with Asking(clients, "qmail-keyd") as client:
        assert {client.ask(b"Pec")[:1] for _ in range(4000)} == {b"P"}
        assert client.ask(b"Pec") == b""


def test_a_key_of_a_client_that_cannot_be_used(clients):
    (clients.home / "tls/client/bad.pem").write_text("no PEM")
    done = clients.run("qmail-keyd")
    assert done.returncode == 111 and b"tls/client/bad.pem: there is no certificate in it" in done.stderr


def test_questions_are_bounded(idle):
    idle.start_keyd("-c", 54321, *idle.users())
    with Asking(idle, "qmail-keyd") as client:
        assert [client.ask(b"C\x0f")[:1] for _ in range(4)] == [b"C"] * 4
        assert client.ask(b"C\x0f") == b""


@pytest.mark.parametrize("packet, answer", [
    (b"", b""), (b"S", b"Tthe request was malformed"), (b"X", b"Tthe request was malformed"), (b"S" + b"x" * 2000, b"Tthe request was malformed"),
])
def test_requests_to_qmail_tlsd_without_a_connection(idle, packet, answer):
    idle.start_engine()
    with Asking(idle, "qmail-tlsd") as client:
        assert client.socket.recv(100) == b"R"
        assert client.ask(packet) == answer


def test_what_is_no_connection(idle):
    idle.start_engine()
    for kind in (socket.SOCK_DGRAM, None):
        with Asking(idle, "qmail-tlsd") as client, open("/dev/null", "rb") as null, socket.socket(socket.AF_UNIX, kind or socket.SOCK_DGRAM) as other:
            assert client.socket.recv(100) == b"R"
            socket.send_fds(client.socket, [b"S"], [other.fileno() if kind else null.fileno()])
            assert client.socket.recv(100) == b"Twhat was handed over is no connection"


@pytest.mark.parametrize("program", ["qmail-keyd", "qmail-tlsd"])
@pytest.mark.skipif(os.getuid() != 0, reason="only root has other users")
def test_other_users_may_not_ask(idle, program):
    idle.start_keyd(idle.uid)
    idle.start_tlsd()
    attempt = ("import socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.connect('run/%s/socket')\ns.settimeout(20)\n"
               "try:\n    s.send(b'C\\x0f')\n    print(s.recv(100)[:1])\nexcept OSError as e: print(type(e).__name__)" % program)
    done = idle.run("/usr/bin/python3", "-c", attempt, user=54321, group=54321, extra_groups=[])
    assert done.stdout.strip() in (b"b''", b"b'B'", b"BrokenPipeError", b"ConnectionResetError"), done
    idle.end(idle.tlsd, signal.SIGTERM)
    idle.end(idle.keyd, signal.SIGTERM)
    idle.start_keyd(54321, idle.uid)
    idle.start_tlsd(54321)
    done = idle.run("/usr/bin/python3", "-c", attempt, user=54321, group=54321, extra_groups=[])
    assert done.stdout.strip() in (b"b'C'", b"b'R'", b"b'B'")


@pytest.mark.parametrize("program", ["qmail-keyd", "qmail-tlsd"])
def test_usage(idle, program):
    for arguments in (("-x",), ("-d", "x"), ("-w", "0", "-c", "0"), ("qmaild",)):
        assert idle.run(program, *arguments).returncode == 100
    if os.getuid() == 0:
        done = idle.run(program, user=0, group=0)
        assert done.returncode == 100 and b"never as root" in done.stderr


def test_memory_of_a_connection(engine):
    """What a process has for itself once it has carried records of the largest size."""
    def own(pid):
        writable, total = False, 0
        with open(f"/proc/{pid}/smaps") as f:
            for line in f:
                if re.match("[0-9a-f]+-", line):
                    writable = line.split()[1] == "rw-p"
                elif writable and line.startswith("Private_"):
                    total += int(line.split()[1])
        return total

    if is_sanitized(engine.bin / "qmail-tlsd"):
        pytest.skip("sanitizers take more")
    with engine.client() as c:
        left = 10 * 16384
        for _ in range(10):
            c.sendall(b"x" * 16384)
        while left:
            left -= len(c.recv(65536))
        (pid,) = (p for p in engine.children("qmail-tlsd") if p != engine.tlsd.pid)
        assert own(pid) < 100  # KiB
