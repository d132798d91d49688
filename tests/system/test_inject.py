"""qmail-inject: every option, variable and header rule of interfaces section 3."""
import calendar
import os
import re
import time

import pytest

from conftest import ignore_children
from injecting import DATE, fields, IDENTIFIER, inject, named, names, own_inject, shared_injecting  # noqa: F401

MINIMAL = "Date: d\nMessage-ID: m\nFrom: f@f.example\n"


# -- options -------------------------------------------------------------------

BOTH = "To: t@h.example\nCc: c@h.example\nBcc: b@h.example\nApparently-To: a@h.example\n\nx\n"
HEADER = [b"t@h.example", b"c@h.example", b"b@h.example", b"a@h.example"]
ARGUMENTS = [b"one@h.example", b"two@mail.test.example"]


@pytest.mark.parametrize("options, arguments, recipients", [
    ([], [], HEADER), ([], ["one@h.example", "two"], ARGUMENTS),
    (["-A"], [], HEADER), (["-A"], ["one@h.example", "two"], ARGUMENTS),
    (["-a"], [], []), (["-a"], ["one@h.example", "two"], ARGUMENTS),
    (["-h"], [], HEADER), (["-h"], ["one@h.example", "two"], HEADER),
    (["-H"], [], HEADER), (["-H"], ["one@h.example", "two"], ARGUMENTS + HEADER),
    (["-aH"], ["one@h.example"], ARGUMENTS[:1] + HEADER), (["-Ha"], ["one@h.example"], ARGUMENTS[:1]),
    (["-nN"], [], HEADER), (["-N"], [], HEADER), (["-h", "--"], ["-x"], HEADER), (["-a", "--"], ["-x"], [b"-x@mail.test.example"]),
])
def test_whose_recipients(inject, options, arguments, recipients):
    assert inject.queued(BOTH, *options, *arguments)[2] == recipients


def test_the_last_of_n_and_N_counts(inject):
    assert inject.run("\n", "-Nn").stdout.startswith(b"Return-Path: <")
    assert inject.run("\n", "-nN").stdout == b""


@pytest.mark.parametrize("sender, envelope, path", [
    ("joe@h.example", b"joe@h.example", b"joe@h.example"),
    ("joe", b"joe@mail.test.example", b"joe@mail.test.example"),
    ("joe@h", b"joe@h.dd.example", b"joe@h.dd.example"),
    ("joe@h+", b"joe@h.plus.example", b"joe@h.plus.example"),
    ("Joe <joe@h.example>", b"joe@h.example", b"joe@h.example"),
    ('"a b"@h.example', b"a b@h.example", b'"a b"@h.example'),
    ("<@x.example:joe@h.example>", b"joe@h.example", b"joe@h.example"),
    ("jø@hø.example", "jø@hø.example".encode(), "jø@hø.example".encode()),
    ("", b"", b""), ("<>", b"", b""), ("Nobody <>", b"", b""), ("(none)", b"", b""),
    ("#@[]", b"#@[]", b"#@[]"), ("list-@h.example-@[]", b"list-@h.example-@[]", b"list-@h.example-@[]"),
])
def test_f(inject, sender, envelope, path):
    env = {"QMAILINJECT": "rm", "QMAILSUSER": "no", "QMAILSHOST": "no.example"}
    message = "Return-Path: <other@h.example>\n\n"
    assert inject.queued(message, "-f", sender, env=env)[1] == envelope
    assert inject.printed(message, "-f" + sender if sender else "-f", *([] if sender else [""]), env=env).startswith(b"Return-Path: <" + path + b">\n")


@pytest.mark.parametrize("sender", ["a@b, c@d", "a b", "<a@b", '"', "@h.example", "(", "a@b)"])
def test_f_that_is_no_address(inject, sender):
    inject.refused("\n", "-f", sender, says=b"unable to parse")


def test_the_last_f_counts(inject):
    assert inject.queued("\n", "-fa@h.example", "-f", "b@h.example")[1] == b"b@h.example"


@pytest.mark.parametrize("arguments", [["-z"], ["-f"], ["-nq"]])
def test_usage(inject, arguments):
    done = inject.run("\n", *arguments)
    assert done.returncode == 100 and b"usage" in done.stderr


@pytest.mark.parametrize("argument, recipients", [
    ("a@b.example, c@d.example", [b"a@b.example", b"c@d.example"]),
    ("Joe <a@b.example>", [b"a@b.example"]), ("x: a@b.example, c@d.example;", [b"a@b.example", b"c@d.example"]),
    ("a@b+", [b"a@b.plus.example"]), ("a@b.example.", [b"a@b.example"]), ("", []), ("<>", []), ("(none)", []),
    ("a@b.example\nc@d.example", [b"a@b.example", b"c@d.example"]), ("a@[]", [b"a@[]"]),
])
def test_arguments_are_address_lists(inject, argument, recipients):
    assert inject.queued("\n", "-a", argument)[2] == recipients


