"""Delivery status notifications: the parameters of RFC 3461 from the envelope to the workers, and the reports of RFC 3464
that come of them. First qmail-send among what the test plays, then the whole server."""
import email
import email.policy
import os
import random
import re
import signal
import struct
import time

import pytest

from conftest import HOST, wait_for
from fake_smtp import ALL, Server
from remoting import route_to
from sending import World, keep_bounces

SENDER = "ana@mail.test.example"


@pytest.fixture
def world(tree):
    tree.need("qmail-send")
    tree.write("control/locals", "mail.test.example\n")
    made = World(tree)
    yield made
    made.close()


@pytest.fixture
def reports(world):
    return keep_bounces(world)


class Report:
    """What a mail program sees of a report."""

    def __init__(self, octets):
        self.octets = octets
        self.message = email.message_from_bytes(octets, policy=email.policy.default)
        assert not self.message.defects
        assert self.message["Auto-Submitted"] == "auto-replied"
        assert self.message.get_content_type() == "multipart/report"
        text, status, self.returned = self.message.iter_parts()
        self.text = text.get_content()
        self.whole, *self.recipients = status.get_payload()
        self.type = status.get_content_type()

    def field(self, name):
        return [r[name] for r in self.recipients]


def message(world, *recipients, **facts):
    """recipients: (address, parameters)."""
    return world.message(*(a for a, _ in recipients), recipient_parameters={i: p for i, (_, p) in enumerate(recipients) if p}, **facts)


# -- to the workers ------------------------------------------------------------------------------------

def test_parameters_reach_the_workers(world):
    world.start()
    m = message(world, ("a@far.example", "NOTIFY=NEVER ORCPT=rfc822;x@y"), ("b@far.example", ""), ("ana@mail.test.example", "NOTIFY=FAILURE"),
                parameters="BODY=8BITMIME RET=FULL")
    plain = world.message("luis@mail.test.example", "c@plain.example")
    world.ended(m, plain)
    assert sorted((job.strings for job in world.jobs), key=str) == [
        ["ana@mail.test.example", "", "plain.example", "c@plain.example", ""],
        ["ana@mail.test.example", "BODY=8BITMIME RET=FULL", "far.example", "a@far.example", "NOTIFY=NEVER ORCPT=rfc822;x@y", "b@far.example", ""],
        ["ana@mail.test.example", "ana", "", "", "mail.test.example", "BODY=8BITMIME RET=FULL", "NOTIFY=FAILURE"],
        ["ana@mail.test.example", "luis", "", "", "mail.test.example"]]


def test_recipients_of_a_destination_share_a_job(world):
    world.start()
    m = message(world, *((f"r{i}@far.example", "ORCPT=rfc822;" + "x" * 980) for i in range(150)))
    world.ended(m)
    counts = [len(job.recipients) for job in world.jobs]
    assert sum(counts) == 150 and max(counts) <= 100 and len(counts) <= 5
    world.jobs.clear()
    world.ended(world.message(*(f"r{i}@far.example" for i in range(150))))
    assert sorted(len(job.recipients) for job in world.jobs) == [50, 100]


# -- failures ------------------------------------------------------------------------------------------

def test_notify_decides_about_failures(world, reports):
    world.on_job = lambda job: job.answer("D", "no such user (#5.1.1)\n")
    world.start(**reports.env)
    m = message(world, ("a@far.example", "NOTIFY=NEVER"), ("b@far.example", ""), ("c@far.example", "NOTIFY=SUCCESS,DELAY"),
                ("d@far.example", "NOTIFY=DELAY,FAILURE ORCPT=rfc822;D+40first.example"), parameters="ENVID=QQ+2B314159")
    world.ended(m)
    ((octets, envelope),) = reports()
    assert envelope == b"F\0Tana@mail.test.example\0\0"
    report = Report(octets)
    assert report.message["Subject"] == "failure notice" and report.text.startswith("Hi. This is the qmail-send program")
    assert report.field("Final-Recipient") == ["rfc822; b@far.example", "rfc822; d@far.example"]
    assert report.field("Original-Recipient") == [None, "rfc822; D@first.example"]
    assert report.field("Action") == ["failed", "failed"] and report.field("Status") == ["5.1.1", "5.1.1"]
    assert report.whole["Original-Envelope-Id"] == "QQ+314159"
    # the log says what happened to each, whoever is told
    assert world.log.count(": failure: no_such_user_(#5.1.1)/\n") == 4
    assert [m.states[i] for i in range(4)] == list("KDKD")


