"""qmail-pop3d and clients that others wrote, behind tcpserver and a checkpassword program: what each fetches is what was
delivered, and only what it means to remove is removed."""
import fcntl
import mailbox
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

from conftest import WAIT
from neighbours import Tap
from pop3 import LOGIN, Chain, deliver, message, names, wire

DOTS = b"From: eva@client.example\nTo: ana@mail.test.example\nSubject: dots\nDate: Wed, 25 Nov 2026 04:00:00 +0000\n" \
    b"Message-ID: <1@client.example>\n\n.\n..\n.x\nFrom here\nlast\n"
USER, SECRET = LOGIN


@pytest.fixture
def pop3(tree):
    """Ana's maildir holds two messages; .tap stands before the server."""
    tree.need("qmail-pop3d")
    deliver(tree, DOTS)
    deliver(tree, message(2))
    tree.write("client/.keep", "")
    with Chain(tree) as chain, Tap(chain.address) as tap:
        tree.tap = tap
        yield tree


def run(pop3, *command, code=0, **more):
    """Runs a client as the user of the tree, in a directory of its own."""
    home = pop3.home / "client"
    done = pop3.run(*command, env={"HOME": str(home), **more.pop("env", {})}, cwd=home, stderr=subprocess.STDOUT, **more)
    assert done.returncode == code, done.stdout.decode(errors="replace")
    return done.stdout


def body(octets):
    """A message without what clients put into its header section."""
    return octets.partition(b"\n\n")[2]


BODIES = sorted(body(octets) for octets in (DOTS, message(2)))


# -- curl ------------------------------------------------------------------------------


def curl(pop3, path="", *options):
    address = f"pop3://{pop3.tap.host}:{pop3.tap.port}/{path}"
    return run(pop3, "/usr/bin/curl", "-sS", "--user", f"{USER}:{SECRET}", *options, address)


def test_curl(pop3):
    assert curl(pop3) == f"1 {len(DOTS)}\r\n2 {len(message(2))}\r\n".encode()
    assert curl(pop3, "1") == wire(DOTS)
    assert curl(pop3, "", "-X", "UIDL").count(b",S=") == 2
    assert curl(pop3, "", "-X", "TOP 1 0") == wire(DOTS[:DOTS.index(b"\n\n") + 2])
    curl(pop3, "2", "-X", "DELE", "-I")
    assert len(names(pop3)) == 1
    done = pop3.run("/usr/bin/curl", "-sS", "--user", f"{USER}:wrong", f"pop3://{pop3.tap.host}:{pop3.tap.port}/")
    assert done.returncode == 67  # login denied


# -- mpop ------------------------------------------------------------------------------


def mpop(pop3, *options):
    return run(pop3, "/usr/bin/mpop", f"--host={pop3.tap.host}", f"--port={pop3.tap.port}", f"--user={USER}",
               f"--passwordeval=echo {SECRET}", "--tls=off", "--auth=user", "--delivery=mbox,mbox", "--uidls-file=uidls",
               "--received-header=off", *options)


def fetched(pop3):
    box = mailbox.mbox(pop3.home / "client/mbox", create=False)
    return sorted(body(bytes(m)).removeprefix(b"\n") for m in box)


def undone(bodies):
    """mbox quotes lines that begin with From."""
    return [re.sub(rb"(?m)^>From ", b"From ", octets).rstrip(b"\n") + b"\n" for octets in bodies]


def test_mpop(pop3):
    mpop(pop3, "--keep=on")
    assert undone(fetched(pop3)) == BODIES and len(names(pop3)) == 2
    mpop(pop3, "--keep=on")
    assert len(fetched(pop3)) == 2, "it knows by their unique-ids what it has"
    deliver(pop3, message(3))
    mpop(pop3, "--only-new=off", "--keep=off")
    assert names(pop3) == [] and len(fetched(pop3)) == 5


def test_mpop_pipelining(pop3):
    for n in range(100):
        deliver(pop3, message(n))
    mpop(pop3, "--keep=off", "--pipelining=on")
    assert len(fetched(pop3)) == 102 and names(pop3) == []
    assert b"RETR 1\r\nRETR 2\r\n" in pop3.tap.client()


# -- fetchmail -----------------------------------------------------------------------------


