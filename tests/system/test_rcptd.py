"""qmail-rcptd and qmail-rcptcheck: which addresses are known, and that nobody hangs or falls over what is asked."""
import os
import signal
import socket
import struct
import subprocess
import time

import pytest
import select

from conftest import HOST, Server, wait_for

SOCKET = "run/qmail-rcptd/socket"
ADDRESS_MAX = 1000


class Asking:
    """A client that speaks the protocol of rcptcheck.h, or does not."""

    def __init__(self, server):
        self.number = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        here = os.getcwd()
        os.chdir(server.home)  # a socket path is short
        try:
            self.socket.connect(SOCKET)
        finally:
            os.chdir(here)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, address):
        self.number += 1
        self.socket.send(struct.pack(">I", self.number) + (address if isinstance(address, bytes) else address.encode()))
        return self.number

    def answer(self):
        """(number, letter, text)"""
        packet = self.socket.recv(2000)
        return (struct.unpack(">I", packet[:4])[0], chr(packet[4]), packet[5:].decode("ascii")) if packet else None

    def ask(self, address):
        number = self.send(address)
        got, letter, text = self.answer()
        assert got == number and 0 < len(text) <= 500
        return letter, text


class Rcptd(Server):
    def start_rcptd(self, *users):
        self.rcptd = self.start_daemon("qmail-rcptd", "qmail-rcptd", *users)
        return self.rcptd

    def stop(self):
        self.end(self.rcptd, signal.SIGTERM)
        super().stop()

    def check(self, *addresses, **more):
        """What qmail-rcptcheck prints: a list of (address, answer, why), and its exit code."""
        done = self.run("qmail-rcptcheck", *addresses, **more)
        return [tuple(line.split(": ", 2)) for line in done.stdout.decode().splitlines()], done.returncode

    def says(self, address):
        (line,), _ = self.check(address)
        return line[1]


@pytest.fixture
def idle(new_tree):
    """A tree with files to find, whose qmail-rcptd was not started yet."""
    server = new_tree(Rcptd)
    server.need("qmail-rcptd", "qmail-rcptcheck", "qmail-newu")
    server.rcptd = subprocess.Popen(["/bin/true"])
    server.write("home/ana/.qmail-x", "")
    server.write("home/ana/.qmail-list-default", "")
    server.write("alias/.qmail-staff", "")
    server.write("control/virtualdomains", "virtual.example:ana\n")
    return server


@pytest.fixture
def rcptd(idle):
    idle.start_rcptd()
    return idle


# --- answers -------------------------------------------------------------------------------------------------------------

ANSWERS = [
    (f"ana@{HOST}", "delivers"), (f"ANA@{HOST.upper()}", "delivers"), ("ana", "delivers"), (f"ana-x@{HOST}", "delivers"),
    (f"ana-list-a@{HOST}", "delivers"), (f"ana-y@{HOST}", "unknown"), (f"staff@{HOST}", "delivers"), (f"nobody-here@{HOST}", "unknown"),
    (f"postmaster@{HOST}", "delivers"), ("x@virtual.example", "delivers"), ("y@virtual.example", "unknown"),
    ("ana@elsewhere.example", "not local"),
]


def test_answers(rcptd):
    answers, code = rcptd.check(*[address for address, _ in ANSWERS])
    assert [(address, what) for address, what, _ in answers] == ANSWERS
    assert all(why for _, _, why in answers) and code == 100


@pytest.mark.parametrize("addresses, code", [(["ana"], 0), (["ana@elsewhere.example"], 0), (["nobody-here"], 100), (["ana", "nobody-here", "luis"], 100),
                                             (["boss"], 111), (["boss", "nobody-here"], 100), (["boss", "ana"], 111)])
def test_exit_codes(rcptd, addresses, code):
    rcptd.assign("=boss:root:0:0:/root:::")
    assert rcptd.check(*addresses)[1] == code


