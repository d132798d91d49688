"""Which of several servers qmail-remote talks to. A relay of control/smtproutes with several addresses stands for MX hosts
here: addresses of this host are never taken from MX records; test_route.py has those."""
import socket

import pytest

from fake_dns import FakeDns
from fake_smtp import CLOSE, Server
from remoting import remote_tree, send, took, tree  # noqa: F401 (fixtures)


@pytest.fixture
def relays(tree):
    """A function that starts servers on 127.0.0.2, 127.0.0.3, ... at one port, one for each reply function given (None:
    nobody listens there); relay.example is all of them."""
    servers = []
    tree.write("control/timeoutconnect", "1\n")
    tree.write("run/tcpto", bytes(24 * 1024))  # as qmail-rspawn makes it

    def start(*replies):
        port = 0
        for n, reply in enumerate(replies):
            address = f"127.0.0.{n + 2}"
            dns.add("relay.example", "A", address)
            if reply is None:
                continue
            servers.append(Server(reply, host=address, port=port))
            port = servers[-1].port
        tree.write("control/smtproutes", f":relay.example:{port}\n")
        return servers

    with FakeDns() as dns:
        tree.write("control/dnsservers", dns.server + "\n")
        start.tree, start.dns = tree, dns
        yield start
    for server in servers:
        server.close()


def usual(session, verb, line):
    return None


def stage(where, what):
    return lambda session, verb, line: what if verb in where else None


@pytest.mark.parametrize("reply", [stage(["greeting"], b"421 4.3.2 later"), stage(["greeting"], b"450 no"), stage(["greeting"], b"554 no"),
                                   stage(["greeting"], CLOSE), stage(["greeting"], b"nonsense"), stage(["EHLO"], b"421 later"),
                                   stage(["EHLO", "HELO"], b"550 no"), stage(["EHLO"], CLOSE), stage(["EHLO"], b"250-a\r\n550 b"), None],
                         ids=["421", "450", "554", "close", "nonsense", "EHLO 421", "HELO 550", "EHLO close", "EHLO nonsense", "refused"])
def test_the_next_address(relays, reply):
    servers = relays(reply, reply, usual) if reply else relays(None, None, usual)
    for _ in range(4):  # their order is chance
        assert send(relays.tree)[-1][0] == "K"
    assert len(servers[-1].messages) == 4


def test_all_of_them_refuse(relays):
    relays(stage(["greeting"], b"421 4.3.2 busy"), stage(["greeting"], b"554 5.7.1 not you"), None)
    ((letter, text),) = send(relays.tree)
    assert letter == "Z"
    for part in ("127.0.0.2 but greeting failed. (#4.3.2)\nRemote host said: 421 4.3.2 busy\n",
                 "127.0.0.3 but greeting failed. (#4.3.2)\nRemote host said: 554 5.7.1 not you\n",
                 "127.0.0.4: Connection refused"):
        assert part in text


@pytest.mark.parametrize("where", ["MAIL", "RCPT", "DATA", "end"])
def test_no_further_server_after_a_command(relays, where):
    """Greylisting and the like answer for all of them."""
    servers = relays(stage([where], b"451 4.7.1 later"), stage([where], b"451 4.7.1 later"))
    assert send(relays.tree)[-1][0] in "ZD"
    assert sum(len(s.sessions) for s in servers) == 1


def test_dead_hosts_are_remembered(relays):
    """A listener with a full queue takes no connection; after two time-outs, 120 seconds apart, it is left out."""
    full = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.2", port))
            full.append(s)
        relays.dns.add("relay.example", "A", "127.0.0.2")
        relays.tree.write("control/smtproutes", f":relay.example:{port}\n")
        ((letter, text),) = send(relays.tree)
        assert letter == "Z" and "127.0.0.2: timed out)" in text
        assert relays.tree.run("qmail-tcpto", check=True).stdout.startswith(b"127.0.0.2 timed out ")
        # as if it had happened twice
        path = relays.tree.home / "run/tcpto"
        octets = bytearray(path.read_bytes())
        at = next(n for n in range(0, len(octets), 24) if any(octets[n + 16:n + 24]))
        value = int.from_bytes(octets[at + 16:at + 24], "little")
        octets[at + 16:at + 24] = (value + (1 << 16)).to_bytes(8, "little")
        path.write_bytes(octets)
        ((letter, text),), seconds = took(lambda: send(relays.tree))
        assert letter == "Z" and "127.0.0.2: timed out lately" in text and seconds < 0.9
        for s in full:
            s.close()


def test_resolver_in_trouble(relays):
    relays(usual)
    relays.dns.behave("relay.example", "A", "SERVFAIL")
    ((letter, text),) = send(relays.tree)
    assert letter == "Z" and "(#4.4.3)" in text


def test_no_such_host(relays):
    relays.tree.write("control/smtproutes", "")
    ((letter, text),) = send(relays.tree, host="no-such.example")
    assert letter == "D" and "(#5.1.2)" in text
    relays.dns.add("null.example", "MX", (0, ""))
    ((letter, text),) = send(relays.tree, host="null.example")
    assert letter == "D" and "(#5.1.10)" in text
    relays.dns.add("me.example", "A", "127.0.0.1")
    relays.dns.add("loop.example", "MX", (0, "me.example"))
    ((letter, text),) = send(relays.tree, host="loop.example")
    assert letter == "D" and "(#5.4.6)" in text


def test_smtproutes_without_sense(relays):
    relays.tree.write("control/smtproutes", ":relay.example:no-port\n")
    ((letter, text),) = send(relays.tree)
    assert letter == "Z" and "control/smtproutes" in text and "(#4.3.5)" in text


def test_ipv6(relays):
    with Server(host="::1") as server:
        relays.tree.write("control/smtproutes", f":[::1]:{server.port}\n")
        assert send(relays.tree)[-1] == ("K", "::1 accepted message.\nRemote host said: 250 2.0.0 taken\n")
        relays.tree.write("control/outgoingip", "::1\n")
        assert send(relays.tree)[-1][0] == "K"
        assert len(server.messages) == 2
