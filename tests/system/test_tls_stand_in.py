"""Another TLS engine in the place of qmail-tlsd: Python's ssl module behind what qmail-tls(7) says, and nothing of our code. It knows TLS 1.3."""
import os
import re
import select
import socket
import ssl
import threading

import pytest

from conftest import HOST, WAIT, wait_for
from serving import Service
from smtp_session import Queue
from test_smtpd_tls import ANA, Client, protocol
from test_tls import Tls, pem


def strings(packet):
    """NAME=value, each ended by NUL."""
    return dict(entry.decode().split("=", 1) for entry in packet.split(b"\0")[:-1])


class StandIn:
    """The engine. refuses: what it says instead of R; asked: what servers wanted; at the end ended has C, X or E of each client."""

    def __init__(self, server, refuses=None):
        self.refuses, self.asked, self.ended, self.threads = refuses, [], [], []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        self.context.load_cert_chain(server.home / "tls/ec.pem")
        self.context.sni_callback = lambda connection, name, _: setattr(connection, "named", name)
        path = server.home / "run/qmail-tlsd/socket"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o755)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        path.chmod(0o666)
        self.listener.listen()
        self.start(self.accept)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(WAIT)
        self.listener.close()

    def start(self, function, *args):
        self.threads.append(threading.Thread(target=function, args=args, daemon=True))
        self.threads[-1].start()

    def accept(self):
        while True:
            try:
                control, _ = self.listener.accept()
            except OSError:
                return
            self.start(self.serve, control)

    def serve(self, control):
        with control:
            control.settimeout(WAIT)
            if self.refuses:
                control.send(b"B" + self.refuses)
                return
            control.send(b"R")
            packet, fds, _, _ = socket.recv_fds(control, 1000, 1)
            if not packet:
                return  # the server wanted to know whether there is an engine
            assert packet[:1] == b"S" and len(fds) == 1
            self.asked.append(packet[1:])
            with socket.socket(fileno=fds[0]) as connection:
                connection.settimeout(WAIT)
                self.ended.append(self.protect(control, connection))

    def protect(self, control, connection):
        try:
            tls = self.context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
        except (OSError, ssl.SSLError) as e:
            control.send(b"E" + str(e).encode()[:200])
            return "E"
        ours, plain = socket.socketpair()
        with tls, ours, plain:
            said = [("SSL_PROTOCOL", tls.version()), ("SSL_CIPHER", tls.cipher()[0]), ("SSL_TLS_SNI_SERVERNAME", getattr(tls, "named", None))]
            socket.send_fds(control, [b"K" + b"".join(f"{n}={v}\0".encode() for n, v in said if v)], [plain.fileno()])
            plain.close()
            return self.pump(control, tls, ours)

    def pump(self, control, tls, ours):
        """Until one side ends. Returns how the client's did."""
        while True:
            ready = [tls] if tls.pending() else select.select([tls, ours], [], [], WAIT)[0]
            if ours in ready:
                octets = ours.recv(16384)
                if not octets:
                    try:
                        tls.unwrap()
                    except OSError:  # it did not wait for our close_notify
                        pass
                    return "C"
                tls.sendall(octets)
            elif tls in ready:
                try:
                    octets = tls.recv(16384)
                except OSError:
                    control.send(b"Xthe connection broke")
                    return "X"
                if not octets:
                    control.send(b"C")
                    return "C"
                ours.sendall(octets)


@pytest.fixture
def server(new_tree):
    made = new_tree(Tls)
    made.need("qmail-smtpd")
    made.write("tls/ec.pem", pem("P-256", HOST), 0o400)
    made.write("control/rcpthosts", f"{HOST}\n")
    with Queue(made) as queue:
        made.queue = queue
        yield made


def test_a_message_by_tls_1_3(server):
    with StandIn(server) as engine, Service(server, "qmail-smtpd", "-X") as service:
        with Client(service) as s:
            s.starttls()
            assert s.socket.version() == "TLSv1.3"
            assert "STARTTLS" not in s.ehlo()
            assert s.message().startswith("250 2.0.0 ok ")
            s.expect(221, "QUIT")
            assert s.rest() == []  # close_notify, or rest() would fail
        log = service.logged("qmail-smtpd: session")
        ((message, _),) = server.queue.messages
    assert re.fullmatch(r"ESMTPS \(TLSv1\.3\) tls TLS_AES_\w+", protocol(message))
    assert re.search(r" tls=TLSv1\.3 cipher=TLS_AES_\w+ sni=%s " % re.escape(HOST), log), log
    assert engine.ended == ["C"]


def test_what_came_without_its_end_is_no_message(server):
    """The client's connection breaks within TLS; the engine says X."""
    with StandIn(server) as engine, Service(server, "qmail-smtpd", "-X") as service:
        with Client(service) as s:
            s.starttls()
            s.ehlo()
            s.expect(250, "MAIL FROM:<a@b>")
            s.expect(250, f"RCPT TO:<{ANA}>")
            s.expect(354, "DATA")
            s.socket.sendall(b"Subject: x\r\n\r\nhalf")
            os.close(s.socket.detach())
        service.logged("qmail-smtpd: session")
    assert engine.ended == ["X"] and not server.queue.messages


def test_a_client_that_speaks_no_tls(server):
    with StandIn(server) as engine, Service(server, "qmail-smtpd", "-X") as service:
        with Client(service) as s:
            s.ehlo()
            s.expect(220, "STARTTLS")
            s.socket.sendall(b"NOOP\r\n" * 10)
            service.logged('reason="no TLS: ')
    assert engine.ended == ["E"]


def test_an_engine_that_cannot_serve_now(server):
    """The session goes on without."""
    with StandIn(server, refuses=b"out of order"), Service(server, "qmail-smtpd", "-X") as service:
        with Client(service) as s:
            s.ehlo()
            assert s.command("STARTTLS").startswith("454 ")
            assert s.message().startswith("250 ")
        assert "out of order" in service.logged("out of order")


def test_what_implicit_tls_asks_for(server):
    """TLS before the greeting; the names of ALPN that a client may say come with the connection."""
    with StandIn(server) as engine, Service(server, "qmail-smtpd", "-X", env={"SMTPS": "1"}) as service:
        with Client(service, at_once=True) as s:
            assert s.greeting.startswith("220 ")
            s.expect(221, "QUIT")
            assert s.rest() == []
        wait_for(lambda: engine.ended == ["C"])
    assert all("ALPN" in strings(asked) for asked in engine.asked if asked)
