"""MTA-STS (RFC 8461) from end to end: qmail-remote, qmail-mtastsd, a web server, and MX hosts that keep to the policy or not."""
import os
import shutil
import signal
import ssl
import time

import pytest

from certificates import pem, self_signed, server_context
from conftest import Server as Tree, make_tree, new_directory, wait_for
from fake_dns import FakeDns
from fake_smtp import CLOSE, Server
from policies import PolicyServer, policy, response
from remoting import RemoteWorker, believe, expect_in_log_and_bounce, send

DOMAIN, MX = "dest.example", "mx.dest.example"
SENT = "accepted message.\nRemote host said: 250 2.0.0 taken\nSent "
REFUSED = ", and its domain has an MTA-STS policy that is enforced. "


class Sts(Tree):
    mtastsd = web = dns = None

    def start_mtastsd(self):
        self.mtastsd = self.start_daemon("qmail-mtastsd", "qmail-mtastsd", env={"MTASTSPORT": str(self.web.port)})

    def publish(self, *patterns, id_="1", **more):
        self.web.says = response(policy(*patterns, **more))
        self.dns.records.pop(f"_mta-sts.{DOMAIN}", None)
        if id_:
            self.dns.add(f"_mta-sts.{DOMAIN}", "TXT", f"v=STSv1; id={id_};".encode())

    def exchange(self, *hosts):
        """The MX hosts, in this order, at 127.0.0.2 and so on."""
        for n, host in enumerate(hosts):
            self.dns.add(DOMAIN, "MX", (n, host))
            self.dns.add(host, "A", f"127.0.0.{n + 2}")

    def listen(self, n=2, chain=None, tls=True, **more):
        server = Server(tls=server_context(chain or pem("prime256v1", MX)) if tls else None, host=f"127.0.0.{n}", **more)
        self.servers.append(server)
        self.write("control/smtproutes", f"::{server.port}\n")  # no relay, but a port
        return server


@pytest.fixture(scope="module")
def sts_tree(installation):
    top = new_directory()
    yield make_tree(installation, Sts, top / "tambo")
    shutil.rmtree(top)


@pytest.fixture
def sts(sts_tree):
    tree = sts_tree
    tree.servers = []
    shutil.rmtree(tree.control)
    tree.write("control/me", "mail.test.example\n")
    tree.write("control/notipme", "127.0.0.2\n127.0.0.3\n")
    believe(tree)
    shutil.rmtree(tree.home / "run/qmail-mtastsd/policies", ignore_errors=True)
    with FakeDns() as tree.dns, PolicyServer(f"mta-sts.{DOMAIN}") as tree.web:
        tree.dns.add(f"mta-sts.{DOMAIN}", "A", "127.0.0.1")
        tree.write("control/dnsservers", tree.dns.server + "\n")
        tree.start_mtastsd()
        yield tree
        tree.end(tree.mtastsd, signal.SIGTERM)
    for server in tree.servers:
        server.close()


def test_enforced(sts):
    server = sts.listen()
    sts.exchange(MX)
    sts.publish(MX)
    *_, (letter, text) = send(sts)
    assert letter == "K" and text.startswith(f"127.0.0.2 {SENT}by TLSv1.2 with ") and text.endswith(", verified.\n")
    assert send(sts)[-1][0] == "K"
    assert len(sts.web.requests) == 1 and len(server.sessions) == 2


def test_a_final_dot(sts):
    """Is no part of the name: not for MTA-STS, and not for control/tlspolicy."""
    sts.listen()
    sts.exchange(MX)
    sts.publish(MX)
    assert send(sts, f"r@{DOMAIN}.", host=f"{DOMAIN}.")[-1][1].endswith(", verified.\n")
    server = sts.listen(tls=False)
    sts.write("control/tlspolicy", f"{DOMAIN}:encrypt:nosts\n")
    ((letter, text),) = send(sts, f"r@{DOMAIN}.", host=f"{DOMAIN}.")
    assert letter == "Z" and "it does not offer TLS. " in text and not server.messages


def test_a_domain_that_no_host_can_be_in(sts):
    """It may have MX hosts, but no mta-sts.DOMAIN."""
    server = sts.listen()
    sts.dns.add("a/b.example", "MX", (0, MX))
    sts.dns.add(MX, "A", "127.0.0.2")
    assert send(sts, "r@a/b.example", host="a/b.example")[-1][0] == "K"
    assert len(server.messages) == 1 and not sts.web.requests


def test_an_address_of_two_hosts(sts):
    """Each is tried by its own name: only the second one is in the policy."""
    server = sts.listen()
    for n, host in enumerate(("other.dest.example", MX)):
        sts.dns.add(DOMAIN, "MX", (n, host))
        sts.dns.add(host, "A", "127.0.0.2")
    sts.publish(MX)
    assert send(sts)[-1][1].endswith(", verified.\n")
    server.close()
    ((letter, text),) = send(sts)
    assert letter == "Z" and text.count("127.0.0.2: ") == 1  # and nobody waits for it twice