@pytest.mark.parametrize("argument", ["<a@b", '"a', "a@b>", "@h.example", "<a b@c>"])
def test_arguments_that_are_no_addresses(inject, argument):
    inject.refused("\n", "-a", argument, says=b"unable to parse")


# -- exit codes ------------------------------------------------------------------

@pytest.mark.parametrize("code, exit", [
    (0, 0), (11, 100), (115, 100), (31, 100), (32, 100), (40, 100), (51, 111), (53, 111), (71, 111), (81, 111),
    (91, 111), (120, 111), (1, 111), (255, 111),
])
def test_what_the_queue_says(inject, code, exit):
    inject.tree.write("code", str(code))
    done = inject.run("To: a@b.example\n\n")
    assert done.returncode == exit
    assert (done.stderr == b"") if code == 0 else re.fullmatch(rb"qmail-inject: fatal: .*\(#[45]\.\d\.\d\)\n", done.stderr)


@pytest.mark.parametrize("text, exit", [("Dno mail today (#5.7.1)", 100), ("Zlater (#4.7.1)", 111)])
def test_own_words_of_the_queue(inject, text, exit):
    inject.tree.write("code", "82")
    inject.tree.write("text", text)
    done = inject.run("\n")
    assert (done.returncode, done.stderr) == (exit, b"qmail-inject: fatal: " + text[1:].encode() + b"\n")


def test_a_queue_program_that_is_missing_or_crashes_is_temporary(inject):
    inject.refused("\n", env={"QMAILQUEUE": "/nonexistent"}, code=111)
    inject.tree.write("crash", "#!/bin/sh\nkill -SEGV $$\n", 0o755)
    inject.refused("\n", env={"QMAILQUEUE": str(inject.home / "crash")}, code=111)


@pytest.mark.parametrize("program", ["qmail-inject", "sendmail"])
def test_the_status_is_known_where_the_caller_ignores_its_children(inject, program):
    assert inject.queued("\nx", "a@b.example", program=program, preexec_fn=ignore_children)[2] == [b"a@b.example"]
    inject.tree.write("code", "31")
    assert inject.run("\nx", "a@b.example", program=program, preexec_fn=ignore_children).returncode == 100


def test_QMAILQUEUE_is_one_path_run_in_the_home(inject):
    inject.tree.write("where", "#!/bin/sh\nexec 3<&1\necho $# $PWD > where.out\ncat > /dev/null\ncat <&3 > /dev/null\n", 0o755)
    assert inject.run("\n", env={"QMAILQUEUE": "./where"}, cwd="/").returncode == 0
    assert (inject.home / "where.out").read_text().split() == ["0", str(inject.home)]


@pytest.mark.parametrize("code, exit", [(0, 111), (31, 100), (53, 111)])
def test_a_queue_program_that_stops_reading(inject, code, exit):
    """What it says holds, but it cannot have queued what it did not read."""
    inject.tree.write("lazy", f"#!/bin/sh\nexit {code}\n", 0o755)
    inject.refused("\n" + "x" * 1_000_000, "a@b.example", env={"QMAILQUEUE": str(inject.home / "lazy")}, code=exit)


def test_a_replaced_qmail_queue_is_run(own_inject):
    inject = own_inject
    inject.tree.replace("qmail-queue", "#!/bin/sh\nexec ./recorder\n")
    assert inject.queued("\nx", "a@b.example", env={"QMAILQUEUE": None})[1:] == (b"ana@mail.test.example", [b"a@b.example"])


def test_output_that_cannot_be_written(inject):
    with open("/dev/full", "wb") as full:
        done = inject.run("\n", "-n", stdout=full)
    assert done.returncode == 111 and done.stderr.startswith(b"qmail-inject: fatal: unable to write")


def test_input_that_cannot_be_read(inject):
    folder = os.open(inject.home, os.O_RDONLY)
    done = inject.run("", stdin=folder)
    os.close(folder)
    assert done.returncode == 111 and done.stderr.startswith(b"qmail-inject: fatal: unable to read the message")
    assert not (inject.home / "envelope").exists()


def test_control_file_that_cannot_be_read_is_temporary(inject):
    (inject.tree.control / "defaultdomain").unlink()
    (inject.tree.control / "defaultdomain").mkdir()
    inject.refused("\n", "a@b.example", code=111, says=b"control/defaultdomain")


# -- environment -------------------------------------------------------------------