def fetchmail(pop3, *options, code=0):
    pop3.write("client/fetchmailrc", f"poll {pop3.tap.host} protocol pop3 port {pop3.tap.port} uidl "
               f"user \"{USER}\" password \"{SECRET}\" sslproto \"\" mda \"cat >>fetched\"\n", 0o600)
    return run(pop3, "/usr/bin/fetchmail", "-f", "fetchmailrc", "-i", "ids", "--pidfile", "pid", "--nosyslog", "--invisible",
               *options, code=code)


def test_fetchmail(pop3):
    fetchmail(pop3, "--keep")
    got = (pop3.home / "client/fetched").read_bytes()
    assert body(DOTS) in got and body(message(2)) in got and len(names(pop3)) == 2
    fetchmail(pop3, "--keep", code=1)  # nothing new
    deliver(pop3, message(3))
    fetchmail(pop3, "--keep")
    assert (pop3.home / "client/fetched").read_bytes().startswith(got) and len(names(pop3)) == 3
    fetchmail(pop3, "--nokeep", "--all")
    assert names(pop3) == []


def test_fetchmail_limit(pop3):
    """It leaves out what LIST tells to be large."""
    deliver(pop3, message(4, 10_000))
    fetchmail(pop3, "--nokeep", "--all", "--limit", "40000")
    assert len(names(pop3)) == 1 and b"Subject: 4\n" not in (pop3.home / "client/fetched").read_bytes()


# -- getmail6 ------------------------------------------------------------------------------


def getmail(pop3, delete):
    pop3.write("client/getmailrc", f"[retriever]\ntype = SimplePOP3Retriever\nserver = {pop3.tap.host}\nport = {pop3.tap.port}\n"
               f"username = {USER}\npassword = {SECRET}\n[destination]\ntype = Maildir\npath = {pop3.home}/client/got/\n"
               f"[options]\nread_all = false\ndelete = {delete}\nreceived = false\ndelivered_to = false\n", 0o600)
    return run(pop3, "/usr/bin/getmail", "--getmaildir", pop3.home / "client", "--rcfile", "getmailrc", "--quiet")


def test_getmail(pop3):
    for folder in ("new", "cur", "tmp"):
        pop3.write(f"client/got/{folder}/.keep", "")
    got = pop3.home / "client/got/new"

    def bodies():
        return sorted(body(path.read_bytes()) for path in got.iterdir() if not path.name.startswith("."))

    getmail(pop3, "false")
    assert bodies() == BODIES and len(names(pop3)) == 2
    getmail(pop3, "false")
    assert bodies() == BODIES, "it knows by their unique-ids what it has"
    deliver(pop3, message(3))
    getmail(pop3, "true")
    assert len(bodies()) == 3 and names(pop3) == []


# -- mutt ------------------------------------------------------------------------------------


def mutt(server, url, user, secret, *settings):
    """Lets it fetch and delete all. It wants a terminal. Returns what it has written to it, and its spool."""
    for name in ("spool", "sent"):
        server.write(f"client/{name}", "")
    settings = [f"pop_host={url}", f"pop_user={user}", f"pop_pass={secret}", "pop_delete=yes", "pop_authenticators=user", "spoolfile=spool",
                "record=sent", "mbox_type=mbox", "folder=.", "move=no", "quit=yes", "pop_checkinterval=0", "pop_last=no", "wait_key=no", "delete=no",
                *settings]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # ncurses of 2025 opens no terminal without a size
    command = ["/usr/bin/mutt", "-n", "-F", "/dev/null", *(x for s in settings for x in ("-e", f"set {s}")), "-e",
               "push '<fetch-mail><quit>'", "-f", "spool"]
    process = server.popen(*command, env={"HOME": str(server.home / "client"), "TERM": "vt100"}, cwd=server.home / "client",
                           stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said = b""
    try:
        while octets := os.read(ours, 65536):
            said += octets
    except OSError:
        pass  # the terminal is closed
    os.close(ours)
    assert process.wait(WAIT) == 0, said
    return said, (server.home / "client/spool").read_bytes()


def test_mutt(pop3):
    said, spool = mutt(pop3, f"pop://{pop3.tap.host}:{pop3.tap.port}", *LOGIN, "ssl_starttls=no", "ssl_force_tls=no")
    assert all(octets in spool for octets in BODIES), (said, spool)
    assert names(pop3) == []