def test_never_makes_no_bounce_at_all(world, reports):
    world.on_job = lambda job: job.answer("D", "no")
    world.start(**reports.env)
    world.ended(message(world, ("a@far.example", "NOTIFY=NEVER")), message(world, ("a@far.example", "NOTIFY=NEVER"), sender=""))
    assert not reports() and "bounce" not in world.log


def test_a_null_senders_failure_goes_to_the_postmaster_all_the_same(world, reports):
    world.on_job = lambda job: job.answer("D", "no")
    world.start(**reports.env)
    world.ended(message(world, ("a@far.example", "NOTIFY=FAILURE"), sender=""))
    ((_, envelope),) = reports()
    assert envelope.startswith(b"F#@[]\0Tpostmaster@")


@pytest.mark.parametrize("value, whole", [("RET=FULL", True), ("RET=HDRS", False), ("ret", True), ("", True)])
def test_ret(world, reports, value, whole):
    world.on_job = lambda job: job.answer("D", "no")
    world.start(**reports.env)
    world.ended(message(world, ("a@far.example", ""), parameters=value if "=" in value else "", octets=b"Subject: s\n\nSECRET\n"))
    ((octets, _),) = reports()
    assert (b"SECRET" in octets) == whole and b"Subject: s\n" in octets
    assert Report(octets).returned.get_content_type() == ("message/rfc822" if whole else "text/rfc822-headers")


def test_plain_format_stays_plain(world, reports):
    world.tree.write("control/bounceformat", "qsbmf\n")
    world.on_job = lambda job: job.answer("K" if job.recipients[0].startswith("good") else "D", "no\n")
    world.start(**reports.env)
    world.ended(message(world, ("a@far.example", "ORCPT=rfc822;x@y"), parameters="ENVID=q"))
    ((octets, _),) = reports()
    assert b"MIME" not in octets and b"\n\n<a@far.example>:\nno\n\n---" in octets
    # but a report of success cannot do without
    world.ended(message(world, ("good@far.example", "NOTIFY=SUCCESS")))
    assert any(b"Action: relayed" in octets for octets, _ in reports())


@pytest.mark.parametrize("parameters", ["ORCPT=rfc822;a+0AStatus:+202.0.0+0A+0AX:+20y@h", "ORCPT=rfc822;a+00b", "ORCPT=;a", "ORCPT=a", "ORCPT=x;",
                                        "ORCPT=rfc822;" + "+" * 900, "ORCPT=rf\u00e9;\u00e9", "NOTIFY=,,, ORCPT=utf-8;\\x{0}"])
def test_hostile_values(world, reports, parameters):
    """Nothing of them ends a field: the report has the fields that it has without them."""
    world.on_job = lambda job: job.answer("D", "no (#5.1.1)\n")
    world.start(**reports.env)
    world.ended(message(world, ("a@far.example", parameters), parameters="ENVID=a+0D+0A+0AFinal-Recipient:+20rfc822;+20evil@x"))
    ((octets, _),) = reports()
    report = Report(octets)
    assert len(report.recipients) == 1
    assert set(report.whole.keys()) == {"Original-Envelope-Id", "Reporting-MTA", "Arrival-Date"}
    assert set(report.recipients[0].keys()) <= {"Original-Recipient", "Final-Recipient", "Action", "Status", "Diagnostic-Code"}
    assert report.field("Status") == ["5.1.1"] and report.field("Final-Recipient") == ["rfc822; a@far.example"]