FROM_ENVIRONMENT = [
    ({}, b"ana@mail.test.example"),
    ({"QMAILUSER": "q", "MAILUSER": "m", "USER": "u", "LOGNAME": "l"}, b"q@mail.test.example"),
    ({"MAILUSER": "m", "USER": "u", "LOGNAME": "l"}, b"m@mail.test.example"),
    ({"USER": "u", "LOGNAME": "l"}, b"u@mail.test.example"),
    ({"USER": None, "LOGNAME": "l"}, b"l@mail.test.example"),
    ({"USER": None}, b"anonymous@mail.test.example"),
    ({"USER": ""}, b"anonymous@mail.test.example"),
    ({"QMAILHOST": "q.example", "MAILHOST": "m.example"}, b"ana@q.example"),
    ({"MAILHOST": "m.example"}, b"ana@m.example"),
    ({"MAILHOST": "m"}, b"ana@m.dd.example"),
    ({"MAILHOST": "m+"}, b"ana@m.plus.example"),
    ({"MAILHOST": "[127.0.0.1]"}, b"ana@[127.0.0.1]"),
    ({"QMAILDEFAULTHOST": "d"}, b"ana@d.dd.example"),
    ({"QMAILDEFAULTHOST": "d", "QMAILDEFAULTDOMAIN": "e.example"}, b"ana@d.e.example"),
    ({"MAILHOST": "m+", "QMAILPLUSDOMAIN": "p.example"}, b"ana@m.p.example"),
    ({"USER": "a b"}, b'"a b"@mail.test.example'),
    ({"USER": "jø"}, "jø@mail.test.example".encode()),
]


@pytest.mark.parametrize("env, address", FROM_ENVIRONMENT)
def test_user_and_host(inject, env, address):
    message, sender, _ = inject.queued("\n", "-a", env=env)
    assert named(message, "From") == [address]
    assert sender == address.replace(b'"', b"")


@pytest.mark.parametrize("env, value", [
    ({"QMAILNAME": "Q", "MAILNAME": "M", "NAME": "N"}, b'"Q" <ana@mail.test.example>'),
    ({"MAILNAME": "M", "NAME": "N"}, b'"M" <ana@mail.test.example>'),
    ({"NAME": "Ana Ñandú"}, '"Ana Ñandú" <ana@mail.test.example>'.encode()),
    ({"NAME": 'a"b\\c'}, b'"a\\"b\\\\c" <ana@mail.test.example>'),
    ({"NAME": "x\nBcc: y\r\n"}, b'"x Bcc: y  " <ana@mail.test.example>'),
    ({"NAME": ""}, b"ana@mail.test.example"),
    ({"QMAILINJECT": "c"}, b"ana@mail.test.example"),
    ({"QMAILINJECT": "c", "NAME": "Ana (B) \\"}, b"ana@mail.test.example (Ana \\(B\\) \\\\)"),
])
def test_full_name(inject, env, value):
    assert named(inject.printed("\n", env=env), "From") == [value]


@pytest.mark.parametrize("env, sender", [
    ({"QMAILSUSER": "s"}, b"s@mail.test.example"), ({"QMAILSHOST": "s.example"}, b"ana@s.example"),
    ({"QMAILSUSER": "s", "QMAILSHOST": "h"}, b"s@h.dd.example"),
    ({"QMAILSHOST": "s.example", "QMAILHOST": "q.example", "QMAILUSER": "u"}, b"u@s.example"),
])
def test_parts_of_the_sender(inject, env, sender):
    message, got, _ = inject.queued("\n", env=env)
    assert got == sender
    assert named(message, "From") != [sender]


def test_environment_beats_control_files(inject):
    env = {"QMAILDEFAULTDOMAIN": "ed.example", "QMAILDEFAULTHOST": "eh.example", "QMAILPLUSDOMAIN": "ep.example",
           "QMAILIDHOST": "ei.example"}
    message, _, recipients = inject.queued("To: a, a@b, a@b+\n\n", env=env)
    assert recipients == [b"a@eh.example", b"a@b.ed.example", b"a@b.ep.example"]
    assert named(message, "Message-ID")[0].endswith(b".qmail@ei.example>")


def test_control_files(inject):
    for name in ("defaulthost", "defaultdomain", "plusdomain", "idhost"):
        inject.tree.write(f"control/{name}", f"{name}.example \t\nignored\n")
    message, _, recipients = inject.queued("To: a, a@b, a@b+\n\n")
    assert recipients == [b"a@defaulthost.example", b"a@b.defaultdomain.example", b"a@b.plusdomain.example"]
    assert named(message, "Message-ID")[0].endswith(b".qmail@idhost.example>")


def test_me_stands_in(inject):
    for name in ("defaultdomain", "plusdomain"):
        (inject.tree.control / name).unlink()
    assert inject.queued("To: a, a@b, a@b+\n\n")[2] == [
        b"a@mail.test.example", b"a@b.mail.test.example", b"a@b.mail.test.example"]


