"""Where mail for a host goes: qmail-route against name servers that answer, lie and keep silent. Row S19."""
import re
import resource
import shutil
import time

import pytest

from conftest import Tree, make_tree, new_directory
from fake_dns import FakeDns, name_octets, record

MEMORY = 64 << 20  # octets of address space
PROCESSOR = 5  # seconds of processor time, for what takes milliseconds


@pytest.fixture(scope="module")
def tree(installation):
    """One for all tests of this file: qmail-route changes nothing in it."""
    top = new_directory()
    yield make_tree(installation, Tree, top / "tambo")
    shutil.rmtree(top)


@pytest.fixture
def dns():
    with FakeDns() as server:
        yield server


@pytest.fixture
def route(tree, dns):
    tree.need("qmail-route")
    tree.write("control/dnsservers", f"# the test's\n{dns.server}\n")

    def run(*hosts, code=0, wait=20, cap=True):
        """Lines that qmail-route prints, fields parted by blanks. code: the exit status, or several that may be."""
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR, PROCESSOR))

        done = tree.run("qmail-route", "-t", wait, *hosts, preexec_fn=limit if cap and "ASAN" not in str(tree.environment()) else None)
        assert done.returncode in (code if isinstance(code, tuple) else (code,)) and done.stderr == b"", done
        return done.stdout.decode(errors="replace").replace("\t", " ").splitlines()

    run.tree = tree
    yield run
    for name in ("dnsservers", "smtproutes", "moreipme", "notipme"):
        (tree.control / name).unlink(missing_ok=True)


def hosts(lines):
    return [line.split()[1] for line in lines[1:]]


def code_of(lines):
    assert len(lines) == 1, lines
    return re.search(r": (bounced|deferred): .*\(#(\d\.\d+\.\d+)\)$", lines[0]).groups()


# -- what a route is ---------------------------------------------------------------------------


def test_mx_in_order_with_both_families(route, dns):
    dns.add("x.example", "MX", (20, "b.x.example"), (10, "A.x.example"), ttl=600)
    dns.add("a.x.example", "A", "198.51.100.1", ttl=120)
    dns.add("a.x.example", "AAAA", "2001:db8::1")
    dns.add("b.x.example", "A", "198.51.100.2")
    assert route("X.Example.") == ["X.Example.: mail exchangers (for 120 seconds)", "10 a.x.example 2001:db8::1 25",
                                   "10 a.x.example 198.51.100.1 25", "20 b.x.example 198.51.100.2 25"]


def test_all_questions_about_addresses_are_asked_at_once(route, dns):
    dns.add("x.example", "MX", *[(i, f"m{i}.x.example") for i in range(6)])
    dns.add("m5.x.example", "A", "198.51.100.5")
    for i in range(5):
        dns.behave(f"m{i}.x.example", "ANY", "SILENT")
    begin = time.monotonic()
    assert hosts(route("x.example", wait=3)) == ["m5.x.example"]
    assert time.monotonic() - begin < 6
    assert {k for _, n, k in dns.queries[1:13]} == {"A", "AAAA"}


def test_without_mx_the_host_itself(route, dns):
    dns.add("x.example", "A", "198.51.100.1")
    assert route("x.example")[1:] == ["0 x.example 198.51.100.1 25"]


def test_null_mx(route, dns):
    dns.add("x.example", "MX", (0, ""))
    dns.add("x.example", "A", "198.51.100.1")
    assert code_of(route("x.example", code=100)) == ("bounced", "5.1.10")


def test_aliases(route, dns):
    dns.alias("x.example", "y.example", ttl=60)
    dns.alias("y.example", "z.example")
    dns.add("z.example", "MX", (10, "m.example"))
    dns.alias("m.example", "n.example")
    dns.add("n.example", "A", "198.51.100.1")
    assert route("x.example") == ["x.example: mail exchangers (for 60 seconds)", "10 m.example 198.51.100.1 25"]


def test_an_alias_without_mx(route, dns):
    dns.alias("x.example", "y.example")
    dns.add("y.example", "A", "198.51.100.1")
    assert route("x.example")[1:] == ["0 y.example 198.51.100.1 25"]


def test_a_server_that_leaves_aliases_to_us(route, dns):
    for name in "xyz":
        dns.behave(f"{name}.example", "ANY", "NO_CHASE")
    dns.alias("x.example", "y.example")
    dns.alias("y.example", "z.example")
    dns.add("z.example", "MX", (10, "m.example"))
    dns.add("m.example", "A", "198.51.100.1")
    assert hosts(route("x.example")) == ["m.example"]