# -- success -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("recipient, letter, text, action", [
    ("ana@mail.test.example", "K", "SECRET of a program\ndid 1+0+0\n", "delivered"),
    ("ana@mail.test.example", "K", "did 0+2+0\nqp 77\n", "expanded"),
    ("ana@mail.test.example", "K", "did 0+1+1\nqp 77\n", "delivered"),
    ("a@far.example", "K", "192.0.2.1 accepted message.\nRemote host said: 250 2.1.5 fine\n", "relayed"),
    ("a@far.example", "k", "192.0.2.1 accepted message.\nRemote host said: 250 2.1.5 fine\n", None),
])
def test_success(world, reports, recipient, letter, text, action):
    world.on_job = lambda job: job.answer(letter, text)
    world.start(**reports.env)
    m = message(world, (recipient, "NOTIFY=SUCCESS ORCPT=rfc822;first@x"), parameters="ENVID=q RET=FULL", octets=b"Subject: s\n\nSECRET\n")
    world.ended(m)
    assert ": success: " in world.log
    if not action:
        assert not reports() and not m.outcomes
        return
    ((octets, envelope),) = reports()
    assert envelope == b"F\0Tana@mail.test.example\0\0" and b"SECRET" not in octets
    report = Report(octets)
    assert report.message["Subject"] == "delivery report" and "Hi. This is the" not in report.text
    assert report.field("Action") == [action] and report.field("Original-Recipient") == ["rfc822; first@x"]
    assert report.field("Status") == ["2.1.5" if action == "relayed" else "2.0.0"]
    assert report.field("Diagnostic-Code") == ["smtp; 250 2.1.5 fine" if action == "relayed" else None]
    assert report.whole["Original-Envelope-Id"] == "q"
    assert report.returned.get_content_type() == "text/rfc822-headers"
    assert m.outcomes == [(0, "S")]  # and the end says the rest
    world.logged("end msg 1\n")
    assert re.search(r"^report msg 1 qp \d+\nend msg 1$", world.log, re.M)


@pytest.mark.parametrize("sender, parameters", [("", "NOTIFY=SUCCESS"), ("#@[]", "NOTIFY=SUCCESS"), ("ana@x", ""), ("ana@x", "NOTIFY=NEVER"),
                                                ("ana@x", "NOTIFY=FAILURE,DELAY"), ("ana@x", "NOTIFY=SUCCESS,NEVER")])
def test_success_that_nobody_wants_to_hear_of(world, reports, sender, parameters):
    world.start(**reports.env)
    m = message(world, ("ana@mail.test.example", parameters), sender=sender)
    world.ended(m)
    assert not reports() and not m.outcomes and "report msg" not in world.log


def test_success_is_reported_while_others_wait(world, reports):
    """One report of those that finish together; each is reported once."""
    world.on_job = lambda job: [job.answer("Z" if r.startswith("wait") else "K", "x\n", i) for i, r in enumerate(job.recipients)]
    world.start(**reports.env)
    m = message(world, ("a@far.example", "NOTIFY=SUCCESS"), ("wait@far.example", "NOTIFY=SUCCESS"), ("b@far.example", "NOTIFY=SUCCESS"))
    world.logged("report msg 1 ")
    ((octets, _),) = reports()
    assert Report(octets).field("Final-Recipient") == ["rfc822; a@far.example", "rfc822; b@far.example"]
    world.until(lambda: m.states[0] == m.states[2] == "K")
    assert not m.ended
    world.put_in_file(m)
    world.on_job = lambda job: job.answer()
    world.signal(signal.SIGALRM)
    world.ended(m)
    assert len(reports()) == 2
    assert sorted(f for octets, _ in reports() for f in Report(octets).field("Final-Recipient")) == [
        "rfc822; a@far.example", "rfc822; b@far.example", "rfc822; wait@far.example"]


