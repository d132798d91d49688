"""qmail-pop3d from outside: sessions, hostile inputs P11 and L5, others at work on the same maildir, what it costs."""
import contextlib
import os
import poplib
import re
import signal
import socket
import threading

import pytest

from conftest import WAIT, wait_for
from pop3 import LOGIN, Chain, Session, deliver, message, names, wire
from probe import is_sanitized


@pytest.fixture
def pop3(tree):
    tree.need("qmail-pop3d")
    return tree


@pytest.fixture
def chain(pop3):
    with Chain(pop3) as running:
        yield running


@contextlib.contextmanager
def logged_in(chain):
    client = poplib.POP3(*chain.address, timeout=WAIT)
    client.user(LOGIN[0])
    client.pass_(LOGIN[1])
    yield client
    client.close()


# -- behind a login ----------------------------------------------------------------


def test_poplib(pop3, chain):
    """Every command that Python's poplib knows."""
    stored = [message(n) for n in range(3)]
    for octets in stored:
        deliver(pop3, octets)
    sizes = [len(octets) for octets in stored]
    with logged_in(chain) as client:
        assert client.stat() == (3, sum(sizes))
        assert client.list()[1] == [b"%d %d" % (n + 1, size) for n, size in enumerate(sizes)]
        assert client.list(2) == b"+OK 2 %d" % sizes[1]
        uids = client.uidl()[1]
        assert [uid.split()[1].decode() for uid in uids] == sorted(name.split("/")[1] for name in names(pop3))
        assert client.uidl(3) == b"+OK " + uids[2]
        for n, octets in enumerate(stored):
            assert b"".join(line + b"\r\n" for line in client.retr(n + 1)[1]) == wire(octets)
        assert client.top(1, 1)[1][-2:] == [b"", b"line"]
        assert client.noop() == b"+OK"
        client.dele(2)
        assert client.stat() == (2, sizes[0] + sizes[2])
        client.rset()
        assert client.stat() == (3, sum(sizes))
        capabilities = client.capa()
        assert capabilities["EXPIRE"] == ["NEVER"] and {"TOP", "UIDL", "PIPELINING", "RESP-CODES"} < set(capabilities)
        client.dele(1)
        assert client.quit() == b"+OK"
    with logged_in(chain) as client:
        assert client.uidl()[1] == [b"1 " + uids[1].split()[1], b"2 " + uids[2].split()[1]]
    assert [name[:4] + name[-3:] for name in names(pop3)] == ["cur/:2,"] * 2


def test_the_chain_answers_once(pop3, chain):
    """The reply to PASS is the program's own; a login that fails, or has no maildir, is told so once."""
    (pop3.home / "home/luis/Maildir/cur").rmdir()
    for user, secret, want in (("ana", "secret", rb"\+OK 0 messages \(0 octets\)\r\n\+OK\r\n"),
                               ("ana", "wrong", rb"-ERR authorization failed\r\n"),
                               ("luis", "secret", rb"-ERR \[SYS/PERM\] this user has no maildir\r\n")):
        with socket.create_connection(chain.address, WAIT) as client:
            client.sendall(f"USER {user}\r\nPASS {secret}\r\nQUIT\r\n".encode())
            said = b""
            with contextlib.suppress(ConnectionResetError):
                while more := client.recv(65536):
                    said += more
        assert re.fullmatch(rb"\+OK h.example\r\n\+OK\r\n" + want, said), said
    wait_for(lambda: "session pid" in chain.log(), what="the log")
    line = next(line for line in chain.log().splitlines() if "session" in line)
    assert re.search(r"qmail-pop3d: session pid=\d+ ip=127\.0\.0\.1 user=ana end=quit messages=0 retrieved=0 octets=0 deleted=0 "
                     r"commands=1 ms=\d+$", line)
    assert "refused a login: this user has no maildir: No such file or directory" in chain.log()


def test_a_log_that_is_the_connection(pop3):
    """qmail-popup of qmail 1.03 gives the connection as descriptor 2, too."""
    (pop3.control / "timeoutpop3d").mkdir()  # something to complain about
    with Chain(pop3, env={"LOG_TO_CLIENT": "1"}) as chain, logged_in(chain) as client:
        assert client.stat() == (0, 0)
        assert client.quit() == b"+OK"