def test_without_me_the_name_of_the_file_stands_in(inject):
    for name in ("defaultdomain", "plusdomain", "me"):
        (inject.tree.control / name).unlink()
    message, sender, recipients = inject.queued("To: a, a@b, a@b+\n\n")
    assert recipients == [b"a@defaulthost.defaultdomain", b"a@b.defaultdomain", b"a@b.plusdomain"]
    assert named(message, "Message-ID")[0].endswith(b".qmail@idhost>")
    assert sender == b"ana@defaulthost.defaultdomain"


@pytest.mark.parametrize("env", [{"QMAILHOST": "a b"}, {"QMAILHOST": "a, c@d"}, {"QMAILHOST": "<"}, {"USER": "a\rb"}])
def test_environment_that_gives_no_address(inject, env):
    inject.refused("\n", env=env)


# -- QMAILINJECT ---------------------------------------------------------------------

def test_letter_s(inject):
    message = "Return-Path: <p@h.example>\n\n"
    assert inject.queued(message)[1] == b"p@h.example"
    assert inject.queued(message, env={"QMAILINJECT": "s"})[1] == b"ana@mail.test.example"
    # what is ignored need not be readable
    assert inject.queued("Return-Path: <\n\n", env={"QMAILINJECT": "s"})[1] == b"ana@mail.test.example"
    assert inject.queued("Return-Path: <\n\n", "-fx@h.example")[1] == b"x@h.example"


def test_letter_f(inject):
    message = inject.queued("From: a@b.example\nfrom : c@d.example\n\n", env={"QMAILINJECT": "f"})[0]
    assert named(message, "From") == [b"ana@mail.test.example"]


def test_letter_i(inject):
    message = inject.queued("Message-ID: <x>\nMESSAGE-ID: <y>\n\n", env={"QMAILINJECT": "i"})[0]
    assert len(named(message, "Message-ID")) == 1
    assert re.fullmatch(IDENTIFIER, named(message, "Message-ID")[0])


def test_letters_f_and_i_of_a_resent_message_mean_its_own_fields(inject):
    message = "From: a@b.example\nMessage-ID: <x>\nResent-From: c@d.example\nResent-Message-ID: <y>\nResent-To: e@f.example\n\n"
    out = inject.queued(message, env={"QMAILINJECT": "fi"})[0]
    assert named(out, "From") == [b"a@b.example"] and named(out, "Message-ID") == [b"<x>"]
    assert named(out, "Resent-From") == [b"ana@mail.test.example"]
    assert re.fullmatch(IDENTIFIER, named(out, "Resent-Message-ID")[0])


@pytest.mark.parametrize("letters, pattern", [
    ("r", rb"joe-@ex\.am-@\[\]"), ("m", rb"joe-\d+\.\d+@ex\.am"), ("rm", rb"joe-\d+\.\d+-@ex\.am-@\[\]"),
    ("mr", rb"joe-\d+\.\d+-@ex\.am-@\[\]"), ("xyz", rb"joe@ex\.am"),
])
def test_letters_r_and_m(inject, letters, pattern):
    env = {"QMAILUSER": "joe", "QMAILHOST": "ex.am", "QMAILINJECT": letters}
    before = time.time()
    message, sender, _ = inject.queued("\n", env=env)
    assert re.fullmatch(pattern, sender)
    assert named(message, "From") == [b"joe@ex.am"]
    printed = inject.printed("\n", env=env)
    assert re.fullmatch(b"<" + pattern + b">", named(printed, "Return-Path")[0])
    for stamp in re.findall(rb"-(\d+)\.", sender):
        assert before - 2 < int(stamp) < before + 60


def test_letter_r_and_a_return_path(inject):
    env = {"QMAILINJECT": "rm"}
    assert inject.queued("Return-Path: <p@h>\n\n", env=env)[1] == b"p@h.dd.example-@[]"
    assert inject.queued("Return-Path: <>\n\n", env=env)[1] == b""


# -- the order and the fields of what goes out ------------------------------------------

def test_what_is_added_and_its_order(inject):
    out = inject.printed("Subject: s\n\nbody\n")
    assert re.fullmatch(
        rb"Return-Path: <ana@mail.test.example>\nDate: " + DATE + rb"\nMessage-ID: " + IDENTIFIER +
        rb"\nFrom: ana@mail.test.example\nCc: recipient list not shown: ;\nSubject: s\n\nbody\n", out), out


def test_what_is_queued_is_what_is_printed(inject):
    message = "To: a@b.example\nSubject: s\n\nbody\n"
    printed = inject.printed(message).split(b"\n", 1)[1]
    queued = inject.queued(message)[0]
    unstable = rb"(?m)^(Date|Message-ID): .*"
    assert re.sub(unstable, b"", printed) == re.sub(unstable, b"", queued)