def test_success_and_failure_in_one_message(world, reports):
    world.on_job = lambda job: [job.answer("D" if r.startswith("bad") else "K", "x\n", i) for i, r in enumerate(job.recipients)]
    world.start(**reports.env)
    world.ended(message(world, ("good@far.example", "NOTIFY=SUCCESS,FAILURE"), ("bad@far.example", "NOTIFY=SUCCESS,FAILURE")))
    assert sorted(Report(octets).field("Action") for octets, _ in reports()) == [["failed"], ["relayed"]]
    assert world.log.index("report msg 1 ") < world.log.index("bounce msg 1 ") < world.log.index("end msg 1\n")
    ids = {Report(octets).message["Message-ID"] for octets, _ in reports()}
    assert len(ids) == 2


def test_report_that_cannot_be_queued_now(world, reports):
    reports.code.write_text("53")
    world.start(**reports.env)
    m = message(world, ("ana@mail.test.example", "NOTIFY=SUCCESS"))
    world.logged("warning: unable to queue the report of msg 1: ")
    assert m.states[0] == "S" and not m.ended
    reports.code.unlink()
    world.signal(signal.SIGALRM)
    world.ended(m)
    assert len(reports()) == 2


def test_report_that_is_refused_for_good_is_given_up(world, reports):
    reports.code.write_text("31")
    world.start(**reports.env)
    world.ended(message(world, ("ana@mail.test.example", "NOTIFY=SUCCESS")))
    assert len(reports()) == 1 and "it is given up" in world.log


@pytest.mark.parametrize("others", [False, True])
def test_success_of_an_earlier_run_is_reported(world, reports, others):
    """The keeper tells of it as it was recorded: nothing is delivered again."""
    recipients = [("ana@mail.test.example", "NOTIFY=SUCCESS")] + [("z@far.example", "")] * others
    m = message(world, *recipients, texts={0: "ddid 1+0+0\n"}, states={0: "S", 1: "T"}, tried=1, in_file=True)
    world.on_job = lambda job: job.answer("Z")
    world.start(**reports.env)
    world.until(lambda: m.states[0] == "K" if others else m.ended)
    ((octets, _),) = reports()
    assert Report(octets).field("Action") == ["delivered"]
    assert not [job for job in world.jobs if job.host is None]
    if others:
        world.on_job = lambda job: job.answer()
        world.logged("deferral: ")
        world.signal(signal.SIGALRM)
        world.ended(m)
        assert len(reports()) == 1


def test_outcomes_are_repeated_to_a_new_keeper(world, reports):
    """Told S, not confirmed, then K: the new keeper hears the last one."""
    world.confirms = False
    world.on_job = lambda job: [job.answer("Z" if r.startswith("wait") else "K", "x\n", i) for i, r in enumerate(job.recipients)]
    world.start(**reports.env)
    m = message(world, ("a@far.example", "NOTIFY=SUCCESS"), ("wait@far.example", ""))
    world.logged("report msg 1 ")
    world.until(lambda: m.outcomes == [(0, "S"), (0, "K")])
    world.lose_keeper(listen=True)
    world.put_in_file(m)
    world.confirms = True
    world.until(lambda: len(m.outcomes) == 3)
    assert m.outcomes[2] == (0, "K")
    world.on_job = lambda job: job.answer()
    world.signal(signal.SIGALRM)
    world.ended(m)
    assert len(reports()) == 1


# -- delay ---------------------------------------------------------------------------------------------

def test_delay_is_reported_once(world, reports):
    world.tree.write("control/delaynotice", "3600\n")
    world.on_job = lambda job: job.answer("Z", "full (#4.2.2)\n")
    world.start(**reports.env)
    birth = int(time.time()) - 4000
    m = message(world, ("a@far.example", "NOTIFY=DELAY,FAILURE ORCPT=rfc822;o@x"), ("b@far.example", ""), ("c@far.example", "NOTIFY=NEVER"),
                birth=birth, octets=b"Subject: s\n\nSECRET\n", in_file=True)
    young = message(world, ("d@far.example", "NOTIFY=DELAY"), in_file=True)
    world.until(lambda: m.states[0] == "W" and young.told_deferred)
    ((octets, envelope),) = reports()
    assert envelope == b"F\0Tana@mail.test.example\0\0" and b"SECRET" not in octets
    report = Report(octets)
    assert report.message["Subject"] == "delay notice" and "Hi. This is the" not in report.text and "not reach" in report.text
    assert report.field("Action") == ["delayed"] and report.field("Status") == ["4.2.2"]
    assert report.field("Final-Recipient") == ["rfc822; a@far.example"] and report.field("Original-Recipient") == ["rfc822; o@x"]
    until = email.utils.parsedate_to_datetime(report.recipients[0]["Will-Retry-Until"]).timestamp()
    assert until == birth + 604800
    tried = len(world.jobs)
    world.signal(signal.SIGALRM)
    world.until(lambda: len(world.jobs) >= tried + 2)
    world.quiet()
    assert len(reports()) == 1
    world.on_job = lambda job: job.answer()
    world.signal(signal.SIGALRM)
    world.ended(m, young)
    assert len(reports()) == 1


