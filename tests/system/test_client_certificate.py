"""Smarthosts that know this host by a certificate: qmail-remote, with qmail-keyd, towards servers of Python's ssl that ask for one."""
import shutil
import signal
import ssl

import pytest

from certificates import authority, pem, self_signed, server_context
from conftest import HOST, WAIT, Server as Tree, make_tree, new_directory, wait_for
from fake_smtp import Server
from remoting import RemoteWorker, send

RELAY = "127.0.0.1"
PAIRS = {"rsa": "rsa", "p256": "prime256v1", "p384": "secp384r1", "p521": "secp521r1"}


class Clients(Tree):
    def start_keyd(self):
        self.keyd = self.start_daemon("qmail-keyd", "qmail-keyd", "-c", self.uid, self.uid)

    def stop(self):
        self.end(self.keyd, signal.SIGTERM)
        super().stop()


@pytest.fixture(scope="module")
def tree(installation):
    top = new_directory()
    tree = make_tree(installation, Clients, top / "tambo")
    tree.write("control/me", "mail.test.example\n")
    tree.write("tls/server.pem", self_signed("mail.test.example"), 0o400)
    for name, kind in PAIRS.items():
        tree.write(f"tls/client/{name}.pem", pem(kind, f"{name}.client.example"), 0o400)
    tree.write("tls/client/foreign.pem", self_signed("client.example"), 0o400)
    tree.start_keyd()
    yield tree
    tree.stop()
    shutil.rmtree(top)


@pytest.fixture
def relay(tree):
    """A function that starts the relay of all mail, and writes control/tlsclientcert. asks: how it asks for a certificate. What it was shown is in
    shown, for each session."""
    servers = []

    def start(line, asks=ssl.CERT_REQUIRED):
        context = server_context(pem("prime256v1", RELAY))
        context.load_verify_locations(f"{authority().name}/ca.pem")
        context.verify_mode = asks
        shown = []

        def reply(session, verb, _):
            if verb == "EHLO" and session.tls:
                shown.append([name for _, name in (session.tls.getpeercert() or {}).get("subjectAltName", ())])

        server = Server(reply, tls=context)
        server.shown = shown
        servers.append(server)
        tree.write("control/smtproutes", f":{RELAY}:{server.port}\n")
        tree.write("control/tlsclientcert", line + "\n")
        return server

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("name", PAIRS)
def test_a_relay_that_requires_a_certificate(tree, relay, name):
    server = relay(f"{RELAY}:{name}")
    assert send(tree)[-1][0] == "K"
    assert server.shown == [[f"{name}.client.example"]] and len(server.messages) == 1


def test_a_domain_that_goes_to_such_a_relay(tree, relay):
    """By qmail-send, whose workers are the relay's, not the domain's."""
    server = relay(f"{RELAY}:rsa")
    tree.write("control/smtproutes", f"partner.example:{RELAY}:{server.port}\n")
    tree.start()
    assert tree.queue(b"Subject: x\n\nbody\n", f"ana@{HOST}", "r@partner.example").returncode == 0
    tree.logged("delivery 1: success: ")
    assert server.shown == [["rsa.client.example"]] and len(server.messages) == 1


@pytest.mark.parametrize("asks, shown", [(ssl.CERT_NONE, []), (ssl.CERT_OPTIONAL, ["rsa.client.example"])], ids=["does not ask", "asks"])
def test_a_relay_that_does_without(tree, relay, asks, shown):
    server = relay(":rsa", asks)
    assert send(tree)[-1][0] == "K"
    assert server.shown == [shown]


def test_who_is_not_in_the_table_is_shown_nothing(tree, relay):
    server = relay("other.example:rsa", ssl.CERT_OPTIONAL)
    assert send(tree)[-1][0] == "K"
    assert server.shown == [[]]


def test_a_certificate_that_the_relay_does_not_know(tree, relay):
    """Never without TLS, and never for good."""
    server = relay(":foreign")
    *_, (letter, text) = send(tree)
    assert letter == "Z" and text.startswith(f"Connected to {RELAY} but TLS failed: it ") and text.endswith("(#4.7.5)\n")
    assert len(server.sessions) == 1 and not server.messages


def test_a_name_without_a_key_pair(tree, relay):
    server = relay(":missing")
    assert send(tree)[-1] == ("Z", f"control/tlsclientcert has missing for {RELAY}, and qmail-keyd has no such key pair. (#4.3.5)\n")
    assert not server.sessions


def test_many_sessions_of_a_kept_worker(tree, relay):
    """More than the questions of a server's handshakes."""
    server = relay(":p256")
    with RemoteWorker(tree) as worker:
        for n in range(6):
            assert worker.deliver()[0][0] == "K"
            # what it asks for next is another session
            server.sessions[-1].tls.shutdown(2)
            wait_for(lambda n=n: server.sessions[n].ended)
    assert len(server.messages) == 6 and server.shown == [["p256.client.example"]] * len(server.sessions)


def test_without_qmail_keyd(tree, relay):
    """A worker that waits ends with it, one that is busy fails for now; the next one does as it should."""
    server = relay(":p384")
    away = ("Z", f"qmail-keyd does not say which certificate is for {RELAY}. (#4.3.0)\n")
    worker = RemoteWorker(tree)
    assert worker.deliver()[0][0] == "K"
    tree.end(tree.keyd, signal.SIGTERM)
    assert worker.process.wait(WAIT) == 0
    worker.close()
    assert send(tree)[-1] == away
    worker = RemoteWorker(tree)
    assert worker.deliver() == [away]
    assert worker.process.wait(WAIT) == 0
    worker.close()
    tree.start_keyd()
    assert send(tree)[-1][0] == "K"
    assert len(server.messages) == 2
