"""Virtual accounts: users/accounts and its compiler, and whose mail is delivered where; qmail-accounts(5)."""
import os
import shutil
import signal
import subprocess

import pytest

from conftest import HOST
from test_users import cdb

DOMAIN = "shop.example"
MESSAGE = b"From: joe@sender.example\nSubject: hello\n\nbody\n"
TABLES = ["accounts", "accounts.cdb", "passwords.cdb"]


def line(tree, address, hash="*", quota="", flags="", home=None):
    return f"{address}:{hash}:{tree.uid}:{tree.gid}:{home or 'mail/' + address}:{quota}:{flags}\n"


def compiled(tree, *lines):
    """Writes users/accounts and compiles it."""
    tree.write("users/accounts", "".join(lines), 0o600)
    tree.run("qmail-newaccounts", check=True)


def make_home(tree, address, **files):
    """The home and Maildir of an account as line() has it, and dot-qmail files: {extension: text}."""
    home = tree.home / "mail" / address
    for name in ("tmp", "new", "cur"):
        (home / "Maildir" / name).mkdir(parents=True, exist_ok=True)
    tree.own(tree.home / "mail")
    home.chmod(0o711)
    return home


def of_domain(tree, domain=DOMAIN):
    tree.write("control/virtualdomains", f"{domain}:{domain}\n")
    tree.write("control/rcpthosts", f"{HOST}\n{domain}\n")


# --- qmail-newaccounts ---------------------------------------------------------

def test_newaccounts_compiles(tree):
    compiled(tree, "# comment\n\n", line(tree, "Ana@Shop.Example", "$1$x$y", "500S", "catchall"), line(tree, f"ben@{DOMAIN}"))
    where = f"{tree.uid}:{tree.gid}:mail/".encode()
    ana = b"ana@shop.example:%s:" + where + b"Ana@Shop.Example:500S:catchall"
    ben = b"ben@shop.example:%s:" + where + b"ben@shop.example::"
    for name, hashes, sample in (("accounts", (b"", b""), b""), ("passwords", (b"$1$x$y", b"*"), b"$1$x$y")):
        assert cdb(tree.home / f"users/{name}.cdb") == [
            (b"ana@shop.example", ana % hashes[0]), (b"\0shop.example", b""), (b"\0*shop.example", b"ana@shop.example"),
            (b"ben@shop.example", ben % hashes[1]), (b"", sample)]