@pytest.mark.parametrize("setting, state", [("0", "T"), ("1000", "W"), ("100000", "T")])
def test_delay_that_is_not_reported(world, reports, setting, state):
    """Switched off; told by an earlier run; not yet."""
    world.tree.write("control/delaynotice", setting + "\n")
    world.on_job = lambda job: job.answer("Z", "full (#4.2.2)\n")
    world.start(**reports.env)
    m = message(world, ("a@far.example", "NOTIFY=DELAY"), birth=int(time.time()) - 50000, states={0: state}, in_file=True)
    world.until(lambda: m.told_deferred)
    world.quiet()
    assert not reports() and m.states[0] == state


def test_delay_report_that_cannot_be_queued_holds_nothing_up(world, reports):
    world.tree.write("control/delaynotice", "1\n")
    reports.code.write_text("53")
    world.on_job = lambda job: job.answer("Z", "full (#4.2.2)\n")
    world.start(**reports.env)
    m = message(world, ("a@far.example", "NOTIFY=DELAY"), birth=int(time.time()) - 50, in_file=True)
    world.logged("unable to queue the report")
    world.on_job = lambda job: job.answer("K")
    world.signal(signal.SIGALRM)
    world.ended(m)
    assert m.states[0] in "TK"


def test_deliveries_go_on_while_a_report_hangs(world):
    """The program that queues reports stands still; the message's other recipients are delivered, and it ends after it."""
    fifo = world.tree.home / "fifo"
    os.mkfifo(fifo)
    world.tree.own(fifo)
    program = world.tree.write("hangs", f"#!/bin/sh\ncat >/dev/null; cat <&1 >/dev/null; exec cat {fifo}\n", 0o755)
    world.on_job = lambda job: [job.answer("Z" if r.startswith("wait") else "K", "x\n", i) for i, r in enumerate(job.recipients)]
    world.start(QMAILQUEUE=str(program))
    m = message(world, ("a@far.example", "NOTIFY=SUCCESS"), ("wait@far.example", ""), in_file=True)
    world.until(lambda: m.told_deferred)
    world.on_job = lambda job: job.answer()
    world.signal(signal.SIGALRM)
    world.logged("success: ", 2)
    world.quiet()
    assert not m.ended
    with open(fifo, "w"):
        pass
    world.ended(m)


def test_message_that_is_lost_while_its_report_hangs(world):
    """The keeper does not know it any more: it is forgotten when neither a worker nor the report has anything to do with it."""
    fifo = world.tree.home / "fifo"
    os.mkfifo(fifo)
    world.tree.own(fifo)
    program = world.tree.write("hangs", f"#!/bin/sh\ncat >/dev/null; cat <&1 >/dev/null; exec cat {fifo}\n", 0o755)
    world.on_job = lambda job: [job.answer("Z" if r.startswith("wait") else "K", "x\n", i) for i, r in enumerate(job.recipients)]
    world.start(QMAILQUEUE=str(program))
    m = message(world, ("a@far.example", "NOTIFY=SUCCESS"), ("wait@far.example", ""), in_file=True)
    world.until(lambda: m.told_deferred)
    held = []
    world.on_job = held.append
    world.signal(signal.SIGALRM)
    world.until(lambda: held)
    world.messages.clear()
    world.lose_keeper(listen=True)
    world.until(lambda: world.listed)
    held[0].answer()
    world.logged("success: ", 2)
    world.quiet()
    with open(fifo, "w"):
        pass
    world.logged("report msg 1 ")
    world.on_job = lambda job: job.answer()
    world.ended(world.message("ana@mail.test.example"))
    assert "end msg 1\n" not in world.log
    world.stop()


