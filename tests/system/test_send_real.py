"""qmail-send with the real keeper, spawners and workers: bounces as a reader sees them, processes that stand still, are
killed or ended while mail flows."""
import email
import email.policy
import os
import random
import re
import signal
import time

import pytest

from conftest import free_port, wait_for

MESSAGE = b"From: ana@mail.test.example\nSubject: number %d\n\nbody\n"


def subjects(server, user):
    """The numbers of the messages that arrived, as often as they did."""
    return sorted(int(re.search(rb"^Subject: number (\d+)$", m, re.M).group(1)) for m in server.maildir(user))


def submit(server, numbers, *recipients, sender="ana@mail.test.example"):
    for n in numbers:
        done = server.queue(MESSAGE % n, sender, *recipients)
        assert done.returncode == 0


def only(server, name):
    """The pid of the one process of that name, which may just be starting."""
    (pid,) = wait_for(lambda: server.children(name), what=name)
    return pid


# -- bounces ------------------------------------------------------------------------------------------

def test_bounce_as_a_mail_reader_sees_it(server):
    octets = b"Subject: caf\xc3\xa9\n\n\x00 body\r\n--\nnot signed"
    done = server.queue(octets, "ana@mail.test.example", "no-such-user@mail.test.example", "luis@mail.test.example")
    assert done.returncode == 0
    ((bounce,),) = [server.arrived(1, "ana")]
    message = email.message_from_bytes(bounce, policy=email.policy.default)
    assert message["Return-Path"] == "<>" and message["Auto-Submitted"] == "auto-replied"
    assert message["To"] == "ana@mail.test.example" and message["Message-ID"]
    assert message.get_content_type() == "multipart/report" and message.get_param("report-type") == "delivery-status"
    assert not message.defects
    text, status, returned = message.iter_parts()
    assert text.get_content().startswith("Hi. This is the qmail-send program at mail.test.example.")
    assert "<no-such-user@mail.test.example>:\n" in text.get_content()
    whole, recipient = status.get_payload()
    assert whole["Reporting-MTA"] == "dns; mail.test.example" and whole["Arrival-Date"]
    assert recipient["Final-Recipient"] == "rfc822; no-such-user@mail.test.example"
    assert (recipient["Action"], recipient["Status"]) == ("failed", "5.1.1")
    assert returned.get_content_type() == "message/rfc822"
    assert octets in bounce
    server.arrived(1, "luis")


def test_double_bounce_goes_to_the_postmaster(server):
    server.write("alias/.qmail-postmaster", "./Maildir/\n")
    for sub in ("tmp", "new", "cur"):
        (server.home / "alias/Maildir" / sub).mkdir(parents=True, exist_ok=True)
    server.own(server.home / "alias")
    assert server.queue(b"Subject: x\n\n", "nobody-at-all@mail.test.example", "no-such@mail.test.example").returncode == 0
    (bounce,) = server.arrived(1, "alias")
    assert bounce.startswith(b"Return-Path: <#@[]>\n")
    assert b"--- Below this line is the original bounce." in bounce
    server.logged("end msg", 3)


def test_bounce_of_a_list(server):
    """VERP: the list's own address gets the bounce, each recipient its own sender."""
    server.write("home/ana/.qmail-list-", "./Maildir/\n")
    server.write("home/ana/.qmail-list-luis=mail.test.example", "./Maildir/\n")
    assert server.queue(b"Subject: x\n\n", "ana-list-@mail.test.example-@[]", "luis@mail.test.example",
                        "no-such@mail.test.example").returncode == 0
    (copy,) = server.arrived(1, "luis")
    assert copy.startswith(b"Return-Path: <ana-list-luis=mail.test.example@mail.test.example>\n")
    (bounce,) = server.arrived(1, "ana")
    assert b"\nTo: ana-list-@mail.test.example\n" in bounce


# -- processes that stand still ---------------------------------------------------------------------------------

