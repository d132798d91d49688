"""qmail-popup and qmail-authd from outside: both ways to log in, poplib, and clients that keep to nothing. Rows S11, P12 and P14 of
the hostile inputs, as far as POP3 goes."""
import base64
import contextlib
import hashlib
import os
import poplib
import re
import signal
import socket
import stat
import struct
import subprocess
import textwrap
import time

import pytest

from conftest import HOST, SOURCE, WAIT, processes_of, wait_for
from pop3 import deliver, message
from probe import is_sanitized
from serving import Service, Tcpserver, call, read_all
from test_smtpd_tls import Ucspi, chain  # noqa: F401 (a fixture)
from test_tls import Tls, new_context, pem, read_tls

SECRET = "secret"
# checks a secret, or its digest, and leaves what it was given in the file "given"
CHECKPASSWORD = """\
    #!/usr/bin/python3 -IS
    import hashlib, os, sys, time
    given = os.read(3, 4096)
    os.close(3)
    with open({home!r} + "/given", "wb") as f:
        f.write(given)
    login, secret, challenge = given.split(b"\\0")[:3]
    if login.startswith(b"exit-"):
        sys.exit(int(login[5:]))
    if login == b"crash":
        os.kill(os.getpid(), 9)
    if login == b"slow":
        time.sleep(60)
    home = {home!r} + "/home/ana"
    digest = hashlib.md5(challenge + b"secret").hexdigest().encode()
    if login.lower() not in (b"ana", b"ana@shop.example") or secret not in (b"secret", b"x", b"two words ", digest):
        sys.exit(1)
    os.chdir(home)
    os.environ.update(USER="ana", HOME=home, SHELL="/bin/sh")
    os.execvp(sys.argv[1], sys.argv[1:])
    """


def b64(octets):
    return base64.b64encode(octets).decode()


class Pop3(Tls):
    authd = None

    def __init__(self, home):
        super().__init__(home)
        self.checkpassword = self.write("checkpassword", textwrap.dedent(CHECKPASSWORD.format(home=str(self.home))), 0o755)

    def start_authd(self, *options, check=None, session=("Maildir",)):
        users = [word for uid in sorted({self.uid, os.getuid()}) for word in ("-u", uid)]
        session = ["--", self.bin / "qmail-pop3d", *session] if session else []
        self.authd = self.start_daemon("qmail-authd", "qmail-authd", *users, *options, *(check or [self.checkpassword]), *session)

    def stop(self):
        if self.authd:
            self.end(self.authd, signal.SIGTERM)
        super().stop()

    def given(self):
        return (self.home / "given").read_bytes()

    def authd_said(self, text, count=1):
        wait_for(lambda: self.errors("qmail-authd").count(text) >= count, WAIT,
                 f"{text!r} from qmail-authd:\n{self.errors('qmail-authd')[-3000:]}")
        return self.errors("qmail-authd")


@pytest.fixture
def pop3(new_tree):
    server = new_tree(Pop3)
    server.need("qmail-popup", "qmail-authd", "qmail-loggedin", "qmail-pop3d")
    deliver(server, message(1))
    deliver(server, message(2))
    return server


@pytest.fixture
def keeper(pop3):
    pop3.start_authd("-l", session=("-l", "Maildir"))  # as the service does
    return pop3


@pytest.fixture
def popup(keeper):
    """A server that listens, and takes logins without TLS."""
    with Service(keeper, "qmail-popup", env={"FORCETLS": "0"}) as service:
        yield service


@pytest.fixture
def tls(keeper):
    keeper.write("tls/ec.pem", pem("P-256", HOST), 0o400)
    keeper.start_engine()
    return keeper


class Chain(Tcpserver):
    """tcpserver ... qmail-popup HOST checkpassword qmail-pop3d Maildir"""

    def __init__(self, tree, *programs, env=None):
        super().__init__(tree, tree.bin / "qmail-popup", "h.example", *(programs or (tree.checkpassword, "qmail-pop3d", "Maildir")), env=env)


@pytest.fixture(params=["chain", "listening"])
def either(request, pop3):
    if request.param == "chain":
        with Chain(pop3) as chain:
            yield chain
    else:
        pop3.start_authd()
        with Service(pop3, "qmail-popup", "h.example", env={"FORCETLS": "0"}) as service:
            yield service


def replies(octets):
    return [line[:line.find(b"]") + 1 or 4] for line in octets.split(b"\r\n")[:-1] if line[:1] in b"+-"]