# -- UTF-8 ---------------------------------------------------------------------------------------------

def test_utf8_sender_gets_the_forms_of_rfc_6533(world, reports):
    world.on_job = lambda job: job.answer("K", "x\n")
    world.start(**reports.env)
    world.ended(message(world, ("jos\u00e9@far.example", "NOTIFY=SUCCESS ORCPT=utf-8;jos\\x{E9}@old.example"), sender="\u00f1a@x.example",
                        parameters="SMTPUTF8"))
    ((octets, envelope),) = reports()
    assert envelope == "F\0T\u00f1a@x.example\0\0".encode()
    assert b"message/global-delivery-status" in octets and b"message/global-headers" in octets
    assert "\nFinal-Recipient: utf-8; jos\u00e9@far.example\n".encode() in octets
    assert b"\nOriginal-Recipient: utf-8; jos\\x{E9}@old.example\n" in octets


def test_utf8_recipient_of_an_ascii_sender(world, reports):
    world.on_job = lambda job: job.answer("D", "no\n")
    world.start(**reports.env)
    world.ended(message(world, ("jos\u00e9@far.example", "ORCPT=utf-8;jos\u00e9@old.example"), parameters="SMTPUTF8"))
    ((octets, _),) = reports()
    assert b"\nOriginal-Recipient: utf-8; jos\\x{E9}@old.example\nFinal-Recipient: utf-8; jos\\x{E9}@far.example\n" in octets


# -- the whole server ----------------------------------------------------------------------------------

def envelope(sender, *recipients, parameters=b""):
    """recipients: address or (address, parameters)."""
    def record(kind, address, parameters=b""):
        return kind + address.encode() + b"\0" + (b"P" + parameters + b"\0" if parameters else b"")
    return record(b"F", sender, parameters) + b"".join(record(b"T", *r) if isinstance(r, tuple) else record(b"T", r) for r in recipients) + b"\0"


def test_delivered_expanded_and_forwarded(server):
    """A mailbox, an alias for two, whose copies carry on what they may, and a mailing list, whose copies do not."""
    server.write("home/ana/.qmail-both", f"&luis@{HOST}\n&nobody-such@{HOST}\n", 0o600)
    server.write("home/ana/.qmail-list", f"&nobody-such2@{HOST}\n", 0o600)
    server.write("home/ana/.qmail-list-owner", "#\n", 0o600)
    e = envelope(f"ana@{HOST}", (f"luis@{HOST}", b"NOTIFY=SUCCESS"), (f"ana-both@{HOST}", b"NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;both@x"),
                 (f"ana-list@{HOST}", b"NOTIFY=SUCCESS"), parameters=b"ENVID=e1 RET=HDRS")
    assert server.queue(b"Subject: s\n\nbody\n", "", envelope=e).returncode == 0
    server.arrived(2, "luis")
    wait_for(lambda: sum(m.count(b"\nAction: ") for m in server.maildir("ana")) >= 4, what="four outcomes")
    all_reports = [Report(octets) for octets in server.maildir("ana")]
    found = {(r["Action"], r["Final-Recipient"].split("; ")[1]): (report, r) for report in all_reports for r in report.recipients}
    assert set(found) == {("delivered", f"luis@{HOST}"), ("expanded", f"ana-both@{HOST}"), ("expanded", f"ana-list@{HOST}"),
                          ("failed", f"nobody-such@{HOST}")}
    report, recipient = found["failed", f"nobody-such@{HOST}"]
    assert report.whole["Original-Envelope-Id"] == "e1" and recipient["Original-Recipient"] == "rfc822; both@x"
    assert report.returned.get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize("offers_dsn", [False, True])
