"""Submission: AUTH through qmail-authd or a chain, ports 587 and 465, clients that others wrote, and who may not relay. Rows S3 and S11
of the hostile inputs, as far as AUTH goes."""
import base64
import contextlib
import os
import re
import shutil
import signal
import smtplib
import socket

import pytest

import fake_smtp
from conftest import HOST, WAIT, wait_for
from remoting import route_to
from serving import Service, Tcpserver, read_all
from smtp_session import Queue
from test_accounts import PASSWORD, add, of_domain
from test_popup import SECRET, Pop3
from test_smtpd_tls import CIPHER, Client, protocol
from test_tls import new_context, pem
from transcripts import lines_of, play

ANA, FAR = "ana@shop.example", "eva@far.example"
MESSAGE = b"From: ana@shop.example\r\nTo: eva@far.example\r\nSubject: x\r\n\r\nfirst\r\n..last\r\n"
PLAIN = base64.b64encode(f"\0{ANA}\0{SECRET}".encode()).decode()


class Submission(Pop3):
    submitd = None

    def start_submitd(self):
        self.submitd = self.start_daemon("qmail-submitd", "qmail-submitd", *(w for uid in sorted({self.uid, os.getuid()}) for w in ("-u", uid)),
                                         "-v", self.uid)

    def stop(self):
        if self.submitd:
            self.end(self.submitd, signal.SIGTERM)
        super().stop()

    def ask_submitd(self, *packets, connection=None):
        """The answers of qmail-submitd; b"" is its end of the connection."""
        with contextlib.closing(connection or self.connect_submitd()) as c:
            said = []
            for packet in packets:
                c.send(packet)
                said.append(c.recv(1000))
            return said

    def connect_submitd(self):
        c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        c.settimeout(WAIT)
        c.connect(str(self.home / "run/qmail-submitd/socket"))
        return c


@pytest.fixture
def idle(new_tree):
    """A tree with a key and nobody who knows logins."""
    server = new_tree(Submission)
    server.need("qmail-smtpd", "qmail-authd", "qmail-loggedin", "qmail-submitd", "qmail-keyd", "qmail-tlsd")
    server.write("home/ana/.keep", "")
    server.write("tls/ec.pem", pem("P-256", HOST), 0o400)
    server.write("control/rcpthosts", f"{HOST}\n")
    server.start_engine()
    return server


@pytest.fixture
def queue(idle):
    with Queue(idle) as q:
        yield q


@pytest.fixture
def keeper(idle):
    idle.start_authd(session=())
    idle.start_submitd()
    return idle


def submission_at(tree, **env):
    return Service(tree, "qmail-smtpd", "-X", env={"SMTPAUTH": "!", **env})


@pytest.fixture
def submission(keeper, queue):
    with submission_at(keeper) as service:
        yield service


@pytest.fixture
def submissions(keeper, queue):
    with submission_at(keeper, SMTPS="1") as service:
        yield service


def log_in(s, code=235):
    assert "\n250-AUTH PLAIN LOGIN\n" in s.ehlo()
    return s.expect(code, f"AUTH PLAIN {PLAIN}")


# --- sessions -----------------------------------------------------------------------------------------------------------

def test_a_login_may_relay(submission, queue):
    with Client(submission) as s:
        assert "AUTH" not in s.ehlo()
        assert s.command(f"AUTH PLAIN {PLAIN}").startswith("538 5.7.11 ")
        assert s.command("MAIL FROM:<a@b>") == "530 5.7.0 must issue a STARTTLS command first (#5.7.0)"
        s.starttls()
        s.ehlo()
        assert s.command("MAIL FROM:<a@b>") == "530 5.7.0 authentication is required (#5.7.0)"
        log_in(s)
        assert s.message(b"x", FAR, sender=ANA).startswith("250 2.0.0 ok ")
        s.expect(221, "QUIT")
    message, envelope = queue.messages[0]
    assert protocol(message) == f"ESMTPSA (TLSv1.2) tls {CIPHER}" and b" (ana@shop.example@127.0.0.1)\n" in message
    assert f"T{FAR}\0".encode() in envelope
    assert f" auth={ANA} relay=yes from=<{ANA}> to=<{FAR}> " in submission.logged("qmail-smtpd: message")


