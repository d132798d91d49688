"""SIGKILL at random moments: what was accepted arrives, and arrives whole."""
import os
import random
import signal
import threading
import time

import pytest

from conftest import wait_for

MESSAGES = 2000
SUBMITTERS = 4
VICTIMS = ("qmail-queued", "qmail-send", "qmail-lspawn", "qmail-rspawn", "qmail-local")
DEADLINE = 240


class Supervisor(threading.Thread):
    """Starts the daemons again when they have ended, as s6 does, and kills one of them now and then."""

    def __init__(self, server, seed):
        super().__init__()
        self.server, self.random = server, random.Random(seed)
        self.killing = True
        self.over = threading.Event()
        self.kills = dict.fromkeys(VICTIMS, 0)
        self.failure = None

    def kill_one(self):
        victim = self.random.choice(VICTIMS)
        pids = self.server.children(victim)
        if not pids:
            return
        # of the keeper and its writers any one, or all that belong to it at once as a power cut would
        for pid in pids if self.random.random() < 0.3 else [self.random.choice(pids)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.kills[victim] += 1
            # one that is about to end must not look alive: who is started then waits for it in vain
            for process in (self.server.keeper, self.server.send):
                if process.pid == pid:
                    process.wait()

    def revive(self):
        for attribute, start in (("keeper", self.server.start_keeper), ("send", self.server.start_send)):
            process = getattr(self.server, attribute)
            if process.poll() is not None:
                try:
                    start()
                except pytest.fail.Exception:
                    if getattr(self.server, attribute).poll() is None:
                        raise

    def run(self):
        try:
            while not self.over.wait(self.random.uniform(0.01, 0.15)):
                if self.killing:
                    self.kill_one()
                self.revive()
        except BaseException as e:
            self.failure = e


def submit_all(server, messages, accepted, seed):
    """Hands every message to qmail-queue, from SUBMITTERS threads; accepted: those with exit 0."""
    pending = list(enumerate(messages))
    random.Random(seed).shuffle(pending)
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                if not pending:
                    return
                number, (user, octets) = pending.pop()
            done = server.queue(octets, "sender@test.example", f"{user}@mail.test.example")
            if done.returncode == 0:
                with lock:
                    accepted.add(number)

    threads = [threading.Thread(target=work) for _ in range(SUBMITTERS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def without_trace(octets):
    """What was submitted: Return-Path, Delivered-To and the keeper's Received field taken off."""
    for field in (b"Return-Path:", b"Delivered-To:", b"Received:"):
        line, octets = octets.split(b"\n", 1)
        assert line.startswith(field), line
    return octets


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_accepted_messages_survive_sigkill(new_tree, corpus, seed):
    from conftest import Server
    server = new_tree(Server)
    server.start()
    count = MESSAGES // 3 + 1
    messages = [(("ana", "luis")[n % 2], b"X-Number: %d\n" % n + corpus[n % len(corpus)][1]) for n in range(count)]
    # some too large for the journal: they take the other way
    for n in range(0, count, 40):
        messages[n] = (messages[n][0], messages[n][1] + b"x" * 79 + b"\n" * 1 + b"y" * 300000)
    accepted = set()
    supervisor = Supervisor(server, seed)
    supervisor.start()
    try:
        submit_all(server, messages, accepted, seed)
        wait_for(lambda: sum(supervisor.kills.values()) >= 10 or supervisor.failure, what="ten kills")
        supervisor.killing = False
        wait_for(lambda: server.keeper.poll() is None and server.send.poll() is None and
                 server.children("qmail-lspawn"), what="all daemons to run")
        wanted = {messages[n][1] for n in accepted}

        def missing():
            return wanted - {without_trace(m) for user in ("ana", "luis") for m in server.maildir(user)}

        end = time.monotonic() + DEADLINE
        left = missing()
        while left and time.monotonic() < end:
            # a message whose worker was killed is deferred for 100 seconds: everything is due now
            server.send.send_signal(signal.SIGALRM)
            time.sleep(0.5)
            left = missing()
        assert not left, f"{len(left)} accepted messages did not arrive:\n{server.log('qmail-queued')[-3000:]}"
        arrived = [without_trace(m) for user in ("ana", "luis") for m in server.maildir(user)]
        damaged = set(arrived) - {m[1] for m in messages}
        assert not damaged, f"{len(damaged)} damaged messages were delivered: {[d[:200] for d in damaged]}"
        assert len(accepted) > count / 2
        wait_for(lambda: not os.listdir(server.home / "queue/new"), what="queue/new to be empty")
        assert not os.listdir(server.home / "queue/damaged")
    finally:
        supervisor.over.set()
        supervisor.join()
    if supervisor.failure:
        raise supervisor.failure
    print(f"kills {supervisor.kills}, accepted {len(accepted)} of {count}, "
          f"delivered twice {len(arrived) - len(set(arrived))}")