def test_no_such_domain_and_no_data(route, dns):
    dns.add("x.example", "TXT", b"text")
    assert code_of(route("no.example", code=100)) == ("bounced", "5.1.2")
    assert code_of(route("x.example", code=100)) == ("bounced", "5.1.2")


def test_other_letters(route, dns):
    dns.add("xn--bcher-kva.example", "MX", (10, "m.example"))
    dns.add("m.example", "A", "198.51.100.1")
    for host in ("bücher.example", "BÜCHER.example", "bu\u0308cher.example", "xn--bcher-kva.example"):
        assert hosts(route(host)) == ["m.example"]


def test_relays_of_smtproutes(route, dns):
    dns.add("relay.example", "A", "127.0.0.1")
    dns.add("relay.example", "MX", (10, "elsewhere.example"))
    dns.add("x.example", "MX", (10, "m.example"))
    dns.add("m.example", "A", "198.51.100.1")
    route.tree.write("control/smtproutes", ".r.example:relay.example:2525|ann|secret\nl.example:[2001:db8::9]\n"
                                           "x.example::2626\nbad.example:a:b\n")
    assert route("a.r.example") == ["a.r.example: relay of smtproutes, logs in as ann (for 300 seconds)",
                                    "0 relay.example 127.0.0.1 2525"]
    assert route("l.example") == ["l.example: relay of smtproutes", "0 2001:db8::9 2001:db8::9 25"]
    assert route("x.example")[1:] == ["10 m.example 198.51.100.1 2626"]
    assert "makes no sense" in route("bad.example", code=111)[0]
    assert route("l.example.") == ["l.example.: relay of smtproutes", "0 2001:db8::9 2001:db8::9 25"]


def test_literals(route):
    assert route("[198.51.100.1]")[1:] == ["0 198.51.100.1 198.51.100.1 25"]
    assert route("[IPv6:2001:db8::1]")[1:] == ["0 2001:db8::1 2001:db8::1 25"]
    assert code_of(route("[127.0.0.1]", code=100)) == ("bounced", "5.4.6")


def test_moreipme_and_notipme(route, dns):
    dns.add("x.example", "MX", (10, "a.example"), (20, "b.example"))
    dns.add("a.example", "A", "198.51.100.1")
    dns.add("b.example", "A", "198.51.100.2")
    route.tree.write("control/moreipme", "198.51.100.2\n")
    assert hosts(route("x.example")) == ["a.example"]
    route.tree.write("control/moreipme", "198.51.100.0/24\n")
    assert code_of(route("x.example", code=100)) == ("bounced", "5.4.6")
    route.tree.write("control/notipme", "198.51.100.0/24\n127.0.0.5\n")
    assert hosts(route("x.example")) == ["a.example", "b.example"]
    assert route("[127.0.0.5]")[1:] == ["0 127.0.0.5 127.0.0.5 25"]


def test_files_that_make_no_sense(route):
    for name, text in (("dnsservers", "no server\n"), ("dnsservers", "# none\n"), ("moreipme", "host.example\n")):
        old = route.tree.home / "control" / name
        before = old.read_bytes() if old.exists() else None
        route.tree.write(f"control/{name}", text)
        done = route.tree.run("qmail-route", "x.example")
        assert done.returncode == 111 and name in done.stderr.decode()
        old.unlink() if before is None else route.tree.write(f"control/{name}", before)


def test_usage(tree):
    for arguments in ((), ("-t",), ("-t", "x", "h"), ("-q", "h"), ("-t", "4000", "h")):
        assert tree.run("qmail-route", *arguments).returncode == 100


# -- trouble is temporary ------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["SERVFAIL", "REFUSED", "SILENT", "GARBAGE", "SHORT", "EMPTY", "REFERRAL", "NO_TCP"])
@pytest.mark.parametrize("kind", ["MX", "A"])
def test_trouble_is_temporary(route, dns, way, kind):
    dns.add("x.example", "MX", (10, "m.example")) if kind == "MX" else dns.add("x.example", "A", "198.51.100.1")
    dns.behave("x.example", kind, way)
    if kind == "A":
        dns.behave("x.example", "AAAA", "NODATA")
    assert code_of(route("x.example", code=111, wait=2)) == ("deferred", "4.4.3")


def test_nobody_listens(route):
    route.tree.write("control/dnsservers", "127.0.0.1:1\n")
    begin = time.monotonic()
    assert code_of(route("x.example", code=111)) == ("deferred", "4.4.3")
    assert time.monotonic() - begin < 10


