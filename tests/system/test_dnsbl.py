"""DNS lists: what qmail-dnsbl makes of their answers, and what a client of qmail-smtpd gets (interfaces section 17)."""
import os
import pathlib
import socket
import time

import pytest

from conftest import HOST, wait_for
from fake_dns import FakeDns
from serving import Tcpserver
from signed_zones import Network
from smtp_session import Client, Queue, capped

CLIENT = "192.0.2.99"
REVERSED = "99.2.0.192"


@pytest.fixture
def dns():
    with FakeDns() as server:
        yield server


@pytest.fixture
def listing(tree, dns):
    """A function that runs qmail-dnsbl with these lines in control/dnsbllist: (exit code, lines printed)."""
    tree.need("qmail-dnsbl")
    tree.write("control/dnsservers", dns.server + "\n")

    def ask(*lines, client=CLIENT, env=None, limit=None):
        tree.write("control/dnsbllist", "".join(line + "\n" for line in lines))
        done = tree.run("qmail-dnsbl", client, env=env, preexec_fn=limit)
        ask.errors = done.stderr.decode()
        return done.returncode, done.stdout.decode().splitlines()

    ask.tree = tree
    return ask


def put(dns, zone, address="127.0.0.2", text=b"see http://bl.example/", reverse=REVERSED):
    if address:
        dns.add(f"{reverse}.{zone}", "A", address)
    if text:
        dns.add(f"{reverse}.{zone}", "TXT", text)


def test_every_kind_of_line(listing, dns):
    for zone in ("a.example", "b.example", "c.example", "d.example"):
        put(dns, zone)
    assert listing("a.example") == (111, ["a.example (451): listed: see http://bl.example/", "451 see http://bl.example/"])
    assert listing("-a.example") == (100, ["a.example (553): listed: see http://bl.example/", "553 see http://bl.example/"])
    assert listing("=a.example") == (0, ["a.example (log only): listed: see http://bl.example/", "accept"])
    assert listing("a.example:%IP% is bad") == (111, [f"a.example (451): listed: {CLIENT} is bad", f"451 {CLIENT} is bad"])
    assert listing("a.example:-bad")[0] == 100
    assert listing("-a.example", "b.example", "+c.example")[0] == 0  # a good list beats all
    assert listing("a.example", "-b.example")[1][-1].startswith("451")  # the first one counts
    assert listing("=a.example", "-b.example")[1][-1].startswith("553")
    assert listing("# none", "  ") == (0, ["accept"])
    assert listing("x.example", "-y.example", "+z.example")[0] == 0


def test_ipv6(listing, dns):
    put(dns, "a.example", reverse="1.0.0.0." + "0." * 20 + "8.b.d.0.1.0.0.2")
    assert listing("-a.example", client="2001:db8::1")[0] == 100
    assert listing("-a.example", client="2001:db8::2")[0] == 0


def test_a_list_that_was_sold_or_refuses_refuses_nobody(listing, dns):
    put(dns, "sold.example", "203.0.113.7", b"buy this domain")
    put(dns, "refuses.example", "127.255.255.254", b"Error: open resolver")
    assert listing("-sold.example", "-refuses.example", "sold.example:x", "+sold.example")[0] == 0


def test_texts_only(listing, dns):
    put(dns, "texts.example", None)
    put(dns, "addresses.example", text=None)
    assert listing("-texts.example")[0] == 100
    assert listing("-addresses.example")[0] == 0 and listing("-addresses.example:x")[0] == 100


def test_hostile_texts(listing, dns):
    put(dns, "a.example", text=b"250 ok\r\n220 evil\0\xff\x1b[2J")
    assert listing("a.example")[1][-1] == "451 250 ok??220 evil???[2J"
    put(dns, "b.example", text=b"x" * 5000)
    assert listing("b.example")[1][-1] == "451 " + "x" * 399


TEXT = 65100  # octets of a TXT record that fills an answer of DNS, 64 KiB, to its end


def test_S19_TXT_of_64_KiB(listing, dns):
    put(dns, "a.example", text=b"x" * TEXT)
    assert listing("-a.example", limit=capped())[1][-1] == "553 " + "x" * 399
    assert ("tcp", f"{REVERSED}.a.example", "TXT") in dns.queries


@pytest.mark.parametrize("way", ["SILENT", "SERVFAIL", "REFUSED", "GARBAGE", "SHORT", "OTHER_NAME"])
@pytest.mark.parametrize("closed", [None, "1"])
def test_lists_that_do_not_answer(listing, dns, way, closed):
    """All are asked at once, so that all together cost the time of one; only where it is asked for are they held against anybody."""
    for n in range(5):
        dns.behave(f"{REVERSED}.l{n}.example", "ANY", way)
    begun = time.monotonic()
    code, lines = listing(*[f"-l{n}.example" for n in range(5)], env={"DNSBLFAILCLOSED": closed})
    assert time.monotonic() - begun < 9
    assert code == (111 if closed else 0)
    assert lines[:-1] == [f"l{n}.example (553): no answer" for n in range(5)]


