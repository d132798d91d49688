"""qmail-qmqpd on a listening socket: takes mail from hosts that a rule lets relay, and survives all others."""
import pytest

from fake_keeper import FakeKeeper
from serving import Service, compile_rules, netstring, qmqp, read_netstring
from conftest import wait_for

MESSAGE = b"Subject: hello\n\nhello\n"
RELAY = {"127.": {"RELAYCLIENT": ""}}


@pytest.fixture
def keeper(tree):
    """A keeper that accepts all; .got lists (message, envelope)."""
    got = []

    def serve(connection):
        while (said := connection.submission()) and (said[0] or said[1]) and len(said) == 2:
            got.append(said)
            connection.answer(0, len(got), 1700000000)

    with FakeKeeper(tree, "run/qmail-queued", serve) as k:
        k.got = got
        yield k


@pytest.fixture
def relay(tree, keeper):
    compile_rules(tree, "control/tcp.qmqp.cdb", RELAY)
    with Service(tree, "qmail-qmqpd", "-x", "control/tcp.qmqp.cdb") as service:
        service.keeper = keeper
        yield service


def test_a_message(relay):
    with relay.connect("127.0.0.5") as c:
        c.sendall(qmqp(MESSAGE, "s@h.example", "a@x.example", "b@y.example"))
        assert read_netstring(c) == b"Kok 1700000000 qp 1"
        assert c.recv(1) == b""
    message, envelope = relay.keeper.got[0]
    assert message.startswith(b"Received: from unknown (127.0.0.5)\n  by 127.0.0.1 with QMQP; ")
    assert message.endswith(b"\n" + MESSAGE)
    assert envelope == b"Fs@h.example\0Ta@x.example\0Tb@y.example\0\0"
    line = relay.logged("message ")
    assert "ip=127.0.0.5" in line and "from=<s@h.example> to=<a@x.example>,<b@y.example> recipients=2" in line
    assert "result=accepted qp=1" in line
