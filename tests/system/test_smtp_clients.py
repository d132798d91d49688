"""qmail-smtpd and clients that others wrote: what each sends reaches the maildir, by the extensions that the client knows."""
import os
import re
import smtplib
import subprocess
from email.message import EmailMessage

import pytest

from conftest import HOST
from neighbours import Tap, libraries, undone, unpacked
from serving import Service

ANA = f"ana@{HOST}"
HEADER = "From: eva@client.example\nTo: ana@mail.test.example\nSubject: hello\nDate: Wed, 25 Nov 2026 04:00:00 +0000\n" \
    "Message-ID: <1@client.example>\n"
MESSAGE = HEADER.encode() + b"\nfirst\n.\n..\nlast\n"
CRLF = MESSAGE.replace(b"\n", b"\r\n")
EIGHT = f"{HEADER}MIME-Version: 1.0\n" \
    "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\nma\u00f1ana\n".encode()


@pytest.fixture
def smtpd(stopped, request):
    """A whole server whose qmail-smtpd listens behind a Tap; parameter: control files."""
    stopped.need("qmail-smtpd")
    for name, text in getattr(request, "param", {}).items():
        stopped.write(f"control/{name}", text)
    stopped.write("control/rcpthosts", f"{HOST}\n")
    stopped.start()
    with Service(stopped, "qmail-smtpd", "-X") as service, Tap(service.address) as tap:
        tap.service = service
        yield tap


def run(*command, input=b"", code=0, **more):
    more.setdefault("env", {**os.environ, "HOME": "/nonexistent"})
    try:
        done = subprocess.run([str(c) for c in command], input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, **more)
    except FileNotFoundError:
        pytest.fail(f"the package with {command[0]} is missing: see the file packages")
    assert done.returncode == code, done.stdout
    return done.stdout.decode(errors="replace")


def only(messages):
    (message,) = messages
    return message


# -- swaks --------------------------------------------------------------------


def swaks(tap, *more, **kinds):
    # it ends the message with one more line end
    kinds["input"] = kinds["input"].removesuffix(b"\n")
    return run("swaks", "--server", tap.host, "--port", tap.port, "--helo", "client.example", "--from", "eva@client.example",
               "--to", kinds.pop("to", ANA), "--data", "-", *more, **kinds)


@pytest.mark.parametrize("protocol", ["SMTP", "ESMTP"])
def test_swaks(stopped, smtpd, protocol):
    swaks(smtpd, "--protocol", protocol, input=MESSAGE)
    message = only(stopped.arrived(1))
    assert undone(message) == MESSAGE and f" with {protocol};".encode() in message
    assert b"(HELO client.example)" in message


def test_swaks_pipelining(stopped, smtpd):
    swaks(smtpd, "--pipeline", to=f"{ANA},luis@{HOST}", input=MESSAGE)
    assert smtpd.has_pipelined("MAIL", "DATA")
    assert undone(only(stopped.arrived(1))) == undone(only(stopped.arrived(1, "luis"))) == MESSAGE


def test_swaks_no_relay(stopped, smtpd):
    """Exit code 24: no recipient was accepted."""
    said = swaks(smtpd, to="x@elsewhere.example", input=MESSAGE, code=24)
    assert "553 5.7.1" in said and "DATA" not in smtpd.client().decode()


def test_swaks_pipelining_one_is_refused(stopped, smtpd):
    swaks(smtpd, "--pipeline", to=f"x@elsewhere.example,{ANA}", input=MESSAGE)
    assert undone(only(stopped.arrived(1))) == MESSAGE


# -- smtp-source --------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["-d"]], ids=["a connection a message", "sessions kept"])
def test_smtp_source(stopped, smtpd, options):
    program = unpacked("postfix") / "usr/sbin/smtp-source"
    host, port = smtpd.service.address
    run(program, *options, "-s", "10", "-m", "200", "-l", "4096", "-M", "client.example", "-f", "eva@client.example", "-t", ANA,
        f"{host}:{port}", env=libraries("postfix"))
    assert len(stopped.arrived(200)) == 200
    assert len(re.findall(r"message .* result=accepted ", smtpd.service.log())) == 200


def test_smtp_source_many_recipients(stopped, smtpd):
    """It makes several local parts of one, each release others: all of them come to luis."""
    program = unpacked("postfix") / "usr/sbin/smtp-source"
    stopped.write("alias/.qmail-default", "../home/luis/Maildir/\n")
    run(program, "-r", "3", "-m", "20", "-s", "4", "-f", "eva@client.example", "-t", f"luis@{HOST}", f"{smtpd.host}:{smtpd.port}",
        env=libraries("postfix"))
    assert len(stopped.arrived(60, "luis")) == 60


# -- msmtp --------------------------------------------------------------------


def msmtp(tap, *more, to=ANA, **kinds):
    return run("msmtp", "--file=/dev/null", f"--host={tap.host}", f"--port={tap.port}", "--tls=off", "--auth=off", "--domain=client.example",
               f"--from={kinds.pop('sender', 'eva@client.example')}", *more, to, **kinds)


def test_msmtp(stopped, smtpd):
    msmtp(smtpd, f"luis@{HOST}", input=MESSAGE)
    assert undone(only(stopped.arrived(1))) == undone(only(stopped.arrived(1, "luis"))) == MESSAGE


def test_msmtp_dsn(stopped, smtpd):
    """A report on success is asked for, and comes."""
    msmtp(smtpd, "--dsn-notify=success", "--dsn-return=hdrs", sender=f"luis@{HOST}", input=MESSAGE)
    assert " RET=HDRS" in smtpd.line("MAIL") and smtpd.line("RCPT").endswith(" NOTIFY=SUCCESS")
    report = only(stopped.arrived(1, "luis"))
    assert b"\nAction: delivered\n" in report and b"\nSubject: hello\n" in report and b"first" not in report