def test_the_weekday_is_right(inject):
    date = named(inject.printed("\n"), "Date")[0].decode()
    when = time.strptime(date, "%a, %d %b %Y %H:%M:%S -0000")
    assert time.strftime("%a", time.gmtime(calendar.timegm(when))) == date[:3]
    assert abs(calendar.timegm(when) - time.time()) < 60


@pytest.mark.parametrize("field, added", [
    ("Date: x", ["Message-ID", "From", "Cc"]), ("dATE: x", ["Message-ID", "From", "Cc"]),
    ("Message-Id: x", ["Date", "From", "Cc"]), ("From : a@b.example", ["Date", "Message-ID", "Cc"]),
    ("To: a@b.example", ["Date", "Message-ID", "From"]), ("Cc: a@b.example", ["Date", "Message-ID", "From"]),
    ("Bcc: a@b.example", ["Date", "Message-ID", "From", "Cc"]),
    ("Apparently-To: a@b.example", ["Date", "Message-ID", "From", "Cc"]),
    ("Mail-Followup-To: a@b.example", ["Date", "Message-ID", "From", "Cc"]),
    ("Datex: x", ["Date", "Message-ID", "From", "Cc"]), ("Dat: x", ["Date", "Message-ID", "From", "Cc"]),
])
def test_a_field_that_is_there_is_not_added(inject, field, added):
    got = names(inject.queued(f"{field}\nX-End: x\n\n")[0])
    assert got[:len(added)] == added
    assert got.count("X-End") == 1 and len([n for n in got if n in added]) == len(added)


RESENT = ["Resent-Sender: a@b.example", "Resent-From: a@b.example", "Resent-Reply-To: a@b.example",
          "Resent-To: a@b.example", "Resent-Cc: a@b.example", "Resent-Bcc: a@b.example", "Resent-Date: x",
          "Resent-Message-ID: x"]


@pytest.mark.parametrize("field", RESENT)
def test_resent(inject, field):
    mft = inject.tree.write("lists", "t@h.example\n")
    out, _, recipients = inject.queued(
        f"From: f@f.example\nTo: t@h.example\nCc: c@h.example\nBcc: b@h.example\nApparently-To: x@h.example\n{field}\n\n", "-h",
        env={"QMAILMFTFILE": str(mft)})
    name = field.split(":")[0]
    wanted = [n for n in ("Resent-Date", "Resent-Message-ID", "Resent-From", "Resent-Cc")
              if n != name and not (n == "Resent-Cc" and name == "Resent-To")]
    assert names(out) == wanted + ["From", "To", "Cc", "Apparently-To"] + ([] if name == "Resent-Bcc" else [name])
    assert recipients == ([b"a@b.example"] if name in ("Resent-To", "Resent-Cc", "Resent-Bcc") else [])
    if "Resent-Cc" in wanted:
        assert named(out, "Resent-Cc") == [b"recipient list not shown: ;"]
    if "Resent-Date" in wanted:
        assert re.fullmatch(DATE, named(out, "Resent-Date")[0])
    if "Resent-Message-ID" in wanted:
        assert re.fullmatch(IDENTIFIER, named(out, "Resent-Message-ID")[0])


def test_resent_fields_count_wherever_they_stand(inject):
    message = "To: t@h.example\nBcc: b@h.example\nSubject: s\nResent-To: r@h.example\n\n"
    assert inject.queued(message)[2] == [b"r@h.example"]
    assert inject.queued(message, "-H", "a@h.example")[2] == [b"a@h.example", b"r@h.example"]
    assert inject.queued(message, "-a", "a@h.example")[2] == [b"a@h.example"]


@pytest.mark.parametrize("field", ["Bcc: a@b.example", "Resent-Bcc: a@b.example", "Return-Path: <a@b.example>",
                                   "Content-Length: 7", "CONTENT-LENGTH : 7", "bcc:a@b.example,\n c@d.example"])
def test_removed(inject, field):
    out = inject.queued(f"{MINIMAL}To: x@y.example\n{field}\nSubject: s\n\n")[0]
    assert [n for n in names(out) if not n.startswith("Resent")] == ["Date", "Message-ID", "From", "To", "Subject"]
    assert b"b.example" not in out and not named(out, "Content-Length")


REWRITTEN = ["To", "Cc", "From", "Sender", "Reply-To", "Return-Receipt-To", "Errors-To", "Apparently-To", "Resent-To",
             "Resent-Cc", "Resent-From", "Resent-Sender", "Resent-Reply-To", "TO", "reply-to"]