# --- both ways -----------------------------------------------------------------------------------------------

def test_poplib(either):
    client = poplib.POP3(*either.address, timeout=WAIT)
    assert re.fullmatch(rb"\+OK <\d+\.\d+@h\.example>", client.getwelcome())
    before = client.capa()
    assert before["SASL"] == ["PLAIN", "LOGIN"] and "USER" in before and "STLS" not in before
    client.user("ana")
    assert client.pass_(SECRET).startswith(b"+OK 2 messages")
    assert client.stat()[0] == 2
    assert before == client.capa()
    client.dele(1)
    client.quit()


def test_apop(either, pop3):
    client = poplib.POP3(*either.address, timeout=WAIT)
    challenge = client.getwelcome().split()[1]
    client.apop("ana", SECRET)
    assert client.stat()[0] == 2
    client.quit()
    assert pop3.given() == b"ana\0" + hashlib.md5(challenge + SECRET.encode()).hexdigest().encode() + b"\0" + challenge + b"\0"


def test_pipelined_commands_reach_the_session(either):
    said = either.ask(b"USER ana\r\nPASS secret\r\nSTAT\r\nNOOP\r\nUIDL 2\r\nQUIT\r\n", end=False)
    assert re.fullmatch(rb"\+OK <[^>]+>\r\n\+OK\r\n\+OK 2 messages[^\n]*\n\+OK 2 \d+\r\n\+OK\r\n\+OK 2 [^\n]+\n\+OK\r\n", said), said


def test_octet_by_octet(either):
    with either.connect() as c:
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in b"USER ana\r\nPASS secret\r\nQUIT\r\n":
            c.sendall(bytes([octet]))
        assert [r[:3] for r in replies(read_all(c))] == [b"+OK"] * 4


@pytest.mark.parametrize("login", ["ana", "exit-3", "exit-99"])
def test_a_wrong_password_is_answered_and_the_connection_closed(either, login):
    """Programs of others have other exit codes for it."""
    said = either.ask(f"USER {login}\r\nPASS wrong\r\nUSER ana\r\nPASS secret\r\n".encode(), end=False)
    assert said.endswith(b"+OK\r\n-ERR [AUTH] authorization failed\r\n") and said.count(b"\n") == 3


@pytest.mark.parametrize("login", ["exit-2", "exit-100", "exit-111", "exit-200", "crash"])
def test_what_cannot_be_known_is_no_wrong_password(either, login):
    """Misuse and trouble; nor has the log a failed login for fail2ban."""
    said = either.ask(f"USER {login}\r\nPASS secret\r\n".encode(), end=False)
    assert b"[AUTH]" not in said
    assert login == "crash" or b"-ERR [SYS/TEMP]" in said
    assert "login failed" not in either.log()


@pytest.mark.parametrize("octets, given", [
    (b"USER ana\r\nPASS two words \r\n", b"ana\0two words \0"),
    (b"USER ana\r\nPASS x\r\n", b"ana\0x\0"),
    (b"user Ana@shop.example\r\nuser ana\r\npass secret\r\n", b"ana\0secret\0"),
    (b"AUTH PLAIN " + b64(b"\0ana\0secret").encode() + b"\r\n", b"ana\0secret\0"),
    (b"AUTH plain " + b64(b"ana\0ana\0secret").encode() + b"\r\n", b"ana\0secret\0"),
    (b"AUTH PLAIN\r\n" + b64(b"\0ana\0secret").encode() + b"\r\n", b"ana\0secret\0"),
    (b"AUTH LOGIN\r\n" + b64(b"ana").encode() + b"\r\n" + b64(b"x").encode() + b"\r\n", b"ana\0x\0"),
    (b"AUTH LOGIN " + b64(b"ana").encode() + b"\r\n" + b64(b"secret").encode() + b"\r\n", b"ana\0secret\0"),
])
def test_logins(either, pop3, octets, given):
    said = either.ask(octets + b"STAT\r\nQUIT\r\n", end=False)
    assert b"+OK 2 messages" in said and said.endswith(b"+OK\r\n"), said
    assert pop3.given().startswith(given + b"<")


def test_is_shut_in(either, pop3):
    """Whatever reads the network before the login."""
    with either.connect() as c:
        c.recv(100)
        pids = [pid for pid, _ in processes_of({either.process.pid}, "/nonexistent")]
        status = [open(f"/proc/{pid}/status").read() for pid in pids
                  if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "qmail-popup"]
        shut_in = [s for s in status if "NoNewPrivs:\t1" in s and (is_sanitized(pop3.bin / "qmail-popup") or "Seccomp:\t2" in s)]
        assert len(shut_in) == 1


