"""DANE of qmail-remote (RFC 7672), and MTA-STS beside it: signed zones on NSD and unbound, servers of Python's ssl; rows C5 and S19 of the
hostile inputs. Root only: this module has a network namespace of its own."""
import pathlib
import signal

import pytest

from certificates import authority, digest, pem, server_context
from fake_dns import FakeDns
from fake_smtp import Server
from policies import PolicyServer, policy, response
from remoting import believe, expect_in_log_and_bounce, remote_tree, RemoteWorker, send, tree  # noqa: F401 (fixtures)
from signed_zones import FOREIGN, Network, SignedZones

pytestmark = pytest.mark.xdist_group("dane")  # one process makes the zones, once

TLS, SAME, CLEAR, EXPIRED = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"  # SAME: the server of TLS, at another address
DANE, ANY, NO_TLS = ", verified by DANE.\n", ".\n", "Remote host said: 250 2.0.0 taken\n"  # how the report on what was taken ends
NOT_NAMED = "TLS failed: DANE: its certificate is none that its TLSA records name. (#4.7.5)"
NOT_OFFERED = "it does not offer TLS. (#4.7.4)"
OTHER = "0" * 64


def chain(days=30):
    """Of the servers: for a host and for a domain of the zone."""
    return pem("prime256v1", "mx.ta.example", "ta-for-the-domain.example", "mx.sts.example", days=days)


def records():
    """What TLSA records may say."""
    ca = pathlib.Path(authority().name, "ca.pem").read_bytes()
    return {"key": digest(chain(), "key"), "certificate": digest(chain(), "certificate").replace(":", ""), "late": digest(chain(-1), "key"),
            "ca": digest(ca, "certificate").replace(":", ""), "other": OTHER}


# domain, MX host's address, TLSA record, letter, and how or in which words the report ends. Without MX the host is mx.DOMAIN
DOMAINS = [
    ("ee", TLS, "3 1 1 {key}", "K", DANE),
    ("ee-by-certificate", TLS, "3 0 1 {certificate}", "K", DANE),
    ("ee-expired", EXPIRED, "3 1 1 {late}", "K", DANE),
    ("ee-another-digest", SAME, "3 1 1 {other}", "Z", NOT_NAMED),
    ("ee-of-the-authority", TLS, "3 0 1 {ca}", "Z", NOT_NAMED),
    ("ee-without-tls", CLEAR, "3 1 1 {key}", "Z", NOT_OFFERED),
    ("ta", TLS, "2 0 1 {ca}", "K", DANE),
    ("ta-for-the-domain", TLS, "2 0 1 {ca}", "K", DANE),
    ("ta-another-name", TLS, "2 0 1 {ca}", "Z", "TLS failed: DANE: its certificate is for another name. (#4.7.5)"),
    ("ta-expired", EXPIRED, "2 0 1 {ca}", "Z", "TLS failed: DANE: its certificate has expired, or is not valid yet. (#4.7.5)"),
    ("ta-another-authority", TLS, "2 0 1 {other}", "Z", NOT_NAMED),
    # C5 (ROWS puts the number into the tests' names): records of no kind that can be used, and no others
    ("pkix-ta", TLS, "0 0 1 {other}", "K", ANY),
    ("pkix-ee", TLS, "1 1 1 {other}", "K", ANY),
    ("pkix-without-tls", CLEAR, "1 1 1 {other}", "Z", NOT_OFFERED),
    ("digest-of-no-kind", TLS, "3 1 9 {other}", "K", ANY),
    # and no record at all
    ("none", TLS, "", "K", ANY),
    ("none-without-tls", CLEAR, "", "K", NO_TLS),
    # S19: signatures that are bogus
    ("tampered", TLS, "3 1 1 {key}", "Z", "It is not known now whether DANE is demanded of mx.tampered.example: "),
    ("tampered-address", TLS, "3 1 1 {key}", "Z", "(#4.4.3)\n"),
    ("tampered-mx", TLS, "3 1 1 {key}", "Z", "(#4.4.3)\n"),
]

