"""qmail-smtpd on a socket that listens: one process for the connections of one client, control files that change, memory."""
import os
import re

import pytest

from conftest import HOST, WAIT, wait_for
from probe import is_sanitized
from serving import Service, compile_rules
from smtp_session import Client, Queue


@pytest.fixture
def queue(tree):
    tree.write("control/rcpthosts", f"{HOST}\n")
    for path in (*tree.control.iterdir(), tree.control):  # written long ago
        os.utime(path, (0, 0))
    with Queue(tree) as q:
        yield q


def sessions(service, count=1):
    return [line for line in service.logged("qmail-smtpd: session", count).splitlines() if "qmail-smtpd: session" in line]


def in_good_order(service, count):
    """So many sessions with a message each, one after the other."""
    for i in range(count):
        with Client(service) as s:
            s.ehlo()
            s.message(b"%d" % i)
            s.expect(221, "QUIT")
            assert s.rest() == []


def test_a_session(tree, queue):
    with Service(tree, "qmail-smtpd", "-X") as service:
        with Client(service) as s:
            assert s.greeting == f"220 {HOST} ESMTP"
            s.ehlo()
            assert s.message().startswith("250 ")
            s.expect(221, "QUIT")
        line, = sessions(service)
        assert " ip=127.0.0.1 host=unknown helo=client.example " in line and line.split(" end=")[1].startswith("quit messages=1 ")
    assert queue.messages[0][0].startswith(b"Received: from unknown (HELO client.example) (127.0.0.1)\n  by %s with ESMTP; " % HOST.encode())


def test_connections_of_one_client_share_a_process(tree, queue):
    with Service(tree, "qmail-smtpd", "-X") as service:
        in_good_order(service, 5)
        with Client(service, "127.0.0.2") as s:
            s.message(b"other")
            s.expect(221, "QUIT")
        lines = sessions(service, 6)
    pids = [re.search(r"pid=(\d+)", line)[1] for line in lines]
    assert len(set(pids[:5])) == 1 and pids[5] != pids[0]
    assert all("messages=1 " in line and "commands=5 " in line for line in lines[:5])
    assert [re.search(rb"HELO (\S+)\)", m[0]) is not None for m in queue.messages] == [True] * 5 + [False]


def test_every_connection_of_a_process_gets_the_same_greeting(tree, queue):
    tree.write("control/smtpgreeting", "mx.example, well\x7fcome\n")
    os.utime(tree.control / "smtpgreeting", (0, 0))
    os.utime(tree.control, (0, 0))
    with Service(tree, "qmail-smtpd", "-X") as service:
        for _ in range(3):
            with Client(service) as s:
                assert s.greeting == "220 mx.example, well?come ESMTP"
                s.message()
                s.expect(221, "QUIT")
                assert s.rest() == []
        lines = sessions(service, 3)
    assert len({re.search(r"pid=(\d+)", line)[1] for line in lines}) == 1


def test_the_delay_of_the_greeting_counts_for_every_connection_of_a_process(tree, queue):
    with Service(tree, "qmail-smtpd", "-X", env={"SMTPD_GREETDELAY": "1"}) as service:
        in_good_order(service, 1)
        assert service.ask(b"HELO early\r\n").startswith(b"554 you spoke before the greeting")
        lines = sessions(service, 2)
    assert len({re.search(r"pid=(\d+)", line)[1] for line in lines}) == 1 and " end=refused " in lines[1]


def test_a_session_that_did_not_end_in_good_order_is_the_last(tree, queue):
    with Service(tree, "qmail-smtpd", "-X") as service:
        for _ in range(2):
            with Client(service) as s:
                s.message()
            sessions(service)
        lines = sessions(service, 2)
    assert len({re.search(r"pid=(\d+)", line)[1] for line in lines}) == 2


def test_a_process_that_may_see_a_password_serves_one_connection(tree, queue):
    with Service(tree, "qmail-smtpd", "-X", env={"SMTPAUTH": ""}) as service:
        in_good_order(service, 2)
        lines = sessions(service, 2)
    assert len({re.search(r"pid=(\d+)", line)[1] for line in lines}) == 2


