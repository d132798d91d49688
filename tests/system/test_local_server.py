"""Local deliveries through a running server: what qmail-send, qmail-lspawn and qmail-local make of a dot-qmail file."""
import os
import re
import signal

from conftest import HOST, wait_for

MESSAGE = b"From: joe@sender.example\nSubject: hello\n\nbody\n"


def test_forward_and_program(server):
    server.write("home/ana/.qmail", f"./Maildir/\n|cat >copy\n&luis@{HOST}\n", 0o600)
    assert server.queue(MESSAGE, "joe@sender.example", f"ana@{HOST}").returncode == 0
    [copy] = server.arrived(1, "luis")
    [own] = server.arrived(1, "ana")
    assert own.startswith(b"Return-Path: <joe@sender.example>\nDelivered-To: ana@" + HOST.encode() + b"\nReceived: ")
    assert copy.count(b"Delivered-To: ") == 2 and copy.endswith(MESSAGE)
    kept = wait_for(lambda: (server.home / "home/ana/copy").read_bytes())
    assert kept.startswith(b"Received: ") and kept.endswith(MESSAGE)
    log = server.logged("success: did_1+1+1/qp_")
    number = re.search(r"success: did_1\+1\+1/qp_(\d+)/", log)[1]
    server.logged(f"new msg {number}\n")


def test_many_messages_take_no_process_each(server):
    """In the steady state one worker delivers them all."""
    for _ in range(2):
        server.queue(MESSAGE, "joe@sender.example", f"ana@{HOST}")
    server.arrived(2)
    workers = set(server.children("qmail-local"))
    for i in range(60):
        assert server.queue(MESSAGE, "joe@sender.example", f"ana@{HOST}").returncode == 0
    server.arrived(62)
    server.logged("success: did_1+0+0/", 62)
    assert len(set(server.children("qmail-local")) | workers) <= 4


def test_worker_that_is_killed(server):
    """qmail-send gives its jobs to another."""
    server.write("home/ana/.qmail", "|test -e go || { echo $PPID >worker; exec cat fifo; }\n./Maildir/\n", 0o600)
    os.mkfifo(server.home / "home/ana/fifo")
    server.own(server.home / "home/ana/fifo")
    server.queue(MESSAGE, "joe@sender.example", f"ana@{HOST}")
    worker = wait_for(lambda: (p := server.home / "home/ana/worker").exists() and p.read_text().strip())
    with open(server.home / "home/ana/fifo", "w"):  # cat is there
        server.write("home/ana/go", "")
        os.kill(int(worker), signal.SIGKILL)
    server.logged("deferral: ")
    server.send.send_signal(signal.SIGALRM)
    server.arrived(1)


def test_list_with_verp(server):
    server.write("home/ana/.qmail-list", f"&luis@{HOST}\n&ana@{HOST}\n", 0o600)
    server.write("home/ana/.qmail-list-owner", "#\n", 0o600)
    server.write("home/ana/.qmail-list-owner-default", "#\n", 0o600)
    server.queue(MESSAGE, "joe@sender.example", f"ana-list@{HOST}")
    for user in "luis", "ana":
        [got] = server.arrived(1, user)
        host = re.escape(HOST)
        assert re.match(rf"Return-Path: <ana-list-owner-{user}={host}@{host}>\n".encode(), got)


def test_bounce_of_an_unknown_address(server):
    server.queue(MESSAGE, f"luis@{HOST}", f"ana-nobody@{HOST}")
    [bounce] = server.arrived(1, "luis")
    assert b"(#5.1.1)" in bounce and f"ana-nobody@{HOST}".encode() in bounce


def test_replaced_qmail_local(stopped):
    """bin/qmail-local is another program: it gets every message by its command line."""
    stopped.replace("qmail-local", "#!/bin/sh\nprintf '%s ' \"$@\" >>home/ana/calls\nexec libexec/qmail-local \"$@\"\n")
    stopped.start()
    stopped.queue(MESSAGE, "joe@sender.example", f"ana@{HOST}")
    stopped.arrived(1)
    assert (stopped.home / "home/ana/calls").read_text() == f"-- ana home/ana ana   {HOST} joe@sender.example ./Maildir/ "