def test_a_stranger_may_not(submission, queue):
    """Neither before a login nor after a wrong one."""
    wrong = base64.b64encode(f"\0{ANA}\0wrong".encode()).decode()
    with Client(submission) as s:
        s.starttls()
        for _ in range(2):
            s.ehlo()
            s.expect(535, f"AUTH PLAIN {wrong}")
            s.expect(530, f"MAIL FROM:<{ANA}>")
            s.expect(503, f"RCPT TO:<{FAR}>")
        s.expect(421, f"AUTH PLAIN {wrong}")
        assert s.rest() == []
    assert submission.tree.authd_said("login failed: ip=127.0.0.1 user=ana@shop.example for=check reason=wrong", 3)
    assert not queue.messages


def test_on_port_25_only_a_login_may_relay(keeper, queue):
    with Service(keeper, "qmail-smtpd", "-X", env={"SMTPAUTH": ""}) as service, Client(service) as s:
        s.starttls()
        s.ehlo()
        s.expect(250, "MAIL FROM:<a@b>")
        s.expect(553, f"RCPT TO:<{FAR}>")
        s.expect(250, f"RCPT TO:<ana@{HOST}>")
        s.expect(250, "RSET")
        log_in(s)
        assert s.message(b"x", FAR, sender=ANA).startswith("250 ")


def test_a_login_ends_with_its_session(submission, queue):
    for _ in range(2):
        with Client(submission) as s:
            s.starttls()
            s.ehlo()
            s.expect(530, f"MAIL FROM:<{ANA}>")
            log_in(s)
            s.message(b"x", FAR, sender=ANA)
            s.expect(221, "QUIT")


def test_a_keeper_that_is_away(idle, queue):
    with submission_at(idle) as service, Client(service) as s:
        s.starttls()
        idle.start_submitd()
        log_in(s, 454)
        idle.start_authd(session=())
        log_in(s)


def test_commands_behind_AUTH(keeper, queue):
    """What was sent before the reply came is not heard."""
    with Service(keeper, "qmail-smtpd", "-X", env={"SMTPAUTH": "!", "FORCETLS": "0"}) as service, Client(service) as s:
        s.ehlo()
        s.send(f"AUTH PLAIN {PLAIN}\r\nMAIL FROM:<{ANA}>\r\n")
        assert s.reply().startswith("503 5.5.1 you did not wait ")
        assert s.rest() == []


def test_S11_a_response_without_end(keeper, queue):
    """A megabyte of it ends the session."""
    with Service(keeper, "qmail-smtpd", "-X", env={"SMTPAUTH": "!", "FORCETLS": "0"}) as service:
        for mechanism in ("PLAIN", "LOGIN"):
            with Client(service) as s:
                s.ehlo()
                s.expect(334, f"AUTH {mechanism}")
                with contextlib.suppress(ConnectionError):
                    s.send(b"A" * (1 << 20))
                assert [line[:3] for line in s.rest()] == ["500"]
    assert not (keeper.home / "given").exists()


# --- whose senders, and how many messages ----------------------------------------------------------------------------------

def put(tree, name, text):
    """Writes a control file as if long ago, and all others."""
    tree.write(name, text)
    for path in (*tree.control.iterdir(), tree.control):
        os.utime(path, (0, 0))


def test_a_sender_belongs_to_a_login(submission, queue):
    put(submission.tree, "control/submissionsenders", f"{ANA}:sales@shop.example\n")
    with Client(submission) as s:
        s.starttls()
        log_in(s)
        assert s.command("MAIL FROM:<luis@shop.example>") == "553 5.7.1 sorry, this sender does not belong to your login (#5.7.1)"
        s.expect(250, "MAIL FROM:<>")
        s.expect(250, f"MAIL FROM:<{ANA}>")
        s.expect(250, "MAIL FROM:<sales@shop.example>")


@pytest.mark.parametrize("begin", [lambda table: table.write_text(""), lambda table: table.unlink()], ids=["emptied", "gone"])
def test_senders_that_are_being_written(idle, begin):
    """Until they are whole the old ones count."""
    def answer(sender):
        c = idle.connect_submitd()
        c.send(b"L" + ANA.encode())
        return idle.ask_submitd(b"S" + sender, connection=c)[0][:1]

    put(idle, "control/submissionsenders", f"{ANA}:sales@shop.example\n")
    idle.start_submitd()
    begin(idle.control / "submissionsenders")
    assert answer(b"sales@shop.example") == b"Y"
    idle.write("control/submissionsenders", f"{ANA}:office@shop.example\n")
    wait_for(lambda: answer(b"office@shop.example") == b"Y", what="the files to be read")
    assert answer(b"sales@shop.example") == b"N"


