"""qmail-mtastsd: policies of MTA-STS from a web server, and every way in which one can fail to have any. Row C5 of the hostile inputs."""
import os
import shutil
import signal
import ssl

import pytest

from certificates import pem, self_signed
from conftest import Server, make_tree, new_directory, wait_for
from fake_dns import FakeDns
from policies import PolicyServer, ask, connect, policy, response
from remoting import believe

DOMAIN = "dest.example"
HOST = f"mta-sts.{DOMAIN}"
TEXT = policy("mx.dest.example", "*.mx.dest.example")


class Mtastsd(Server):
    web = dns = mtastsd = None

    def start_mtastsd(self, *users):
        self.mtastsd = self.start_daemon("qmail-mtastsd", "qmail-mtastsd", *users, env={"MTASTSPORT": str(self.web.port)})

    def end_mtastsd(self):
        self.end(self.mtastsd, signal.SIGTERM)

    def errors(self):
        return self.log("qmail-mtastsd.stderr")

    def said(self, what):
        wait_for(lambda: what in self.errors(), what=f"{what!r} in {self.errors()}")

    def stop(self):
        if self.mtastsd:
            self.end_mtastsd()
        super().stop()


@pytest.fixture(scope="module")
def tree(installation):
    top = new_directory()
    yield make_tree(installation, Mtastsd, top / "tambo")
    shutil.rmtree(top)


@pytest.fixture
def server(tree):
    """Runs, knows nothing, and has a web server and a name server of its own."""
    tree.need("qmail-mtastsd")
    believe(tree)
    for file in tree.home.glob("run/qmail-mtastsd/policies/*"):
        file.unlink()
    for file in tree.home.glob("output/qmail-mtastsd*"):
        file.unlink()
    with FakeDns() as tree.dns, PolicyServer(HOST) as tree.web:
        tree.dns.add(HOST, "A", "127.0.0.1")
        tree.write("control/dnsservers", tree.dns.server + "\n")
        tree.web.says = response(TEXT)
        tree.start_mtastsd()
        yield tree
        tree.stop()


# --- what is known ---------------------------------------------------------------------------------------

def test_a_policy(server):
    """Fetched once; then it is known, whatever the DNS says, and by the next process as well."""
    assert ask(server, DOMAIN) is None
    assert ask(server, DOMAIN, "1") == TEXT
    request, *fields = server.web.requests[0].rstrip().split("\r\n")
    assert request == "GET /.well-known/mta-sts.txt HTTP/1.1" and f"Host: {HOST}:{server.web.port}" in fields
    server.said(f"{DOMAIN}: its policy has mode enforce\n")
    server.end_mtastsd()
    server.start_mtastsd()
    for id_ in ("1", ""):
        assert ask(server, DOMAIN, id_) == TEXT
    assert len(server.web.requests) == 1


def test_a_new_id(server):
    """The policy of before counts where there is no new one."""
    assert ask(server, DOMAIN, "1") == TEXT
    new = policy("other.example", mode="testing")
    server.web.says = response(new)
    assert ask(server, DOMAIN, "2") == new
    server.web.says = response(b"", "500 no")
    assert ask(server, DOMAIN, "3") == new
    server.said(f"{DOMAIN}: no policy could be fetched: it was answered by HTTP status 500; the one that is known stays\n")
    assert ask(server, DOMAIN, "3") == new
    assert len(server.web.requests) == 3


# --- failures ---------------------------------------------------------------------------------------------

def only_tls_1_1(web):
    web.context.minimum_version = ssl.TLSVersion.TLSv1_1
    web.context.maximum_version = ssl.TLSVersion.TLSv1_1


def no_end(tls):
    tls.sendall(response(TEXT).replace(b"Content-Length", b"Content-Lengths") + b"\n" * (64 * 1024))
    tls.unwrap()


def a_gigabyte(tls):
    tls.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {1 << 30}\r\n\r\n".encode() + TEXT)
    for _ in range(1 << 10):
        tls.sendall(b"\n" * (1 << 20))


def endless_header(tls):
    tls.sendall(b"HTTP/1.1 200 OK\r\n" + b"X-Field: value\r\n" * 10000)


ANSWERS = [
    ("not found", response(b"", "404 Not Found"), "it was answered by HTTP status 404"),
    ("moved", response(b"", "302 Found", more="Location: /elsewhere\r\n"), "it was answered by HTTP status 302"),
    ("a policy that has moved", response(TEXT, "301 Moved", more=f"Location: https://{HOST}/\r\n"), "it was answered by HTTP status 301"),
    ("HTML", response(TEXT, kind="text/html"), "it is not text/plain"),
    ("almost plain", response(TEXT, kind="text/plainer"), "it is not text/plain"),
    ("no policy", response(b"hello\n"), "a line of it makes no sense"),
    ("no version", response(TEXT.replace(b"version", b"versions")), "it has no version"),
    ("empty", response(b""), "it has no version"),
    ("too long", response(TEXT + b"\n" * (64 * 1024)), "the policy is too long"),
    ("too long without saying so", no_end, "the policy is too long"),
    ("a gigabyte", a_gigabyte, "the policy is too long"),
    ("a header without end", endless_header, "its header is too long"),
    ("no HTTP", b"220 mail.example ESMTP\r\n", "Received HTTP/0.9 when not allowed"),
    ("cut", response(TEXT)[:-9], ""),
    ("nothing", b"", ""),
]