# --- the chain of section 13 ------------------------------------------------------------------------------------

def test_the_program_gets_what_section_13_says(pop3):
    show = pop3.write("show", "#!/bin/sh\ncat <&3 >given\nls /proc/$$/fd | tr '\\n' ' ' >fds\npwd >here\nexit 1\n", 0o755)
    with Chain(pop3, "./show", "more") as chain:
        said = chain.ask(b"USER a b\r\nPASS  c\r\n", end=False)
    challenge = said.split()[1]
    assert pop3.given() == b"a b\0 c\0" + challenge + b"\0"
    assert {"0", "1", "2", "3"} <= set((pop3.home / "fds").read_text().split())
    assert (pop3.home / "here").read_text().strip() == str(pop3.home)
    assert show.exists() and said.endswith(b"-ERR [AUTH] authorization failed\r\n")


def test_the_chain_may_be_told_to_need_tls(pop3):
    with Chain(pop3, env={"FORCETLS": "1"}) as chain:
        assert b"-ERR begin TLS first" in chain.ask(b"USER ana\r\n")


# --- sessions of the keeper ------------------------------------------------------------------------------------------

def test_the_session_is_counted_until_it_ends(popup, keeper):
    with popup.connect() as c:
        c.sendall(b"USER ana\r\nPASS secret\r\n")
        c.recv(100)
        wait_for(lambda: keeper.children("qmail-pop3d"))
        assert len(popup.children()) == 1
        c.sendall(b"QUIT\r\n")
        read_all(c)
        wait_for(lambda: not popup.children())


def test_the_keeper_may_be_restarted(popup, keeper):
    """Sessions go on; logins are told to come back."""
    client = poplib.POP3(*popup.address, timeout=WAIT)
    client.user("ana")
    client.pass_(SECRET)
    keeper.end(keeper.authd, signal.SIGTERM)
    assert replies(popup.ask(b"USER ana\r\nPASS secret\r\n", end=False))[-1] == b"-ERR [SYS/TEMP]"
    assert client.stat()[0] == 2
    keeper.start_authd()
    client.quit()
    assert b"+OK 2 messages" in popup.ask(b"USER ana\r\nPASS secret\r\nQUIT\r\n", end=False)


def test_an_account_of_the_table(pop3):
    """The chain that the service runs, with checkpassword-accounts."""
    from test_accounts import DOMAIN, PASSWORD, add, of_domain
    of_domain(pop3)
    pop3.write("mail/.keep", "")
    add(pop3, f"ana@{DOMAIN}")
    pop3.write(f"mail/ana@{DOMAIN}/Maildir/new/1.a,S=17", "Subject: x\n\nbody\n", 0o600)
    pop3.start_authd(check=[pop3.bin / "checkpassword-accounts", "-s"])
    with Service(pop3, "qmail-popup", env={"FORCETLS": "0"}) as service:
        said = service.ask(f"USER Ana@{DOMAIN.upper()}\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT\r\n".encode(), end=False)
        assert b"+OK 1 messages" in said
        assert b"[AUTH]" in service.ask(f"USER eva@{DOMAIN}\r\nPASS {PASSWORD}\r\n".encode(), end=False)
    pop3.authd_said(f"login: ip=127.0.0.1 user=Ana@{DOMAIN.upper()} for=session\n")


# --- TLS ----------------------------------------------------------------------------------------------------------------

def test_p12_capabilities_before_and_after_tls(tls):
    """POP3 has no PREAUTH: no greeting puts a session behind the login, here neither, so that nobody can be talked out of TLS by one.
    A CAPA from before TLS is nothing to go by: it is asked again and says other things, and USER from before does not count
    (test_p12_stls_injection)."""
    with Service(tls, "qmail-popup") as service:
        client = poplib.POP3(*service.address, timeout=WAIT)
        assert client.getwelcome() == b"+OK POP3 server ready"
        for early in ("STAT", "LIST", "RETR 1"):
            with pytest.raises(poplib.error_proto, match="authorization first"):
                client._shortcmd(early)
        capa = client.capa()
        assert "STLS" in capa and "USER" not in capa and "SASL" not in capa
        for refused in ("USER ana", "AUTH PLAIN", "AUTH PLAIN =", "APOP ana x"):
            with pytest.raises(poplib.error_proto):
                client._shortcmd(refused)
        client.host = HOST
        client.stls(new_context())
        capa = client.capa()
        assert "STLS" not in capa and "USER" in capa and capa["SASL"] == ["PLAIN", "LOGIN"]
        client.user("ana")
        client.pass_(SECRET)
        assert client.stat()[0] == 2
        client.quit()
    assert "qmail-popup: logged-in: ip=127.0.0.1 user=ana tls=TLSv1.2" in service.log()