@pytest.fixture
def stopped_processes():
    pids = []

    def stop(pid):
        os.kill(pid, signal.SIGSTOP)
        pids.append(pid)

    yield stop
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def test_a_worker_that_stands_still(server, stopped_processes):
    submit(server, [0], "ana@mail.test.example")
    server.arrived(1, "ana")
    worker = only(server, "qmail-local")
    stopped_processes(worker)
    submit(server, range(1, 20), "ana@mail.test.example")
    submit(server, range(20), "luis@mail.test.example")
    server.arrived(20, "luis")
    os.kill(worker, signal.SIGCONT)
    server.arrived(20, "ana")
    assert subjects(server, "ana") == list(range(20))


@pytest.mark.parametrize("name", ["qmail-rspawn", "qmail-lspawn"])
def test_a_spawner_that_stands_still(server, stopped_processes, name):
    submit(server, [0], "ana@mail.test.example")  # a local worker runs
    server.arrived(1, "ana")
    spawner = only(server, name)
    stopped_processes(spawner)
    submit(server, [1], "x@far.invalid", "luis@mail.test.example", sender="")
    submit(server, range(2, 20), "ana@mail.test.example")
    server.arrived(19, "ana")
    os.kill(spawner, signal.SIGCONT)
    server.arrived(1, "luis")


def test_a_keeper_that_stands_still(server, stopped_processes):
    """What it told of is delivered; what became of it is said when it goes on."""
    server.write("home/ana/.qmail", f"|while ! test -e {server.home}/go; do sleep 0.05; done\n./Maildir/\n")
    submit(server, range(5), "ana@mail.test.example")
    server.logged("info msg", 5)
    stopped_processes(server.keeper.pid)
    server.write("go", "")
    server.arrived(5, "ana")
    os.kill(server.keeper.pid, signal.SIGCONT)
    submit(server, [5], "ana@mail.test.example")
    server.arrived(6, "ana")
    assert subjects(server, "ana") == list(range(6))


def test_a_program_that_takes_long_holds_up_its_own_message_only(server, stopped_processes):
    """What its worker was given besides goes to others, after two seconds."""
    server.write("home/ana/.qmail-slow", f"|while ! test -e {server.home}/go; do sleep 0.1; done\n./Maildir/\n")
    server.write("home/ana/.qmail-quick", "|cat >/dev/null\n./Maildir/\n")
    go = server.write("go", "")
    submit(server, range(9), "ana-quick@mail.test.example")
    submit(server, [9], "ana-slow@mail.test.example")
    server.arrived(10, "ana")
    go.unlink()
    stopped_processes(server.send.pid)
    submit(server, [10], "ana-slow@mail.test.example")
    submit(server, range(11, 27), "ana-quick@mail.test.example")
    os.kill(server.send.pid, signal.SIGCONT)
    try:
        server.arrived(26, "ana")
        assert subjects(server, "ana") == sorted({*range(27)} - {10})
        server.logged("deferral: Another_message_for_this_user_takes_long./")
    finally:
        server.write("go", "")
    server.arrived(27, "ana")
    assert server.logged("end msg", 27).count("success: did_1+0+1/") == 27


def test_slow_programs_of_one_user_run_beside_each_other(server):
    """As where one user delivers a whole domain's mail and a filter takes its time: half of concurrencylocal, whoever got quick mail before."""
    server.write("home/ana/.qmail-slow", f"|echo >>started; while ! test -e {server.home}/go; do sleep 0.1; done\n./Maildir/\n")
    server.write("home/ana/.qmail-quick", "|cat >/dev/null\n./Maildir/\n")
    started = server.home / "home/ana/started"
    submit(server, range(9), "ana-quick@mail.test.example")
    server.arrived(9, "ana")
    submit(server, range(9, 21), "ana-slow@mail.test.example")
    try:
        wait_for(lambda: started.exists() and len(started.read_text()) == 5, what=f"5 programs:\n{server.log()[-3000:]}")
    finally:
        server.write("go", "")
    server.arrived(21, "ana")
    assert subjects(server, "ana") == list(range(21))
    assert "report mangled" not in server.log()