@pytest.mark.parametrize("demand, codes", [("1", (250, 550, 250)), ("2", (250, 550, 550))])
def test_an_author_belongs_to_a_login(keeper, queue, demand, codes):
    keeper.write("control/submissionauthors", f"{demand}\n")
    with submission_at(keeper) as service, Client(service) as s:
        s.starttls()
        log_in(s)
        for code, header in zip(codes, (f"From: Ana <{ANA}>", f"From: {FAR}", f"From: {FAR}\r\nSender: {ANA}")):
            s.envelope(ANA, FAR)
            s.expect(354, "DATA")
            s.expect(code, f"{header}\r\n\r\nx\r\n.")
    assert len(queue.messages) == codes.count(250)
    assert ' reason="sorry, who this message is from does not belong to your login"' in service.log()


def test_an_account_has_its_share(keeper, queue):
    put(keeper, "control/submissionmessages", "2\n")
    put(keeper, "control/submissionrecipients", "4\n")
    with submission_at(keeper) as service:
        with Client(service) as s:
            s.starttls()
            log_in(s)
            s.envelope(ANA, *(f"e{i}@far.example" for i in range(5)))
            assert s.command("DATA") == "450 4.7.1 you have sent to too many recipients within an hour, try again later (#4.7.1)"
            for _ in range(2):
                assert s.message(b"x", FAR, sender=ANA).startswith("250 ")
            s.envelope(ANA, FAR)
            assert s.command("DATA") == "450 4.7.1 you have sent too many messages within an hour, try again later (#4.7.1)"
        with Client(service) as s:  # a new session has no new share
            s.starttls()
            log_in(s)
            s.envelope(ANA, FAR)
            s.expect(450, "DATA")
    assert len(queue.messages) == 2


def test_an_account_has_a_share_of_its_own(keeper, queue):
    """A line counts from the next message on; one that makes no sense changes nothing."""
    def answers(login, count):
        c = keeper.connect_submitd()
        c.send(b"L" + login)
        return [said[:1] for said in keeper.ask_submitd(*[b"M2"] * count, connection=c)]

    put(keeper, "control/submissionmessages", "1\n")
    put(keeper, "control/submissionlimits", f"{ANA}:2:\n@shop.example:0:3\n")
    wait_for(lambda: answers(b"eva@other.example", 1) == [b"F"], what="the files to be read")
    assert answers(ANA.encode(), 3) == [b"Y", b"Y", b"F"]
    assert answers(b"luis@shop.example", 2) == [b"Y", b"F"]
    put(keeper, "control/submissionlimits", f"{ANA}\n")
    wait_for(lambda: answers(ANA.encode(), 1) == [b"F"] and "submissionlimits" in keeper.errors("qmail-submitd"), what="the complaint")
    put(keeper, "control/submissionlimits", f"{ANA}:4:\n")
    wait_for(lambda: answers(ANA.encode(), 1) == [b"Y"], what="the files to be read")


def test_qmail_submitd_that_was_started_anew(submission, queue):
    tree = submission.tree
    with Client(submission) as s:
        s.starttls()
        log_in(s)
        tree.end(tree.submitd, signal.SIGTERM)
        tree.start_submitd()
        s.expect(421, f"MAIL FROM:<{ANA}>")
        assert s.rest() == []
    with Client(submission) as s:
        s.starttls()
        log_in(s)
        s.expect(250, f"MAIL FROM:<{ANA}>")


def test_qmail_submitd_and_callers_that_keep_to_nothing(keeper):
    ask = keeper.ask_submitd
    assert ask(b"Sx@y")[0][:1] == b"T" and ask(b"M1")[0][:1] == b"T"
    for packet in (b"L", b"Sa\0b", b"S" + b"x" * 2000):
        assert ask(packet) == [b""]
    c = keeper.connect_submitd()
    c.send(b"Lana")
    assert ask(b"Sana", b"Sluis", b"Mx", b"M1", b"X", connection=c) == \
        [b"Y", b"Nsorry, this sender does not belong to your login", b"Tmalformed", b"Y", b""]
    c = keeper.connect_submitd()
    c.send(b"Lana")
    assert ask(b"Lluis", connection=c) == [b""]  # once
    assert ask(b"M1")[0][:1] == b"T"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
def test_a_session_cannot_say_of_itself_that_it_has_logged_in(idle):
    asker = 12345
    idle.submitd = idle.start_daemon("qmail-submitd", "qmail-submitd", "-u", asker, "-u", os.getuid())
    ends = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.chdir(idle.home)
        os.setuid(asker)
        c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        c.connect("run/qmail-submitd/socket")
        c.send(b"Lana")
        os.write(ends[1], b"closed" if c.recv(100) == b"" else b"open")
        os._exit(0)
    os.close(ends[1])
    assert os.read(ends[0], 100) == b"closed"
    os.close(ends[0])
    os.waitpid(pid, 0)


