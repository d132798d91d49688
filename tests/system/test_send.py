"""qmail-send among a keeper, spawners and workers that the test plays."""
import os
import re
import shutil
import signal
import socket
import struct
import time

import pytest

from conftest import wait_for
from sending import RING_SIZE, World, has_asan, keep_bounces
from smtp_session import capped


@pytest.fixture
def world(tree):
    tree.need("qmail-send")
    tree.write("control/locals", "mail.test.example\n")
    tree.write("control/virtualdomains", "virtual.example:ana-v\n")
    made = World(tree)
    yield made
    made.close()


def lines(world, start):
    return [line for line in world.log.splitlines() if line.startswith(start)]


# -- the way of one message ----------------------------------------------------------------------------

def test_log_lines_of_a_delivery(world):
    world.on_job = lambda job: job.answer("K", "did 1+0+0\n")
    world.start()
    m = world.message("ana@mail.test.example", sender="se nder@x", uid=77)
    world.ended(m)
    world.logged("status: local 0/10 remote 0/20\n", 2)
    assert world.log == (
        "status: local 0/10 remote 0/20\n"
        "new msg 1\n"
        "info msg 1: bytes 20 from <se_nder@x> qp 1 uid 77\n"
        "starting delivery 1: msg 1 to local ana@mail.test.example\n"
        "status: local 1/10 remote 0/20\n"
        "delivery 1: success: did_1+0+0/\n"
        "end msg 1\n"
        "status: local 0/10 remote 0/20\n")
    assert world.started == [("local", "ana")]
    assert not [kind for kind, _ in world.said if kind == "D"]  # the end says it
    errors = world.stop()
    assert errors == b"" or has_asan(world.tree)
    assert world.log.endswith("status: local 0/10 remote 0/20 exitasap\nstatus: exiting\n")


def test_strings_of_jobs(world):
    world.start()
    world.ended(world.message("Ana-Ext-x@Mail.Test.Example", sender="s@x", octets=b"A: b\n\n\0\xff\r"),
                world.message("info@virtual.example", sender=""),
                world.message("Bob@Far.Example", "carol@far.example", sender="s@x"))
    by_sender = sorted((job.strings for job in world.jobs), key=str)
    assert by_sender == [["", "ana-v-info", "-", "v-info", "virtual.example"],
                         ["s@x", "", "far.example", "Bob@Far.Example", "", "carol@far.example", ""],
                         ["s@x", "Ana-Ext-x", "-", "Ext-x", "Mail.Test.Example"]]
    assert {job.message for job in world.jobs if job.strings[1] == "Ana-Ext-x"} == {b"A: b\n\n\0\xff\r"}
    world.logged("to local ana-v-info@virtual.example\n")


def test_no_recipients_and_no_local_part(world):
    world.start()
    world.ended(world.message(), world.message("@mail.test.example"))
    world.logged("starting delivery 1: msg 2 to local @mail.test.example\ndelivery 1: success: \n")
    assert not world.jobs


def test_verp_gives_each_recipient_its_own_job(world):
    world.start()
    world.ended(world.message("a@far.example", "b@far.example", "c@virtual.example", sender="list-@x-@[]"))
    assert sorted(job.sender for job in world.jobs) == ["list-a=far.example@x", "list-b=far.example@x", "list-c=virtual.example@x"]


def test_many_recipients_of_one_domain_share_jobs(world):
    world.start()
    m = world.message(*(f"r{i}@far.example" for i in range(250)), *(f"x{i}@other.example" for i in range(3)))
    world.ended(m)
    sizes = sorted(len(job.recipients) for job in world.jobs)
    assert sum(sizes) == 253 and max(sizes) <= 100 and len(sizes) <= 6
    assert {r for job in world.jobs for r in job.recipients} == set(m.recipients)
    assert len(lines(world, "starting delivery")) == 253


def test_domains_behind_one_relay_share_jobs(world):
    """control/smtproutes: those with one relay; not those with another, or with none. The file is read anew when it changes."""
    domains = ("one.example", "two.example", "x.lone.example", "other.example", "o2.example")

    def shared():
        """The domains of each job of a new message."""
        before = len(world.jobs)
        world.ended(world.message(*(f"r@{d}" for d in domains)))
        assert all(job.host == job.recipients[0].partition("@")[2] for job in world.jobs[before:])
        return sorted([r.partition("@")[2] for r in job.recipients] for job in world.jobs[before:])

    world.tree.write("control/smtproutes", ":relay.example\n.lone.example:\nother.example:Relay2:26\no2.example:relay2:26|u|p\n")
    world.start()
    assert shared() == [["one.example", "two.example"], ["other.example", "o2.example"], ["x.lone.example"]]
    world.tree.write("control/smtproutes", "two.example:relay.example\nother.example:relay.example:25\n")
    wait_for(lambda: shared() == [["o2.example"], ["one.example"], ["two.example", "other.example"], ["x.lone.example"]])
    os.unlink(world.tree.home / "control/smtproutes")
    wait_for(lambda: len(shared()) == 5)


def test_messages_are_taken_in_the_order_in_which_they_came(world):
    world.start()
    world.ended(*(world.message("ana@mail.test.example") for _ in range(50)))
    order = [int(n) for n in re.findall(r"^starting delivery \d+: msg (\d+)", world.log, re.M)]
    assert order == list(range(1, 51))


# -- outcomes ------------------------------------------------------------------------------------------------

def test_deferral_is_tried_again_on_alarm(world):
    answers = iter("ZK")
    world.on_job = lambda job: job.answer(next(answers), "text\n")
    world.start()
    m = world.message("ana@mail.test.example")
    world.logged("delivery 1: deferral: text/\n")
    world.until(lambda: m.told_deferred == 1)
    world.put_in_file(m)  # as the keeper does
    world.quiet()
    assert len(world.jobs) == 1
    world.signal(signal.SIGALRM)
    world.ended(m)
    assert m.told_deferred == 1 and world.log.count("new msg") == 1