# domain, records of the zone "example.", letter, and how the report ends
NAMES = [
    ("next", "next MX 5 mx.ee-another-digest\nnext MX 10 mx.ee", "K", DANE),
    ("next-after-doubt", "next-after-doubt MX 5 mx.tampered\nnext-after-doubt MX 10 mx.none-without-tls", "K", NO_TLS),
    ("several", f"several MX 10 mx.several\nmx.several A {TLS}\n_25._tcp.mx.several TLSA 1 1 1 {OTHER}\n_25._tcp.mx.several TLSA 3 1 1 {OTHER}\n"
     "_25._tcp.mx.several TLSA 3 1 1 {key}", "K", DANE),
    ("no-mx", f"no-mx A {TLS}\n_25._tcp.no-mx TLSA 3 1 1 {{key}}", "K", DANE),
    ("no-mx-another-digest", f"no-mx-another-digest A {TLS}\n_25._tcp.no-mx-another-digest TLSA 3 1 1 {OTHER}", "Z", NOT_NAMED + "\n"),
    ("domain-is-an-alias", "domain-is-an-alias CNAME ee-another-digest", "Z", NOT_NAMED + "\n"),
    ("alias", "alias MX 10 mx.alias\nmx.alias CNAME mx.ee", "K", DANE),
    ("alias-with-its-own", f"alias-with-its-own MX 10 mx.alias-with-its-own\nmx.alias-with-its-own CNAME mx.none\n"
     f"_25._tcp.mx.alias-with-its-own TLSA 3 1 1 {OTHER}", "Z", NOT_NAMED + "\n"),
    ("alias-of-plain", f"alias-of-plain MX 10 mx.alias-of-plain\nmx.alias-of-plain CNAME mx.plain.\n_25._tcp.mx.alias-of-plain TLSA 3 1 1 {OTHER}",
     "Z", NOT_NAMED + "\n"),
    ("tlsa-is-an-alias", f"tlsa-is-an-alias MX 10 mx.tlsa-is-an-alias\nmx.tlsa-is-an-alias A {TLS}\n_25._tcp.mx.tlsa-is-an-alias CNAME _25._tcp.mx.ee",
     "K", DANE),
    ("tlsa-is-not-signed", f"tlsa-is-not-signed MX 10 mx.tlsa-is-not-signed\nmx.tlsa-is-not-signed A {TLS}\n"
     "_25._tcp.mx.tlsa-is-not-signed CNAME _25._tcp.mx.plain.", "K", ANY),
    ("host-is-not-signed", "host-is-not-signed MX 10 mx.plain.", "K", ANY),
]
# domain, its MX host, hosts that its MTA-STS policy has, letter, and how or in which words the report ends
STS = [
    ("sts", "mx.sts", ["mx.sts"], "K", ", verified.\n"),
    ("sts-another-host", "mx.sts", ["mx.other"], "Z", "The MX host mx.sts.example is not in the MTA-STS policy of sts-another-host.example. (#4.7.0)\n"),
    ("sts-another-name", "mx.none", ["mx.none"], "Z", "its certificate is for another name, and its domain has an MTA-STS policy that is enforced. (#4.7.5)\n"),
    ("sts-without-tls", "mx.none-without-tls", ["mx.none-without-tls"], "Z",
     "it does not offer TLS, and its domain has an MTA-STS policy that is enforced. (#4.7.4)\n"),
    ("sts-and-dane", "mx.ta", ["mx.ta"], "K", DANE),
    ("sts-and-another-digest", "mx.ee-another-digest", ["mx.ee-another-digest"], "Z",
     "DANE: its certificate is none that its TLSA records name, and its domain has an MTA-STS policy that is enforced. (#4.7.5)\n"),
    ("sts-another-host-and-dane", "mx.ta", ["mx.other"], "Z", "is not in the MTA-STS policy of sts-another-host-and-dane.example. (#4.7.0)\n"),
]
PLAIN = f"@ MX 10 mx.ee-another-digest.example.\nmx A {TLS}\n_25._tcp.mx TLSA 3 1 1 {OTHER}\n"
LATE = f"@ MX 10 mx\nmx A {TLS}\n"


def example():
    hosts = "".join(f"{d} MX 10 mx.{d}\nmx.{d} A {address}\n" + (f"_25._tcp.mx.{d} TLSA {tlsa}\n" if tlsa else "")
                    for d, address, tlsa, *_ in DOMAINS)
    policies = "".join(f"{d} MX 10 {host}\n_mta-sts.{d} TXT \"v=STSv1; id=1;\"\nmta-sts.{d} A 127.0.0.1\n" for d, host, *_ in STS)
    return (hosts + f"mx.sts A {TLS}\n" + policies + "".join(text + "\n" for _, text, *_ in NAMES)).format(**records())