def test_a_wildcard(sts):
    sts.listen(chain=pem("prime256v1", "*.dest.example"))
    sts.exchange(MX)
    sts.publish("*.dest.example")
    assert send(sts)[-1][1].endswith(", verified.\n")


def test_hosts_that_are_not_in_the_policy(sts):
    """They are not called; the next one is."""
    server = sts.listen()
    sts.exchange("mx.evil.example", "x.mx.dest.example")
    sts.publish(MX, "*.dest.example")
    ((letter, text),) = send(sts)
    assert letter == "Z" and text == "".join(f"The MX host {h} is not in the MTA-STS policy of {DOMAIN}. (#4.7.0)\n"
                                             for h in ("mx.evil.example", "x.mx.dest.example"))
    assert not server.sessions
    sts.dns.records.pop(DOMAIN)
    other = sts.listen(3)
    sts.exchange("mx.evil.example", MX)
    assert send(sts)[-1][1].startswith("127.0.0.3 accepted")
    assert len(other.messages) == 1 and not server.sessions


BAD = [("no TLS", {"tls": False}, "it does not offer TLS", "4.7.4", "there is no TLS"),
       ("refused", {"reply": lambda session, verb, line: b"454 4.7.0 no" if verb == "STARTTLS" else None},
        "it offers TLS and refuses it", "4.7.4", "there is no TLS"),
       ("self-signed", {"chain": self_signed(MX)}, "TLS failed: its certificate comes from no authority that is known here", "4.7.5", None),
       ("expired", {"chain": pem("prime256v1", MX, days=-1)}, "TLS failed: its certificate has expired, or is not valid yet", "4.7.5", None),
       ("for the domain", {"chain": pem("prime256v1", DOMAIN)}, "TLS failed: its certificate is for another name", "4.7.5", None)]
BROKEN = pytest.mark.parametrize("server, why, code, tested", [b[1:] for b in BAD], ids=[b[0] for b in BAD])


@BROKEN
def test_a_host_that_proves_nothing(sts, server, why, code, tested):
    server = sts.listen(**server)
    sts.exchange(MX)
    sts.publish(MX)
    ((letter, text),) = send(sts)
    assert letter == "Z" and text == f"Connected to 127.0.0.2 but {why}{REFUSED}(#{code})\n"
    assert not server.messages and len(server.sessions) == 1
    assert not any(c.startswith(b"MAIL") for c in server.commands)


@BROKEN
def test_in_testing_mode_it_is_told(sts, server, why, code, tested):
    server = sts.listen(**server)
    sts.exchange(MX)
    sts.publish(MX, mode="testing")
    *_, (letter, text) = send(sts)
    assert letter == "K" and text.endswith(f"; MTA-STS is tested, and fails: {tested or why.removeprefix('TLS failed: ')}.\n")
    assert len(server.messages) == 1


def test_the_reason_is_in_log_and_bounce(sts):
    sts.listen(tls=False)
    sts.exchange(MX)
    sts.publish(MX)
    sts.write("control/locals", "mail.test.example\n")
    expect_in_log_and_bounce(sts, f"r@{DOMAIN}", f"it does not offer TLS{REFUSED}(#4.7.4)")
    assert sts.stop_send() == 0 and sts.stop_keeper() == 0


def test_in_testing_mode_all_is_well(sts):
    sts.listen()
    sts.exchange(MX)
    sts.publish(MX, mode="testing")
    text = send(sts)[-1][1]
    assert "Sent by TLSv1.2 with " in text and "MTA-STS" not in text


def test_in_testing_mode_another_host(sts):
    sts.listen()
    sts.exchange("mx.evil.example")
    sts.publish(MX, mode="testing")
    assert send(sts)[-1][1].endswith("; MTA-STS is tested, and fails: the MX host is not in the policy.\n")


@pytest.mark.parametrize("publish", [{"id_": None}, {"mode": "none"}], ids=["no record", "mode none"])
def test_nothing_is_demanded(sts, publish):
    sts.listen(chain=self_signed("whatever.example"))
    sts.exchange(MX)
    sts.publish(MX, **publish)
    *_, (letter, text) = send(sts)
    assert letter == "K" and "Sent by TLSv1.2" in text and "MTA-STS" not in text
    assert len(sts.web.requests) == (0 if publish == {"id_": None} else 1)


def test_no_policy_behind_the_record(sts):
    """Then there is none: RFC 8461 section 5."""
    sts.listen(tls=False)
    sts.exchange(MX)
    sts.publish(MX)
    sts.web.says = response(b"", "404 Not Found")
    assert send(sts)[-1][0] == "K"


def known(sts, age, **more):
    """A policy that qmail-mtastsd had fetched so long ago."""
    sts.end(sts.mtastsd, signal.SIGTERM)
    path = sts.home / f"run/qmail-mtastsd/policies/{DOMAIN}"
    path.write_bytes(f"1 {int(time.time()) - age}\n".encode() + policy("mx.elsewhere.example", **more))
    sts.start_mtastsd()