@pytest.mark.parametrize("recipient, code", [(f"ana@{HOST}", 0), ("nobody-here", 100), ("x@elsewhere.example", 0)])
def test_as_rcptcheck_program(rcptd, recipient, code):
    """Descriptor 1 may be the connection of some server: nothing is printed."""
    done = rcptd.run("qmail-rcptcheck", env={"RECIPIENT": recipient})
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_delivery_agrees(rcptd):
    """What is said is what happens: the same addresses, delivered."""
    rcptd.need("qmail-queued", "qmail-send", "qmail-start", "qmail-lspawn", "qmail-rspawn", "qmail-local", "qmail-inject")
    rcptd.start()
    for address, what in ANSWERS:
        if what in ("delivers", "unknown"):
            rcptd.inject(f"Subject: {address}\n\n", "-f", f"luis@{HOST}", "--", address if "@" in address else f"{address}@{HOST}")
    log = rcptd.logged("delivery ", len(ANSWERS))
    wait_for(lambda: (rcptd.log().count(": success: ") >= sum(w == "delivers" for _, w in ANSWERS)
                      and rcptd.log().count(": failure: ") >= sum(w == "unknown" for _, w in ANSWERS)), what=f"all of them:\n{log}")
    assert rcptd.log().count(": failure: ") == sum(w == "unknown" for _, w in ANSWERS)


def test_damaged_table(rcptd):
    rcptd.write("users/cdb", "no table at all")
    assert rcptd.check("ana")[1] == 111 and rcptd.says("ana") == "temporary"
    rcptd.assign()
    assert rcptd.says("ana") == "delivers"


def test_new_table_and_files_count_at_once(rcptd):
    assert rcptd.says("eva") == "unknown"
    rcptd.assign(f"=eva:eva:{rcptd.uid}:{rcptd.gid}:home/eva:::")
    assert rcptd.says("eva") == "delivers"
    assert rcptd.says("ana-new") == "unknown"
    rcptd.write("home/ana/.qmail-new", "")
    assert rcptd.says("ana-new") == "delivers"


# --- control files ---------------------------------------------------------------------------------------------------------

def test_hup(rcptd):
    assert rcptd.says("ana@new.example") == "not local"
    rcptd.write("control/locals", f"{HOST}\nnew.example\n")
    rcptd.rcptd.send_signal(signal.SIGHUP)
    wait_for(lambda: rcptd.says("ana@new.example") == "delivers")
    assert rcptd.says("nobody-here") == "unknown"


def test_changes_are_noticed(rcptd):
    """Nobody is unknown while an editor may be at work; a domain that went away is not ours any more."""
    rcptd.write("control/virtualdomains", "new.example:ana\n")
    wait_for(lambda: rcptd.says("nobody-here") == "cannot know")
    wait_for(lambda: rcptd.says("x@new.example") == "delivers")
    assert rcptd.says("y@virtual.example") == "not local" and rcptd.says("nobody-here") == "unknown"


def test_control_files_that_cannot_be_read(rcptd):
    me = (rcptd.control / "me").read_bytes()
    for name in ("me", "locals"):
        (rcptd.control / name).unlink(missing_ok=True)
    rcptd.rcptd.send_signal(signal.SIGHUP)
    wait_for(lambda: "alert: unable to read control files again" in rcptd.log("qmail-rcptd.stderr"))
    assert rcptd.says("nobody-here") == "cannot know" and rcptd.says("ana") == "delivers"
    rcptd.write("control/me", me)
    wait_for(lambda: rcptd.says("nobody-here") == "unknown")


# --- slow things -------------------------------------------------------------------------------------------------------------

def test_slow_user_database(rcptd):
    """More questions than processes, all stuck: everybody is answered in time, and who is in the table at once."""
    rcptd.write("users/assign", f"=ana:ana:{rcptd.uid}:{rcptd.gid}:home/ana:::\n.\n")
    rcptd.run("qmail-newu", check=True)
    rcptd.replace("qmail-getpw", "#!/bin/sh\nexec sleep 30\n")
    clients = [Asking(rcptd) for _ in range(8)]
    begun = time.monotonic()
    for client in clients:
        client.send("somebody")
    with Asking(rcptd) as other:
        for _ in range(10):
            assert other.ask("ana")[0] == "K"
        assert select.select([client.socket for client in clients], [], [], 0)[0] == []
    for client in clients:
        assert client.answer()[1] == "?"
    assert time.monotonic() - begun < 10
    for client in clients:
        client.socket.close()
    with Asking(rcptd) as again:  # all four are stuck: nobody waits any more
        begun = time.monotonic()
        assert again.ask("somebody")[0] == "?"
        assert time.monotonic() - begun < 2