def test_the_second_server_answers(route, dns):
    dns.add("x.example", "A", "198.51.100.1")
    with FakeDns() as broken:
        for way in ("SERVFAIL", "REFUSED", "SILENT"):
            broken.behave("x.example", "ANY", way)
            route.tree.write("control/dnsservers", f"{broken.server}\n{dns.server}\n")
            assert route("x.example")[1:] == ["0 x.example 198.51.100.1 25"]


def test_a_lost_datagram_is_asked_again(route, dns):
    dns.add("x.example", "A", "198.51.100.1")
    seen = set()

    def lose_first(server, query):
        key = (query.name, query.kind)
        first = key not in seen
        seen.add(key)
        return [] if first else [server.usual(query)]

    dns.behave("x.example", "ANY", lose_first)
    assert route("x.example")[1:] == ["0 x.example 198.51.100.1 25"]


def test_one_broken_family_is_no_trouble(route, dns):
    dns.add("x.example", "A", "198.51.100.1")
    dns.behave("x.example", "AAAA", "SERVFAIL")
    assert route("x.example")[1:] == ["0 x.example 198.51.100.1 25"]


# -- S19: hostile answers ------------------------------------------------------------------------


def test_S19_a_thousand_mx(route, dns):
    dns.add("x.example", "MX", *[(i % 7 + 1, f"mail-exchanger-{i}.x.example") for i in range(1000)])
    for i in range(1000):
        dns.add(f"mail-exchanger-{i}.x.example", "A", f"198.18.{i // 250}.{i % 250}")
    lines = route("x.example")
    assert len(lines) == 21 and all(line.startswith("1 ") for line in lines[1:])
    assert {t for t, n, k in dns.queries if k == "MX"} == {"udp", "tcp"}
    assert len(dns.queries) < 60


def test_S19_many_addresses(route, dns):
    dns.add("x.example", "A", *[f"198.18.{i // 250}.{i % 250}" for i in range(3000)])
    assert len(route("x.example")) == 9


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "127.1.2.3", "224.0.0.1", "255.255.255.255"])
def test_S19_mx_to_ourselves(route, dns, address):
    dns.add("x.example", "MX", (10, "m.example"), (10, "n.example"), (20, "o.example"))
    dns.add("m.example", "A", address)
    dns.add("n.example", "A", "198.51.100.1")
    dns.add("o.example", "A", "198.51.100.2")
    assert code_of(route("x.example", code=100)) == ("bounced", "5.4.6")


@pytest.mark.parametrize("address", ["::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0", "64:ff9b::7f00:1", "ff02::1"])
def test_S19_mx_to_ourselves_by_ipv6(route, dns, address):
    dns.add("x.example", "MX", (10, "m.example"))
    dns.add("m.example", "AAAA", address)
    assert code_of(route("x.example", code=100)) == ("bounced", "5.4.6")


@pytest.mark.parametrize("length", [2, 15, 40])
def test_S19_alias_chains(route, dns, length):
    for i in range(length):
        dns.alias(f"c{i}.example", f"c{i + 1}.example")
    dns.add(f"c{length}.example", "MX", (10, "m.example"))
    dns.add("m.example", "A", "198.51.100.1")
    if length < 16:
        assert hosts(route("c0.example")) == ["m.example"]
    else:
        assert code_of(route("c0.example", code=111)) == ("deferred", "4.4.3")


@pytest.mark.parametrize("way", [None, "NO_CHASE"])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_S19_alias_loops(route, dns, length, way):
    for i in range(length):
        dns.alias(f"c{i}.example", f"c{(i + 1) % length}.example")
        if way:
            dns.behave(f"c{i}.example", "ANY", way)
    assert code_of(route("c0.example", code=111)) == ("deferred", "4.4.3")
    assert len(dns.queries) < 40


def test_S19_tcp_only(route, dns):
    dns.add("x.example", "MX", (10, "m.example"))
    dns.behave("x.example", "MX", "TCP")
    dns.add("m.example", "A", "198.51.100.1")
    dns.behave("m.example", "ANY", "TCP")
    assert hosts(route("x.example")) == ["m.example"]
    assert ("tcp", "m.example", "A") in dns.queries


def test_S19_an_answer_for_another_name(route, dns):
    dns.add("x.example", "A", "198.51.100.1")
    dns.behave("x.example", "A", "OTHER_NAME")
    assert code_of(route("x.example", code=100)) == ("bounced", "5.1.2")