def test_each_recipient_has_its_own_outcome(world):
    world.on_job = lambda job: [job.answer(letter, letter, i) for i, letter in enumerate("KDZ")]
    world.start()
    m = world.message("a@far.example", "b@far.example", "c@far.example")
    world.until(lambda: m.told_deferred)
    assert (m.states, m.texts[1]) == ({0: "K", 1: "D", 2: "T"}, "D")


def test_too_old_is_given_up(world):
    world.tree.write("control/queuelifetime", "1000\n")
    world.tree.write("control/doublebounceto", "@\n")
    world.on_job = lambda job: job.answer("Z", "no luck (#4.4.1)")
    world.start()
    m = world.message("a@far.example", sender="", birth=int(time.time()) - 1002)
    young = world.message("a@other.example", sender="", birth=int(time.time()) - 900)
    world.ended(m)
    assert m.texts[0].startswith("no luck (#4.4.1)\n") and "this message has been in the queue too long" in m.texts[0]
    world.until(lambda: "double bounce: discarding bounce/1\nend msg 1\n" in world.log)
    world.until(lambda: young.told_deferred)


def test_triple_bounce_is_discarded(world):
    world.on_job = lambda job: job.answer("D", "no")
    world.start()
    world.ended(world.message("a@far.example", sender="#@[]"))
    world.until(lambda: "triple bounce: discarding bounce/1\nend msg 1\n" in world.log)


def test_text_is_cut(world):
    world.on_job = lambda job: job.answer("D", "x" * 10001)
    world.start()
    m = world.message("a@far.example", "b@other.example", sender="#@[]")
    world.logged("report of the delivery program cannot be understood".replace(" ", "_"), 2)
    world.on_job = lambda job: job.answer("D", "x" * 10000)
    world.signal(signal.SIGALRM)
    world.ended(m)
    assert len(m.texts[0]) == 10000


@pytest.mark.parametrize("text, kept", [("a\0b", "a"), ("", "")])
def test_text_ends_at_nul(world, text, kept):
    world.on_job = lambda job: job.answer("D", text)
    world.start()
    m = world.message("a@far.example", "b@other.example", sender="#@[]")
    world.ended(m)
    assert m.texts[0] == kept


# -- times ------------------------------------------------------------------------------------------------------

def test_untried_messages_are_due_at_once_tried_ones_at_their_time(world):
    now = int(time.time())
    world.last_tried = now - 10
    fresh = world.message("a@mail.test.example", birth=now - 5000)
    waiting = world.message("a@far.example", birth=now - 100, tried=1)  # next: at 400 s
    passed = world.message("b@far.example", birth=now - 402, tried=1)  # tried at 392, next: at 400 s, which has passed
    world.start()
    world.ended(fresh, passed)
    world.quiet()
    assert not waiting.ended
    assert "new msg 1\n" in world.log and "new msg 3\n" not in world.log and "info msg 3" not in world.log


def test_times_survive_a_kill(world):
    now = int(time.time())
    world.on_job = lambda job: job.answer("Z", "later")
    world.start()
    m = world.message("a@far.example")
    world.until(lambda: m.told_deferred)
    world.process.kill()
    world.process.wait()
    world.lose_keeper(listen=True)
    m.tried, world.last_tried = 1, now
    world.put_in_file(m)
    world.start()
    world.quiet()
    assert len(world.jobs) == 1


def test_birth_in_the_future(world):
    world.on_job = lambda job: job.answer("Z", "later")
    world.start()
    m = world.message("a@mail.test.example", birth=int(time.time()) + 10**6)
    world.until(lambda: m.told_deferred)


def test_local_retry_after_100_seconds_is_not_earlier(world):
    """A short age, so that the real clock shows it: born 97 s ago, tried then, due at 100 s."""
    now = int(time.time())
    world.last_tried = now - 90
    m = world.message("a@mail.test.example", birth=now - 97, tried=1)
    world.start()
    world.quiet(1)
    assert not world.jobs
    world.ended(m)
    assert time.time() >= now + 3


# -- whose mail, which worker --------------------------------------------------------------------------------------

def test_owner_is_asked_once(world):
    world.start()
    for _ in range(5):
        world.ended(world.message("ana-x@mail.test.example"))
    assert world.asked == ["ana-x"]
    assert world.started == [("local", "ana-x")]


def test_owners_are_asked_again_when_the_tables_change(world):
    world.start()
    world.ended(world.message("ana@mail.test.example"))
    world.tree.write("users/cdb", b"changed" * 1000)
    world.owner = lambda local: ("K", "luis" if local == "ana" else local)
    world.ended(world.message("ana@mail.test.example"))
    assert world.asked == ["ana", "ana"]
    assert len(world.started) == 2
    assert [job.worker.number for job in world.jobs] == world.start_ids