# --- chains, as the patches have them -------------------------------------------------------------------------------------

@pytest.mark.parametrize("host", [(), (HOST,)], ids=["", "with a host"])
@pytest.mark.parametrize("program", ["own", "authd"])
def test_a_chain(idle, queue, host, program):
    if program == "authd":
        idle.need("checkpassword-authd")
        idle.start_authd(session=())
    check = idle.bin / "checkpassword-authd" if program == "authd" else idle.checkpassword
    with Tcpserver(idle, idle.bin / "qmail-smtpd", *host, check, "true", env={"FORCETLS": "0"}) as server, \
            smtplib.SMTP(*server.address, timeout=WAIT) as client:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail(ANA, [FAR], MESSAGE)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(ANA, "wrong")
        client.login(ANA, SECRET)
        client.sendmail(ANA, [FAR], MESSAGE)
    assert protocol(queue.messages[0][0]) == "ESMTPA"
    failed = idle.authd_said("login failed") if program == "authd" else server.log()
    assert f": login failed: ip=127.0.0.1 user={ANA} for=check reason=wrong\n" in failed


@pytest.mark.parametrize("words, code", [
    ("/nonexistent/check /bin/true x", 454), ("closed/check true x", 454), ("nonexistent true", 454), (f"{HOST} true", 454),
    ("./check true x", 535), (f"{HOST} ./check true", 535), ("vchkpw true", 535), ("vchkpw -x true x", 535), (f"{HOST} vchkpw -x true", 535),
])
def test_no_argument_of_a_program_checks_logins(idle, words, code):
    """In a directory that is not the home, where the programs of the command line run."""
    for name, mode in (("there/check", 0o755), ("there/closed/check", 0o644), ("bin/vchkpw", 0o755)):
        idle.write(name, "#!/bin/sh\nexit 1\n", mode)
    with Tcpserver(idle, "/bin/sh", "-c", 'cd there && exec "$@"', "sh", idle.bin / "qmail-smtpd", *words.split(), env={"FORCETLS": "0"}) as server, \
            smtplib.SMTP(*server.address, timeout=WAIT) as client:
        client.ehlo()
        assert client.docmd("AUTH", f"PLAIN {PLAIN}")[0] == code


@pytest.mark.parametrize("words", [
    "mail /bin/true x", "mail true x", "mail nonexistent true", "nonexistent /bin/true x", "closed.pl true x", f"{HOST} nonexistent true", " true x",
    "nonexistent.pl true x", "nonexistent.pl /bin/true x",
])
def test_what_may_be_a_host_or_a_program(idle, words):
    for name, mode in (("mail", 0o755), ("closed.pl", 0o600)):
        idle.write(f"bin/{name}", "#!/bin/sh\nexit 0\n", mode)
    words = words.split(" ")
    done = idle.run("qmail-smtpd", *words)
    assert (done.returncode, done.stdout) == (100, b"")
    assert f"unable to tell whether \"{words[0]}\" is the host or the checkpassword program" in done.stderr.decode()


def test_a_program_that_hangs_ends_with_its_session(idle):
    idle.write("hang", "#!/bin/sh\necho >hangs\nsleep 600\n", 0o755)
    with Tcpserver(idle, idle.bin / "qmail-smtpd", "./hang", "true", env={"FORCETLS": "0"}) as server, server.connect() as client:
        client.sendall(b"EHLO x\r\n")
        wait_for(lambda: b"250 " in client.recv(1000))
        client.sendall(f"AUTH PLAIN {PLAIN}\r\n".encode())
        wait_for((idle.home / "hangs").exists)
        os.kill(*server.children(), signal.SIGKILL)
        assert read_all(client) == b""


def test_the_program_behind_starttls_knows_of_it(idle):
    idle.write("show", "#!/bin/sh\necho $SSL_PROTOCOL $SSL_CIPHER >said\nexit 1\n", 0o755)
    with Tcpserver(idle, idle.bin / "qmail-smtpd", HOST, "./show", "true") as server, smtplib.SMTP(*server.address, timeout=WAIT) as client:
        context = new_context()
        context.check_hostname = False
        client.starttls(context=context)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(ANA, SECRET)
    assert re.fullmatch(r"TLSv1\.2 TLS_\w+\n", (idle.home / "said").read_text())


# --- clients that others wrote ------------------------------------------------------------------------------------------------

