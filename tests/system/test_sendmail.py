"""sendmail, mailq, newaliases: interfaces section 4."""
import os
import subprocess

import pytest

from injecting import CLEAN, inject, named, own_inject, shared_injecting  # noqa: F401


@pytest.fixture
def replaceable(own_inject):
    """Its programs may be replaced; mailq and newaliases are links to sendmail."""
    for name in ("mailq", "newaliases"):
        (own_inject.tree.bin / name).symlink_to("sendmail")
    return own_inject


def queued(inject, message, *args, **more):
    return inject.queued(message, *args, program="sendmail", **more)


def stand_in(inject, name):
    """A program in bin/ that writes down how it was run."""
    inject.tree.replace(name, "#!/bin/sh\n{ echo \"$PWD\"; for a in \"$0\" \"$@\"; do echo \"[$a]\"; done; } > ran\nenv > environment\ncat > input\n")


def ran(inject):
    where, *arguments = (inject.home / "ran").read_text().splitlines()
    assert where == str(inject.home)
    return [a[1:-1] for a in arguments]


def environment(inject):
    return dict(line.split("=", 1) for line in (inject.home / "environment").read_text().splitlines() if "=" in line)


MESSAGE = "To: t@h.example\nBcc: b@h.example\nSubject: s\n\nx\n.\ny\n"


@pytest.mark.parametrize("arguments, recipients", [
    (["a@h.example"], [b"a@h.example"]), ([], []), (["-t"], [b"t@h.example", b"b@h.example"]),
    (["-t", "a@h.example"], [b"a@h.example", b"t@h.example", b"b@h.example"]),
    (["-t", "t@h.example"], [b"t@h.example", b"t@h.example", b"b@h.example"]),
    (["--", "-t"], [b"-t@mail.test.example"]), (["a", "b, c@d"], [b"a@mail.test.example", b"b@mail.test.example", b"c@d.dd.example"]),
    (["a@h.example", "-t"], [b"a@h.example", b"-t@mail.test.example"]),
])
def test_recipients(inject, arguments, recipients):
    message, sender, got = queued(inject, MESSAGE, *arguments)
    assert got == recipients and sender == b"ana@mail.test.example"
    assert message.endswith(b"Subject: s\n\nx\n.\ny\n") and not named(message, "Bcc")


@pytest.mark.parametrize("arguments", [
    ["-bm"], ["-b", "m"], ["-v"], ["-i"], ["-m"], ["-x"], ["-vimx"], ["-em"], ["-e", "m"], ["-B8BITMIME"], ["-B", "7BIT"],
    ["-pSMTP:me"], ["-p", "x"], ["-oi"], ["-o", "em"], ["-oem"], ["-odb", "-oi"], ["-E"], ["-Eanything"], ["-J"], ["-Jx"],
    ["-iE", "-mJt"], ["-ieq"],
])
def test_ignored(inject, arguments):
    assert queued(inject, MESSAGE, *arguments, "a@h.example")[2] == [b"a@h.example"]


@pytest.mark.parametrize("arguments", [
    ["-N", "sometimes"], ["-R", "some"], ["-O", "x=y"], ["-q"], ["-q5m"], ["-U"], ["-r", "x"], ["-C", "x"], ["-z"],
    ["-bd"], ["-bt"], ["-bi"], ["-bmm"], ["-b"], ["-f"], ["-F"], ["-o"], ["-iN"], ["--help"],
])
def test_usage(inject, arguments):
    done = inject.run(MESSAGE, *arguments, program="sendmail")
    assert done.returncode == 100 and done.stdout == b"" and done.stderr.startswith(b"sendmail: usage: ")
    assert not (inject.home / "envelope").exists()