@pytest.mark.parametrize("name", REWRITTEN)
def test_rewritten(inject, name):
    out = inject.printed(f"{name}: joe, bob@h (Bob),Al   <al@h+>\n\n", "-a", env={"USER": "u"})
    value = named(out, name)[-1].replace(b"\n  ", b" ")
    assert value == b"joe@mail.test.example, bob@h.dd.example (Bob), Al <al@h.plus.example>"
    assert f"\n{name}: joe".encode() in out


@pytest.mark.parametrize("name", ["Return-Path", "From", "Sender", "Reply-To", "Return-Receipt-To", "Errors-To",
                                  "Resent-From", "Resent-Sender", "Resent-Reply-To", "Mail-Followup-To", "X-To",
                                  "Delivered-To", "Tos", "T"])
def test_not_harvested(inject, name):
    assert inject.queued(f"{name}: joe@h.example\n\n", "-h")[2] == []


@pytest.mark.parametrize("field", [
    "Subject:  two   blanks \t", "X-Any: joe, bob", "Mail-Followup-To: joe", "Mail-Reply-To: joe,bob", "Subject: a\n\t\tb\n \n  c",
    "Received: from x by y", "Subject: Ñandú", "Subject:", "X-Tab :\tx", "In-Reply-To: joe", "Delivered-To: joe",
    "Disposition-Notification-To: joe", "Date: nonsense",
])
def test_other_fields_pass_octet_for_octet(inject, field):
    assert b"\n" + field.encode() + b"\nX-End: x\n\n" in inject.queued(f"{field}\nX-End: x\n\n")[0]


@pytest.mark.parametrize("octets", [bytes([c]) for c in (0, 1, 7, 27, 127, 128, 255)] + [b"\r", b"a\rb"])
def test_any_octet_passes(inject, octets):
    out = inject.queued(b"Subject: <" + octets + b">\n\nbody <" + octets + b">\n")[0]
    assert out.endswith(b"\nSubject: <" + octets + b">\n\nbody <" + octets + b">\n")


def test_the_order_of_the_original_fields_stays(inject):
    message = "X-A: 1\nTo: a@b.example\nReceived: x\nX-A: 2\nCc: c@d.example\nTo: e@f.example\nSubject: s\n"
    out, _, recipients = inject.queued(message + "\n")
    assert out.endswith(message.encode() + b"\n")
    assert recipients == [b"a@b.example", b"c@d.example", b"e@f.example"]


def test_duplicates_are_not_removed(inject):
    assert inject.queued("To: a@b.example, a@b.example\nCc: a@b.example\n\n", "-H", "a@b.example")[2] == [b"a@b.example"] * 4


def test_no_recipient_is_legal(inject):
    assert inject.queued("Subject: s\n\n")[2] == []
    assert inject.queued("To: nobody:;\n\n")[2] == []
    assert inject.queued("To: <>\n\n")[2] == []


@pytest.mark.parametrize("field", ["To:", "To: ", "Cc: \n \t", "Bcc:", "Reply-To:"])
def test_empty_fields(inject, field):
    out, _, recipients = inject.queued(f"{field}\nX-End: x\n\n", "-h")
    assert recipients == []
    assert ((field + "\n").encode() in out) == (field != "Bcc:")


# -- address rewriting ----------------------------------------------------------------------

@pytest.mark.parametrize("given, header, envelope", [
    ("joe", b"joe@mail.test.example", b"joe@mail.test.example"),
    ("joe@h", b"joe@h.dd.example", b"joe@h.dd.example"),
    ("joe@h+", b"joe@h.plus.example", b"joe@h.plus.example"),
    ("joe@h.x+", b"joe@h.x.plus.example", b"joe@h.x.plus.example"),
    ("joe@h.example.", b"joe@h.example", b"joe@h.example"),
    ("joe@h.", b"joe@h.dd.example", b"joe@h.dd.example"),
    ("joe@", b"joe@mail.test.example", b"joe@mail.test.example"),
    ("joe@.", b"joe@mail.test.example", b"joe@mail.test.example"),
    ("joe.", b"joe@mail.test.example", b"joe@mail.test.example"),
    ("joe@[127.0.0.1]", b"joe@[127.0.0.1]", b"joe@[127.0.0.1]"),
    ("<@a,@b:joe@h>", b"<joe@h.dd.example>", b"joe@h.dd.example"),
    ("x@[]", b"x@[]", b"x@[]"),
    ("a@b@c.example", b"a@b@c.example", b"a@b@c.example"),
    ('"a b"@h', b'"a b"@h.dd.example', b"a b@h.dd.example"),
    ('"a@b"', b'"a@b"@mail.test.example', b"a@b@mail.test.example"),
    ("jø@ñ.example", "jø@ñ.example".encode(), "jø@ñ.example".encode()),
    ("joe (c) @ (d) h", b"joe@h.dd.example (c) (d)", b"joe@h.dd.example"),
])
def test_address_rewriting(inject, given, header, envelope):
    out, _, recipients = inject.queued(f"To: {given}\n\n")
    assert recipients == [envelope]
    assert named(out, "To") == [header]
    assert inject.queued("\n", "-a", given)[2] == [envelope]