def test_a_table_written_anew_with_its_old_time_is_noticed(world):
    """Of the same size, in place: as `cp -p` and backups do it."""
    table = world.tree.write("users/cdb", b"before" * 1000)
    was = table.stat()
    world.start()
    world.ended(world.message("ana@mail.test.example"))
    while table.stat().st_ctime_ns == was.st_ctime_ns:  # the file system's clock is coarse
        table.write_bytes(b"behind" * 1000)
        os.utime(table, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (table.stat().st_ino, table.stat().st_mtime_ns, table.stat().st_size) == (was.st_ino, was.st_mtime_ns, was.st_size)
    world.ended(world.message("ana@mail.test.example"))
    assert world.asked == ["ana", "ana"]


def test_a_worker_of_another_user_gets_nothing(world):
    """Between question and start the tables changed."""
    world.start_worker = lambda channel, name: None
    world.start()
    m = world.message("ana@mail.test.example")
    world.until(lambda: world.started)
    world.owner = lambda local: ("K", "luis")
    world.start_worker = lambda channel, name: "K"
    world.send_worker("local", world.start_ids[0], "ana", user="luis")
    world.ended(m)
    assert world.asked == ["ana", "ana"]
    assert len(world.started) == 2 and len(world.jobs) == 1
    assert world.jobs[0].worker.number == world.start_ids[1]


def test_owner_unknown_for_now_or_for_good(world):
    world.owner = lambda local: ("Z", "try later\n") if local == "a" else ("D", "nobody (#5.1.1)\n")
    world.start()
    m = world.message("a@mail.test.example", "b@mail.test.example", sender="#@[]")
    world.until(lambda: m.told_deferred)
    assert m.states == {0: "T", 1: "D"} and m.texts[1] == "nobody (#5.1.1)\n"
    world.logged("delivery ", 4)
    assert re.search(r"starting delivery (\d+): msg 1 to local a@mail.test.example\ndelivery \1: deferral: try_later/\n", world.log)
    assert re.search(r"starting delivery (\d+): msg 1 to local b@mail.test.example\ndelivery \1: failure: nobody_\(#5.1.1\)/\n", world.log)


def test_no_worker_for_now_or_for_good(world):
    world.start_worker = lambda channel, name: "Zno process\n" if name == "a" else "Dnever\n"
    world.start()
    m = world.message("a@mail.test.example", "b@mail.test.example", sender="#@[]")
    world.until(lambda: m.told_deferred)
    assert m.states == {0: "T", 1: "D"}


def test_idle_worker_is_kept_for_a_while_and_then_ended(world):
    world.start()
    world.ended(world.message("ana@mail.test.example"))
    assert len(world.workers) == 1
    world.ended(world.message("ana@mail.test.example"))
    assert len(world.started) == 1
    world.until(lambda: not world.workers, deadline=15)


def test_idle_worker_is_ended_though_there_is_always_something_to_do(world):
    """While a large message is checked, a mebibyte a turn, which strace has take 0.8 s."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = world.tree.write("trace", "", 0o666)
    world.start(ready=False, wrap=("strace", "-D", "-o", trace, "-e", "trace=pread64", "-e", "inject=pread64:delay_enter=50000"))
    world.until(lambda: world.lists == 1)
    world.ended(world.message("ana@mail.test.example"))
    if not trace.read_text():
        pytest.skip("strace is not allowed here")
    m = world.message("a@far.example", octets=os.urandom(14 << 20))
    world.until(lambda: not world.workers)
    world.quiet(0.5)
    assert len(world.started) == 1  # that is not over yet
    world.ended(m)
    world.stop()


def test_worker_is_thrown_away_after_a_thousand_jobs(world):
    world.start()
    world.ended(*(world.message("ana@mail.test.example") for _ in range(1200)))
    counts = {}
    for job in world.jobs:
        counts[job.worker.number] = counts.get(job.worker.number, 0) + 1
    assert sum(counts.values()) == 1200 and max(counts.values()) <= 1000


@pytest.mark.parametrize("recipient, most, workers", (("ana@mail.test.example", 48, 4), ("x@far.example", 16, 5)))
def test_batches_grow_with_quick_answers(world, recipient, most, workers):
    held = []

    def on_job(job):
        held.append(job)
        deepest[0] = max(deepest[0], len([j for j in held if j.worker is job.worker]))

    deepest = [0]
    world.on_job = on_job
    world.start()
    messages = [world.message(recipient) for _ in range(400)]
    while held or not messages[-1].ended:
        world.until(lambda: held or messages[-1].ended)
        world.quiet(0.02)
        now, held[:] = held[:], []
        for job in now:
            job.answer()
    world.ended(*messages)
    assert deepest[0] == most
    assert len(world.started) <= workers


def test_limits_of_workers(world):
    world.tree.write("control/concurrencylocal", "6\n")
    world.tree.write("control/concurrencyremote", "7\n")
    world.tree.write("control/concurrencydestination", "2\n")
    held = []
    world.on_job = held.append
    world.start()
    messages = [world.message(f"{user}@mail.test.example") for user in "abc" for _ in range(40)]
    messages += [world.message(f"x@{host}.example") for host in "abcde" for _ in range(40)]
    world.quiet(5)  # each second without an answer another worker is allowed
    busy = [{job.worker.number for job in held if job.worker.channel == channel} for channel in ("local", "remote")]
    assert (len(busy[0]), len(busy[1])) == (6, 7)
    for host in "abcde":
        assert len({job.worker.number for job in held if job.host == f"{host}.example"}) <= 2
    world.logged("status: local 6/6 remote 7/7\n")
    world.on_job = lambda job: job.answer()
    for job in held:
        job.answer()
    world.ended(*messages)


# -- destinations ------------------------------------------------------------------------------------------------------

def test_a_dead_destination_delays_nobody(world):
    def on_job(job):
        if job.host == "alive.example":
            job.answer()
        else:
            held.append(job)

    held = []
    world.on_job = on_job
    world.start()
    dead = [world.message(f"x{i}@dead.example") for i in range(300)]
    world.until(lambda: held)
    world.ended(*(world.message(f"x{i}@alive.example") for i in range(50)))
    # the sessions that were under way fail; the rest waits, and nothing more is tried for now
    for job in held:
        job.answer("Z", "Sorry, no connection. (#4.4.1)\n")
    tried = len(held)
    world.quiet(1)
    assert len(held) == tried <= 5
    # hurried: one tries, and what it learns is said of the others
    world.signal(signal.SIGALRM)
    world.until(lambda: len(held) > tried)
    world.quiet()
    assert len(held) == tried + 1
    held[-1].answer("Z", "Sorry, still no connection. (#4.4.1)\n")
    world.until(lambda: all(m.told_deferred for m in dead))
    world.logged("deferral: Not_tried,_as_another_attempt_just_failed:_Sorry,_still_no_connection._(#4.4.1)/\n")
    # it is back
    world.on_job = lambda job: job.answer()
    for m in dead:
        world.put_in_file(m)
    world.signal(signal.SIGALRM)
    world.ended(*dead)


def test_a_deferral_of_one_recipient_is_no_back_off(world):
    world.on_job = lambda job: job.answer("Z" if job.recipients[0].startswith("full") else "K", "mailbox full (#4.2.2)\n")
    world.start()
    full = world.message("full@far.example")
    world.until(lambda: full.told_deferred)
    world.ended(world.message("ok@far.example"))


# -- workers that misbehave --------------------------------------------------------------------------------------------------

def test_worker_that_ends_without_an_answer(world):
    world.on_job = lambda job: world.workers.remove(job.worker) or job.worker.close()
    world.start()
    m = world.message("ana@mail.test.example")
    world.until(lambda: m.told_deferred)
    world.logged("deferral: The_delivery_program_ended_without_a_report._(#4.3.0)/")
    world.on_job = lambda job: job.answer()
    world.ended(world.message("ana@mail.test.example"))


def test_answers_before_the_end_count(world):
    def on_job(job):
        held.append(job)
        if len(held) == 3:
            held[0].answer("K")
            held[1].answer("D", "no")
            world.workers.remove(job.worker)
            job.worker.close()

    held = []
    world.start()
    # deep enough for three at a time
    world.ended(*(world.message("ana@mail.test.example") for _ in range(20)))
    world.on_job = on_job
    world.workers[0].reads = False
    three = [world.message("ana@mail.test.example", sender="#@[]") for _ in range(3)]
    world.quiet()
    world.workers[0].reads = True
    world.until(lambda: three[0].ended and three[1].ended and three[2].told_deferred)


@pytest.mark.parametrize("what", ["unknown job", "no such recipient", "twice", "frame", "too short", "descriptor", "flood"])
def test_worker_that_talks_nonsense(world, what):
    def on_job(job):
        number = struct.pack(">II", job.id, 0)
        if what == "unknown job":
            job.worker.send("A", struct.pack(">II", job.id + 16, 0) + b"K")
        elif what == "no such recipient":
            job.worker.send("A", struct.pack(">II", job.id, 1) + b"K")
        elif what == "twice":
            if len(held) < 1:
                held.append(job)
                return
            held[0].worker.send("A", struct.pack(">II", held[0].id, 0) + b"K")
            held[0].worker.send("A", struct.pack(">II", held[0].id, 0) + b"K")
        elif what == "frame":
            job.worker.send("J", number + b"K")
        elif what == "too short":
            job.worker.send("A", number)
        elif what == "descriptor":
            held.append(job)  # the other one is open when the descriptor comes
            if len(held) == 2:
                held[0].worker.send("A", struct.pack(">II", held[0].id, 0) + b"K", fd=1)
        elif what == "flood":
            job.worker.out = struct.pack(">I", 1 << 30) + b"A" + b"x" * 1000
            job.worker.flush()

    held = []
    world.start()
    world.ended(*(world.message("ana@mail.test.example") for _ in range(10)))
    world.on_job = on_job
    messages = [world.message("ana@mail.test.example") for _ in range(2)]
    world.logged("report_of_the_delivery_program_cannot_be_understood")
    world.on_job = lambda job: job.answer()
    world.quiet(0.1)
    for m in messages:
        world.put_in_file(m)
    world.signal(signal.SIGALRM)
    world.ended(*messages)


def test_an_unknown_letter_is_a_deferral(world):
    world.on_job = lambda job: job.answer("Q", "what")
    world.start()
    m = world.message("ana@mail.test.example")
    world.until(lambda: m.told_deferred)
    world.logged("delivery 1: report mangled, will defer\n")


def test_workers_that_end_as_soon_as_they_start(world):
    """As where qmail-local cannot be executed: no new one is asked for at once."""
    def start_worker(channel, name):
        world.send_worker(channel, world.start_ids[-1], name)
        worker = world.workers.pop()
        worker.close()

    world.start_worker = start_worker
    world.start()
    messages = [world.message(f"ana-{i}@mail.test.example") for i in range(5)] + [world.message("a@far.example")]
    world.quiet(1)
    assert len(world.started) <= 10
    world.start_worker = lambda channel, name: "K"
    world.signal(signal.SIGALRM)
    for m in messages:
        world.put_in_file(m)
    world.quiet(0.2)
    world.signal(signal.SIGALRM)
    world.ended(*messages)


def test_jobs_that_a_worker_never_got_go_to_another(world):
    """The worker reads nothing; what did not fit into its socket is given to another when it ends."""
    world.start()
    world.ended(*(world.message("ana@mail.test.example") for _ in range(40)))
    world.on_job = lambda job: job.answer()
    stuck = world.workers[:]
    for worker in stuck:
        worker.reads = False
    big = [world.message("ana@mail.test.example", octets=b"A: b\n\n" + b"x" * 150000) for _ in range(4)]
    world.quiet(0.5)
    for worker in stuck:
        worker.gone = True
    world.until(lambda: len([m for m in big if m.ended or m.told_deferred]) == 4)
    assert len([m for m in big if m.ended]) >= 1


# -- lost spawners -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("channel, name", [("local", "qmail-lspawn"), ("remote", "qmail-rspawn")])
def test_lost_spawner(world, channel, name):
    held = []
    world.on_job = held.append
    world.start()
    m = world.message("ana@mail.test.example", "a@far.example")
    world.until(lambda: len(held) == 2)
    world.spawners[channel].socket.close()
    world.spawners[channel].gone = True
    world.logged(f"alert: lost {name}")
    for job in held:
        job.answer()
    world.until(lambda: world.process.poll() is not None)
    assert world.process.returncode == 111
    assert m.ended


# -- the keeper --------------------------------------------------------------------------------------------------------------------------

def test_outcomes_are_repeated_to_a_new_keeper_before_its_list(world):
    world.confirms = False
    answers = {"a": "K", "b": "D", "c": "Z"}
    world.on_job = lambda job: job.answer(answers[job.recipients[0][0]], job.recipients[0][0])
    world.start()
    m = world.message("a@mail.test.example", "b@mail.test.example", "c@mail.test.example")
    done = world.message("a@mail.test.example")
    world.until(lambda: m.told_deferred and done.ended and len(world.unconfirmed) == 3)
    world.lose_keeper()
    world.unconfirmed, world.said = [], []
    m.states, m.texts, done.ended = {0: "T", 1: "T", 2: "T"}, {}, False
    world.quiet()
    world.listener = world.listen()
    world.until(lambda: world.lists == 2)
    told = [(kind, payload[:13] if kind == "D" else payload) for kind, payload in world.said]
    assert sorted(told[:3]) == sorted([("D", struct.pack(">QIc", 1, 0, b"K")), ("D", struct.pack(">QIc", 1, 1, b"D")),
                                       ("X", struct.pack(">Q", 2))])
    assert told[3][0] == "L"
    assert m.texts[1] == "b"
    world.confirms = True
    world.confirm_all()
    world.stop()


def test_tries_to_connect_become_rare(world):
    """How long qmail-send means to wait after each try: 20 ms, twice as long each time up to a second, and from 20 ms again."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = world.tree.write("trace", "", 0o666)

    def waits():
        """After each connect that fails: the time-out of the wait that follows; 5 is that of the log, where there is a line to write."""
        return [int(ms) for ms in re.findall(r"connect\(.* = -1 E\w+ .*\n(?:epoll_pwait\(.*, 0, \[\], 8\) .*\n)*epoll_pwait\(.*, (\d+), \[\], 8\)",
                                             trace.read_text())]

    world.lose_keeper()
    world.start(ready=False, wrap=("strace", "-D", "-o", trace, "-e", "trace=connect,epoll_pwait"))
    world.until(lambda: len(waits()) >= 8 or world.process.poll() is not None)
    if not trace.read_text():
        pytest.skip("strace is not allowed here")
    assert waits()[:8] == [5, 40, 80, 160, 320, 640, 1000, 1000]
    # and what is left of the first 20, or nothing
    assert re.search(r"epoll_pwait\(.*, 5, \[\], 8\) .*\n(epoll_pwait\(.*, (\d|1[0-5]), \[\], 8\)|connect)", trace.read_text())
    assert world.log.count("warning: unable to connect to qmail-queued: ") == 1
    world.listener = world.listen()
    world.until(lambda: world.lists == 1)
    trace.write_text("")
    world.listener.close()  # first, or it takes the next connection as well
    world.listener = None
    world.lose_keeper()
    world.until(lambda: len(waits()) >= 3)
    assert waits()[:3] == [40, 80, 160]  # the first 20 pass between the loss and the first try
    world.listener = world.listen()
    world.until(lambda: world.lists == 2)
    world.stop()


def test_a_keeper_that_takes_nothing_is_left_for_a_new_connection(world):
    """In 20 ms, though it is lost at the end of a turn, when all is done that was due."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = world.tree.write("trace", "", 0o666)
    world.start(ready=False, wrap=("strace", "-D", "-o", trace, "-e", "trace=sendmsg,epoll_pwait"))
    world.until(lambda: world.lists == 1)
    if not trace.read_text():
        pytest.skip("strace is not allowed here")
    half = world.keeper
    half.reads = False
    half.socket.shutdown(socket.SHUT_RD)
    m = world.message("a@mail.test.example")
    world.until(lambda: world.lists == 2 and m.ended)
    # up to 5 until the log is written, unless that is done, and what is left then
    assert re.search(r"EPIPE .*\n(epoll_pwait\(.*, [0-5], \[\], 8\) .*\n)*epoll_pwait\(.*, ([6-9]|1\d|20), \[\], 8\)", trace.read_text())
    assert world.log.count("warning: lost qmail-queued: Broken pipe; trying again") == 1
    world.stop()


def test_messages_that_a_new_keeper_does_not_name_are_forgotten(world):
    world.on_job = lambda job: job.answer("Z", "later")
    world.start()
    m = world.message("ana@mail.test.example")
    world.until(lambda: m.told_deferred)
    world.lose_keeper()
    del world.messages[m.number]
    world.listener = world.listen()
    world.logged("warning: forgetting msg 1: it is no longer in the queue\n")
    world.signal(signal.SIGALRM)
    world.quiet()
    assert len(world.jobs) == 1


def test_deliveries_go_on_while_the_keeper_is_away(world):
    held = []
    world.on_job = held.append
    world.start()
    messages = [world.message(f"a{i}@mail.test.example") for i in range(30)]
    world.until(lambda: held)
    world.lose_keeper()
    world.on_job = lambda job: job.answer()
    for job in held:
        job.answer()
    world.until(lambda: len(world.jobs) == 30)
    world.listener = world.listen()
    world.ended(*messages)
    assert len(world.jobs) == 30
    assert world.log.count("warning: lost qmail-queued") == 1


def test_ends_when_all_is_confirmed(world):
    world.confirms = False
    held = []
    world.on_job = held.append
    world.start()
    world.message("ana@mail.test.example")
    world.message("luis@mail.test.example")
    world.until(lambda: len(held) == 2)
    world.signal(signal.SIGTERM)
    world.logged(" exitasap\n")
    world.message("new@mail.test.example")
    world.quiet()
    assert len(held) == 2
    for job in held:
        job.answer()
    world.until(lambda: len(world.unconfirmed) == 2)
    world.quiet()
    assert world.process.poll() is None
    world.confirm_all()
    world.stop()
    assert world.log.endswith("status: exiting\n")
    assert "status: local 2/10 remote 0/20 exitasap\n" in world.log


def test_second_qmail_send_is_refused(world):
    world.start()
    other = world.tree.run("/bin/bash", "-c", f"exec {world.tree.bin}/qmail-send 3<>/dev/null 4<>/dev/null")
    assert other.returncode == 111
    assert other.stdout.startswith(b"alert: cannot start: qmail-send is already running")


@pytest.mark.parametrize("missing", ["locals"])
def test_cannot_start(world, missing):
    (world.tree.home / "control/locals").unlink()
    (world.tree.home / "control/me").unlink()
    world.start(ready=False)
    world.logged("alert: cannot start: control/locals: No such file or directory\n")
    world.stop(111)


def test_usage(tree):
    tree.need("qmail-send")
    for args in (["-d", "1"], ["-d", "x"], ["-q"], ["x"]):
        assert tree.run("qmail-send", *args).returncode == 100


# -- where the octets are --------------------------------------------------------------------------------------------------------------------

def test_record_that_goes_on_at_the_start_of_the_ring(world):
    world.start()
    world.ring_at = RING_SIZE - 4096
    octets = bytes(range(256)) * 40
    world.ended(world.message("ana@mail.test.example", octets=octets))
    assert world.jobs[0].message == octets


def test_message_that_was_moved_meanwhile(world):
    world.start()
    world.keeper.reads = False
    world.confirms = True
    number = world.number + 1
    world.listed = False
    m = world.message("ana@mail.test.example", octets=b"moved\n")
    place = m.place
    world.put_in_file(m)
    m.place = place
    with open(world.ring, "r+b") as f:
        f.write(b"\1" * RING_SIZE)
    world.keeper.reads = True
    world.notice(m)
    world.ended(m)
    assert world.jobs[0].message == b"moved\n" and number == m.number
    assert not [kind for kind, _ in world.said if kind == "?"]


def test_message_that_is_nowhere_is_asked_for(world):
    def on_where(m, kind, payload):
        asked.append(kind)
        if len(asked) == 1:
            assert payload == struct.pack(">Q", m.number)
        else:
            assert payload == struct.pack(">Q", m.number) + m.place
            world.put_in_ring(m)
        world.keeper.send("P", struct.pack(">Q", m.number) + m.place)

    asked = []
    world.on_where = on_where
    world.start()
    world.listed = False
    m = world.message("ana@mail.test.example", "luis@mail.test.example", octets=b"lost and found\n")
    with open(world.ring, "r+b") as f:
        f.write(b"\1" * RING_SIZE)
    world.notice(m)
    world.ended(m)
    assert asked == ["?", "B"]
    assert [job.message for job in world.jobs] == [b"lost and found\n"] * 2


def test_message_that_is_damaged_is_forgotten(world):
    def on_where(m, kind, payload):
        world.keeper.send("P", struct.pack(">Q", m.number) + struct.pack(">BQII8s", 0, 0, 0, 0, b""))

    world.on_where = on_where
    world.start()
    world.listed = False
    m = world.message("ana@mail.test.example", in_file=True)
    world.file_of(m, "mess").write_bytes(b"Subject: test\n\nbodX\n")
    world.notice(m)
    world.logged("alert: msg 1 is damaged and was set aside\n")
    world.stop()
    assert not world.jobs


def test_keeper_that_insists_on_a_wrong_place(world):
    world.on_where = lambda m, kind, payload: world.keeper.send("P", struct.pack(">Q", m.number) + m.place)
    world.start()
    world.listed = False
    m = world.message("ana@mail.test.example")
    with open(world.ring, "r+b") as f:
        f.write(b"\1" * RING_SIZE)
    world.notice(m)
    world.logged("alert: msg 1 is not where the queue says it is\n")
    world.logged("deferral: The_message_cannot_be_found_in_the_queue")
    world.until(lambda: m.told_deferred)


def test_large_message_is_a_file_opened_for_each_delivery(world):
    octets = os.urandom(5 << 20)
    world.start()
    m = world.message("ana@mail.test.example", "luis@mail.test.example", "a@far.example", octets=octets)
    world.ended(m)
    assert len(world.jobs) == 3
    for job in world.jobs:
        assert job.is_file and job.message == octets and job.offset == 0
        assert job.flags & os.O_ACCMODE == os.O_RDONLY


def test_large_message_is_checked_before_any_of_it_is_sent(world):
    asked = []

    def on_where(m, kind, payload):
        asked.append(kind)
        world.put_in_file(m)
        world.keeper.send("P", struct.pack(">Q", m.number) + m.place)

    world.on_where = on_where
    octets = os.urandom(3 << 20)
    world.start()
    world.listed = False
    m = world.message("ana@mail.test.example", octets=octets)
    with open(world.file_of(m, "mess"), "r+b") as f:
        f.seek(2 << 20)
        f.write(b"damaged here")
    world.notice(m)
    world.ended(m)
    assert asked and world.jobs[0].message == octets


def test_small_message_in_a_file(world):
    world.start()
    world.ended(world.message("ana@mail.test.example", in_file=True, octets=b""))
    assert world.jobs[0].message == b"" and not world.jobs[0].is_file


# -- nobody is waited for ------------------------------------------------------------------------------------------------------------------------

def test_log_reader_that_stands_still(world):
    world.start()
    world.reads_log = False
    messages = [world.message(f"ana-{'x' * 200}{i}@mail.test.example") for i in range(3000)]
    world.ended(*messages)
    world.reads_log = True
    world.logged("warning: log reader too slow, lines lost: ")


def processor_seconds(world):
    with open(f"/proc/{world.process.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_log_reader_that_is_gone(world):
    world.start()
    world.reads_log = False
    os.close(world.log_pipe)
    world.log_pipe = os.open("/dev/null", os.O_RDONLY)
    world.ended(*(world.message("ana@mail.test.example") for _ in range(10)))
    before = processor_seconds(world)
    world.quiet(1)
    assert processor_seconds(world) - before < 0.1


def test_idle_costs_nothing(world):
    world.start()
    world.ended(*(world.message("ana@mail.test.example") for _ in range(10)))
    before = processor_seconds(world)
    world.quiet(1)
    assert processor_seconds(world) - before < 0.05


def test_worker_that_stands_still(world):
    world.start()
    world.ended(*(world.message("ana@mail.test.example") for _ in range(20)))
    for worker in world.workers:
        worker.reads = False
    stuck = [world.message("ana@mail.test.example", octets=b"x" * 190000) for _ in range(40)]
    world.ended(*(world.message("luis@mail.test.example") for _ in range(100)),
                *(world.message("a@far.example") for _ in range(100)))
    for worker in world.workers:
        worker.reads = True
    world.ended(*stuck)


@pytest.mark.parametrize("still, flows", [("local", "a@far.example"), ("remote", "ana@mail.test.example")])
def test_spawner_that_stands_still(world, still, flows):
    world.start()
    world.spawners[still].reads = False
    stuck = [world.message(f"x{i}@{'far' if still == 'remote' else 'mail.test'}{'' if still == 'local' else i}.example")
             for i in range(500)]
    world.ended(*(world.message(flows) for _ in range(100)))
    world.spawners[still].reads = True
    world.ended(*stuck)
    assert len(world.jobs) == len(stuck) + 100


def test_spawner_that_stands_still_leaves_running_workers(world):
    world.start()
    world.ended(world.message("ana@mail.test.example"))
    world.spawners["local"].reads = False
    world.message("luis@mail.test.example")
    world.ended(*(world.message("ana@mail.test.example") for _ in range(50)))


def test_keeper_that_stands_still(world):
    world.start()
    messages = [world.message(f"u{i % 50}@mail.test.example") for i in range(2000)]
    world.until(lambda: world.jobs)
    world.keeper.reads = False
    world.until(lambda: len(world.jobs) == 2000)
    world.keeper.reads = True
    world.ended(*messages)


def test_bounce_program_that_stands_still(world, tmp_path):
    """QMAILQUEUE is stopped: mail flows, and the bounces go out when it goes on."""
    go = world.tree.home / "go"
    program = world.tree.write("slow-queue", f"#!/bin/sh\ncat >/dev/null\nwhile ! test -e {go}; do sleep 0.05; done\nexit 0\n", 0o755)
    world.on_job = lambda job: job.answer("D" if job.recipients[0].startswith("bad") else "K", "no")
    world.start(QMAILQUEUE=str(program))
    bad = [world.message("bad@far.example") for _ in range(12)]
    world.ended(*(world.message("good@far.example") for _ in range(100)))
    world.quiet()
    assert not any(m.ended for m in bad)
    world.tree.write("go", "")
    world.ended(*bad)
    assert world.log.count("bounce msg ") == 12


def test_one_bounce_that_stands_still(world):
    program = world.tree.write("one-queue", "#!/bin/sh\ngrep -q poison && while ! test -e go; do sleep 0.05; done\nexit 0\n", 0o755)
    world.on_job = lambda job: job.answer("D", "no")
    world.start(QMAILQUEUE=str(program))
    messages = [world.message("a@far.example", octets=b"S: x\n\npoison\n" if i == 3 else b"S: x\n\n") for i in range(40)]
    world.ended(*(m for i, m in enumerate(messages) if i != 3))
    assert not messages[3].ended
    world.tree.write("go", "")
    world.ended(messages[3])


# -- bounces ---------------------------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def bounces(world):
    return keep_bounces(world)


def test_bounce(world, bounces):
    texts = {"a": "D", "b": "K", "c": "D"}
    world.on_job = lambda job: [job.answer(texts[r[0]], f"reason {r}\n", i) for i, r in enumerate(job.recipients)]
    world.start(**bounces.env)
    m = world.message("c@virtual.example", "b@far.example", "a", sender="ana@mail.test.example", octets=b"S: x\n\nbody\n")
    world.ended(m)
    ((message, envelope),) = bounces()
    assert envelope == b"F\0Tana@mail.test.example\0\0"
    # in the order of the envelope, without the prepend, with envnoathost
    text = message.decode()
    assert text.index("<c@virtual.example>:\nreason ana-v-c@virtual.example\n") < text.index("<a@mail.test.example>:\nreason a@mail.test.example\n")
    assert "b@far.example" not in text.split("message/delivery-status")[0]
    assert "\n\nReturn-Path: <ana@mail.test.example>\nS: x\n\nbody\n\n--" in text
    assert re.search(r"^bounce msg 1 qp \d+$", world.log, re.M)


def test_bounce_of_a_large_message_returns_its_header(world, bounces):
    world.on_job = lambda job: job.answer("D", "no")
    world.start(**bounces.env)
    world.ended(world.message("a@far.example", octets=b"Subject: large\n\n" + os.urandom(1 << 20)))
    ((message, _),) = bounces()
    assert b"text/rfc822-headers" in message and message.count(b"Subject: large") == 1 and len(message) < 3000


def test_whole_large_message_is_returned_where_the_limit_allows(world, bounces):
    world.tree.write("control/bouncemaxbytes", "0\n")
    octets = b"Subject: large\n\n" + os.urandom(1 << 20)
    world.on_job = lambda job: job.answer("D", "no")
    world.start(**bounces.env)
    world.ended(world.message("a@far.example", octets=octets))
    ((message, _),) = bounces()
    assert octets in message


def test_failures_of_an_earlier_run_are_bounced(world, bounces):
    m = world.message("a@far.example", "b@far.example", "c@far.example", texts={0: "old reason\n", 1: None}, tried=1,
                      birth=int(time.time()) - 5000)
    world.on_job = lambda job: job.answer("D", "new reason\n")
    world.start(**bounces.env)
    world.signal(signal.SIGALRM)
    world.ended(m)
    ((message, _),) = bounces()
    assert b"<a@far.example>:\nold reason\n\n<c@far.example>:\nnew reason\n\n---" in message
    assert [job.recipients for job in world.jobs] == [["c@far.example"]]


def test_all_failed_already(world, bounces):
    m = world.message("a@far.example", texts={0: "old reason\n"}, tried=1)
    world.start(**bounces.env)
    world.ended(m)
    assert len(bounces()) == 1 and not world.jobs


@pytest.mark.parametrize("code, permanent", [(53, False), (31, True)])
def test_bounce_that_cannot_be_queued_is_tried_again(world, bounces, code, permanent):
    bounces.code.write_text(str(code))
    world.on_job = lambda job: job.answer("D", "no")
    world.start(**bounces.env)
    m = world.message("a@far.example", octets=b"S: x\n\nvirus\n")
    world.logged("warning: unable to queue the bounce of msg 1: ")
    assert not m.ended
    bounces.code.unlink()
    world.signal(signal.SIGALRM)
    world.ended(m)
    first, second = bounces()
    assert b"virus" in first[0] or b"virus" in second[0]
    # what was refused for good is sent without the message
    assert sorted([b"virus" in first[0], b"virus" in second[0]]) == [not permanent, True]
    identity = [re.search(rb"^Message-ID: .*$", b[0], re.M).group() for b in (first, second)]
    assert identity[0] == identity[1]


def test_end_is_said_after_the_bounce_only(world, bounces):
    world.on_job = lambda job: job.answer("D", "no")
    bounces.code.write_text("111")
    world.start(**bounces.env)
    m = world.message("a@far.example")
    world.logged("unable to queue the bounce")
    assert m.states[0] == "D" and not m.ended


# -- settings that change -----------------------------------------------------------------------------------------------------------------------------

def test_hangup_rereads(world):
    world.start()
    world.ended(world.message("a@new.example"))
    world.tree.write("control/locals", "mail.test.example\nnew.example\n")
    world.tree.write("control/concurrencylocal", "3\n")
    world.signal(signal.SIGHUP)
    world.logged("status: local 0/3 remote 0/20\n")
    world.ended(world.message("a@new.example"))
    assert [job.worker.channel for job in world.jobs] == ["remote", "local"]


def test_hangup_with_a_broken_file_keeps_the_old(world):
    world.start()
    (world.tree.home / "control/locals").unlink()
    (world.tree.home / "control/locals").mkdir()
    world.signal(signal.SIGHUP)
    world.logged("warning: unable to reread control/locals: ")
    world.ended(world.message("a@mail.test.example"))
    assert world.jobs[0].worker.channel == "local"


def test_a_waiting_recipient_follows_the_new_rules(world):
    world.on_job = lambda job: job.answer("Z", "later")
    world.start()
    m = world.message("a@new.example")
    world.until(lambda: m.told_deferred)
    world.put_in_file(m)
    world.tree.write("control/locals", "mail.test.example\nnew.example\n")
    world.signal(signal.SIGHUP)
    world.on_job = lambda job: job.answer()
    world.quiet(0.1)
    world.signal(signal.SIGALRM)
    world.ended(m)
    assert [job.worker.channel for job in world.jobs] == ["remote", "local"]


# -- size --------------------------------------------------------------------------------------------------------------------------------------------------

def resident(world):
    with open(f"/proc/{world.process.pid}/smaps_rollup") as f:
        return int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M).group(1)) * 1024


def test_memory_and_start_with_100000_messages(world):
    if has_asan(world.tree):
        pytest.skip("the sanitizers have a memory of their own")
    count = 100000
    now = int(time.time())
    world.last_tried = now - 10
    place = struct.pack(">BQII8s", 2, 0, 0, 0, b"")
    world.start()
    before = resident(world)
    octets = []
    for i in range(1, count + 1):
        sender, recipient = b"someone%06d@sender.example.org" % i, b"recipient%06d@far.example" % i
        octets.append(struct.pack(">I", 8 * 3 + 9 + 49 + len(sender) + 1) + b"N" +
                      struct.pack(">QQQIIB", i, now - 100, 4096, 1000, 1, 1) + place + sender + b"\0" +
                      struct.pack(">I", 5 + len(recipient) + 1) + b"R" + struct.pack(">I", 0) + b"T" + recipient + b"\0" +
                      struct.pack(">I", 8) + b"O" + struct.pack(">Q", i))
    world.keeper.out += b"".join(octets)
    fresh = 0
    start = time.monotonic()
    world.keeper.flush()
    world.number = count
    fresh = world.message("ana@mail.test.example")
    world.ended(fresh)
    took = time.monotonic() - start
    world.quiet(0.2)
    each = (resident(world) - before) / count
    print(f"{each:.0f} octets a message, {took:.2f} s")
    assert each < 210


def test_S12_a_message_to_many_recipients(world):
    """Its recipients are taken in turns, and others' mail flows meanwhile."""
    count = 100000
    world.on_job = lambda job: job.answer()
    world.start(limits=capped())
    many = world.message(*(f"r{i}@far{i % 10}.example" for i in range(count)))
    world.until(lambda: world.jobs)
    other = world.message("ana@mail.test.example")
    world.until(lambda: other.ended)  # the log says it too, unless it has more lines to say than are read: then it leaves some out
    assert not many.ended
    world.until(lambda: many.ended, deadline=120)
    assert sum(len(job.recipients) for job in world.jobs) == count + 1