@pytest.mark.parametrize("sender, envelope, author", [
    ("joe@h.example", b"joe@h.example", b"joe@h.example"), ("joe", b"joe@mail.test.example", b"joe@mail.test.example"),
    ("joe@h", b"joe@h.dd.example", b"joe@h.dd.example"), ("<joe@h.example>", b"joe@h.example", b"joe@h.example"),
    ("Joe <joe@h.example>", b"joe@h.example", b"joe@h.example"),
    ('"a b"@h.example', b"a b@h.example", b'"a b"@h.example'),
    ("joe@", b"joe@mail.test.example", b"joe@mail.test.example"),
    ("a@b@h.example", b"a@b@h.example", b'"a@b"@h.example'),
])
@pytest.mark.parametrize("attached", [True, False])
def test_f(inject, sender, envelope, author, attached):
    env = {"QMAILNAME": "Q", "MAILNAME": "M", "NAME": "N", "QMAILHOST": "q.example", "MAILHOST": "m.example", "QMAILUSER": "q"}
    message, got, _ = queued(inject, "\n", *([f"-f{sender}"] if attached else ["-f", sender]), "a@h.example", env=env)
    assert (got, named(message, "From")) == (envelope, [author])


@pytest.mark.parametrize("sender", ["<>", "", "Nobody <>"])
def test_the_null_sender(inject, sender):
    message, got, _ = queued(inject, "\n", "-f", sender, "a@h.example")
    assert got == b"" and named(message, "From") == [b"ana@mail.test.example"]


def test_f_that_is_no_address(inject):
    inject.refused("\n", "-f", "<joe", "a@h.example", program="sendmail", says=b"unable to parse")


@pytest.mark.parametrize("arguments", [["-F", "Joe Doe"], ["-FJoe Doe"]])
def test_F(inject, arguments):
    message = queued(inject, "\n", *arguments, env={"NAME": "N"})[0]
    assert named(message, "From") == [b'"Joe Doe" <ana@mail.test.example>']
    assert named(queued(inject, "\n", *arguments, env={"QMAILNAME": "Q"})[0], "From") == [b'"Q" <ana@mail.test.example>']


@pytest.mark.parametrize("arguments", [["-F", "Joe Ñ", "-f", "joe@h.example"], ["-f", "joe@h.example", "-F", "Joe Ñ"]])
def test_F_is_not_lost_with_f(inject, arguments):
    message, sender, _ = queued(inject, "\n", *arguments, env={"NAME": "N", "QMAILNAME": "Q"})
    assert named(message, "From") == ['"Joe Ñ" <joe@h.example>'.encode()]
    assert sender == b"joe@h.example"


def test_a_list_file_is_meant_from_the_callers_directory(inject):
    (inject.home / "elsewhere").mkdir()
    inject.tree.write("elsewhere/lists", "list@h.example\n")
    out = queued(inject, "To: list@h.example\n\n", "-t", env={"QMAILMFTFILE": "lists"}, cwd=inject.home / "elsewhere")[0]
    assert named(out, "Mail-Followup-To") == [b"list@h.example"]


# -- programs that sendmail becomes --------------------------------------------------

@pytest.mark.parametrize("arguments, options", [
    (["a", "b"], ["-a", "--", "a", "b"]), (["-t"], ["-H", "--"]), (["-t", "-f", "joe", "a"], ["-H", "-f", "joe", "--", "a"]),
    (["-f", "", "--", "-x"], ["-a", "-f", "", "--", "-x"]),
])
def test_a_replaced_qmail_inject_is_run(replaceable, arguments, options):
    stand_in(replaceable, "qmail-inject")
    done = replaceable.run(MESSAGE, *arguments, program="sendmail", cwd="/", env={"QMAILMFTFILE": "lists"})
    assert done.returncode == 0, done
    assert ran(replaceable) == ["bin/qmail-inject", *options]
    assert (replaceable.home / "input").read_text() == MESSAGE
    assert environment(replaceable)["QMAILMFTFILE"] == "//lists"