def test_stls_in_the_chain(tls):
    with Chain(tls) as chain:
        client = poplib.POP3(*chain.address, timeout=WAIT)
        client.host = HOST
        client.stls(new_context())
        client.user("ana")
        client.pass_(SECRET)
        assert client.stat()[0] == 2
        client.quit()


def test_implicit_tls(tls):
    with Service(tls, "qmail-popup", "-S") as service:
        context = new_context()
        context.check_hostname = False
        client = poplib.POP3_SSL(*service.address, timeout=WAIT, context=context)
        assert client.getwelcome() == b"+OK POP3 server ready" and "STLS" not in client.capa()
        client.user("ana")
        client.pass_(SECRET)
        client.quit()
        assert service.ask(b"USER ana\r\nPASS secret\r\n", end=False)[:1] in (b"", b"\x15")
        service.logged("qmail-popup: no-tls: ")


def test_the_program_behind_stls_knows_of_it(tls):
    tls.write("show", "#!/bin/sh\necho $SSL_PROTOCOL $SSL_CIPHER >said\nexit 1\n", 0o755)
    with Chain(tls, "./show", "more") as chain:
        client = poplib.POP3(*chain.address, timeout=WAIT)
        client.host = HOST
        client.stls(new_context())
        client.user("ana")
        with pytest.raises(poplib.error_proto):
            client.pass_(SECRET)
        client.close()
    assert re.fullmatch(r"TLSv1\.2 TLS_\w+\n", (tls.home / "said").read_text())


@pytest.mark.parametrize("injected", [b"USER eva\r\n", b"USER ana\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n", b"x" * 3000])
def test_p12_stls_injection(tls, injected):
    """What came before the handshake is not taken for what was protected."""
    with Service(tls, "qmail-popup", env={"FORCETLS": "0"}) as service:
        with service.connect() as c:
            c.recv(100)
            c.sendall(b"USER ana\r\nSTLS\r\n" + injected)
            said = b""
            while said.count(b"\n") < 2:
                said += c.recv(100)
            assert said == b"+OK\r\n+OK begin now\r\n"
            with new_context().wrap_socket(c, server_hostname=HOST, suppress_ragged_eofs=False) as s:
                s.sendall(b"NOOP\r\nPASS secret\r\nQUIT\r\n")
                assert read_tls(s) == b"+OK\r\n-ERR USER comes first\r\n+OK\r\n"


def test_p12_stls_when_it_cannot_be(keeper):
    with Service(keeper, "qmail-popup", env={"FORCETLS": "0"}) as service:
        assert replies(service.ask(b"STLS\r\nCAPA\r\nQUIT\r\n"))[1] == b"-ERR"
        (keeper.home / "run/qmail-tlsd").mkdir(exist_ok=True)
        os.mknod(keeper.home / "run/qmail-tlsd/socket", 0o666 | stat.S_IFSOCK)
        said = service.ask(b"STLS\r\nUSER ana\r\nQUIT\r\n")
        assert b"-ERR [SYS/TEMP] TLS cannot begin now\r\n+OK\r\n+OK\r\n" in said


def test_p12_stls_twice(tls):
    with Service(tls, "qmail-popup") as service, service.connect() as c:
        c.recv(100)
        c.sendall(b"STLS\r\n")
        c.recv(100)
        with new_context().wrap_socket(c, server_hostname=HOST, suppress_ragged_eofs=False) as s:
            s.sendall(b"STLS\r\nQUIT\r\n")
            assert read_tls(s) == b"-ERR TLS is there already\r\n+OK\r\n"