def test_newaccounts_hides_the_hashes(tree):
    """From the first octet: no file with a hash was ever made with another mode."""
    tree.write("users/accounts", line(tree, f"ana@{DOMAIN}", "$1$x$y"), 0o600)
    done = tree.run(shutil.which("strace"), "-f", "-e", "trace=open,openat,fchmod,chmod", "--", tree.bin / "qmail-newaccounts",
                    env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 0, done.stderr
    opened = [text for text in done.stderr.decode().splitlines() if "passwords.cdb.tmp" in text]
    assert len(opened) == 1 and opened[0].split(")")[0].endswith(", 0600"), opened
    modes = {name: (tree.home / "users" / name).stat().st_mode & 0o777 for name in TABLES}
    assert modes == {"accounts": 0o600, "accounts.cdb": 0o644, "passwords.cdb": 0o600}


def test_newaccounts_flushes_before_it_renames(tree):
    """Each table: fsync, rename, and then the directory; the passwords before what makes an account exist."""
    tree.write("users/accounts", line(tree, f"ana@{DOMAIN}"), 0o600)
    done = tree.run(shutil.which("strace"), "-f", "-y", "-e", "trace=fsync,rename,renameat,renameat2", "--", tree.bin / "qmail-newaccounts",
                    env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 0, done.stderr
    calls = [text for text in done.stderr.decode().splitlines() if text.startswith(("fsync", "rename"))]
    assert len(calls) == 6, calls
    for table, (flush, rename, directory) in (("passwords", calls[:3]), ("accounts", calls[3:])):
        assert flush.startswith("fsync") and f"{table}.cdb.tmp" in flush
        assert rename.startswith("rename") and f'"users/{table}.cdb"' in rename
        assert directory.startswith("fsync") and "users>" in directory


@pytest.mark.parametrize("text, what", [
    ("ana@shop.example:*:1:1:/h:\n", "line 1: not address:hash"),
    ("#\n\nana:*:1:1:/h::\n", "line 3: the address"),
    ("ana@shop.example:*:0:1:/h::\n", "line 1: uid and gid"),
    ("ana@shop.example:secret:1:1:/h::\n", "line 1: the hash"),
    ("ana@shop.example:*:1:1:/h::\nANA@shop.example:*:1:1:/h::\n", "line 2: the address has a line already"),
    ("a@x:*:1:1:/h::catchall\nb@x:*:1:1:/h::catchall\n", "line 2: the domain has a catch-all"),
    ("ana@shop.example:*:1:1:/h:lots:\n", "line 1: a quota"),
    ("a\0@shop.example:*:1:1:/h::\n", "line 1: a NUL"),
    ("x" * 5000 + "\n", "line 1: too long"),
], ids=["fields", "no domain", "root", "no hash", "twice", "catchalls", "quota", "NUL", "long"])
def test_newaccounts_refuses_and_keeps_the_old_tables(tree, text, what):
    compiled(tree, line(tree, f"old@{DOMAIN}"))
    before = [(tree.home / "users" / name).read_bytes() for name in TABLES[1:]]
    tree.write("users/accounts", text, 0o600)
    done = tree.run("qmail-newaccounts")
    assert done.returncode == 111
    assert what in done.stderr.decode()
    assert [(tree.home / "users" / name).read_bytes() for name in TABLES[1:]] == before
    assert not [name for name in os.listdir(tree.home / "users") if "tmp" in name]


def test_newaccounts_file_for_everybody(tree):
    tree.write("users/accounts", line(tree, f"ana@{DOMAIN}"), 0o644)
    done = tree.run("qmail-newaccounts")
    assert done.returncode == 111 and b"chmod 600" in done.stderr


def test_newaccounts_without_accounts(tree):
    assert tree.run("qmail-newaccounts").returncode == 111
    assert not (tree.home / "users/accounts.cdb").exists()


def test_newaccounts_twice_at_once(tree):
    """Each of those that run at the same time writes whole tables."""
    tree.write("users/accounts", "".join(line(tree, f"u{i}@{DOMAIN}") for i in range(2000)), 0o600)
    running = [tree.popen("qmail-newaccounts", stderr=subprocess.PIPE) for _ in range(6)]
    for process in running:
        assert (process.communicate()[1], process.returncode) == (b"", 0)
    for name in TABLES[1:]:
        assert len(cdb(tree.home / "users" / name)) == 2002


# --- delivery ------------------------------------------------------------------

@pytest.fixture
def shop(stopped):
    """A server that has the domain; default deliveries go to mboxes, so that a maildir is the account's own."""
    of_domain(stopped)
    stopped.default_delivery = "./Mailbox"
    compiled(stopped, line(stopped, f"ana@{DOMAIN}"), line(stopped, f"open@{DOMAIN}", flags="extensions"))
    for name in ("ana", "open", "rest"):
        make_home(stopped, f"{name}@{DOMAIN}")
    stopped.start()
    return stopped


def mail(server, name):
    return f"../mail/{name}@{DOMAIN}"


def send(server, *recipients, sender="joe@sender.example"):
    assert server.queue(MESSAGE, sender, *recipients).returncode == 0


def test_mail_for_an_account_arrives_in_its_maildir(shop):
    send(shop, f"ana@{DOMAIN}", f"ANA@{DOMAIN}")
    for message in shop.arrived(2, mail(shop, "ana")):
        assert b"\nDelivered-To: shop.example-" in message and message.endswith(MESSAGE)
    shop.logged("success: did_1+0+0/", 2)


def test_a_system_user_of_the_same_name_is_another(shop):
    send(shop, f"ana@{HOST}")
    shop.logged("success: did_1+0+0/")
    assert (shop.home / "home/ana/Mailbox").read_bytes().endswith(MESSAGE + b"\n")
    assert not shop.maildir(mail(shop, "ana"))


def test_dot_qmail_files_of_the_home(shop):
    home = f"mail/ana@{DOMAIN}"
    shop.write(f"{home}/.qmail", "|echo $USER $LOCAL $HOST $EXT >said\n./Maildir/\n", 0o600)
    shop.write(f"{home}/.qmail-list-default", "|echo $USER $EXT $DEFAULT >said-list\n./Maildir/\n", 0o600)
    send(shop, f"ana@{DOMAIN}", f"ana-List-Big@{DOMAIN}")
    shop.arrived(2, mail(shop, "ana"))
    assert (shop.home / home / "said").read_text() == f"ana@{DOMAIN} {DOMAIN}-ana {DOMAIN}\n"
    assert (shop.home / home / "said-list").read_text() == f"ana@{DOMAIN} List-Big Big\n"


def test_extensions(shop):
    """Without a file there is no such mailbox, unless the account takes all of them."""
    send(shop, f"ana-x@{DOMAIN}", f"open-any-thing@{DOMAIN}", sender=f"ana@{DOMAIN}")
    shop.arrived(1, mail(shop, "open"))
    [bounce] = shop.arrived(1, mail(shop, "ana"))
    assert f"<ana-x@{DOMAIN}>:".encode() in bounce and b"(#5.1.1)" in bounce


def test_what_no_account_has_is_looked_up_as_ever(shop):
    shop.write("alias/.qmail-shop:example-info", f"&ana@{DOMAIN}\n")
    send(shop, f"info@{DOMAIN}", f"nobody@{DOMAIN}", sender=f"open@{DOMAIN}")
    shop.arrived(1, mail(shop, "ana"))
    [bounce] = shop.arrived(1, mail(shop, "open"))
    assert f"<nobody@{DOMAIN}>:".encode() in bounce


def test_a_new_table_counts_at_once(shop):
    """Also for what qmail-send remembers: a worker is kept for ana, and nobody is rest."""
    send(shop, f"ana@{DOMAIN}")
    shop.arrived(1, mail(shop, "ana"))
    compiled(shop, line(shop, f"rest@{DOMAIN}", flags="catchall"))
    send(shop, f"ana@{DOMAIN}", f"any-body@{DOMAIN}")
    shop.arrived(2, mail(shop, "rest"))
    assert len(shop.maildir(mail(shop, "ana"))) == 1


def test_l4_damaged_table_defers(shop):
    """And only what may be an account: a local user's mail needs no table."""
    path = shop.home / "users/accounts.cdb"
    whole = path.read_bytes()
    path.unlink()
    shop.write("users/accounts.cdb", whole[:-8])
    send(shop, f"ana@{DOMAIN}", f"luis@{HOST}")
    shop.logged("deferral: Unable_to_read_a_table_of_users._(#4.3.0)/")
    shop.logged("success: did_1+0+0/")
    assert "alert: qmail-lspawn: unable to read users/accounts.cdb" in shop.log("qmail-send") + shop.log("qmail-send.stderr")
    path.unlink()
    shop.write("users/accounts.cdb", whole)
    shop.send.send_signal(signal.SIGALRM)
    shop.arrived(1, mail(shop, "ana"))


# --- who exists ----------------------------------------------------------------

def says(server, address):
    """The answer of qmail-rcptd, and why."""
    return server.run("qmail-rcptcheck", address).stdout.decode().split(": ", 2)[1:]


def test_rcptd_agrees(shop):
    shop.write(f"mail/ana@{DOMAIN}/.qmail-list", "#\n")
    rcptd = shop.start_daemon("qmail-rcptd", "qmail-rcptd")
    try:
        for address, answer in ((f"ana@{DOMAIN}", "delivers"), (f"Ana-List@{DOMAIN}", "delivers"), (f"ana-x@{DOMAIN}", "unknown"),
                                (f"open-x@{DOMAIN}", "delivers"), (f"nobody@{DOMAIN}", "unknown"), (f"ana@{HOST}", "delivers")):
            assert says(shop, address)[0] == answer, says(shop, address)
        compiled(shop, line(shop, f"rest@{DOMAIN}", flags="catchall"))
        assert says(shop, f"other@{DOMAIN}")[0] == "delivers"
        (shop.home / "users/accounts.cdb").write_bytes(b"damaged")
        assert says(shop, f"another@{DOMAIN}")[0] == "temporary"
        assert says(shop, f"luis@{HOST}")[0] == "delivers"
    finally:
        shop.end(rcptd, signal.SIGTERM)