def test_fail_closed_file_and_variable(listing, dns):
    dns.behave(f"{REVERSED}.a.example", "ANY", "REFUSED")
    listing.tree.write("control/dnsblfailclosed", "1\n")
    assert listing("a.example")[0] == 111
    assert listing("a.example", env={"DNSBLFAILCLOSED": "0"})[0] == 0
    put(dns, "good.example")
    assert listing("a.example", "+good.example")[0] == 0
    assert listing("=a.example")[0] == 0


def test_another_file(listing, dns):
    put(dns, "a.example")
    listing.tree.write("control/other", "-a.example\n")
    assert listing("b.example", env={"DNSBLLIST": "control/other"})[0] == 100


def test_lines_without_sense_are_said_and_left_out(listing, dns):
    put(dns, "a.example")
    assert listing("a b", "c.example:", "-a.example")[0] == 100
    assert listing.errors.count("makes sense of a line") == 2
    listing(*[f"l{n}.example" for n in range(40)])
    assert "only the first 32 lists" in listing.errors


@pytest.mark.parametrize("arguments, code", [((), 100), (("x",), 100), (("192.0.2.1", "192.0.2.2"), 100), (("-x", "192.0.2.1"), 100)])
def test_usage(listing, arguments, code):
    assert listing.tree.run("qmail-dnsbl", *arguments).returncode == code


# --- a session -------------------------------------------------------------------------------------------------------------

class Session:
    """An SMTP dialogue with a qmail-smtpd that believes it is under tcpserver."""

    def __init__(self, tree, **env):
        ours, theirs = socket.socketpair()
        self.log = tree.home / "smtpd.log"
        with open(self.log, "ab") as log:
            self.process = tree.popen("qmail-smtpd", stdin=theirs, stdout=theirs, stderr=log, preexec_fn=capped(), env={
                "PROTO": "TCP", "TCPREMOTEIP": CLIENT, "TCPREMOTEPORT": "4000", "TCPLOCALIP": "192.0.2.1", "TCPLOCALPORT": "25", **env})
        theirs.close()
        ours.settimeout(20)
        self.socket, self.file = ours, ours.makefile("rb")
        self.read()

    def read(self):
        line = self.file.readline()
        while line[3:4] == b"-":
            line = self.file.readline()
        return line.decode().rstrip("\r\n")

    def say(self, line):
        self.socket.sendall(line.encode() + b"\r\n")
        return self.read()

    def recipient(self, address=f"ana@{HOST}"):
        self.say("EHLO client.example")
        assert self.say("MAIL FROM:<x@client.example>").startswith("250")
        return self.say(f"RCPT TO:<{address}>")

    def end(self):
        self.file.close()
        self.socket.close()
        self.process.wait(20)