def test_success_at_another_host(stopped, offers_dsn):
    """A host without DSN will tell nobody, so the report is made here: relayed. With DSN it is that host's, and gets what it takes."""
    parameters = b"NOTIFY=SUCCESS ORCPT=rfc822;first@x.example"
    with Server(extensions=[e for e in ALL if offers_dsn or e != "DSN"]) as far:
        route_to(stopped, far)
        stopped.start()
        e = envelope(f"ana@{HOST}", ("r@dest.example", parameters), parameters=b"ENVID=e3 RET=FULL")
        assert stopped.queue(b"Subject: s\n\nSECRET\n", "", envelope=e).returncode == 0
        stopped.logged("end msg ", 1 if offers_dsn else 2)
    (message,) = far.messages
    assert (b" RET=FULL ENVID=e3" in message.mail) == offers_dsn
    assert b"RCPT TO:<r@dest.example>" + (b" " + parameters) * offers_dsn in far.commands
    assert len(stopped.maildir("ana")) == (not offers_dsn)
    for octets in stopped.maildir("ana"):
        report = Report(octets)
        assert report.message["Subject"] == "delivery report" and b"SECRET" not in octets
        assert report.field("Action") == ["relayed"] and report.field("Status") == ["2.0.0"]
        assert report.field("Final-Recipient") == ["rfc822; r@dest.example"]
        assert report.field("Original-Recipient") == ["rfc822; first@x.example"]
        assert report.field("Diagnostic-Code") == ["smtp; 250 2.0.0 taken"]
        assert report.whole["Original-Envelope-Id"] == "e3"


def test_never_stays_never_behind_an_alias(server):
    server.write("home/ana/.qmail-both", f"&nobody-such@{HOST}\n&luis@{HOST}\n", 0o600)
    e = envelope(f"ana@{HOST}", (f"ana-both@{HOST}", b"NOTIFY=NEVER"))
    assert server.queue(b"Subject: s\n\nbody\n", "", envelope=e).returncode == 0
    server.arrived(1, "luis")
    server.logged("end msg ", 2)
    assert not server.maildir("ana") and "bounce msg" not in server.log()


@pytest.mark.parametrize("octets, code", [
    (b"PRET=FULL\0Fa@b\0Tana@%s\0\0", 91), (b"Fa@b\0PRET=FULL\0PENVID=a\0Tana@%s\0\0", 91), (b"Fa@b\0P\0Tana@%s\0\0", 91),
    (b"Fa@b\0Pret=FULL\0Tana@%s\0\0", 91), (b"Fa@b\0PSIZE=7\0Tana@%s\0\0", 91), (b"Fa@b\0Tana@%s\0PRET=FULL\0\0", 91),
    (b"Fa@b\0PENVID=a\nb\0Tana@%s\0\0", 91), (b"Fa@b\0PENVID=" + b"x" * 995 + b"\0Tana@%s\0\0", 31),
    (b"Fa@b\0PENVID=" + b"x" * 994 + b"\0Tana@%s\0\0", 0), (b"Fa@b\0Tana@%s\0PNOTIFY=WHATEVER\0\0", 0),
])
def test_hostile_parameters_on_descriptor_1(server, octets, code):
    """The answer of qmail-queue, and the same of the keeper, which does not rely on it."""
    octets = octets.replace(b"%s", HOST.encode())
    assert server.queue(b"Subject: s\n\n", "", envelope=octets).returncode == code
    keeper = keeper_says(server, octets)
    assert keeper == code
    if code:
        assert not server.maildir("ana")


def keeper_says(server, octets):
    import socket
    here = os.open(".", os.O_RDONLY)
    os.chdir(server.home)
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect("run/qmail-queued")
            for kind, payload in ((b"M", b"Subject: s\n\n"), (b"E", octets), (b".", b"")):
                s.sendall(struct.pack(">I", len(payload)) + kind + payload)
            answer = b""
            while len(answer) < 6:
                answer += s.recv(100)
            return answer[5]
    finally:
        os.fchdir(here)
        os.close(here)