# --- S11 -------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("octets", [
    b"AUTH PLAIN !!!\r\n", b"AUTH PLAIN ====\r\n", b"AUTH PLAIN =\r\n", b"AUTH PLAIN AGFuYQBzZWNyZXQ\r\n", b"AUTH PLAIN\r\n*\r\n",
    b"AUTH PLAIN\r\n\r\n", b"AUTH LOGIN\r\n*\r\n", b"AUTH LOGIN\r\nYW5h\r\n*\r\n", b"AUTH LOGIN\r\n=\r\n", b"AUTH LOGIN =\r\n",
    b"AUTH PLAIN " + b64(b"ana\0secret").encode() + b"\r\n", b"AUTH PLAIN " + b64(b"\0ana\0sec\0ret").encode() + b"\r\n",
    b"AUTH PLAIN " + b64(b"\0\0secret").encode() + b"\r\n", b"AUTH PLAIN " + b64(b"\0ana\0").encode() + b"\r\n",
    b"AUTH PLAIN " + b64(b"eva\0ana\0secret").encode() + b"\r\n", b"AUTH LOGIN\r\n" + b64(b"a\0a").encode() + b"\r\n",
    b"AUTH PLAIN " + b64(b"\0ana\0" + b"x" * 1500).encode() + b"\r\n", b"AUTH CRAM-MD5\r\n", b"AUTH PLAIN a b\r\n",
    b"AUTH PLAIN YW=h\r\n", b"AUTH PLAIN AGFuYQBzZWNyZXR=\r\n", b"AUTH PLAIN " + b"A" * 4000 + b"\r\n",
])
def test_s11_is_no_login(popup, keeper, octets):
    """An error, and the session goes on."""
    said = popup.ask(octets + b"NOOP\r\nQUIT\r\n", end=False)
    assert replies(said)[-3:-2][0].startswith(b"-ERR") and said.endswith(b"+OK\r\n+OK\r\n"), said
    assert not (keeper.home / "given").exists()


@pytest.mark.parametrize("login", [b"*)(uid=*", b"' OR 1=1 --", b"%s%n%x", b"\xff\xfe", b"../../etc/passwd", b"a" * 600,
                                   b"x\x1b[2J", b"a ip=192.0.2.1 user=b", b"ana\xe2\x80\xae"])
def test_s11_logins_with_a_meaning_elsewhere(popup, keeper, login):
    """They are wrong, and a line of the log stays a line, with the address of the client as its first."""
    assert b"[AUTH]" in popup.ask(b"USER " + login + b"\r\nPASS secret\r\n", end=False)
    log = keeper.authd_said("login failed: ")
    assert re.fullmatch(r"qmail-authd: login failed: ip=127\.0\.0\.1 user=[!-~]+ for=session reason=wrong\n", log), log


def test_s11_never_ending(popup):
    """A continuation that is a megabyte long, and errors without end."""
    said = popup.ask(b"AUTH PLAIN\r\n" + b"A" * (1 << 20), end=False)
    assert replies(said)[-1] == b"-ERR"
    said = popup.ask(b"AUTH PLAIN ?\r\n" * 1000, end=False)
    assert said.count(b"-ERR") == 20


def test_bare_line_ends(popup):
    said = popup.ask(b"USER ana\nPASS secret\n", end=False)
    assert said.count(b"+OK") == 1 and b"-ERR" in said


def test_what_belongs_behind_the_login(popup):
    said = popup.ask(b"STAT\r\nRETR 1\r\nUSER\r\nPASS secret\r\nNOOP x\r\nUTF8\r\nAPOP ana x\r\nQUIT\r\n")
    assert [r[:4] for r in replies(said)] == [b"+OK "] + [b"-ERR"] * 5 + [b"+OK", b"-ERR", b"+OK"]


# --- P14 --------------------------------------------------------------------------------------------------------------------

def attempt(service, source, login="ana", secret="wrong"):
    """The reply to one login from an address."""
    return replies(service.ask(f"USER {login}\r\nPASS {secret}\r\nQUIT\r\n".encode(), source, end=False))[2]