@pytest.mark.parametrize("says, why", [a[1:] for a in ANSWERS], ids=[a[0] for a in ANSWERS])
def test_C5_no_policy(server, says, why):
    server.web.says = says
    assert ask(server, DOMAIN, "1") is None
    server.said(f"{DOMAIN}: no policy could be fetched: {why}")
    assert len(server.web.requests) == 1
    # not for every message again
    assert ask(server, DOMAIN, "1") is None and len(server.web.requests) == 1


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "TEXT/Plain ;x"])
def test_parameters_of_the_media_type(server, kind):
    server.web.says = response(TEXT, kind=kind)
    assert ask(server, DOMAIN, "1") == TEXT


CHAINS = [("self-signed", lambda: self_signed(HOST)), ("expired", lambda: pem("prime256v1", HOST, days=-1)),
          ("of another name", lambda: pem("prime256v1", DOMAIN, f"x.{HOST}", "*.example"))]


@pytest.mark.parametrize("chain", [c[1] for c in CHAINS], ids=[c[0] for c in CHAINS])
def test_C5_a_certificate(server, chain):
    with PolicyServer(chain=chain()) as other:
        other.says = response(TEXT)
        server.end_mtastsd()
        server.web = other
        server.start_mtastsd()
        assert ask(server, DOMAIN, "1") is None
        server.said(f"{DOMAIN}: no policy could be fetched: SSL")
        assert not other.requests


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_TLS(server):
    only_tls_1_1(server.web)
    assert ask(server, DOMAIN, "1") is None
    server.said("no policy could be fetched: ")
    wait_for(lambda: server.web.refused, what="the web server to see it")
    assert not server.web.requests


@pytest.mark.parametrize("way, why", [("NODATA", "the host has no address"), ("NXDOMAIN", "the host has no address"),
                                      ("SERVFAIL", "")])
def test_no_address(server, way, why):
    server.dns.behave(HOST, "A", way)
    assert ask(server, DOMAIN, "1") is None
    server.said(f"{DOMAIN}: no policy could be fetched: {why}")  # c-ares has its own words for a failure


def test_nobody_listens(server):
    server.dns.add("mta-sts.other.example", "A", "127.0.0.77")
    assert ask(server, "other.example", "1") is None
    server.said("other.example: no policy could be fetched: ")


def test_a_host_by_its_alias(server):
    """The certificate is for mta-sts.DOMAIN, wherever its CNAME leads (RFC 8461 section 8.2)."""
    server.dns.records.pop(HOST)
    server.dns.alias(HOST, "provider.example")
    server.dns.add("provider.example", "A", "127.0.0.1")
    assert ask(server, DOMAIN, "1") == TEXT


def test_without_MTASTSPORT_no_loopback(server):
    server.end_mtastsd()
    server.mtastsd = server.start_daemon("qmail-mtastsd", "qmail-mtastsd")
    server.dns.add(HOST, "AAAA", "::1", "::ffff:127.0.0.1", "fe80::1")
    assert ask(server, DOMAIN, "1") is None
    server.said(f"{DOMAIN}: no policy could be fetched: the host has no address")


# --- who asks, and how ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("question", [b"", b"dest.example", b"\0" + b"1", b"Dest.example\0", b"..x\0", b"dest.example\0a-b", b"dest.example\0" + b"1" * 33,
                                      b"dest.example\0" + b"\0", b"x" * 254 + b"\0", b"x" * 100_000], ids=range(10))
def test_a_question_that_is_none(server, question):
    with connect(server) as asking:
        asking.send(question)
        assert asking.recv(100) == b""
    assert ask(server, DOMAIN, "1") == TEXT


def test_a_domain_that_can_have_none(server):
    assert ask(server, "../x", "1") is None and ask(server, DOMAIN, "1") == TEXT
    assert len(server.web.requests) == 1


def test_many_at_once(server):
    """Who asks about the same waits for the same; who goes away meanwhile is forgotten."""
    clients = [connect(server) for _ in range(100)]
    for client in clients:
        client.send(f"{DOMAIN}\0".encode() + b"1")
    for client in clients[::2]:
        client.close()
    for client in clients[1::2]:
        assert client.recv(1 << 17) == b"P" + TEXT
        client.close()
    assert len(server.web.requests) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be somebody else")
def test_only_some_may_ask(server):
    done = server.run("/usr/bin/python3", "-c", f"import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
                      f"s.connect('run/qmail-mtastsd/socket'); print(s.recv(9))", user=54321, group=54321, extra_groups=[])
    assert done.stdout == b"b''\n", done
    server.said("warning: a user who may not ask was turned away, uid 54321\n")


def test_the_process_with_the_cache_ends(server):
    """The supervisor sees it, and nothing is left."""
    (cache,) = [p for p in server.children("qmail-mtastsd") if p != server.mtastsd.pid]
    os.kill(cache, signal.SIGKILL)
    assert server.mtastsd.wait(30) == 111
    wait_for(lambda: not server.children("qmail-mtastsd"))
    server.start_mtastsd()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_never_as_root(tree):
    done = tree.run("qmail-mtastsd", user=0)
    assert done.returncode == 100 and b"never as root" in done.stderr