@pytest.mark.parametrize("way", ["OTHER_ID", "OTHER_QUESTION"])
def test_S19_an_answer_to_another_question(route, dns, way):
    dns.add("x.example", "A", "198.51.100.1")
    dns.behave("x.example", "ANY", way)
    assert route("x.example", wait=9)[1:] == ["0 x.example 198.51.100.1 25"]


def test_S19_records_of_others_beside_the_right_one(route, dns):
    """What was not asked for does not count, wherever it stands."""
    def poison(server, query):
        if query.kind == "MX":
            return [query.reply([record("bank.example", "MX", (1, "evil.example")), record("x.example", "MX", (10, "m.example")),
                                 record("x.example", "A", "198.51.100.66"), record("evil.example", "A", "198.51.100.66")])]
        return [server.usual(query)]

    dns.behave("x.example", "MX", poison)
    dns.add("m.example", "A", "198.51.100.1")
    assert route("x.example")[1:] == ["10 m.example 198.51.100.1 25"]


HOSTILE_LABELS = {
    "NUL": [b"m\0.evil", b"example"], "only NUL": [b"\0"], "blank": [b"m x", b"example"], "dot in a label": [b"m.x", b"example"],
    "CR LF": [b"m\r\nx", b"example"], "8-bit": [b"m\xff", b"example"], "escape": [b"\x1b[2J", b"example"], "shell": [b"$(id);`id`", b"example"],
    "quote": [b'm"x', b"example"], "slash": [b"../m", b"example"], "backslash": [b"m\\000", b"example"], "percent": [b"m%s%n", b"example"],
}


@pytest.mark.parametrize("labels", HOSTILE_LABELS.values(), ids=HOSTILE_LABELS.keys())
def test_S19_names_that_are_no_host_names(route, dns, labels):
    dns.add("x.example", "MX", (10, labels))
    dns.add("x.example", "A", "198.51.100.1")
    # a c-ares that does not even read such a name defers
    refused = code_of(route("x.example", code=(100, 111), wait=3))
    assert refused in (("bounced", "5.4.4"), ("deferred", "4.4.3"))
    dns.add("x.example", "MX", (20, "m.example"))
    dns.add("m.example", "A", "198.51.100.2")
    if refused[0] == "bounced":
        assert route("x.example")[1:] == ["20 m.example 198.51.100.2 25"]


def test_S19_longest_names(route, dns):
    long = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(long) == 253
    dns.add("x.example", "MX", (10, long))
    dns.add(long, "A", "198.51.100.1")
    assert hosts(route("x.example")) == [long]
    assert hosts(route(long)) == [long]
    assert code_of(route(long + "c", code=100)) == ("bounced", "5.1.2")


@pytest.mark.parametrize("host", ["", ".", "..", "a..b", "a" * 64, ".a", "a b", "a\nb", "a\\000b", "\x1b[2J", "$(id)", "a@b", "é é.example", "☃.example", "\udcff.example"])
def test_S19_hosts_that_cannot_be(route, dns, host):
    lines = route(host, code=100)
    assert "\x1b" not in lines[0]
    assert code_of(lines) == ("bounced", "5.1.2")
    assert dns.queries == []


def hostile_messages():
    """Names and lengths that lead anywhere: (what, a function that makes answers of a query)."""
    mx = b"\0\x0f\0\1\0\0\0\x05"
    return {
        "a pointer to itself": lambda q: q.reply([bytes([0xc0, 12 + len(q.question)]) + mx + b"\0\5\0\x0a\1a\0"]),
        "pointers in a circle": lambda q: q.reply([b"\xc0\x0c" + mx + b"\0\6\0\x0a" + bytes([0xc0, 12 + len(q.question) + 16]) +
                                                   bytes([0xc0, 12 + len(q.question) + 14])]),
        "a pointer behind the end": lambda q: q.reply([b"\xc0\x0c" + mx + b"\0\4\0\x0a\xff\xff"]),
        "a pointer into the header": lambda q: q.reply([b"\xc0\x0c" + mx + b"\0\4\0\x0a\xc0\x02"]),
        "RDATA longer than the message": lambda q: q.reply([b"\xc0\x0c" + mx + b"\xff\xff\0\x0a\1a\0"]),
        "RDATA longer than the name": lambda q: q.reply([b"\xc0\x0c" + mx + b"\0\x09\0\x0a\1a\0abcd"]),
        "RDATA shorter than the name": lambda q: q.reply([b"\xc0\x0c" + mx + b"\0\4\0\x0a\1a\0"]),
        "RDATA of no octet": lambda q: q.reply([b"\xc0\x0c" + mx + b"\0\0"]),
        "more answers than there are": lambda q: q.reply([b"\xc0\x0c" + mx + b"\0\5\0\x0a\1a\0"], number=65535),
        "a label type of the future": lambda q: q.reply([b"\xc0\x0c" + mx + b"\0\5\0\x0a\x80a\0"]),
    }