def test_own_getpw(rcptd):
    rcptd.write("users/assign", ".\n")
    rcptd.run("qmail-newu", check=True)
    rcptd.replace("qmail-getpw", """#!/bin/sh
case $1 in
ana) printf 'ana\\0001\\0001\\000home/ana\\000\\000\\000' ;;
ana-*) printf 'ana\\0001\\0001\\000home/ana\\000-\\000%s\\000' "${1#ana-}" ;;
broken) echo nonsense ;;
crash) kill -SEGV $$ ;;
large) yes | head -c 1000000 ;;
*) exit 116 ;;
esac
""")
    answers, _ = rcptd.check("ana", "ana-x", "ana-y", "broken", "crash", "large", "eva")
    assert [what for _, what, _ in answers] == ["delivers", "delivers", "unknown", "cannot know", "cannot know", "cannot know", "temporary"]


def test_replaced_local(rcptd):
    rcptd.replace("qmail-local", "#!/bin/sh\n")
    assert rcptd.says("nobody-here") == "cannot know" and rcptd.says("ana-x") == "delivers"


# --- hostile clients -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("address", [b"", b"a" * (ADDRESS_MAX + 1), b"ana\0", b"ana@" + HOST.encode() + b"\0", b"x" * 100000],
                         ids=["empty", "long", "NUL", "NUL at the end", "huge"])
def test_malformed_addresses(rcptd, address):
    with Asking(rcptd) as client:
        assert client.ask(address)[0] == "?"
        assert client.ask("ana")[0] == "K"  # the connection goes on


@pytest.mark.parametrize("address", [b"\xff\xfe@" + HOST.encode(), b"@", b"@@@", b"%" * 900, b"-" * 990, b"../../etc/passwd", b"a\n\r\x1b[2J",
                                     b"ana-" + b"-" * 900 + b"@" + HOST.encode(), b"a" * ADDRESS_MAX])
def test_odd_addresses(rcptd, address):
    with Asking(rcptd) as client:
        letter, text = client.ask(address)
        assert letter in "KU?R" and text.isprintable() and text.isascii()
        assert client.ask("ana")[0] == "K"


@pytest.mark.parametrize("packet", [b"a", b"abc"])
def test_packets_without_a_number(rcptd, packet):
    with Asking(rcptd) as client:
        client.socket.send(packet)
        assert client.answer() is None
    assert rcptd.says("ana") == "delivers"


def test_many_questions_at_once(rcptd):
    with Asking(rcptd) as client:
        wanted = []
        for n in range(200):
            address, letter = [("ana", "K"), ("nobody-here", "U"), ("x@elsewhere.example", "R")][n % 3]
            wanted.append((client.send(address), letter))
        assert [client.answer()[:2] for _ in wanted] == wanted


def test_who_takes_no_answers_is_dropped(rcptd):
    with Asking(rcptd) as client:
        client.socket.settimeout(0.05)
        for _ in range(1000):
            try:
                client.send("nobody-here")
            except (TimeoutError, ConnectionError):
                break
        assert rcptd.says("ana") == "delivers"


def test_many_connections(rcptd):
    clients = [Asking(rcptd) for _ in range(500)]
    for client in clients:
        client.send("ana")
    assert all(client.answer()[1] == "K" for client in clients)
    for client in clients[::2]:
        client.socket.close()
    assert rcptd.says("ana") == "delivers"
    for client in clients[1::2]:
        assert client.ask("nobody-here")[0] == "U"
        client.socket.close()


def test_clients_that_leave_while_they_are_waited_for(rcptd):
    rcptd.write("users/assign", ".\n")
    rcptd.run("qmail-newu", check=True)
    rcptd.replace("qmail-getpw", "#!/bin/sh\nsleep 0.2\nexit 118\n")
    for _ in range(20):
        with Asking(rcptd) as client:
            client.send("somebody")
    with Asking(rcptd) as client:
        assert client.ask("somebody")[0] == "?"
    assert rcptd.rcptd.poll() is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root has other users")