# -- processes that end ------------------------------------------------------------------------------------------------

def test_restart_in_good_order_delivers_once(server):
    for turn in range(4):
        submit(server, range(turn * 30, turn * 30 + 30), "ana@mail.test.example", "luis@mail.test.example")
        assert server.stop_send() == 0
        server.start_send()
    for user in ("ana", "luis"):
        server.arrived(120, user)
    wait_for(lambda: server.log().count("end msg") == 120)
    for user in ("ana", "luis"):
        assert subjects(server, user) == list(range(120))


@pytest.mark.parametrize("victim", ["send", "keeper"])
def test_kill_loses_nothing(server, victim):
    moments = random.Random(7)
    for turn in range(5):
        submit(server, range(turn * 20, turn * 20 + 20), "ana@mail.test.example", "no-such@mail.test.example")
        time.sleep(moments.random() * 0.1)
        if victim == "send":
            server.stop_send(signal.SIGKILL)
            server.start_send()
        else:
            server.stop_keeper(signal.SIGKILL)
            server.start_keeper()
    # each message, and a bounce of each, at least once

    def bounces():
        return len(set(re.findall(rb"\nMessage-ID: <(\d+\.\d+)\.bounce@", b"".join(server.maildir("ana")))))
    try:
        wait_for(lambda: set(subjects(server, "ana")) == set(range(100)) and bounces() == 100, 60)
    except BaseException:
        print(sorted(set(range(100)) - set(subjects(server, "ana"))), bounces(), server.log()[-3000:], server.log("qmail-queued"))
        raise


def test_a_killed_worker_defers_its_mail(server):
    server.write("home/ana/.qmail", f"|while ! test -e {server.home}/go; do sleep 0.05; done\n./Maildir/\n")
    submit(server, range(3), "ana@mail.test.example")
    server.logged("starting delivery 3")
    for pid in server.children("qmail-local"):
        os.kill(pid, signal.SIGKILL)
    server.logged("ended_without_a_report", 3)
    server.write("go", "")
    server.send.send_signal(signal.SIGALRM)
    server.arrived(3, "ana")
    assert set(subjects(server, "ana")) == {0, 1, 2}


@pytest.mark.parametrize("name", ["qmail-lspawn", "qmail-rspawn"])
def test_a_killed_spawner_ends_qmail_send(server, name):
    os.kill(only(server, name), signal.SIGKILL)
    wait_for(lambda: server.send.poll() is not None)
    assert server.send.returncode == 111
    assert f"alert: lost {name}" in server.log()
    server.send = None
    server.start_send()
    submit(server, [1], "ana@mail.test.example")
    server.arrived(1, "ana")


def test_no_process_starts_in_the_steady_state(server):
    submit(server, range(5), "ana@mail.test.example")
    server.arrived(5, "ana")
    before = server.children("qmail-local")
    submit(server, range(5, 60), "ana@mail.test.example")
    server.arrived(60, "ana")
    assert server.children("qmail-local") == before


def test_who_belongs_elsewhere_by_now_goes_there_at_once(server):
    """Mail for a host that cannot be reached waits; reload and doqueue send what is somebody else's by now on its way."""
    server.write("control/smtproutes", f":[127.0.0.1]:{free_port()}\n")
    server.write("alias/.qmail-drop-default", "#\n")
    for number, name in enumerate("ab", 1):
        assert server.queue(MESSAGE, "luis@mail.test.example", f"{name}@foreign.example").returncode == 0
        server.logged(f"new msg {number}\n")
        if number == 1:
            server.logged("delivery 1: deferral: ")
    server.write("control/virtualdomains", "b@foreign.example:alias-drop\n")
    server.send.send_signal(signal.SIGHUP)
    server.send.send_signal(signal.SIGALRM)
    server.logged("msg 2 to local alias-drop-b@foreign.example\n")