def python(service, at_once):
    context = new_context()
    context.check_hostname = False
    with smtplib.SMTP_SSL(*service.address, timeout=WAIT, context=context) if at_once else \
            smtplib.SMTP(*service.address, timeout=WAIT) as client:
        if not at_once:
            client.starttls(context=context)
        client.login(ANA, SECRET)
        client.sendmail(ANA, [FAR], MESSAGE)


def command(service, program, *words, **more):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    done = service.tree.run(f"/usr/bin/{program}", *words, input=MESSAGE, **more)
    assert done.returncode == 0, done.stdout + done.stderr


def swaks(service, at_once):
    for mechanism in ("PLAIN", "LOGIN"):
        command(service, "swaks", "--server", service.address[0], "--port", service.address[1], "--tls-on-connect" if at_once else "--tls",
                "--auth", mechanism, "--auth-user", ANA, "--auth-password", SECRET, "--from", ANA, "--to", FAR, "--data", "-")


def curl(service, at_once):
    scheme = "smtps" if at_once else "smtp"
    command(service, "curl", "-sS", "--ssl-reqd", "--insecure", "--user", f"{ANA}:{SECRET}", "--mail-from", ANA, "--mail-rcpt", FAR, "-T", "-",
            f"{scheme}://{service.address[0]}:{service.address[1]}/client.example")


def msmtp(service, at_once):
    command(service, "msmtp", "--host", service.address[0], "--port", service.address[1], "--auth=on", "--user", ANA, "--from", ANA,
            "--passwordeval", f"echo {SECRET}", "--tls=on", "--tls-certcheck=off", f"--tls-starttls={'off' if at_once else 'on'}", FAR)


@pytest.mark.parametrize("port", ["587", "465"])
@pytest.mark.parametrize("client", [python, swaks, curl, msmtp])
def test_client(request, queue, port, client):
    service = request.getfixturevalue("submission" if port == "587" else "submissions")
    client(service, port == "465")
    assert queue.messages
    for message, envelope in queue.messages:
        assert protocol(message) in (f"ESMTPSA (TLSv1.2) tls {CIPHER}", f"UTF8SMTPSA (TLSv1.2) tls {CIPHER}")  # msmtp of 2025 says SMTPUTF8
        assert message.rstrip().endswith(b"\n\nfirst\n..last") and f"T{FAR}\0".encode() in envelope


@pytest.mark.parametrize("transcript", ["thunderbird-starttls.smtp", "thunderbird-tls.smtp"])
def test_transcript(request, queue, transcript):
    """The header stays as Thunderbird has made it."""
    at_once = lines_of(transcript)[0] == "TLS"
    service = request.getfixturevalue("submissions" if at_once else "submission")
    assert play(transcript, service.connect()) == len(queue.messages)
    (message, envelope), = queue.messages
    header, body = message.split(b"\nMessage-ID: <b5d0c7a2-", 1)
    assert b"Date: " not in header and body.endswith(b"\nContent-Transfer-Encoding: 8bit\n\nfirst\n.last\n")
    assert f"F{ANA}\0".encode() in envelope and envelope.count(b"@far.example\0") == 1 + at_once


# --- the whole server -----------------------------------------------------------------------------------------------------------

def test_from_an_account_to_another_host(idle):
    """A virtual account sends to a neighbour after its login, and a stranger does not."""
    idle.need("qmail-account", "checkpassword-accounts", "qmail-queued", "qmail-send", "qmail-remote")
    of_domain(idle)
    add(idle, ANA)
    idle.start_authd(check=[idle.bin / "checkpassword-accounts"], session=())
    idle.start_submitd()
    with contextlib.closing(fake_smtp.Server()) as far:
        route_to(idle, far)
        idle.start()
        context = new_context()
        context.check_hostname = False
        with submission_at(idle) as service, smtplib.SMTP(*service.address, timeout=WAIT) as client:
            client.starttls(context=context)
            with pytest.raises(smtplib.SMTPSenderRefused):
                client.sendmail(ANA, [FAR], MESSAGE)
            client.login(ANA, PASSWORD)
            client.sendmail(ANA, [FAR], b"Bcc: luis@far.example\r\n" + MESSAGE)
        (message,) = wait_for(lambda: far.messages)
    assert message.mail.startswith(f"MAIL FROM:<{ANA}>".encode()) and message.recipients == [FAR]
    head, body = message.octets.split(b"\r\n\r\n", 1)
    assert b"Bcc" not in head and b"\r\nDate: " in head and b"\r\nMessage-ID: <" in head
    assert body.startswith(b"first\r\n")