def test_no_maildir(pop3):
    for maildir, code in (("absent", "SYS/PERM"), ("../ana/.keep", "SYS/PERM")):
        pop3.write("home/ana/.keep", "")
        with Session(pop3, maildir=maildir) as session:
            assert session.greeting.startswith(f"-ERR [{code}] ") and session.rest() == b""


def test_usage(pop3):
    for arguments in ((), ("a", "b"), ("-x",), ("-l",)):
        done = pop3.run("qmail-pop3d", *arguments)
        assert (done.returncode, done.stdout) == (100, b"") and b"usage: qmail-pop3d [ -l ] maildir" in done.stderr


def test_root(pop3):
    if os.getuid():
        pytest.skip("only root can be refused")
    done = pop3.run("qmail-pop3d", "home/ana/Maildir", input=b"QUIT\r\n", user=0)
    assert (done.returncode, done.stdout) == (0, b"-ERR [SYS/PERM] nobody reads mail as root\r\n")


def test_pipes(pop3):
    """Descriptors 0 and 1 need be no socket."""
    stored = message(7)
    deliver(pop3, stored)
    done = pop3.run("qmail-pop3d", "Maildir", input=b"RETR 1\r\nDELE 1\r\nQUIT\r\n", cwd=pop3.home / "home/ana")
    assert done.returncode == 0
    assert done.stdout == b"+OK 1 messages (%d octets)\r\n+OK %d octets\r\n" % (len(stored), len(stored)) + wire(stored) + \
        b".\r\n+OK\r\n+OK\r\n"
    assert names(pop3) == []


# -- control files --------------------------------------------------------------------


def test_expire_and_login_delay(pop3):
    for text, want in (("30\n", "EXPIRE 30"), ("never\n", "EXPIRE NEVER"), ("0\n", "EXPIRE 0")):
        pop3.write("control/pop3expire", text)
        with Session(pop3) as session:
            assert want in session.listing("CAPA")
    assert not (pop3.home / "home/ana/Maildir/pop3-login").exists()
    pop3.write("control/pop3logindelay", "3600\n")
    with Session(pop3) as session:
        assert "LOGIN-DELAY 3600" in session.listing("CAPA")
    with Session(pop3) as session:
        assert session.greeting.startswith("-ERR [LOGIN-DELAY] ") and session.rest() == b""
    with Session(pop3, user="luis") as session:
        assert session.greeting.startswith("+OK")


def test_a_silent_client(pop3):
    """RFC 1939 section 3: the connection is closed without a word, and nothing is removed."""
    pop3.write("control/timeoutpop3d", "1\n")
    deliver(pop3, message())
    with Session(pop3) as session:
        session.fine("DELE 1")
        assert session.rest() == b""
    assert " end=timeout " in session.log and len(names(pop3)) == 1


def test_a_long_session(pop3):
    pop3.write("control/pop3sessiontime", "1\n")
    deliver(pop3, message())
    with Session(pop3) as session:
        session.fine("DELE 1")
        assert session.rest() == b""
    assert " end=session-limit " in session.log and len(names(pop3)) == 1


def test_a_client_that_does_not_read(pop3):
    """Its QUIT, too, is not heard."""
    pop3.write("control/timeoutpop3d", "1\n")
    deliver(pop3, message(lines=4_000_000))
    with Session(pop3) as session:
        session.send("RETR 1\r\nDELE 1\r\nQUIT\r\n")
        session.process.wait(WAIT)
    assert " end=closed " in session.log and len(names(pop3)) == 1


def test_control_files_that_cannot_be_read(pop3):
    (pop3.control / "pop3expire").mkdir()
    with Session(pop3) as session:
        assert "EXPIRE NEVER" in session.listing("CAPA")
        session.quit()
    assert "warning: unable to read control files, go by the defaults" in session.log


# -- messages ------------------------------------------------------------------------------