def test_the_environment_of_f_and_F_reaches_a_replaced_qmail_inject(replaceable):
    stand_in(replaceable, "qmail-inject")
    replaceable.run("\n", "-f", "joe@h", "-F", "J", program="sendmail", env={"QMAILNAME": "Q", "NAME": "N", "MAILHOST": "m"})
    got = environment(replaceable)
    assert (got["QMAILUSER"], got["QMAILHOST"], got["MAILNAME"]) == ("joe", "h", "J")
    assert not {"QMAILNAME", "NAME", "MAILHOST"} & set(got)


def test_a_missing_program_is_temporary(replaceable):
    (replaceable.tree.bin / "qmail-inject").unlink()
    replaceable.refused("\n", "a", program="sendmail", name=b"sendmail", code=111, says=b"bin/qmail-inject")


@pytest.mark.parametrize("name, arguments", [("sendmail", ["-bp"]), ("mailq", []), ("mailq", ["-v"])])
def test_mailq(replaceable, name, arguments):
    stand_in(replaceable, "qmail-qread")
    assert replaceable.run("", *arguments, program=name, cwd="/").returncode == 0
    assert ran(replaceable) == ["bin/qmail-qread"]


def test_newaliases(replaceable):
    done = replaceable.run("", program="newaliases")
    assert done.returncode == 100 and b"fastforward" in done.stderr


SMTPD = {"RELAYCLIENT": "", "DATABYTES": "0", "PROTO": "TCP", "TCPLOCALIP": "127.0.0.1", "TCPLOCALHOST": "localhost",
         "TCPREMOTEIP": "127.0.0.1", "TCPREMOTEHOST": "localhost", "TCPREMOTEINFO": "sendmail-bs"}


def test_bs(replaceable):
    stand_in(replaceable, "qmail-smtpd")
    assert replaceable.run("QUIT\r\n", "-bs", program="sendmail", cwd="/").returncode == 0
    assert ran(replaceable) == ["bin/qmail-smtpd"]
    assert (replaceable.home / "input").read_bytes() == b"QUIT\r\n"
    got = environment(replaceable)
    assert {name: got.get(name) for name in SMTPD} == SMTPD


def test_bs_under_a_server(replaceable):
    stand_in(replaceable, "qmail-smtpd")
    replaceable.run("", "-bs", program="sendmail", env={"PROTO": "X", "TCPREMOTEIP": "192.0.2.1"})
    got = environment(replaceable)
    assert {name: got.get(name) for name in SMTPD} == dict.fromkeys(SMTPD) | {"PROTO": "X", "TCPREMOTEIP": "192.0.2.1"}


@pytest.mark.parametrize("name", ["send-mail", "sendmail.orig", "sendmail-qmail"])
def test_names_by_which_sendmail_is_called(own_inject, name):
    """BSD's mail says send-mail; who puts a script in its place keeps it under a name like it."""
    (own_inject.tree.bin / name).symlink_to("sendmail")
    message, *envelope = own_inject.queued("Subject: s\n\nx\n", "-i", "-f", "ana@h.example", "luis@h.example", program=name)
    assert "luis@h.example" in repr(envelope) and message.endswith(b"Subject: s\n\nx\n")


def test_under_another_name_by_a_link_from_elsewhere(inject):
    """/usr/sbin/sendmail is a symbolic link to bin/sendmail; the tree is found all the same."""
    link = inject.home / "elsewhere" / "sendmail"
    link.parent.mkdir()
    link.symlink_to(inject.tree.bin / "sendmail")
    assert inject.queued(MESSAGE, "-t", program=str(link), cwd="/")[2] == [b"t@h.example", b"b@h.example"]


def test_argument_zero_decides(replaceable):
    """Whatever the file is called."""
    stand_in(replaceable, "qmail-qread")
    env = replaceable.tree.environment(**CLEAN)
    more = {"user": replaceable.tree.uid, "group": replaceable.tree.gid, "extra_groups": []} if os.getuid() == 0 else {}
    subprocess.run(["mailq"], executable=replaceable.tree.bin / "qmail-inject", env=env, check=True, cwd=replaceable.home, input=b"", **more)
    assert ran(replaceable) == ["bin/qmail-qread"]