def test_p14_one_address(popup, keeper):
    """Failures of one address at once: the first are checked, the last are not, and others do not feel it."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(popup.connect("127.0.0.9")) for _ in range(40)]
        for i, c in enumerate(connections):
            c.sendall(f"USER u{i}\r\nPASS wrong\r\n".encode())
        keeper.authd_said("reason=too-many", 10)  # of 40 some are answered at once, and 20 wait
        assert attempt(popup, "127.0.0.10", secret=SECRET) == b"+OK "
        assert keeper.errors("qmail-authd").count("ip=127.0.0.9 ") >= 10
    assert b"[SYS/TEMP]" in attempt(popup, "127.0.0.9", secret=SECRET)


def test_p14_one_account_from_many_addresses(popup, keeper):
    """Who has logged in from somewhere is let in there whatever others do."""
    assert attempt(popup, "127.0.0.1", secret=SECRET) == b"+OK "
    with contextlib.ExitStack() as stack:
        for i in range(200):
            c = stack.enter_context(popup.connect(f"127.1.{i % 8}.{i + 1}"))
            c.sendall(b"USER Ana\r\nPASS wrong\r\n")
        keeper.authd_said("reason=too-many", 10)
        assert attempt(popup, "127.0.0.1", secret=SECRET) == b"+OK "
        # a place that became free meanwhile goes to one of these, and the next has none
        assert any(attempt(popup, f"127.2.0.{i}", secret=SECRET) == b"-ERR [SYS/TEMP]" for i in range(10, 16))
        assert attempt(popup, "127.2.0.2", login="ana@shop.example", secret=SECRET) == b"+OK "


@pytest.mark.parametrize("octets", [b"PASS " + b"x" * 3000 + b"\r\n", b"AUTH PLAIN " + b64(b"\0ana\0" + b"x" * 700).encode() + b"\r\n"])
def test_p14_a_long_password_is_never_hashed(popup, keeper, octets):
    assert b"[AUTH]" in popup.ask(b"USER ana\r\n" + octets, end=False)
    keeper.authd_said("login failed: ip=127.0.0.1 user=ana for=session reason=wrong")
    assert not (keeper.home / "given").exists()


def test_p14_a_megabyte(popup, keeper):
    assert b"-ERR" in popup.ask(b"USER ana\r\nPASS " + b"x" * (1 << 20) + b"\r\n", end=False)
    assert not (keeper.home / "given").exists()


def test_fail2ban_reads_the_log(popup, keeper):
    """Of qmail-authd, and of qmail-popup in a chain."""
    attempt(popup, "127.0.0.7", login="eva")
    attempt(popup, "127.0.0.8", secret=SECRET)
    with Chain(keeper) as chain:
        attempt(chain, "127.0.0.9", login="eva")
        log = keeper.authd_said("login failed: ") + chain.log()
    assert log.count("login failed: ") == 2
    log = keeper.write("log.txt", "".join(f"@4000000065a1b2c3075bcd15 {line}\n" for line in log.splitlines()))
    said = subprocess.run(["fail2ban-regex", "--print-all-matched", str(log), str(SOURCE / "admin/fail2ban.conf")],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60).stdout
    assert ", 2 matched, " in said, said


# --- the keeper's socket -----------------------------------------------------------------------------------------------------

def test_who_is_slowed_down_makes_room(pop3):
    """Attempts that only wait for the failures before them do not keep others out, where there is no place for more."""
    pop3.start_authd("-c", "4")
    for _ in range(5):  # these cost nothing
        assert ask(pop3, b"Ceva\0wrong\0\0") == b"N"
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(call(pop3, "qmail-authd")) for _ in range(24)]
        for s in callers:
            s.send(b"Ceva\0wrong\0\0")
        # a second more for each of them, 15 for the last ones: the first make room, but for what was checked meanwhile
        answers = [s.recv(1000)[:1] for s in callers[:10]]
        assert set(answers) <= {b"T", b"N"} and answers.count(b"T") >= 3, answers
        assert ask(pop3, b"C" + GOOD) == b"Kana"
    assert pop3.authd_said("login failed: ip=unknown user=eva for=check reason=too-many", 3)


ONE_AFTER_ANOTHER = """\
    #!/usr/bin/python3 -IS
    import os, sys, time
    login = os.read(3, 4096).split(b"\\0")[0].decode()
    with open({home!r} + "/order", "a") as f:
        f.write(login + " ")
    while login == "first" and not os.path.exists({home!r} + "/go"):
        time.sleep(0.01)
    sys.exit(1)
    """


def test_who_waits_longest_is_checked_first(pop3):
    pop3.write("order", "")
    pop3.start_authd("-n", "1", check=[pop3.write("check", textwrap.dedent(ONE_AFTER_ANOTHER.format(home=str(pop3.home))), 0o755)])
    logins = ["first", *(f"user{i}" for i in range(6))]
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(call(pop3, "qmail-authd")) for _ in logins]
        for s, login in zip(callers, logins):
            s.send(f"C{login}\0x\0\0".encode())
            wait_for(lambda: (pop3.home / "order").read_text())
            time.sleep(0.02)  # they are not equals
        pop3.write("go", "")
        assert {s.recv(100) for s in callers} == {b"N"}
    assert (pop3.home / "order").read_text().split() == logins


def start_limited(pop3, limit, *options):
    """qmail-authd, by a shell that has set the limit of its files so."""
    pop3.write("limited", f'#!/bin/sh\nulimit {limit}\nexec {pop3.bin}/qmail-authd "$@"\n', 0o755)
    pop3.authd = pop3.start_daemon("qmail-authd", pop3.home / "limited", "-u", pop3.uid, "-u", os.getuid(), *options,
                                   pop3.checkpassword, "--", pop3.bin / "qmail-pop3d", "Maildir")


def files_of(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def wait_all_at_once(pop3, stack, attempts):
    """So many attempts with a connection each, behind one that is being checked and takes its time."""
    callers = [stack.enter_context(call(pop3, "qmail-authd")) for _ in range(attempts + 1)]
    callers[0].send(b"Cslow\0x\0\0")
    wait_for(lambda: (pop3.home / "given").exists() and pop3.given().startswith(b"slow"))
    for i, s in enumerate(callers[1:]):  # each of another account, which no failure slows down
        ours, theirs = map(stack.enter_context, socket.socketpair())
        s.sendmsg([b"S%d\0x\0\0" % i], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", theirs.fileno()))])
    return callers[1:]


def test_the_soft_limit_of_files_is_none_for_attempts(pop3):
    start_limited(pop3, "-Sn 64", "-n", "1")
    with contextlib.ExitStack() as stack:
        wait_all_at_once(pop3, stack, 60)
        wait_for(lambda: files_of(pop3.authd) > 2 * 60)
    assert "warning" not in pop3.errors("qmail-authd")


def test_the_hard_limit_of_files_leaves_fewer_attempts(pop3):
    """Who is too many for it waits at the socket, and nobody is told that his request is malformed."""
    start_limited(pop3, "-n 64", "-n", "1")
    with contextlib.ExitStack() as stack:
        callers = wait_all_at_once(pop3, stack, 60)
        callers[0].settimeout(1)
        with pytest.raises(TimeoutError):
            callers[0].recv(100)
        for s in callers:
            s.setblocking(False)
            with pytest.raises(BlockingIOError):
                s.recv(100)
    assert pop3.errors("qmail-authd").startswith(
        "qmail-authd: warning: the limit of open files, 64, leaves room for 15 attempts at once instead of 500\n")


def ask(keeper, packet, descriptor=None):
    """What qmail-authd answers to a packet; b"" where it closes."""
    with call(keeper, "qmail-authd") as s:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))] if descriptor is not None else []
        with contextlib.suppress(BrokenPipeError):
            s.sendmsg([packet], rights)
        try:
            return s.recv(1000)
        except ConnectionResetError:
            return b""


GOOD = b"ana\0secret\0\0"


@pytest.mark.parametrize("packet, answer", [
    (b"C" + GOOD, b"Kana"), (b"CAna@Shop.Example\0secret\0\0TCPREMOTEIP=192.0.2.1\0", b"Kana@shop.example"),
    (b"Cana\0wrong\0\0", b"N"), (b"Cexit-111\0x\0\0", b"T"), (b"Ccrash\0x\0\0", b"T"), (b"C\0x\0\0", b"N"), (b"Cana\0\0\0", b"N"),
    (b"X" + GOOD, b"T"), (b"C", b"T"), (b"Cana\0secret\0", b"T"), (b"Cana\0secret\0<", b"T"), (b"S" + GOOD, b"T"),
    (b"C" + GOOD + b"PATH=/tmp\0", b"T"), (b"C" + GOOD + b"LD_PRELOAD=x\0", b"T"), (b"C" + GOOD + b"TCPREMOTEIP=a b\0", b"T"),
    (b"C" + GOOD + b"PROTO=TCP\0PROTO=TCP\0", b"T"), (b"C" + GOOD + b"PROTO\0", b"T"), (b"C" + GOOD + b"TCPREMOTEIP=\0", b"T"),
    (b"C" + GOOD + b"x" * 20000, b""), (b"", b""),
])
def test_packets(keeper, packet, answer):
    said = ask(keeper, packet)
    assert said[:len(answer) or None] == answer and (answer[:1] != b"K" or said == answer)
    assert ask(keeper, b"C" + GOOD) == b"Kana"


def test_only_a_connection_is_a_connection(keeper):
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, \
            socket.socket() as unconnected, open("/dev/null") as null:
        for s in (listener, datagrams, unconnected, null):
            assert ask(keeper, b"S" + GOOD, s.fileno())[:1] == b"T"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert ask(keeper, b"C" + GOOD, theirs.fileno())[:1] == b"T"
        assert ask(keeper, b"S" + GOOD, theirs.fileno()) == b"Kana"
        theirs.close()
        ours.settimeout(WAIT)
        assert ours.recv(100).startswith(b"+OK 2 messages")


def test_without_a_session_program_only_checks(pop3):
    pop3.start_authd(session=())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert ask(pop3, b"S" + GOOD, theirs.fileno())[:1] == b"T"
    assert ask(pop3, b"C" + GOOD) == b"Kana"


def test_who_is_not_named_is_not_heard(pop3):
    pop3.authd = pop3.start_daemon("qmail-authd", "qmail-authd", "-u", 54321, pop3.checkpassword)
    assert ask(pop3, b"C" + GOOD) == b""
    assert not (pop3.home / "given").exists()


def test_a_checkpassword_program_that_hangs_stops_nobody(keeper):
    """And is killed with the keeper, so that no session begins that its caller knows nothing of."""
    with call(keeper, "qmail-authd") as s:
        s.send(b"Cslow\0x\0\0")
        wait_for(lambda: (keeper.home / "given").exists() and keeper.given().startswith(b"slow"))
        assert ask(keeper, b"C" + GOOD) == b"Kana"
        keeper.end(keeper.authd, signal.SIGTERM)
        assert s.recv(10) == b""


@pytest.mark.parametrize("args", [[], ["--"], ["x", "--"], ["-c", "0", "x"], ["-u", "a", "x"], ["-z", "x"]])
def test_usage(pop3, args):
    done = pop3.run("qmail-authd", *args)
    assert done.returncode == 100 and b"usage" in done.stderr


# --- TLS by a server in front ----------------------------------------------------------------------------------------------------

class UcspiClient(poplib.POP3):
    def __init__(self, server):
        self.server = server
        super().__init__(HOST)
        self.socket = server.session = self  # what is closed at the end

    def _create_socket(self, timeout):
        return self.server.client


@pytest.fixture(params=["keeper", "chain"])
def program(request, pop3):
    """qmail-popup and its arguments, in both ways to log in."""
    if request.param == "keeper":
        pop3.start_authd()
        return ("qmail-popup",)
    return ("qmail-popup", "h.example", pop3.checkpassword, "qmail-pop3d", "Maildir")


def test_ucspi_tls(pop3, chain, program):  # noqa: F811
    """The session, and its whole output, go through the pipes of that server."""
    deliver(pop3, message(3) + (b"x" * 70 + b"\n") * 5000)
    with Ucspi(pop3, program=program, UCSPITLS="", FORCETLS="1") as server:
        client = UcspiClient(server)
        assert "STLS" in client.capa() and "USER" not in client.capa()
        client.stls(new_context())
        assert "STLS" not in client.capa()
        client.user("ana")
        client.pass_(SECRET)
        assert client.stat()[0] == 3
        assert max(client.retr(n)[1].count(b"x" * 70) for n in (1, 2, 3)) == 5000
        client.quit()
    assert server.letter == b"Y"
    assert "tls=TLSv1.3 " in server.log.read_text()


def test_ucspi_tls_and_a_wrong_login(pop3, chain, program):  # noqa: F811
    with Ucspi(pop3, program=program, UCSPITLS="") as server:
        client = UcspiClient(server)
        client.stls(new_context())
        client.user("ana")
        with pytest.raises(poplib.error_proto, match="AUTH"):
            client.pass_("wrong")


def test_ucspi_tls_that_is_not_wanted(pop3, chain, program):  # noqa: F811
    with Ucspi(pop3, program=program, FORCETLS="0") as server:
        client = UcspiClient(server)
        assert "STLS" not in client.capa()
        client.user("ana")
        client.pass_(SECRET)
        assert client.stat()[0] == 2
        client.quit()
    assert server.letter == b""


@pytest.mark.parametrize("env", [{"SSL_PROTOCOL": "TLSv1.2"}, {"FORCETLS": "0"}], ids=["tls", "clear"])
def test_a_connection_of_two_pipes(pop3, program, env):
    """As sslserver gives it, or a proxy."""
    done = pop3.run(*program, input=b"USER ana\r\nPASS secret\r\nSTAT\r\nQUIT\r\n", env=env)
    assert done.returncode == 0
    assert re.search(rb"\r\n\+OK 2 \d+\r\n\+OK[^\r]*\r\n$", done.stdout), done