def test_missing_comma(inject):
    out, _, recipients = inject.queued("To: a@h.example b@h.example\n\tc@h.example\n\n")
    assert recipients == [b"a@h.example", b"b@h.example", b"c@h.example"]
    assert named(out, "To") == [b"a@h.example, b@h.example, c@h.example"]


def test_folding(inject):
    addresses = ", ".join(f"user{i}@host{i}.example" for i in range(60))
    out, _, recipients = inject.queued(f"To: {addresses}\n\n")
    assert len(recipients) == 60
    lines = [f for f in fields(out) if f.startswith(b"To:")][0].split(b"\n")
    assert all(len(line) <= 80 for line in lines) and all(line.startswith(b"  user") for line in lines[1:])
    assert b"".join(line.replace(b"  ", b" ", 1) if i else line for i, line in enumerate(lines)) == f"To: {addresses}".encode()


@pytest.mark.parametrize("field", ["To: <a@b", 'Cc: "a', "Bcc: a@b)", "Apparently-To: <a b@c>", "To: <Undisclosed:@x;>"])
def test_unreadable_recipient_field(inject, field):
    """Where its recipients count, exit 100: nobody would get the mail. Elsewhere it stays as it is."""
    inject.refused(f"{field}\n\n", says=b"unable to parse")
    inject.refused(f"{field}\n\n", "-h", says=field.split("\n")[0].encode())
    inject.refused(f"{field}\n\n", "-H", "x@y.example")
    out, _, recipients = inject.queued(f"{field}\nX-End: x\n\n", "-a", "x@y.example")
    assert recipients == [b"x@y.example"]
    assert (f"{field}\n".encode() in out) == (not field.startswith("Bcc"))
    assert inject.queued(f"{field}\nResent-To: r@h.example\n\n")[2] == [b"r@h.example"]


@pytest.mark.parametrize("name", ["From", "Sender", "Reply-To", "Errors-To", "Return-Receipt-To", "Return-Path",
                                  "Resent-From", "Resent-Sender", "Resent-Reply-To"])
def test_unreadable_author_field(inject, name):
    inject.refused(f"{name}: <a@b\n\n", "-a", "x@y.example", says=b"unable to parse")


@pytest.mark.parametrize("address", [b"a\0b@c.example", b'"a\rb"@c.example', b'a\\\r\\\0b@c.example'])
def test_octets_that_no_envelope_can_hold(inject, address):
    inject.refused(b"To: " + address + b"\n\n")
    assert inject.queued(b"To: " + address + b"\n\n", "-a", "x@y.example")[2] == [b"x@y.example"]


def test_too_long_address_is_permanent(inject):
    inject.refused(f"To: {'a' * 1000}@b.example\n\n", says=b"#5.1.3")


# -- envelope sender -----------------------------------------------------------------------------

def test_the_first_return_path_counts(inject):
    out, sender, _ = inject.queued("Return-Path: <a@h.example>\nReturn-Path: <b@h.example>\n\n",
                                   env={"QMAILSUSER": "no"})
    assert sender == b"a@h.example" and "Return-Path" not in names(out)
    assert inject.queued("return-path : Joe <a@h>\n\n")[1] == b"a@h.dd.example"
    assert inject.queued("Return-Path:\nReturn-Path: <b@h.example>\n\n")[1] == b""


# -- Mail-Followup-To ------------------------------------------------------------------------------

LIST_FILE = "# my lists\nList@H.example \n\nother@h.example\n"


def test_followup(inject):
    inject.tree.write("lists", LIST_FILE)
    env = {"QMAILMFTFILE": str(inject.home / "lists")}
    out = inject.queued("To: a, Lists <list@h.EXAMPLE>\nCc: c@h\nBcc: b@h.example\n\n", env=env)[0]
    assert named(out, "Mail-Followup-To") == [b"c@h.dd.example, list@h.EXAMPLE, a@mail.test.example"]
    assert names(out)[:4] == ["Date", "Message-ID", "From", "Mail-Followup-To"]


@pytest.mark.parametrize("message", [
    "To: a@h.example\n\n", "Bcc: list@h.example\n\n", "From: list@h.example\nTo: x@h.example\n\n",
    "To: # my lists\n\n", "\n",
])
def test_no_followup_without_a_list(inject, message):
    inject.tree.write("lists", LIST_FILE)
    assert "Mail-Followup-To" not in names(inject.queued(message, env={"QMAILMFTFILE": str(inject.home / "lists")})[0])