@pytest.mark.parametrize("age, letter", [(604000, "Z"), (605000, "K")], ids=["known", "expired"])
def test_the_record_has_gone(sts, age, letter):
    """A policy counts until its time is over, whether there is a record or not: section 5.1."""
    sts.listen()
    sts.exchange(MX)
    sts.publish(MX, id_=None)
    sts.web.says = response(b"", "404 Not Found")  # or the daily fetch, which is due, has a new one
    known(sts, age)
    assert send(sts)[-1][0] == letter


@pytest.mark.parametrize("mode", ["enforce", "testing", "none"])
def test_C5_a_stale_policy(sts, mode):
    """The id says that there is another one, for the message that waits."""
    sts.listen()
    sts.exchange(MX)
    sts.publish(MX)
    known(sts, 1000)
    assert send(sts)[-1][0] == "Z"
    sts.publish(MX, id_="2", mode=mode)
    *_, (letter, text) = send(sts)
    assert letter == "K" and text.endswith(", verified.\n") == (mode == "enforce")


def test_a_stale_policy_that_has_no_better(sts):
    sts.listen()
    sts.exchange(MX)
    known(sts, 1000)
    sts.publish(MX, id_="2")
    sts.web.says = response(b"", "503 no")
    assert send(sts)[-1][0] == "Z"


def listen_and_resume(sts, **more):
    """A server that takes one message in a session, and takes up TLS sessions again."""
    def reply(session, verb, line):
        if verb == "QUIT":
            session.tls.unwrap()  # or OpenSSL forgets the TLS session
            return CLOSE

    server = sts.listen(reply=reply, extensions=("LIMITS MAILMAX=1",), **more)
    server.tls.options |= ssl.OP_NO_TICKET
    return server


def test_a_kept_worker(sts):
    """Asks once; a TLS session that it takes up again was verified before."""
    server = listen_and_resume(sts)
    sts.exchange(MX)
    sts.publish(MX)
    with RemoteWorker(sts) as worker:
        for n in range(3):
            ((letter, text),) = worker.deliver()
            assert letter == "K" and text.endswith(", verified.\n")
            wait_for(lambda: server.sessions[n].ended)
    assert [s.is_resumed for s in server.sessions] == [False, True, True]
    assert sts.dns.asked(f"_mta-sts.{DOMAIN}", "TXT") == 1


def test_a_kept_worker_in_testing_mode(sts):
    """Tells of each session what would have been in the way: none is taken up again unseen."""
    server = listen_and_resume(sts, chain=self_signed(MX))
    sts.exchange(MX)
    sts.publish(MX, mode="testing")
    with RemoteWorker(sts) as worker:
        for n in range(3):
            ((letter, text),) = worker.deliver()
            assert letter == "K" and "; MTA-STS is tested, and fails: its certificate " in text
            wait_for(lambda: server.sessions[n].ended)
    assert not any(s.is_resumed for s in server.sessions)


def test_a_relay_has_no_policy(sts):
    server = sts.listen(chain=self_signed("whatever.example"))
    sts.publish(MX)
    sts.write("control/smtproutes", f":[127.0.0.2]:{server.port}\n")
    assert send(sts)[-1][0] == "K"
    assert not sts.dns.asked(f"_mta-sts.{DOMAIN}", "TXT")


def test_nosts(sts):
    sts.listen(tls=False)
    sts.exchange(MX)
    sts.publish(MX)
    sts.write("control/tlspolicy", f"{DOMAIN}:may:nosts\n")
    assert send(sts)[-1][0] == "K"
    sts.write("control/tlspolicy", ":may\n")
    assert send(sts)[-1][0] == "Z"


def test_qmail_mtastsd_has_ended(sts):
    """Mail waits for it, unless its socket was taken away."""
    server = sts.listen()
    sts.exchange(MX)
    sts.publish(MX)
    os.killpg(sts.mtastsd.pid, signal.SIGKILL)
    sts.mtastsd.wait()
    ((letter, text),) = send(sts)
    assert letter == "Z" and text == f"qmail-mtastsd does not say how mail for {DOMAIN} is to be protected. (#4.3.0)\n"
    (sts.home / "run/qmail-mtastsd/socket").unlink()
    assert send(sts)[-1][1].endswith("SHA384.\n") and len(server.messages) == 1


def test_a_worker_that_began_while_qmail_mtastsd_was_away(sts):
    """It ends with its first mail, and the next one asks."""
    sts.listen()
    sts.exchange(MX)
    sts.publish(MX)
    sts.end(sts.mtastsd, signal.SIGTERM)
    with RemoteWorker(sts) as worker:
        assert worker.deliver()[0][0] == "Z" and worker.done() is None
    sts.start_mtastsd()
    with RemoteWorker(sts) as worker:
        assert worker.deliver()[0][0] == "K"