def asking(tree):
    """pids of qmail-dnsbl."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/exe"):
        try:
            if os.readlink(entry) == str(tree.bin / "qmail-dnsbl"):
                found.append(int(entry.parent.name))
        except OSError:
            pass
    return found


@pytest.fixture
def smtpd(tree, dns):
    tree.need("qmail-smtpd", "qmail-dnsbl")
    tree.write("control/rcpthosts", HOST + "\n")
    tree.write("control/dnsservers", dns.server + "\n")
    put(dns, "a.example")
    sessions = []

    def start(*lists, **env):
        if lists:
            tree.write("control/dnsbllist", "".join(line + "\n" for line in lists))
        sessions.append(Session(tree, **env))
        return sessions[-1]

    start.tree = tree
    yield start
    for session in sessions:
        session.end()
    wait_for(lambda: not asking(tree), what="nobody to ask any more")


@pytest.mark.parametrize("lists, env, want", [
    (["-a.example"], {}, "553 5.7.1 see http://bl.example/"), (["a.example"], {}, "451 4.7.1 see http://bl.example/"),
    (["=a.example"], {}, "250"), (["-b.example"], {}, "250"), ([], {}, "250"), (["-a.example"], {"DNSBLSKIP": ""}, "250"),
    (["-a.example"], {"RBLSMTPD": ""}, "250"), ([], {"RBLSMTPD": "-go away"}, "553 5.7.1 go away"), ([], {"RBLSMTPD": "later"}, "451 4.7.1 later"),
    (["-a.example"], {"RELAYCLIENT": ""}, "250"), (["b.example"], {"DNSBLLIST": "control/nowhere"}, "250"),
])
def test_recipient(smtpd, lists, env, want):
    assert smtpd(*lists, **env).recipient().startswith(want)


def test_S19_TXT_of_64_KiB_in_a_session(smtpd, dns):
    put(dns, "large.example", text=b"x" * TEXT)
    assert smtpd("-large.example").recipient() == "553 5.7.1 " + "x" * 399 + " (#5.7.1)"


def test_postmaster_is_reached_from_anywhere(smtpd):
    assert smtpd("-a.example").recipient(f"postmaster@{HOST}").startswith("250")


def test_silent_lists_hold_a_session_for_a_bounded_time(smtpd, dns):
    dns.behave(f"{REVERSED}.silent.example", "ANY", "SILENT")
    begun = time.monotonic()
    session = smtpd("silent.example", "-a.example")
    assert session.recipient().startswith("553")  # what the other one says counts all the same
    assert time.monotonic() - begun < 12
    assert session.say(f"RCPT TO:<luis@{HOST}>").startswith("553")
    assert time.monotonic() - begun < 12


@pytest.mark.parametrize("env, want", [({}, "250"), ({"DNSBLFAILCLOSED": "1"}, "451")])
def test_lists_that_are_all_silent_are_waited_for_once(smtpd, dns, env, want):
    """Then they count for nothing, or as is said."""
    for n in range(3):
        dns.behave(f"{REVERSED}.l{n}.example", "ANY", "SILENT")
    begun = time.monotonic()
    session = smtpd(*(f"-l{n}.example" for n in range(3)), **env)
    assert session.recipient().startswith(want)
    assert 5 <= time.monotonic() - begun < 12
    assert session.say(f"RCPT TO:<luis@{HOST}>").startswith(want)
    assert time.monotonic() - begun < 12


def test_a_session_that_leaves_takes_its_questions_with_it(smtpd, dns):
    dns.behave(f"{REVERSED}.silent.example", "ANY", "SILENT")
    session = smtpd("silent.example")
    wait_for(lambda: dns.asked(f"{REVERSED}.silent.example", "A"))
    begun = time.monotonic()
    session.end()
    wait_for(lambda: not asking(smtpd.tree))
    assert time.monotonic() - begun < 3


def no_program(tree):
    (tree.bin / "qmail-dnsbl").unlink()


def no_servers(tree):
    tree.write("control/dnsservers", "no address\n")


def no_lists(tree):
    (tree.control / "dnsbllist").unlink()
    (tree.control / "dnsbllist").mkdir()


def ends_at_once(tree):
    tree.replace("qmail-dnsbl", "#!/bin/sh\n")


def says_nothing(tree):
    """Until the session ends."""
    tree.replace("qmail-dnsbl", "#!/bin/sh\nread -r x <&3\n")


@pytest.mark.parametrize("closed, want", [("0\n", "250"), ("1\n", "451 4.7.1 unable to ask DNS lists about your address")])
@pytest.mark.parametrize("trouble", [no_program, no_servers, no_lists, ends_at_once, says_nothing])
def test_a_program_that_fails(smtpd, trouble, closed, want):
    """It counts as lists that do not answer."""
    smtpd.tree.write("control/dnsbllist", "-a.example\n")
    smtpd.tree.write("control/dnsblfailclosed", closed)
    trouble(smtpd.tree)
    assert smtpd().recipient().startswith(want)
    assert smtpd(DNSBLSKIP="").recipient().startswith("250")


def test_a_file_that_does_not_say_what_silence_means(smtpd):
    """Who has made it wants to know what lists say."""
    (smtpd.tree.control / "dnsblfailclosed").mkdir()
    assert smtpd("-b.example").recipient().startswith("451")
    assert smtpd("-b.example", DNSBLFAILCLOSED="0").recipient().startswith("250")


# --- rblsmtpd in front -----------------------------------------------------------------------------------------------------

RBLSMTPD = "/usr/bin/rblsmtpd"


@pytest.fixture
def port_53():
    """A name server where rblsmtpd, which knows no other port, finds it: in a network of its own."""
    network = Network(packages=())
    try:
        with FakeDns(port=53) as server:
            yield server
    finally:
        network.leave()


@pytest.mark.skipif(not os.path.exists(RBLSMTPD), reason="ucspi-tcp is not installed")
def test_rblsmtpd_in_front(tree, port_53):
    tree.write("control/rcpthosts", HOST + "\n")
    put(port_53, "a.example", reverse="2.0.0.127")
    command = RBLSMTPD, "-r", "a.example", tree.bin / "qmail-smtpd"
    with Queue(tree) as queue, Tcpserver(tree, *command, env={"DNSCACHEIP": "127.0.0.1", "RBLSMTPD": None}) as server:
        with Client(server, "127.0.0.2") as listed:
            assert "rblsmtpd" in listed.greeting
            listed.expect(250, "MAIL FROM:<s@x.example>")
            assert listed.expect(451, f"RCPT TO:<ana@{HOST}>") == "451 see http://bl.example/"
        with Client(server, "127.0.0.3") as other:
            assert other.greeting == f"220 {HOST} ESMTP"
            other.ehlo()
            assert other.message().startswith("250 ")
            other.expect(221, "QUIT")
        assert server.logged("end=quit").count("qmail-smtpd: session ") == 1
    assert len(queue.messages) == 1
    assert {(name, kind) for _, name, kind in port_53.queries} == {("2.0.0.127.a.example", "TXT"), ("3.0.0.127.a.example", "TXT")}