def test_other_users_may_not_ask(idle):
    idle.start_rcptd()
    other = {"user": 54321, "group": 54321, "extra_groups": []}
    done = idle.run("qmail-rcptcheck", "nobody-here", **other)
    assert b"cannot know" in done.stdout and done.returncode == 0
    assert "a user who may not ask was turned away, uid: 54321" in idle.log("qmail-rcptd.stderr")
    idle.end(idle.rcptd, signal.SIGTERM)
    idle.start_rcptd("games")
    other["user"] = 5
    assert idle.run("qmail-rcptcheck", "nobody-here", **other).returncode == 100


# --- the client -----------------------------------------------------------------------------------------------------------------

@pytest.fixture
def fake(idle):
    """A function that listens in qmail-rcptd's place: what it does with a connection."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here = os.getcwd()
    os.chdir(idle.home)
    try:
        listener.bind(SOCKET)
    finally:
        os.chdir(here)
    os.chmod(idle.home / SOCKET, 0o666)
    listener.listen()
    yield idle, listener
    listener.close()


def test_nobody_listens(idle):
    """Accepted, and said once."""
    done = idle.run("qmail-rcptcheck", "nobody-here", "luis")
    assert done.returncode == 0 and done.stdout.count(b": cannot know: ") == 2
    assert done.stderr.count(b"unable to reach qmail-rcptd, recipients are accepted unseen: No such file") == 1


def test_silence(fake):
    """It is waited for once, not for each recipient."""
    idle, _ = fake
    begun = time.monotonic()
    done = idle.run("qmail-rcptcheck", *["nobody-here"] * 50)
    assert 2 < time.monotonic() - begun < 15
    assert done.returncode == 0 and done.stdout.count(b": cannot know: ") == 50 and done.stderr.count(b"unable to hear from") == 1


@pytest.mark.parametrize("answer", [b"", b"U", b"\0\0\0\1", b"\0\0\0\1X", b"\0\0\0\1U" + b"x" * 501, None],
                         ids=["empty", "short", "no letter", "odd letter", "long", "end"])
def test_nonsense(fake, answer):
    idle, listener = fake
    client = idle.popen("qmail-rcptcheck", "nobody-here", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    connection, _ = listener.accept()
    connection.recv(2000)
    if answer is not None:
        connection.send(answer)
    if answer in (None, b""):
        connection.close()
    out, err = client.communicate(timeout=20)
    assert client.returncode == 0 and b": cannot know: " in out and b"unable to hear from" in err
    connection.close()


def test_answers_to_other_questions_are_ignored(fake):
    idle, listener = fake
    client = idle.popen("qmail-rcptcheck", "ana", stdout=subprocess.PIPE)
    connection, _ = listener.accept()
    number = connection.recv(2000)[:4]
    connection.send(b"\0\0\0\0Unot this one")
    connection.send(number + b"Kthis\x1bone")
    assert client.communicate(timeout=20)[0] == b"ana: delivers: this?one\n"
    connection.close()


# --- the process ---------------------------------------------------------------------------------------------------------------

def test_ends_and_starts_again(rcptd):
    assert rcptd.end(rcptd.rcptd, signal.SIGTERM) == 0
    assert rcptd.says("ana") == "cannot know"
    rcptd.start_rcptd()
    assert rcptd.says("ana") == "delivers"


def test_a_process_that_ends_ends_it(rcptd):
    """s6 starts all of it anew."""
    child = next(pid for pid in rcptd.children("qmail-rcptd") if pid != rcptd.rcptd.pid)
    os.kill(child, signal.SIGKILL)
    assert rcptd.rcptd.wait(20) == 111
    wait_for(lambda: not rcptd.children("qmail-rcptd"))


def test_killed_it_leaves_nothing(rcptd):
    rcptd.rcptd.kill()
    rcptd.rcptd.wait()
    wait_for(lambda: not rcptd.children("qmail-rcptd"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root is root")
def test_never_as_root(idle):
    done = idle.run("qmail-rcptd", user=0, group=0)
    assert done.returncode == 100 and b"never as root" in done.stderr


@pytest.mark.parametrize("arguments, code", [(("-x",), 100), (("-d", "x"), 100), (("no-such-user",), 111)])
def test_usage(idle, arguments, code):
    assert idle.run("qmail-rcptd", *arguments).returncode == code