@pytest.mark.parametrize("octets", [
    b"a: b\n\n.\n..\n.x\nx.\n", b"a: b\n\nno final newline", b"a: b\n\nends in a dot\n.", b"a: b\r\n\r\nCR LF\r\n.\r\n", b"",
    b"\n", b"a: b\n", b"a: b\n\n\0\xff\x80\n", b"a: b\n\n" + b"long" * 100_000 + b"\n", b"a: b\n\n" + b".\n" * 100_000])
def test_p11_octets(pop3, octets):
    deliver(pop3, octets)
    with Session(pop3) as session:
        assert session.message(1) == wire(octets)
        assert session.message(1, "TOP {} 999999999") == wire(octets)
        session.quit()


def test_bare_cr(pop3):
    """A client that takes it for a line end sees no end of the message, and no line of its own."""
    deliver(pop3, b"a: b\n\nx\r.\r.\r\nend\r")
    with Session(pop3) as session:
        assert session.message(1) == b"a: b\r\n\r\nx . .\r\nend\r\n"


def test_corpus(pop3, corpus):
    """Real messages come back as they are, to who takes UTF-8: test_pop3_utf8.py has the others."""
    for _, octets in corpus:
        deliver(pop3, octets)
    with Session(pop3, env={"POP3UTF8": "1"}) as session:
        for n, (name, octets) in enumerate(corpus):
            stored = re.sub(rb"\r(?!\n)", b" ", octets[:-1] if octets.endswith(b"\r") else octets)
            assert session.message(n + 1) == wire(stored), name
        session.quit()


def test_delivered_by_qmail_local(server):
    server.need("qmail-pop3d")
    server.inject("To: ana\nSubject: hello\n\n.\nFrom here\n")
    (stored,) = server.arrived(1)
    with Session(server) as session:
        assert session.command("STAT") == f"+OK 1 {len(stored)}"
        assert session.message(1) == wire(stored)
        session.fine("DELE 1")
        session.quit()
    assert server.maildir() == []


# -- P11: numbers, drops, two at once ----------------------------------------------------------


def test_p11_numbers(pop3):
    deliver(pop3, message())
    numbers = ["0", "-1", "2", "4294967297", "18446744073709551617", "9" * 4000, "1.5", "0x1", "1e0", "\u0661", "%n"]
    with Session(pop3) as session:
        for number in numbers:
            for command in ("RETR {}", "DELE {}", "LIST {}", "UIDL {}", "TOP {} 1"):
                session.error(command.format(number))
        for lines in ("-1", "x", "1 1", ""):
            session.error(f"TOP 1 {lines}")
        session.fine("TOP 1 " + "9" * 3000)
        session.lines()
        session.fine("DELE 01")
        session.error("DELE 1")
        session.quit()
    assert names(pop3) == []


def test_p11_lines(pop3):
    """Lines without end, without CR, with NUL, with 8 bits, of TLS and of other protocols."""
    deliver(pop3, message())
    for octets, want in ((b"x" * 100_000, b""), (b"DELE 1\nQUIT\n", b"-ERR a line ends with CR LF, and neither stands alone\r\n"),
                         (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b""),
                         (b"GET / HTTP/1.0\r\nHost: x\r\n\r\n", b"-ERR unknown command\r\n" * 3),
                         (b"DELE \xff1\r\n\0\r\nDELE\0 1\r\n", b"-ERR a message has a number\r\n" +
                          b"-ERR a command has no NUL in it\r\n" * 2)):
        with Session(pop3) as session:
            session.send(octets)
            session.socket.shutdown(socket.SHUT_WR)
            said = session.rest()
            assert said == want or (octets[:1] == b"x" and said.startswith(b"-ERR a line ends")), said
    assert len(names(pop3)) == 1


@pytest.mark.parametrize("end", ["close", "reset", "shutdown", signal.SIGTERM, signal.SIGKILL])
def test_p11_drop_before_quit(pop3, end):
    paths = [deliver(pop3, message(n)) for n in range(3)]
    before = names(pop3)
    with Session(pop3) as session:
        session.message(1)
        session.fine("DELE 1")
        session.fine("DELE 3")
        if isinstance(end, signal.Signals):
            session.process.send_signal(end)
            session.code = -end
            session.process.wait(WAIT)
        elif end == "shutdown":
            session.send("DELE 2\r\nQUIT")  # a line without its end
            session.socket.shutdown(socket.SHUT_WR)
            session.rest()
        elif end == "reset":
            session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert names(pop3) == before and all(path.exists() for path in paths)