def test_variables_of_rules(tree, queue):
    compile_rules(tree, "rules.cdb", {"127.0.0.2": {"RELAYCLIENT": "", "DATABYTES": "100"}, "127.0.0.3": "deny", "127.": {}})
    with Service(tree, "qmail-smtpd", "-x", "rules.cdb") as service:
        for source, code, size in (("127.0.0.1", 553, 0), ("127.0.0.2", 250, 100), ("127.0.0.4", 553, 0)):
            with Client(service, source) as s:
                assert f"250-SIZE {size}\n" in s.ehlo()
                s.expect(250, "MAIL FROM:<a@b>")
                s.expect(code, "RCPT TO:<x@elsewhere.example>")
                s.expect(221, "QUIT")
        assert service.ask(b"", "127.0.0.3") == b""


def test_what_may_be_half_written_is_for_one_connection(tree, queue):
    tree.write("control/rcpthosts", f"{HOST}\n")
    with Service(tree, "qmail-smtpd", "-X") as service:
        in_good_order(service, 2)
        one, other = (re.search(r"pid=(\d+)", line)[1] for line in sessions(service, 2))
    assert one != other


def test_own_addresses_that_change(tree, queue):
    with Service(tree, "qmail-smtpd", "-X") as service:
        def answers(code):
            with Client(service) as s:
                s.expect(250, "MAIL FROM:<a@b>")
                return s.command("RCPT TO:<ana@[192.0.2.99]>").startswith(code)

        assert answers("553 ")
        for name, code in (("moreipme", "250 "), ("notipme", "553 ")):
            tree.write(f"control/{name}", "192.0.2.99\n")
            wait_for(lambda: answers(code), what=f"control/{name} to be read")


def test_control_files_that_change(tree, queue):
    with Service(tree, "qmail-smtpd", "-X") as service:
        with Client(service) as old:
            old.expect(250, "MAIL FROM:<a@b>")
            tree.write("control/rcpthosts", "new.example\n")
            tree.write("control/smtpgreeting", "new greeting\n")

            def is_seen():
                with Client(service) as s:
                    if s.greeting != "220 new greeting ESMTP":
                        return False
                    s.expect(250, "MAIL FROM:<a@b>")
                    s.expect(250, "RCPT TO:<a@new.example>")
                    s.expect(553, f"RCPT TO:<a@{HOST}>")
                    return True
            wait_for(is_seen)
            old.expect(250, f"RCPT TO:<a@{HOST}>")   # a session keeps what it started with
        (tree.control / "rcpthosts").unlink()
        (tree.control / "rcpthosts").mkdir()          # cannot be read

        def is_said():
            with Client(service) as s:
                s.expect(250, "MAIL FROM:<a@b>")
                s.expect(250, "RCPT TO:<a@new.example>")
            return "unable to read control/rcpthosts" in service.log()
        wait_for(is_said)


def test_stop(tree, queue):
    """A message on its way is finished; whoever has none is told 421."""
    service = Service(tree, "qmail-smtpd", "-X")
    with Client(service) as s, Client(service) as chunks, Client(service) as idle:
        s.envelope("a@b", "luis")
        s.expect(354, "DATA")
        s.send(b"one\r\n")
        chunks.envelope("a@b", "luis")
        chunks.send(b"BDAT 3\r\na\r\n")
        assert chunks.reply().startswith("250 ")
        service.process.terminate()
        assert idle.rest()[0].startswith("421 ")
        s.send(b"two\r\n.\r\n")
        assert s.reply().startswith("250 ") and s.reply().startswith("421 ")
        chunks.send(b"BDAT 3 LAST\r\nb\r\n")
        assert chunks.reply().startswith("250 ") and chunks.reply().startswith("421 ")
    assert service.process.wait(WAIT) == 0
    assert sorted(m[0].split(b"\n", 2)[2] for m in queue.messages) == [b"a\nb\n", b"one\ntwo\n"]


def test_over_the_limit(tree, queue):
    with Service(tree, "qmail-smtpd", "-X", "-c", "2") as service:
        with Client(service), Client(service):
            assert service.ask(b"").startswith(b"421 4.3.2 ")


def private_kib(pid):
    kib = 0
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith(("Private_Dirty", "Private_Clean")):
            kib += int(line.split()[1])
    return kib


def test_memory_of_idle_sessions(tree, queue):
    if is_sanitized(tree.bin / "qmail-smtpd"):
        pytest.skip("a sanitizer's memory says nothing of the program's")
    with Service(tree, "qmail-smtpd", "-X", "-a", "100") as service:
        clients = [Client(service) for _ in range(20)]
        for s in clients:
            s.ehlo()
        each = sorted(private_kib(p) for p in service.children())
        for s in clients:
            s.socket.close()
    assert each[len(each) // 2] < 100, each
