"""tambo, Postfix and Exim as neighbours: each on a host of its own, with unbound as the resolver of all. Root only: the hosts are
network and mount namespaces, made for this module."""
import os
import re
import shutil
import signal

import pytest

from conftest import new_directory, wait_for
from neighbours import Exim, Namespace, Network, Postfix, TamboHost, undone

pytestmark = pytest.mark.xdist_group("neighbours")  # one process makes the module's machines, once


class Hosts:
    pass


@pytest.fixture(scope="module")
def hosts():
    if os.getuid():
        pytest.skip("only root can make namespaces")
    top, made, ends = new_directory(), Hosts(), []
    try:
        (top / "net").mkdir()
        made.network = Network(top / "net")
        ends.append(made.network.end)
        for name in ("tambo", "twin"):
            (top / name).mkdir()
            setattr(made, name, host := TamboHost(made.network, top / name, name))
            ends += [host.leave, host.stop]
        made.twin.write("control/smtproutes", "loop.example:mx.tambo.example\n")
        made.tambo.write("control/timeoutconnect", "3\n")
        for host in (made.tambo, made.twin):
            host.start()
        made.tambo.submit(message()[0], "box@servfail.example")  # takes half a minute; test_deferred looks at it
        for name, kind in (("postfix", Postfix), ("exim", Exim)):
            setattr(made, name, peer := kind(made.network, top / name))
            ends.append(peer.end)
        for peer in (made.postfix, made.exim):
            wait_for(peer.listens, what=f"{peer.name}: {peer.log()}")
        yield made
    finally:
        errors = []
        for end in reversed(ends):
            try:
                end()
            except BaseException as error:
                errors.append(error)
        for space in list(Namespace.made):
            space.end()
        shutil.rmtree(top, ignore_errors=True)
        if errors:
            raise errors[0]


@pytest.fixture(params=["postfix", "exim"])
def peer(hosts, request):
    return getattr(hosts, request.param)


counted = iter(range(10**6))


def message(text="first\n.\n..\nlast\n", header=""):
    """A new message's octets, and what it can be told by."""
    mark = f"number-{os.getpid()}-{next(counted)}"
    return (f"From: <ana@tambo.example>\nTo: <luis@tambo.example>\nDate: Wed, 25 Nov 2026 04:00:00 +0000\n"
            f"Message-ID: <{mark}@client.example>\nSubject: {mark}\n{header}\n{text}").encode(), f"\nSubject: {mark}\n".encode()


def arrived(host, mark, *others, count=1):
    """The message in which mark stands, once it has come to host."""
    def found():
        return [m for m in host.mail() if mark in m and all(o in m for o in others)]

    def logs():
        return "".join(f"\n{h.name}: {h.log()[-2500:]}" for h in (host, *hosts_of_failure))
    try:
        wait_for(lambda: len(found()) >= count)
    except BaseException:
        print(logs())
        raise
    return found()[0]


hosts_of_failure = []


@pytest.fixture(autouse=True)
def logs_on_failure(hosts):
    hosts_of_failure[:] = [hosts.tambo, hosts.postfix, hosts.exim]


# -- both ways ------------------------------------------------------------------


def test_to(hosts, peer):
    octets, mark = message()
    hosts.tambo.submit(octets, f"box@{peer.domain}")
    assert undone(arrived(peer, mark)) == octets


def test_from(hosts, peer):
    octets, mark = message()
    peer.submit(octets, "luis@tambo.example")
    got = arrived(hosts.tambo, mark)
    assert undone(got) == octets
    assert f"\nReceived: from unknown (HELO mx.{peer.domain}) (".encode() in got and b" with ESMTP;" in got


@pytest.mark.parametrize("utf8", [False, True], ids=["8BITMIME", "SMTPUTF8"])
def test_letters_to(hosts, peer, utf8):
    octets, mark = message("ma\u00f1ana\n", "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
                           + ("X-Who: \u00f1and\u00fa\n" if utf8 else ""))
    local = "\u00f1and\u00fa" if utf8 else "box"
    hosts.tambo.submit(octets, f"{local}@{peer.domain}", options="BODY=8BITMIME" + " SMTPUTF8" * utf8)
    got = arrived(peer, mark)
    assert undone(got) == octets
    assert not utf8 or f"<{local}@{peer.domain}>".encode() in got or f": {local}@".encode() in got


@pytest.mark.parametrize("utf8", [False, True], ids=["8BITMIME", "SMTPUTF8"])
def test_letters_from(hosts, peer, utf8):
    octets, mark = message("ma\u00f1ana\n", "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
                           + ("X-Who: \u00f1and\u00fa\n" if utf8 else ""))
    peer.submit(octets, "luis@tambo.example", sender=f"\u00f1and\u00fa@{peer.domain}" if utf8 else None,
                options=["BODY=8BITMIME", *["SMTPUTF8"] * utf8])
    got = arrived(hosts.tambo, mark)
    assert undone(got) == octets
    assert (f"Return-Path: <\u00f1and\u00fa@{peer.domain}>\n".encode() in got) == utf8 and (b" with UTF8SMTP;" in got) == utf8