def test_p11_two_sessions(pop3):
    """The second removes and moves while the first works: what is gone is -ERR, and nothing else."""
    stored = [message(n) for n in range(4)]
    for octets in stored:
        deliver(pop3, octets)
    with Session(pop3) as first, Session(pop3) as second:
        before = first.listing("UIDL")
        assert second.listing("UIDL") == before
        second.fine("DELE 2")
        second.fine("DELE 4")
        late = deliver(pop3, b"comes later")
        second.quit()
        assert first.listing("UIDL") == before
        assert first.message(1) == wire(stored[0])
        first.error("RETR 2")
        first.error("TOP 4 0")
        assert first.message(3) == wire(stored[2])
        first.fine("DELE 2")
        first.fine("DELE 3")
        first.quit()
    assert late.exists() and len(names(pop3)) == 2


def test_p11_many_sessions(pop3):
    """All remove what they see, while mail is delivered: each message is retrieved as it was or is gone, and counts once for
    the quota."""
    quota = pop3.write("home/ana/Maildir/maildirsize", "1000000S\n0 0\n", 0o600)
    bodies, sizes, problems = {}, [], []

    def deliver_some():
        for n in range(100):
            octets = message(n, n)
            sizes.append(len(octets))
            bodies[deliver(pop3, octets).name] = wire(octets)

    def remove_all():
        try:
            with Session(pop3) as session:
                for line in session.listing("UIDL"):
                    number, uid = line.split()
                    session.send(f"RETR {number}\r\n")
                    said = session.line()
                    if said.startswith("+OK"):
                        got = b"".join(one + b"\r\n" for one in session.lines())
                        if got != bodies.get(uid, got):
                            problems.append(uid)
                    elif said != "-ERR this message is gone":
                        problems.append(said)
                    session.fine(f"DELE {number}")
                session.quit()
        except Exception as why:  # noqa: BLE001
            problems.append(why)

    deliver_some()
    threads = [threading.Thread(target=target) for target in [remove_all] * 8 + [deliver_some] + [remove_all] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    remove_all()
    assert not problems and names(pop3) == []
    first, *lines = quota.read_text().splitlines()
    assert first == "1000000S"
    assert [sum(int(line.split()[i]) for line in lines) for i in (0, 1)] == [-sum(sizes), -len(sizes)]


@pytest.mark.parametrize("is_counted_anew", [False, True])
def test_quota_is_written_down(pop3, is_counted_anew):
    """Shut in: into the file that was there when the session began, or the next delivery counts anew."""
    quota = pop3.write("home/ana/Maildir/maildirsize", "1000S\n5 1\n", 0o600)
    octets = len(message())
    deliver(pop3, message())
    with Session(pop3) as session:
        if is_counted_anew:
            pop3.write("home/ana/Maildir/tmp/quota", "1000S\n5 1\n", 0o600).rename(quota)
        session.fine("DELE 1")
        session.quit()
    assert names(pop3) == []
    assert not quota.exists() if is_counted_anew else quota.read_text() == f"1000S\n5 1\n-{octets} -1\n"


# -- L5: odd names ------------------------------------------------------------------------------------


def test_l5_odd_names(pop3):
    box = pop3.home / "home/ana/Maildir"
    octets = message()
    odd = [b"1.new\nline", b"2.car\rriage", b"3.colon:", b"4.:2,S", b"5." + b"x" * 253, b"6.\xff\xfe", b"7. blank ", b"8.;rm -rf *",
           b"9.%s%n", b":2,S", b"-rf", b"10.S=,S=,W=:2,", b"11.," + b"S=9" * 80]
    for name in odd:
        path = os.fsencode(box) + (b"/cur/" if b":" in name else b"/new/") + name
        with open(path, "wb") as file:
            file.write(octets)
    for what in ("new", "cur"):
        (box / what / "20.directory").mkdir()
        (box / what / "21.link").symlink_to("/etc/passwd")
        (box / what / "22.loop").symlink_to("22.loop")
        (box / what / ".hidden").write_bytes(octets)
        (box / what / "...").write_bytes(octets)
        os.mkfifo(box / what / "23.fifo")
    pop3.own(box)
    with Session(pop3) as session:
        uids = session.listing("UIDL")
        assert len(uids) == len(odd) and all(re.fullmatch(r"\d+ [\x21-\x7e]{1,70}", line) for line in uids)
        assert len({line.split()[1] for line in uids}) == len(odd)
        assert session.listing("LIST") == [f"{n + 1} {len(octets)}" for n in range(len(odd))]
        for n in range(len(odd)):
            assert session.message(n + 1) == wire(octets)
        session.quit()
    with Session(pop3) as session:
        after = session.listing("UIDL")
        assert sorted(line.split()[1] for line in after) == sorted(line.split()[1] for line in uids)
        for n in range(len(odd)):
            session.fine(f"DELE {n + 1}")
        session.quit()
    assert {name.split("/")[1] for name in names(pop3)} == {"20.directory", "21.link", "22.loop", "23.fifo", ".hidden", "..."}


# -- many messages, few system calls ----------------------------------------------------------------------


def test_a_hundred_thousand_messages(pop3):
    """No file is looked at: the sizes told are those of the names, which are wrong here."""
    box = pop3.home / "home/ana/Maildir"
    for part in range(10):  # a file has no more than some 65,000 links
        source = deliver(pop3, message(part), "0.source", "tmp")
        for n in range(10_000):
            os.link(source, box / f"new/{1700000000 + n * 10 + part}.M1P1Q1.mail.test.example,S=1000")
        source.unlink()
    with Session(pop3) as session:
        assert session.greeting == "+OK 100000 messages (100000000 octets)"
        assert session.listing("LIST")[-1] == "100000 1000"
        assert session.listing("UIDL")[12345] == "12346 1700012345.M1P1Q1.mail.test.example,S=1000"
        assert session.message(54322) == wire(message(1))
        session.send("".join(f"DELE {n}\r\n" for n in range(1, 100_000)))
        assert [session.line() for _ in range(99_999)] == ["+OK"] * 99_999
        assert session.command("STAT") == "+OK 1 1000"
        session.quit()
    assert names(pop3) == ["cur/1700099999.M1P1Q1.mail.test.example,S=1000:2,"]


def calls(tree, said, *wanted):
    """The system calls among wanted that a session makes whose client has said everything before it starts."""
    trace = tree.write("home/ana/trace", "")
    strace = ["/usr/bin/strace", "-o", trace, "-e", f"trace={','.join(wanted)}"]
    with Session(tree, early=said, greet=False, before=strace) as session:
        session.rest()
    return trace.read_text().splitlines()


def test_pipelined_commands_cost_one_read_and_one_write(pop3):
    for n in range(10):
        deliver(pop3, message(n, 800))
    said = b"".join(b"RETR %d\r\n" % n for n in range(1, 11)) + b"NOOP\r\nQUIT\r\n"
    made = calls(pop3, said, "read", "write", "setsockopt")
    # the greeting, the replies, the one to QUIT
    assert [line.split(",")[0] for line in made if line.startswith("write(1,")] == ["write(1"] * 3, made
    assert len([line for line in made if line.startswith("read(0,")]) == 1
    assert any("TCP_NODELAY, [1]" in line for line in made)


def test_no_file_is_looked_at(pop3):
    for n in range(50):
        deliver(pop3, message(n))
    made = calls(pop3, b"STAT\r\nLIST\r\nUIDL\r\nQUIT\r\n", "newfstatat", "stat", "lstat", "openat")
    assert not [line for line in made if ",S=" in line], made


def test_is_shut_in(pop3):
    with open("/proc/self/status") as file:
        if "Seccomp_filters" not in file.read():
            pytest.skip("this kernel does not tell")
    with Session(pop3) as session:
        with open(f"/proc/{session.process.pid}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == ("0" if is_sanitized(pop3.bin / "qmail-pop3d") else "2")