@pytest.mark.parametrize("what", hostile_messages())
def test_S19_damaged_answers(route, dns, what):
    dns.behave("x.example", "MX", lambda server, query: [hostile_messages()[what](query)])
    # c-ares of Debian 13 leaves octets after a name alone: then that is an MX host, without an address
    allowed = [("deferred", "4.4.3")] + [("bounced", "5.4.4")] * (what == "RDATA longer than the name")
    assert code_of(route("x.example", code=(100, 111), wait=2)) in allowed


def test_S19_a_pointer_bomb(route, dns):
    """Names that are long chains of pointers, thousands of them: processor time is bounded."""
    def bomb(server, query):
        start = 12 + len(query.question) + 12
        chain = b"\0" + b"".join(struct_pointer(start if i == 0 else start + 1 + 2 * (i - 1)) for i in range(7800))
        last = start + 1 + 2 * 7799
        answers = [b"\xc0\x0c" + b"\0\x10\0\1\0\0\0\5" + len(chain).to_bytes(2, "big") + chain]
        answers += [struct_pointer(last) + b"\0\x0f\0\1\0\0\0\5\0\4\0\x0a" + struct_pointer(last)] * 3000
        return [query.reply(answers)]

    def struct_pointer(at):
        return (0xc000 | min(at, 0x3fff)).to_bytes(2, "big")

    dns.behave("x.example", "MX", lambda server, query: [query.reply(flags=0x0200)] if query.transport == "udp" else bomb(server, query))
    begin = time.monotonic()
    route("x.example", code=111, wait=10)
    assert time.monotonic() - begin < 8


def keys_of_one_tag(server, query):
    """KeyTrap: hundreds of keys, each of which could have made each of hundreds of signatures."""
    if query.transport == "udp":
        return [query.reply(flags=0x0200)]
    key = b"\1\1\3\x0d" + b"\0" * 64
    signature = b"\0\x0f\x0d\2" + b"\0\0\1\x2c" + b"\x7f" * 4 + b"\0" * 4 + b"\4\x0e" + name_octets("x.example") + b"\0" * 64
    answers = [record(query.name, kind, data, question=query.name) for _ in range(330)
               for kind, data in [("DNSKEY", key), ("RRSIG", signature)]]
    usual, _ = server.collect(query)
    return [query.reply(answers + usual)]


def test_S19_keys_beside_the_answer(route, dns):
    """A stub verifies nothing: what the resolver lets through is left out, and no question is asked for it."""
    dns.add("x.example", "MX", (10, "m.example"))
    dns.behave("x.example", "MX", keys_of_one_tag)
    dns.add("m.example", "A", "198.51.100.1")
    dns.behave("m.example", "A", keys_of_one_tag)
    assert route("x.example")[1:] == ["10 m.example 198.51.100.1 25"]
    assert sorted(dns.queries) == [("tcp", "m.example", "A"), ("tcp", "x.example", "MX"), ("udp", "m.example", "A"),
                                   ("udp", "m.example", "AAAA"), ("udp", "x.example", "MX")]


@pytest.mark.parametrize("kind", ["MX", "A", "ANY"])
def test_S19_keys_instead_of_an_answer(route, dns, kind):
    """No record of the type, and no SOA that says so: nobody knows."""
    dns.behave("x.example", kind, keys_of_one_tag)
    assert code_of(route("x.example", code=111)) == ("deferred", "4.4.3")
    assert len(dns.queries) <= 6 and {k for _, _, k in dns.queries} <= {"MX", "A", "AAAA"}


def test_S19_a_server_that_drips(route, dns):
    """Endless datagrams that answer something else keep nobody busy beyond the deadline."""
    def flood(server, query):
        return [query.reply(id_=(query.id + i) & 0xffff) for i in range(1, 2000)]

    dns.behave("x.example", "MX", flood)
    begin = time.monotonic()
    assert code_of(route("x.example", code=111, wait=2)) == ("deferred", "4.4.3")
    assert time.monotonic() - begin < 8


def test_S19_a_null_mx_with_company(route, dns):
    dns.add("x.example", "MX", (0, ""), (10, "m.example"))
    dns.add("m.example", "A", "198.51.100.1")
    assert hosts(route("x.example")) == ["m.example"]


def test_name_octets_are_what_a_server_sends():
    assert name_octets("a.bc") == b"\1a\2bc\0"