@pytest.fixture(scope="module")
def servers():
    """By address; with one of each kind, and the zones."""
    network, made, ends = Network(TLS, SAME, CLEAR, EXPIRED, FOREIGN), {}, []
    ends.append(network.leave)
    try:
        zones = SignedZones({"example.": example(), "plain.": PLAIN, "late.": LATE}, unsigned=["plain."], expired=["late."],
                            tampered=[("_25._tcp.mx.tampered.example.", "TLSA"), ("mx.tampered-address.example.", "A"),
                                      ("tampered-mx.example.", "MX")])
        ends.append(zones.end)
        for address, context in ((TLS, server_context(chain())), (SAME, server_context(chain())), (CLEAR, None), (EXPIRED, server_context(chain(-1)))):
            made[address] = Server(host=address, port=25, tls=context)
            ends.append(made[address].close)
        yield made
    finally:
        for end in reversed(ends):
            end()


def resolve(tree):
    """Has it use the resolver, and not take the servers' addresses for its own."""
    tree.write("control/dnsservers", "127.0.0.1\n")
    tree.write("control/notipme", "192.0.2.0/24\n")
    return tree


@pytest.fixture
def sender(tree, servers):
    return resolve(tree)


def expect(sender, domain, letter, end, **more):
    got, text = send(sender, f"r@{domain}", host=domain, **more)[-1]
    assert got == letter and text.endswith(end) if letter == "K" else got == letter and end in text, (got, text)
    assert ("DANE.\n" in text) == (end == DANE) and ("Sent by TLSv1.2 with" in text) == (end in (DANE, ANY)), text
    return text


EXPECTED = {name: (letter, end) for name, *_, letter, end in DOMAINS + NAMES}


ROWS = {**dict.fromkeys(["pkix-ta", "pkix-ee", "pkix-without-tls", "digest-of-no-kind"], "C5-"),
        **dict.fromkeys(["tampered", "tampered-address", "tampered-mx"], "S19-")}


@pytest.mark.parametrize("domain", EXPECTED, ids=[ROWS.get(name, "") + name for name in EXPECTED])
def test_a_domain(sender, domain):
    expect(sender, f"{domain}.example", *EXPECTED[domain])


def test_S19_expired_signatures(sender):
    expect(sender, "late", "Z", "(#4.4.3)\n")


def test_an_unsigned_domain(sender):
    """The records of its MX host are signed, but that it is the MX host is not."""
    expect(sender, "plain", "K", ANY)


def test_a_resolver_elsewhere(sender):
    """The same one, but whoever is on the way may have set its AD bit."""
    sender.write("control/dnsservers", FOREIGN + "\n")
    expect(sender, "ee-another-digest.example", "K", ANY)
    sender.write("control/dnsservers", f"127.0.0.1\n{FOREIGN}\n")
    expect(sender, "ee-another-digest.example", "K", ANY)


def test_a_resolver_that_does_not_verify(sender):
    with FakeDns() as dns:
        dns.add("x.example", "MX", (10, "mx.x.example"))
        dns.add("mx.x.example", "A", TLS)
        dns.add("_25._tcp.mx.x.example", "TLSA", bytes([3, 1, 1]) + bytes(32))
        sender.write("control/dnsservers", dns.server + "\n")
        expect(sender, "x.example", "K", ANY)
        assert not dns.asked("_25._tcp.mx.x.example", "TLSA")
        for name, kind in (("x.example", "MX"), ("mx.x.example", "A"), ("_25._tcp.mx.x.example", "TLSA")):
            dns.behave(name, kind, "AUTHENTIC")
        expect(sender, "x.example", "Z", NOT_NAMED)


@pytest.mark.parametrize("domain", ["alias", "alias-with-its-own"])
def test_the_name_is_sent(sender, servers, domain):
    """SNI is the base domain of the records."""
    names = []
    servers[TLS].tls.sni_callback = lambda sock, name, context: names.append(name)
    send(sender, host=f"{domain}.example")
    servers[TLS].tls.sni_callback = None
    assert names == ["mx.ee.example" if domain == "alias" else "mx.alias-with-its-own.example"]


# --- control/tlspolicy ---------------------------------------------------------------------------

DEMANDED = "DANE is demanded of mx.%s.example, and it has no TLSA records to go by: %s. (#4.7.4)\n"


