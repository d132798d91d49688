"""Programs that send mail by calling sendmail, as they do it."""
import email.policy
import shutil

import pytest

from injecting import CLEAN, inject, named, own_inject, shared_injecting  # noqa: F401

BODY = "Hola ñandú\n.\nFrom here on\n"


def send(inject, *command, env=None, input=BODY):
    program = shutil.which(command[0])
    if not program:
        pytest.skip(f"{command[0]} is not installed")
    home = inject.tree.write("elsewhere/.keep", "").parent
    done = inject.tree.run(program, *command[1:], input=input.encode(), cwd=home,
                           env=CLEAN | {"QMAILQUEUE": str(inject.recorder), "HOME": str(home), "MAIL": "/dev/null", "TERM": "dumb",
                                        "EMAIL": None} | (env or {}))
    assert done.returncode == 0, done
    return inject.record()


def test_mutt(inject):
    message, sender, recipients = send(
        inject, "mutt", "-n", "-F", "/dev/null", "-e", f'set sendmail="{inject.tree.bin}/sendmail -oem -oi"', "-e", "set copy=no",
        "-e", "set charset=utf-8", "-e", "set send_charset=utf-8", "-e", "set hostname=m.example", "-e", "set use_envelope_from=yes",
        "-e", "set from=ana@m.example", "-s", "Sübject", "-c", "c@h.example", "-b", "b@h.example", "--", "t@h.example")
    assert sorted(recipients) == [b"b@h.example", b"c@h.example", b"t@h.example"] and sender == b"ana@m.example"
    assert named(message, "From")[0].endswith(b"<ana@m.example>") and not named(message, "Bcc")
    assert len(named(message, "Date")) == len(named(message, "Message-ID")) == 1
    assert message.decode().endswith(BODY)


def test_s_nail(inject):
    message, sender, recipients = send(
        inject, "s-nail", "-:/", "-Sv15-compat", f"-Smta=file://{inject.tree.bin}/sendmail", "-Sttycharset=utf-8",
        "-Sfrom=ana@m.example", "-Snosave", "-s", "Subject", "-c", "c@h.example", "-r", "ana@m.example", "t@h.example")
    assert sorted(recipients) == [b"c@h.example", b"t@h.example"] and sender == b"ana@m.example"
    assert named(message, "Subject") == [b"Subject"] and named(message, "To") == [b"t@h.example"]


def test_as_cron_does_it(inject):
    message, sender, recipients = inject.queued(
        "From: root (Cron Daemon)\nTo: ana\nSubject: Cron <ana@host> true\nContent-Type: text/plain; charset=UTF-8\n\nx\n",
        "-i", "-FCronDaemon", "-B8BITMIME", "-oem", "ana", program="sendmail")
    assert recipients == [b"ana@mail.test.example"] and sender == b"ana@mail.test.example"
    assert named(message, "From") == [b"root@mail.test.example (Cron Daemon)"]


def test_as_php_does_it(inject):
    """mail() with CRLF in its headers, as most scripts have it."""
    message, _, recipients = inject.queued(
        "To: t@h.example\nSubject: s\nFrom: web@m.example\r\nReply-To: r@m.example\r\nMIME-Version: 1.0\n\nbody\n",
        "-t", "-i", program="sendmail")
    assert recipients == [b"t@h.example"] and b"\r" not in message
    assert message.endswith(b"\nReply-To: r@m.example\nMIME-Version: 1.0\n\nbody\n")


def test_as_git_does_it(inject):
    message, sender, recipients = inject.queued(
        "From: Ana <ana@m.example>\nTo: t@h.example\nSubject: [PATCH] x\nMessage-Id: <1@m.example>\nDate: d\n\n---\n",
        "-f", "ana@m.example", "-i", "t@h.example", "c@h.example", program="sendmail")
    assert (sender, recipients) == (b"ana@m.example", [b"t@h.example", b"c@h.example"])
    assert message.startswith(b"From: Ana <ana@m.example>\nTo: ")


def test_python_reads_what_we_make(inject):
    """With its strict policy, which complains about what RFC 5322 does not allow."""
    message = inject.queued("To: a b, Joe Q. Public <c@d.example>\nReply-To: x: y@z.example;\nSubject: s\n\nx\n")[0]
    parsed = email.message_from_bytes(message, policy=email.policy.default)
    assert not parsed.defects and not [d for h in parsed.values() for d in h.defects if "Obs" not in type(d).__name__]
    assert [a.addr_spec for a in parsed["To"].addresses] == ["a@mail.test.example", "b@mail.test.example", "c@d.example"]
    assert parsed["Date"].datetime and parsed["From"].addresses[0].addr_spec == "ana@mail.test.example"