def test_msmtp_refused(stopped, smtpd):
    assert "553 5.7.1" in msmtp(smtpd, to="x@elsewhere.example", input=MESSAGE, code=65)


# -- curl ---------------------------------------------------------------------


def curl(tap, *more, **kinds):
    return run("curl", "--silent", "--show-error", f"smtp://{tap.host}:{tap.port}/client.example", *more, **kinds)


def test_curl_size(stopped, smtpd, tmp_path):
    (tmp_path / "message").write_bytes(CRLF)
    curl(smtpd, "--mail-from", "eva@client.example", "--mail-rcpt", ANA, "--upload-file", tmp_path / "message")
    assert undone(only(stopped.arrived(1))) == MESSAGE
    assert smtpd.line("MAIL").endswith(f" SIZE={len(CRLF)}")


@pytest.mark.parametrize("smtpd", [{"databytes": "1000\n"}], indirect=True)
def test_curl_too_large(stopped, smtpd, tmp_path):
    """Refused at MAIL, for what SIZE says; 55: curl could not send."""
    (tmp_path / "message").write_bytes(b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 1000)
    curl(smtpd, "--mail-from", "eva@client.example", "--mail-rcpt", ANA, "--upload-file", tmp_path / "message", code=55)
    assert b"RCPT" not in smtpd.client()
    smtpd.service.logged("message size exceeds my databytes limit")


def test_curl_smtputf8(stopped, smtpd, tmp_path):
    """curl asks for it where an address is not ASCII."""
    (tmp_path / "message").write_bytes(EIGHT.replace(b"\n", b"\r\n"))
    curl(smtpd, "--mail-from", "a\u00f1a@client.example", "--mail-rcpt", ANA, "--upload-file", tmp_path / "message",
         env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert " SMTPUTF8" in smtpd.line("MAIL")
    message = only(stopped.arrived(1))
    assert undone(message) == EIGHT and b" with UTF8SMTP;" in message
    assert message.startswith("Return-Path: <a\u00f1a@client.example>\n".encode())


def test_curl_vrfy_and_help(stopped, smtpd):
    assert curl(smtpd, "--mail-rcpt", ANA).startswith("252 ")
    assert curl(smtpd, "--request", "HELP").startswith("214")


# -- Python's smtplib ---------------------------------------------------------


def test_smtplib(stopped, smtpd):
    with smtplib.SMTP(smtpd.host, smtpd.port, "client.example") as s:
        for n in range(3):
            assert s.sendmail("eva@client.example", [ANA, "x@elsewhere.example"], CRLF).keys() == {"x@elsewhere.example"}
        assert s.noop()[0] == 250 and s.verify(ANA)[0] == 252 and s.expn("x")[0] == 502 and s.rset()[0] == 250
        assert s.does_esmtp and {"pipelining", "size", "8bitmime", "smtputf8", "dsn", "chunking"} <= s.esmtp_features.keys()
    assert [undone(m) for m in stopped.arrived(3)] == [MESSAGE] * 3


def test_smtplib_eight_bits(stopped, smtpd):
    with smtplib.SMTP(smtpd.host, smtpd.port, "client.example") as s:
        s.sendmail("eva@client.example", [ANA], EIGHT.replace(b"\n", b"\r\n"), ["BODY=8BITMIME"])
    assert smtpd.line("MAIL").endswith(" BODY=8BITMIME")
    assert undone(only(stopped.arrived(1))) == EIGHT


def test_smtplib_smtputf8(stopped, smtpd):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a\u00f1a@client.example", ANA, "\u00bfqu\u00e9?"
    message.set_content("ma\u00f1ana\n", cte="8bit")
    with smtplib.SMTP(smtpd.host, smtpd.port, "client.example") as s:
        s.send_message(message)
    assert " SMTPUTF8" in smtpd.line("MAIL") and " BODY=8BITMIME" in smtpd.line("MAIL")
    octets = only(stopped.arrived(1))
    assert "\nSubject: \u00bfqu\u00e9?\n".encode() in octets and b" with UTF8SMTP;" in octets


def test_smtplib_dsn(stopped, smtpd):
    with smtplib.SMTP(smtpd.host, smtpd.port, "client.example") as s:
        s.sendmail(f"luis@{HOST}", [ANA], CRLF, ["RET=FULL", "ENVID=id+2B1"], ["NOTIFY=SUCCESS", f"ORCPT=rfc822;Ana+40x@{HOST}"])
    report = only(stopped.arrived(1, "luis"))
    assert b"\nOriginal-Envelope-Id: id+1\n" in report and b"\nOriginal-Recipient: rfc822; Ana@x@%s\n" % HOST.encode() in report
    assert b"\nAction: delivered\n" in report


def test_smtplib_chunking(stopped, smtpd):
    """No client of these knows BDAT by itself: RFC 3030 with smtplib's commands."""
    with smtplib.SMTP(smtpd.host, smtpd.port, "client.example") as s:
        s.ehlo()
        assert s.mail("eva@client.example")[0] == s.rcpt(ANA)[0] == 250
        for chunk, last in ((CRLF[:50], ""), (CRLF[50:], ""), (b"", " LAST")):
            s.send(b"BDAT %d%s\r\n" % (len(chunk), last.encode()) + chunk)
            assert s.getreply()[0] == 250
    assert undone(only(stopped.arrived(1))) == MESSAGE