def test_no_followup_where_there_is_one(inject):
    inject.tree.write("lists", LIST_FILE)
    out = inject.queued("mail-followup-to: me\nTo: list@h.example\n\n", env={"QMAILMFTFILE": str(inject.home / "lists")})[0]
    assert named(out, "Mail-Followup-To") == [b"me"]


def test_list_file_is_meant_from_the_callers_directory(inject):
    (inject.home / "elsewhere").mkdir()
    inject.tree.write("elsewhere/lists", LIST_FILE)
    out = inject.queued("To: list@h.example\n\n", env={"QMAILMFTFILE": "lists"}, cwd=inject.home / "elsewhere")[0]
    assert named(out, "Mail-Followup-To") == [b"list@h.example"]


def test_list_file_that_is_missing_or_cannot_be_read(inject):
    assert "Mail-Followup-To" not in names(inject.queued("To: list@h.example\n\n", env={"QMAILMFTFILE": "/nonexistent"})[0])
    inject.refused("To: list@h.example\n\n", env={"QMAILMFTFILE": "/"}, code=111)


def test_long_followup_is_folded(inject):
    inject.tree.write("lists", LIST_FILE)
    many = ", ".join(f"user{i}@h.example" for i in range(30))
    out = inject.queued(f"To: list@h.example, {many}\n\n", env={"QMAILMFTFILE": str(inject.home / "lists")})[0]
    lines = [f for f in fields(out) if f.startswith(b"Mail-Followup-To:")][0].split(b"\n")
    assert len(lines) > 5 and all(len(line) <= 80 for line in lines)
    assert lines[0].startswith(b"Mail-Followup-To: user29@h.example, ")


# -- where the header ends -------------------------------------------------------------------------

HEAD = b"To: a@b.example\n"


@pytest.mark.parametrize("message, tail", [
    (HEAD + b"\nbody\n", HEAD + b"\nbody\n"),
    (HEAD + b"\nbody", HEAD + b"\nbody"),
    (HEAD + b"\n", HEAD + b"\n"),
    (HEAD + b"\n\n\n", HEAD + b"\n\n\n"),
    (HEAD, HEAD),
    (HEAD[:-1], HEAD),
    (HEAD + b"no field here\nCc: c@d.example\n", HEAD + b"\nno field here\nCc: c@d.example\n"),
    (HEAD + b": no name\n", HEAD + b"\n: no name\n"),
    (HEAD + b"two words: x\n", HEAD + b"\ntwo words: x\n"),
    (HEAD + b"From x y\n\n", HEAD + b"\nFrom x y\n\n"),
    (HEAD + b"Subject: x\n \n\n", HEAD + b"Subject: x\n \n\n"),
    (HEAD + b"Subject : x\n\n", HEAD + b"Subject : x\n\n"),
    (b" " + HEAD + b"\n", b"Cc: recipient list not shown: ;\n\n " + HEAD + b"\n"),
    (b"", b"Cc: recipient list not shown: ;\n"),
    (b"\n" + HEAD, b"Cc: recipient list not shown: ;\n\n" + HEAD),
    # CR: of the line end in the header, and nothing but itself in the body
    (HEAD[:-1] + b"\r\nSubject: x\r\n y\r\n\r\nbody\r\n.\r\n\r", HEAD + b"Subject: x\n y\n\nbody\r\n.\r\n\r"),
    (HEAD + b"\r\nbody", HEAD + b"\nbody"),
    (HEAD + b"\rbody\n", HEAD + b"\n\rbody\n"),
    (HEAD + b"Subject: x\r\r\n\nbody", HEAD + b"Subject: x\r\n\nbody"),
    (HEAD + b"Subject: x\rBcc: y\n\nbody", HEAD + b"Subject: x\rBcc: y\n\nbody"),
])
def test_where_the_header_ends(inject, message, tail):
    out, _, recipients = inject.queued(message, "-h")
    assert out.endswith(tail)
    assert recipients == ([b"a@b.example"] if message.startswith(HEAD[:-1]) else [])


@pytest.mark.parametrize("line", ["From ana Mon Jan  1 00:00:00 2024", "From ana", "From "])
def test_mbox_line(inject, line):
    out = inject.queued(f"{line}\nTo: a@b.example\n\nx\n")[0]
    assert out.endswith(f"\nMBOX-Line: {line}\nTo: a@b.example\n\nx\n".encode())


def test_a_dot_alone_does_not_end_the_message(inject):
    assert inject.queued("To: a@b.example\n\n.\nmore\n")[0].endswith(b"\n\n.\nmore\n")