def test_parameters_survive_file_and_restart(server):
    """A message that waits: its parameters are in its info file, qread shows it as any other, and a new qmail-send knows them."""
    server.write("home/ana/.qmail", "|test -e ready || exit 111\n./Maildir/\n", 0o600)
    e = envelope(f"luis@{HOST}", (f"ana@{HOST}", b"NOTIFY=SUCCESS ORCPT=rfc822;o@x"), parameters=b"ENVID=e2")
    assert server.queue(b"Subject: s\n\nbody\n", "", envelope=e).returncode == 0
    server.logged("deferral: ")
    (info,) = wait_for(lambda: list((server.home / "queue/info").glob("*/*")))
    assert e in info.read_bytes()
    shown = server.run("qmail-qread").stdout
    assert b"<luis@" in shown and b"\tlocal\tana@" + HOST.encode() + b"\n" in shown and b"ENVID" not in shown and b"ORCPT" not in shown
    server.stop()
    server.start()
    server.write("home/ana/ready", "")
    # the list may not be read yet
    wait_for(lambda: server.send.send_signal(signal.SIGALRM) or server.maildir("luis"), what="the report")
    (octets,) = server.maildir("luis")
    report = Report(octets)
    assert report.field("Action") == ["delivered"] and report.field("Original-Recipient") == ["rfc822; o@x"]
    assert report.whole["Original-Envelope-Id"] == "e2"
    server.logged("end msg ", 2)


# -- kills -----------------------------------------------------------------------------------------------

def test_no_report_is_lost_by_kills(server):
    """Killed again and again: each message's success and failure are reported, perhaps twice."""
    count, chance = 60, random.Random(3)

    def told(action):
        return {report.whole["Original-Envelope-Id"] for report in map(Report, server.maildir("luis")) if action in report.field("Action")}

    def kill_one():
        for stop, start in chance.sample([(server.stop_send, server.start_send), (server.stop_keeper, server.start_keeper)], chance.randint(1, 2)):
            stop(signal.SIGKILL)
            start()

    for i in range(count):
        e = envelope(f"luis@{HOST}", (f"ana@{HOST}", b"NOTIFY=SUCCESS"), (f"nobody-such@{HOST}", b"NOTIFY=FAILURE"), parameters=b"ENVID=%d" % i)
        wait_for(lambda: server.queue(b"Subject: s\n\nbody\n", "", envelope=e).returncode == 0)
        if i % 5 == 4:
            kill_one()
    for _ in range(5):
        time.sleep(chance.uniform(0, 0.3))  # a moment to be hit, not a condition
        kill_one()
    everybody = {str(i) for i in range(count)}
    wait_for(lambda: server.send.send_signal(signal.SIGALRM) or (told("delivered") == told("failed") == everybody), 120,
             "the reports of all messages")


# -- sendmail ------------------------------------------------------------------------------------------

def test_sendmail_asks_for_reports(server):
    done = server.run("sendmail", "-N", "success,FAILURE", "-R", "hdrs", "-V", "a b+c=\u00e9", "-f", f"luis@{HOST}", f"ana@{HOST}",
                      f"nobody-such@{HOST}", input=b"Subject: s\n\nbody\n")
    assert (done.returncode, done.stderr) == (0, b"")
    both = {r.field("Action")[0]: r for r in map(Report, server.arrived(2, "luis"))}
    assert set(both) == {"delivered", "failed"}
    assert both["failed"].whole["Original-Envelope-Id"] == "a b+c=__"
    assert both["failed"].returned.get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize("args", [("-N", ""), ("-N", "success,"), ("-N", "never,success"), ("-N", "what"), ("-R", "some"), ("-V", ""),
                                  ("-V", "x" * 101), ("-N", ",".join(["delay"] * 300)), ("-N",)])
def test_sendmail_refuses_what_makes_no_sense(server, args):
    done = server.run("sendmail", *args, input=b"Subject: s\n\n")
    assert done.returncode == 100 and done.stderr.startswith(b"sendmail: usage: ")