@pytest.mark.parametrize("policy, domain, letter, end", [
    ("dane", "ee", "K", DANE),
    ("dane", "ee-another-digest", "Z", NOT_NAMED),
    ("dane", "none", "Z", DEMANDED % ("none", "there are none")),
    ("dane", "pkix-ee", "Z", DEMANDED % ("pkix-ee", "it has none that can be used for SMTP")),
    ("encrypt", "ee-another-digest", "Z", NOT_NAMED),
    ("encrypt", "none-without-tls", "Z", NOT_OFFERED),
    ("may", "ee-another-digest", "Z", NOT_NAMED),
    ("none", "ee-another-digest", "K", NO_TLS),
])
def test_a_policy(sender, policy, domain, letter, end):
    sender.write("control/tlspolicy", f"{domain}.example:{policy}\n")
    expect(sender, f"{domain}.example", letter, end)


def test_a_demand_of_its_own(sender):
    """A fingerprint is the administrator's word."""
    sender.write("control/tlspolicy", f"ee-another-digest.example:fingerprint:{records()['key']}\n")
    got, text = send(sender, host="ee-another-digest.example")[-1]
    assert got == "K" and text.endswith(", fingerprint known.\n")


def test_a_demand_on_what_is_not_signed(sender):
    sender.write("control/tlspolicy", ":dane\n")
    expect(sender, "plain", "Z", "it has no TLSA records to go by: it is not signed that it is a server of the domain. (#4.7.4)\n")
    expect(sender, "host-is-not-signed.example", "Z", "it has no TLSA records to go by: its addresses are not signed. (#4.7.4)\n")
    expect(sender, f"[{TLS}]", "Z", "it has no TLSA records to go by: it is not signed that it is a server of the domain. (#4.7.4)\n")
    sender.write("control/dnsservers", FOREIGN + "\n")
    expect(sender, "ee.example", "Z", "it has no TLSA records to go by: no resolver of this host itself says what is signed. (#4.7.4)\n")


def test_a_relay(sender):
    """Its name is the administrator's word, and its addresses and records are signed."""
    sender.write("control/smtproutes", ":mx.ee.example\n")
    expect(sender, "plain", "K", DANE)
    sender.write("control/smtproutes", ":mx.ee-another-digest.example\n")
    expect(sender, "plain", "Z", NOT_NAMED)


# --- MTA-STS -------------------------------------------------------------------------------------------


@pytest.fixture
def keeper(servers, stopped):
    """A tree with qmail-mtastsd, which asks the resolver and knows the tests' authority; .web is the web server of all policies."""
    tree = resolve(stopped)
    believe(tree)
    with PolicyServer(*(f"mta-sts.{d}.example" for d, *_ in STS)) as tree.web:
        mtastsd = tree.start_daemon("qmail-mtastsd", "qmail-mtastsd", env={"MTASTSPORT": str(tree.web.port)})
        yield tree
        tree.end(mtastsd, signal.SIGTERM)


@pytest.mark.parametrize("domain, hosts, letter, end", [(d, hosts, letter, end) for d, _, hosts, letter, end in STS], ids=[row[0] for row in STS])
def test_a_domain_with_a_policy(keeper, domain, hosts, letter, end):
    """The stricter of both wins."""
    keeper.web.says = response(policy(*(f"{host}.example" for host in hosts)))
    got, text = send(keeper, f"r@{domain}.example", host=f"{domain}.example")[-1]
    assert got == letter and text.endswith(end) if letter == "K" else got == letter and end in text, (got, text)
    assert len(keeper.web.requests) == 1


# --- with qmail-send -----------------------------------------------------------------------------------


def test_the_reason_is_in_log_and_bounce(servers, stopped):
    expect_in_log_and_bounce(resolve(stopped), "r@ee-another-digest.example", NOT_NAMED)


def test_a_worker(sender):
    """Records that change between two sessions: the second is not taken for the first."""
    with FakeDns() as dns:
        for name, kind, data in (("x.example", "MX", (10, "mx.x.example")), ("mx.x.example", "A", TLS),
                                 ("_25._tcp.mx.x.example", "TLSA", bytes([3, 1, 1]) + bytes.fromhex(records()["key"]))):
            dns.add(name, kind, data)
            dns.behave(name, kind, "AUTHENTIC")
        dns.add("y.example", "MX", (10, "mx.x.example"))
        dns.behave("y.example", "MX", "AUTHENTIC")
        sender.write("control/dnsservers", dns.server + "\n")
        with RemoteWorker(sender, host="x.example") as worker:
            ((letter, text),) = worker.deliver("r@x.example", host="x.example")
            assert letter == "K" and text.endswith(DANE), text
            dns.records["_25._tcp.mx.x.example"]["TLSA"] = [(bytes([3, 1, 1]) + bytes(32), 300)]
            ((letter, text),) = worker.deliver("r@y.example", host="y.example")
            assert letter == "Z" and NOT_NAMED in text, text