def test_large(hosts, peer):
    """20 MiB both ways at once."""
    octets, mark = message("0123456789abcdef" * 4 + "\n")
    octets += (b"x" * 70 + b"\n") * (20 * 1024 * 1024 // 71)
    hosts.tambo.submit(octets, f"box@{peer.domain}")
    peer.submit(octets, "luis@tambo.example")
    assert undone(arrived(peer, mark)) == undone(arrived(hosts.tambo, mark)) == octets


def test_chunking_from_exim(hosts):
    octets, mark = message()
    hosts.exim.submit(octets, "luis@tambo.example")
    arrived(hosts.tambo, mark)
    wait_for(lambda: any("=> luis@tambo.example" in line and " K " in line and re.search(r" L[.*]? ", line) for line in hosts.exim.log().splitlines()))


def test_chunking_to_exim(hosts):
    """In a session that others have used, the message after the first that was accepted or refused goes by DATA."""
    for _ in range(3):
        octets, mark = message()
        hosts.tambo.submit(octets, "chunked@exim.example")
        arrived(hosts.exim, mark)
    lines = [line for line in hosts.exim.log().splitlines() if " <= ana@tambo" in line and "chunked@" in line]
    assert len(lines) == 3 and any(" K " in line for line in lines)
    assert all(re.search(r" L[.*]? ", line) for line in lines)  # L-: without pipelining


# -- DSN ------------------------------------------------------------------------


def test_dsn_to_postfix(hosts):
    """Postfix takes NOTIFY on: the report is its own."""
    octets, mark = message()
    hosts.tambo.submit(octets, "box@postfix.example", options="RET=HDRS ENVID=to+2Bpostfix",
                       of_recipients="NOTIFY=SUCCESS ORCPT=rfc822;first@postfix.example")
    report = arrived(hosts.tambo, b"Original-Envelope-Id: to+postfix\n")
    assert b"\nReporting-MTA: dns; mx.postfix.example\n" in report and b"\nAction: delivered\n" in report
    assert b"\nOriginal-Recipient: rfc822;first@postfix.example\n" in report


def test_dsn_from_postfix(hosts):
    octets, mark = message()
    hosts.postfix.submit(octets, "luis@tambo.example", options=["RET=HDRS", "ENVID=to+2Btambo"],
                         of_recipients=["NOTIFY=SUCCESS", "ORCPT=rfc822;first@tambo.example"])
    report = arrived(hosts.postfix, b"Original-Envelope-Id: to+tambo\n")
    assert b"\nReporting-MTA: dns; tambo.example\n" in report and b"\nAction: delivered\n" in report
    assert b"\nOriginal-Recipient: rfc822; first@tambo.example\n" in report and mark in report


def test_dsn_never(hosts):
    """NOTIFY=NEVER: refused by Postfix, and nobody is told."""
    octets, mark = message()
    hosts.tambo.submit(octets, "full@postfix.example", of_recipients="NOTIFY=NEVER")
    log = hosts.tambo.logged("to remote full@postfix.example")
    number = log.partition(" to remote full@postfix.example")[0].rpartition(" msg ")[2]
    hosts.tambo.logged(f"end msg {number}\n")
    assert not any(mark in m for m in hosts.tambo.mail())


def test_a_refusal_by_postfix_bounces(hosts):
    octets, mark = message()
    hosts.tambo.submit(octets, "full@postfix.example")
    bounce = arrived(hosts.tambo, mark, b"full@postfix.example")
    assert b"\nStatus: 5.2.2\n" in bounce and b"552 5.2.2" in bounce


def test_an_unknown_user_is_refused(hosts, peer):
    """No backscatter: the bounce is the neighbour's."""
    octets, mark = message()
    peer.submit(octets, "nobody-here@tambo.example")
    assert b"550 5.1.1" in arrived(peer, mark, b"nobody-here@tambo.example")


# -- where mail goes --------------------------------------------------------------


@pytest.mark.parametrize("domain", ["alias", "mxalias", "v6", "bare", "refused", "nohost", "backup", "large"])
def test_reaches_exim(hosts, domain):
    """CNAME chains, also into another zone; an MX that is a CNAME; AAAA only; no MX; the first MX refuses, or has no address;
    ourselves among the MX; an answer for which UDP has no room."""
    octets, mark = message()
    hosts.tambo.submit(octets, f"box@{domain}.example")
    assert undone(arrived(hosts.exim, mark)) == octets


def test_a_dead_first_mx(hosts):
    octets, mark = message()
    hosts.tambo.submit(octets, "box@dead.example")
    arrived(hosts.exim, mark)


@pytest.mark.parametrize("address, status", [("box@nullmx.example", b"5.1.10"), ("box@no-such-domain.example", b"5.1.2"),
                                             ("box@ours.example", b"5.4.6")])
def test_cannot_go_anywhere(hosts, address, status):
    """A null MX; no such domain; the best MX is this host itself."""
    octets, mark = message()
    hosts.tambo.submit(octets, address)
    assert b"\nStatus: " + status + b"\n" in arrived(hosts.tambo, mark, address.encode())


def test_greylisted(hosts):
    octets, mark = message()
    hosts.tambo.submit(octets, "grey@exim.example")
    hosts.tambo.logged("451_greylisted")
    (hosts.exim.top / "logs/known").touch()
    hosts.tambo.send.send_signal(signal.SIGALRM)
    assert undone(arrived(hosts.exim, mark)) == octets


def test_S15_loop(hosts):
    """Two of our hosts that send a message to each other: it ends, and the sender hears of it."""
    octets, mark = message()
    hosts.tambo.submit(octets, "box@loop.example")
    bounce = arrived(hosts.tambo, mark, b"box@loop.example")
    assert b"\nStatus: 5.4.6\n" in bounce


@pytest.mark.parametrize("domain", ["circle", "servfail"])
def test_deferred(hosts, domain):
    """CNAMEs in a circle; name servers that do not answer."""
    if domain != "servfail":
        hosts.tambo.submit(message()[0], f"box@{domain}.example")
    log = hosts.tambo.logged(f"to remote box@{domain}.example")
    number = log.partition(f" to remote box@{domain}.example")[0].rpartition("starting delivery ")[2].partition(":")[0]
    wait_for(lambda: f"delivery {number}: " in hosts.tambo.log().replace(f"starting delivery {number}: ", ""), 60)
    assert f"delivery {number}: deferral:" in hosts.tambo.log()
