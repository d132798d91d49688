"""Mail to other hosts through the whole server: qmail-inject to a server of fake_smtp, over kept workers."""
import os
import pathlib
import signal
import time

import pytest

import fake_smtp
from conftest import wait_for
from fake_smtp import ALL, Server
from remoting import route_to


@pytest.fixture
def far(stopped):
    """A function that starts a server to which all remote mail goes, and tambo."""
    servers = []

    def start(reply=None, extensions=ALL, **more):
        servers.append(Server(reply, extensions, **more))
        route_to(stopped, servers[-1])
        stopped.start()
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def queue(server, number, *recipients, sender="ana@mail.test.example", octets=None):
    done = server.queue(octets or b"Subject: number %d\n\nbody\n" % number, sender, *recipients)
    assert done.returncode == 0


def test_a_message(stopped, far):
    other = far()
    stopped.inject("To: r@dest.example\nSubject: hello\n\nbody\n.\n", "-fana@mail.test.example")
    (message,) = wait_for(lambda: other.messages)
    assert message.mail.startswith(b"MAIL FROM:<ana@mail.test.example>") and message.recipients == ["r@dest.example"]
    assert message.octets.startswith(b"Received: ") and message.octets.endswith(b"\r\n\r\nbody\r\n.\r\n") and message.by == "BDAT"
    log = stopped.logged("end msg")
    assert "starting delivery 1: msg" in log and "to remote r@dest.example" in log
    assert "delivery 1: success: 127.0.0.1_accepted_message./Remote_host_said:_250_2.0.0_taken/" in log


def test_many_recipients_at_one_host(stopped, far):
    other = far()
    addresses = [f"r{n}@dest.example" for n in range(150)]
    queue(stopped, 1, *addresses)
    stopped.logged(": success:", 150)
    assert sorted(r for m in other.messages for r in m.recipients) == sorted(addresses)
    assert len(other.messages) == 2


def test_sessions_are_kept(stopped, far):
    stopped.write("control/concurrencyremote", "5\n")
    other = far()
    for n in range(60):
        queue(stopped, n, "r@dest.example")
    stopped.logged(": success:", 60)
    assert len(other.sessions) <= 5
    wait_for(lambda: not stopped.children("qmail-remote"))  # an idle one goes after 5 seconds
    wait_for(lambda: all(s.commands[-1] == b"QUIT" for s in other.sessions), what="the last words")


def test_a_large_message(stopped, far):
    other = far()
    octets = b"Subject: large\n\n" + b"0123456789\n" * 200_000
    queue(stopped, 1, "r@dest.example", octets=octets)
    (message,) = wait_for(lambda: other.messages)
    assert message.octets.endswith(octets.replace(b"\n", b"\r\n"))


def test_a_refusal_becomes_a_bounce(stopped, far):
    far(lambda session, verb, line: b"550 5.1.1 no \033[1msuch\r user" if verb == "RCPT" and b"<no@" in line else None)
    queue(stopped, 1, "no@dest.example", "yes@dest.example")
    (bounce,) = stopped.arrived(1, "ana")
    assert b"<no@dest.example>:\n127.0.0.1 does not like recipient.\nRemote host said: 550 5.1.1 no ?[1msuch? user\n" in bounce
    assert b"\nStatus: 5.1.1\n" in bounce and b"yes@dest.example" not in bounce.split(b"\n--")[1]


def test_deferred_then_delivered(stopped, far):
    answers = ["later"]
    other = far(lambda session, verb, line: b"450 4.2.0 later" if verb == "RCPT" and answers else None)
    queue(stopped, 1, "r@dest.example")
    assert "deferral: 127.0.0.1_does_not_like_recipient./Remote_host_said:_450_4.2.0_later/" in stopped.logged("deferral:")
    answers.clear()
    stopped.send.send_signal(signal.SIGALRM)
    stopped.logged("success:")
    assert len(other.messages) == 1


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "end"])
def test_a_worker_that_is_killed(stopped, far, stage):
    """While the server thinks: temporary, and the message is there."""
    asked = []

    def think(session, verb, line):
        if verb == stage and not asked:
            asked.append(1)
            wait_for(lambda: len(asked) > 1)
        return None

    other = far(think)
    queue(stopped, 1, "r@dest.example")
    wait_for(lambda: asked)
    (pid,) = stopped.children("qmail-remote")
    os.kill(pid, signal.SIGKILL)
    stopped.logged("deferral:")
    asked.append(1)
    stopped.send.send_signal(signal.SIGALRM)
    stopped.logged("success:")
    wait_for(lambda: len(other.messages) == (2 if stage == "end" or other.messages[1:] else 1))


def test_a_wrapper_in_its_place(stopped, far):
    """As sites put one there to sign: it is given one recipient at a time, and runs our program once for each."""
    stopped.replace("qmail-remote", "#!/bin/sh\necho \"$@\" >>seen\n(echo 'X-Wrapped: yes'; cat) | exec libexec/qmail-remote \"$@\"\n")
    other = far()
    queue(stopped, 1, "a@dest.example", "b@dest.example")
    stopped.logged(": success: 127.0.0.1_accepted_message./", 2)
    assert [m.octets[:14] for m in other.messages] == [b"X-Wrapped: yes"] * 2
    assert sorted((stopped.home / "seen").read_text().splitlines()) == [
        f"dest.example ana@mail.test.example {r}@dest.example" for r in "ab"]


def test_our_program_as_another_one(stopped, far):
    """QMAILREMOTE is a program's classic interface, even if it is ours."""
    other = Server(extensions=ALL)
    route_to(stopped, other)
    stopped.start_keeper()
    stopped.start_send(QMAILREMOTE=str(stopped.home / "libexec/qmail-remote"))
    queue(stopped, 1, "a@dest.example", "b@dest.example")
    stopped.logged(": success: 127.0.0.1_accepted_message./", 2)
    assert [len(m.recipients) for m in other.messages] == [1, 1]
    other.close()


@pytest.mark.parametrize("kind", ["silent", "refused"])
def test_one_dead_host_delays_no_other(stopped, kind):
    other, dead = Server(extensions=ALL), Server(lambda session, verb, line: fake_smtp.SILENCE)
    if kind == "refused":
        dead.close()
    stopped.write("control/smtproutes", f":[127.0.0.1]:{other.port}\ndead.example:[127.0.0.1]:{dead.port}\n")
    stopped.start()
    for n in range(20):
        queue(stopped, n, "r@dead.example", "r@dest.example")
    start = time.monotonic()
    stopped.logged(": success:", 20)
    assert time.monotonic() - start < 20 and len(other.messages) == 20
    other.close()
    dead.close()


def test_memory_and_time_of_a_flood(stopped, far):
    """Three hundred messages over kept sessions; how fast is for tests/bench to say, here it only has to come to an end."""
    other = far()
    for n in range(300):
        queue(stopped, n, "r@dest.example")
    stopped.logged(": success:", 300, deadline=60)
    assert len({m.octets for m in other.messages}) == 300 and len(other.messages) == 300
    for pid in stopped.children("qmail-remote"):
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup")
        if rollup.exists() and "asan" not in pathlib.Path(f"/proc/{pid}/maps").read_text():
            anonymous = [int(line.split()[1]) for line in rollup.read_text().splitlines() if line.startswith("Anonymous:")]
            assert sum(anonymous) < 640
