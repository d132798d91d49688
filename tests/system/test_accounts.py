"""Virtual accounts: users/accounts and its compiler, and whose mail is delivered where; qmail-accounts(5)."""
import os
import pty
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import termios

import pytest

from conftest import HOST, ignore_children, wait_for
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
    """Each table: fsync, rename, and then the directory; both are written before one is renamed, the passwords before what makes
    an account exist."""
    tree.write("users/accounts", line(tree, f"ana@{DOMAIN}"), 0o600)
    done = tree.run(shutil.which("strace"), "-f", "-y", "-e", "trace=fsync,rename,renameat,renameat2", "--", tree.bin / "qmail-newaccounts",
                    env={"ASAN_OPTIONS": "detect_leaks=0"})
    assert done.returncode == 0, done.stderr
    calls = [text for text in done.stderr.decode().splitlines() if text.startswith(("fsync", "rename"))]
    # tinycdb flushes a table itself from 0.81 on
    calls = [text for text, before in zip(calls, ["", *calls]) if not (text == before and ".tmp>" in before)]
    assert len(calls) == 6, calls
    for table, (flush, rename, directory) in (("passwords", [calls[0], *calls[2:4]]), ("accounts", [calls[1], *calls[4:]])):
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


def test_qmailctl_compiles_accounts(tree):
    tree.write("users/accounts", line(tree, f"ana@{DOMAIN}"), 0o600)
    tree.run("qmailctl", "cdb", check=True)
    assert cdb(tree.home / "users/accounts.cdb")[0][0] == b"ana@shop.example"
    tree.write("users/accounts", "nonsense\n", 0o600)
    assert tree.run("qmailctl", "cdb").returncode == 111


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


# --- qmail-account -------------------------------------------------------------

PASSWORD = "open sesame"


def password_file(text=PASSWORD):
    file = tempfile.TemporaryFile()
    file.write(text.encode() if isinstance(text, str) else text)
    file.seek(0)
    return file


def account(tree, command, *args, password=None, **more):
    """Runs qmail-account; with a password, as the first line of descriptor 0."""
    options = [] if password is None else ["-p", "0"]
    if password is not None:
        more["input"] = password if isinstance(password, bytes) else password.encode() + b"\n"
    return tree.run("qmail-account", command, *options, *args, **more)


def add(tree, address, *options, password=PASSWORD):
    done = account(tree, "add", *options, "-d", f"mail/{address}", address, password=password)
    assert done.returncode == 0, done.stderr
    return done


def lines(tree):
    return (tree.home / "users/accounts").read_text().splitlines()


@pytest.fixture
def domain(tree):
    of_domain(tree)
    tree.write("mail/.keep", "")  # the private server's user may make homes there
    return tree


def test_account_life(domain):
    """Added, in order, another password, other options, removed: each is in the file and in the tables."""
    done = add(domain, f"Ana@{DOMAIN}", "-q", "2k")
    assert done.stderr == b""
    (text,) = lines(domain)
    fields = text.split(":")
    assert fields[0] == f"ana@{DOMAIN}" and fields[1].startswith("$y$")
    assert fields[2:] == [str(domain.uid), str(domain.gid), f"mail/Ana@{DOMAIN}", "2048S", ""]
    home = domain.home / f"mail/Ana@{DOMAIN}"
    assert sorted(p.name for p in (home / "Maildir").iterdir()) == ["cur", "new", "tmp"]
    assert home.stat().st_mode & 0o7777 == 0o711 and home.stat().st_uid == domain.uid
    assert cdb(domain.home / "users/passwords.cdb")[0] == (b"ana@shop.example", text.encode())
    done = account(domain, "check", f"ANA@{DOMAIN}", password=PASSWORD)
    assert (done.returncode, done.stdout) == (0, b"ana@shop.example: nothing counted yet; quota 2048S\nana@shop.example: in order\n")
    assert account(domain, "passwd", f"ana@{DOMAIN}", password="another").returncode == 0
    done = account(domain, "check", f"ana@{DOMAIN}", password=PASSWORD)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, b"ana@shop.example: nobody logs in with this password")
    assert account(domain, "check", f"ana@{DOMAIN}", password="another").returncode == 0
    assert account(domain, "set", "-q", "none", "-f", "locked,catchall", f"ana@{DOMAIN}").returncode == 0
    assert lines(domain)[0].split(":")[5:] == ["", "catchall,locked"]
    assert account(domain, "check", f"ana@{DOMAIN}", password="another").returncode == 1
    assert account(domain, "remove", f"Ana@{DOMAIN}").returncode == 0
    assert lines(domain) == [] and cdb(domain.home / "users/passwords.cdb") == [(b"", b"")]
    assert (home / "Maildir").is_dir()


def test_account_where_the_caller_ignores_its_children(domain):
    """What became of the process that made the home, or counted the mail in it, is known all the same."""
    done = account(domain, "add", "-q", "7C", "-d", "mail/ana", f"ana@{DOMAIN}", password=PASSWORD, preexec_fn=ignore_children)
    assert (done.returncode, done.stderr) == (0, b"")
    (domain.home / "mail/ana/Maildir/maildirsize").write_text("7C\n0 0\n")
    domain.own(domain.home / "mail")
    done = account(domain, "check", f"ana@{DOMAIN}", preexec_fn=ignore_children)
    assert done.returncode == 0 and b"0 messages, 0 octets; quota 7C" in done.stdout


def test_account_that_is_there_or_not(domain):
    add(domain, f"ana@{DOMAIN}")
    before = lines(domain)
    for command in ("passwd", "set", "remove", "check"):
        done = account(domain, command, f"nobody@{DOMAIN}", password="x" if command == "passwd" else None)
        assert done.returncode == 1 and b"there is no account" in done.stderr, command
    done = account(domain, "add", "-d", "mail/x", f"ANA@{DOMAIN}", password="x")
    assert done.returncode == 1 and b"already" in done.stderr
    assert lines(domain) == before


def test_account_list(domain):
    domain.write("users/accounts", "# people\n" + line(domain, f"ana@{DOMAIN}", "$1$x$y", "5C") + line(domain, "ben@other.example"), 0o600)
    ana, ben = (text.format(domain.uid, domain.gid).encode() for text in (
        "ana@shop.example:x:{}:{}:mail/ana@shop.example:5C:\n", "ben@other.example:*:{}:{}:mail/ben@other.example::\n"))
    for args, want in (((), ana + ben), ((DOMAIN.upper(),), ana), (("none.example",), b"")):
        done = account(domain, "list", *args)
        assert (done.returncode, done.stdout) == (0, want)


def test_account_keeps_what_it_does_not_change(domain):
    text = "# people\n\n" + line(domain, f"ana@{DOMAIN}") + "# last"
    domain.write("users/accounts", text, 0o640)
    add(domain, f"ben@{DOMAIN}")
    assert (domain.home / "users/accounts").read_text().startswith(text + "\nben@")
    assert (domain.home / "users/accounts").stat().st_mode & 0o777 == 0o640
    assert (domain.home / "users/passwords.cdb").stat().st_mode & 0o777 == 0o640


def test_account_does_not_write_nonsense(domain):
    domain.write("users/accounts", "nonsense\n", 0o600)
    done = account(domain, "add", "-d", "mail/x", f"ana@{DOMAIN}", password=PASSWORD)
    assert done.returncode == 111 and b"line 1" in done.stderr
    assert lines(domain) == ["nonsense"]
    assert not [name for name in os.listdir(domain.home / "users") if "tmp" in name]


@pytest.mark.parametrize("command", ["add", "set", "import"])
@pytest.mark.parametrize("home", ["", "a:b", "/h::\nevil@shop.example:*:1:1:/h", "a\x7f"], ids=["empty", "colon", "line", "DEL"])
def test_account_home_that_would_break_its_line(domain, command, home):
    """It is wrong usage, not a fault of the file, and never a second line."""
    add(domain, f"ana@{DOMAIN}")
    before = lines(domain)
    address = {"add": f"ben@{DOMAIN}", "set": f"ana@{DOMAIN}"}.get(command)
    done = account(domain, command, *(["-p", "0"] if command == "add" else []), "-d", home, *([address] if address else []),
                   input=b"eva@shop.example:x\n")
    assert (done.returncode, lines(domain)) == (100, before) and b"not a home" in done.stderr


@pytest.mark.parametrize("user", [".", ".."])
def test_account_whose_name_is_no_directory_of_its_own(domain, user):
    """domain/.. is the home of the owner, for any domain."""
    address = f"{user}@{DOMAIN}"
    for done in (account(domain, "add", address, password=PASSWORD), account(domain, "import", "-d", "mail", input=address.encode() + b":x\n")):
        assert done.returncode == 100 and b"-d" in done.stderr, done
    assert not (domain.home / "users/accounts").exists()
    add(domain, address)
    assert account(domain, "import", "-d", "mail", input=b"...@shop.example:x\n").returncode == 0


@pytest.mark.parametrize("args", [
    [], ["ad", "a@x"], ["add"], ["add", "a@x", "b@x"], ["add", "-x", "a@x"], ["add", "-p", "one", "a@x"], ["list", "a", "b"],
    ["import", "a@x"], ["add", "-q", "much", "a@x"], ["add", "-q", "0", "a@x"], ["add", "-f", "lock", "a@x"],
    ["add", "-u", "0:0", "a@x"], ["add", "-u", "no-such-user-here", "a@x"], ["add", "-d", "/h", "a"], ["add", "-d", "/h", "-p", "0", "a b@x"],
], ids=" ".join)
def test_account_usage(domain, args):
    done = domain.run("qmail-account", *args)
    assert done.returncode == 100 and done.stderr
    assert not (domain.home / "users/accounts").exists()


@pytest.mark.parametrize("args", ["add -H", "passwd -d h", "passwd -f locked", "passwd -q 5C", "passwd -u OWNER", "passwd -H", "set -p 0", "set -H",
                                  "remove -d h", "remove -q 5C", "remove -p 0", "check -q 5C", "check -H", "list -p 0", "list -q 5C", "import -p 0"])
def test_account_options_of_other_commands(domain, args):
    """An option that the command does not have is not passed over in silence."""
    domain.write("users/accounts", line(domain, "a@x"), 0o600)
    before = lines(domain)
    command, *options = args.replace("OWNER", f"{domain.uid}:{domain.gid}").split()
    target = {"add": ["b@x"], "list": ["x"], "import": []}.get(command, ["a@x"])
    done = domain.run("qmail-account", command, *options, *target, input=b"secret\n")
    assert done.returncode == 100 and b"usage" in done.stderr, done
    assert lines(domain) == before


@pytest.mark.parametrize("password, code", [(b"\n", 100), (b"", 111), (b"x" * 129 + b"\n", 100), (b"x" * 128 + b"\n", 0), (b"a\tb\n", 100),
                                            (b"a\0b\n", 111), (b"x" * 5000, 111), ("\u00f1and\u00fa ".encode() + b"\n", 0), (b"no end", 0)],
                         ids=["empty", "none", "129", "128", "tab", "NUL", "5000", "UTF-8", "no LF"])
def test_account_passwords(domain, password, code):
    assert account(domain, "add", "-d", "mail/ana", f"ana@{DOMAIN}", password=password).returncode == code
    if code == 0:
        assert account(domain, "check", f"ana@{DOMAIN}", password=password).returncode == 0
    else:
        assert not (domain.home / "users/accounts").exists()


def test_account_warns_of_what_mail_would_find(domain):
    """A domain that is routed elsewhere; a home that cannot be made. The account is there all the same."""
    domain.write("control/virtualdomains", "other.example:other.example\n")
    done = account(domain, "add", "-d", "/proc/ana", f"ana@{DOMAIN}", password=PASSWORD)
    assert done.returncode == 0
    assert b"unable to make /proc/ana/Maildir" in done.stderr and b"its mail goes elsewhere" in done.stderr
    done = account(domain, "check", f"ana@{DOMAIN}")
    assert done.returncode == 1
    assert b"its mail goes elsewhere" in done.stdout and b"/proc/ana/Maildir: No such file" in done.stdout
    domain.write("users/accounts", line(domain, f"ana@{DOMAIN}", quota="7C"), 0o600)
    assert b"run qmail-newaccounts" in account(domain, "check", f"ana@{DOMAIN}").stdout


def test_account_import(domain):
    """Passwords, and hashes of another system; the ones log in as the others do."""
    done = account(domain, "import", "-q", "1M", "-d", "mail", input=b"# staff\nana@shop.example:with:colon\n\nBen@shop.example:x\n")
    assert done.returncode == 0, done.stderr
    assert [text.split(":")[0] for text in lines(domain)] == ["ana@shop.example", "ben@shop.example"]
    assert [text.split(":")[4] for text in lines(domain)] == ["mail/shop.example/ana", "mail/shop.example/ben"]
    assert account(domain, "check", "ana@shop.example", password="with:colon").returncode == 0
    hashed = lines(domain)[0].split(":")[1].encode()
    done = account(domain, "import", "-H", "-d", "mail", input=b"eva@shop.example:%s\nidle@shop.example:*\n" % hashed)
    assert done.returncode == 0, done.stderr
    assert account(domain, "check", "eva@shop.example", password="with:colon").returncode == 0
    assert len(lines(domain)) == 4


@pytest.mark.parametrize("text, what", [
    (b"eva@shop.example:x\nana@shop.example:x\n", b"new account number 2: the address has a line already"),
    (b"eva@shop.example:x\neva@shop.example:y\n", b"new account number 2: the address has a line already"),
    (b"eva@shop.example:x\n\nben\n", b"line 3 of what is imported is not address:password"),
    (b"eva@shop.example:x\nben@:x\n", b"ben@: what stands behind @ is no domain"),
    (b"eva@shop.example:x\nben@shop.example:\n", b"ben@shop.example: the password is empty"),
    (b"eva@shop.example:x\nben@shop.example:x\r\n", b"ben@shop.example: the password is not to be typed: it has a control character"),
    (b"eva@shop.example:x\n#" + b"x" * 1024 + b"\n", b"line 2 of what is imported is longer than 1024 octets"),
    (b"eva@shop.example:x\nben@shop.example:x\0y\n", b"line 2 of what is imported is longer than 1024 octets, or has a NUL"),
], ids=["there", "twice", "no colon", "no domain", "no password", "CR", "long", "NUL"])
def test_account_import_all_or_nothing(domain, text, what):
    add(domain, f"ana@{DOMAIN}")
    before = lines(domain)
    done = account(domain, "import", "-d", "mail", input=text)
    assert done.returncode == 100 and what in done.stderr, done
    assert lines(domain) == before
    assert len(cdb(domain.home / "users/passwords.cdb")) == 3


@pytest.mark.parametrize("command", [["add", "-p", "0", "-d", "mail/ben", "ben@shop.example"], ["passwd", "-p", "0", "ana@shop.example"],
                                     ["set", "-f", "locked", "ana@shop.example"], ["remove", "ana@shop.example"],
                                     ["import", "-d", "mail"]], ids=lambda c: c[0])
def test_account_without_room_for_the_tables(domain, command):
    """The file is the smaller one: where there is room for it only, it does not change either."""
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    add(domain, f"ana@{DOMAIN}")
    before = {name: (domain.home / "users" / name).read_bytes() for name in TABLES}
    done = account(domain, *command, input=b"eva@shop.example:x\n", preexec_fn=small_files)
    assert done.returncode == 111 and b"File too large" in done.stderr
    assert {name: (domain.home / "users" / name).read_bytes() for name in TABLES} == before
    assert not [name for name in os.listdir(domain.home / "users") if "tmp" in name]
    assert account(domain, *command, input=b"eva@shop.example:x\n").returncode == 0


def test_account_at_once(domain):
    """Each of those who add at the same time finds what the others did."""
    running = []
    for i in range(12):
        with password_file() as file:
            running.append(domain.popen("qmail-account", "add", "-p", "0", "-d", f"mail/u{i}", f"u{i}@{DOMAIN}", stdin=file,
                                        stderr=subprocess.PIPE))
    for process in running:
        assert (process.communicate()[1], process.returncode) == (b"", 0)
    assert sorted(lines(domain)) == sorted(set(lines(domain))) and len(lines(domain)) == 12
    assert len(cdb(domain.home / "users/accounts.cdb")) == 14


def is_in_order(tree, address):
    """Whether both tables have the line of the file."""
    (text,) = [text for text in lines(tree) if text.startswith(f"{address}:")]
    fields = text.split(":")
    without = ":".join([fields[0], "", *fields[2:]])
    return [dict(cdb(tree.home / "users" / name))[address.encode()].decode() for name in TABLES[1:]] == [without, text]


def test_account_check_looks_at_both_tables(domain):
    """Mail finds the account in one, logins in the other: neither may lack it, or have it as it was."""
    add(domain, f"ana@{DOMAIN}")
    old = {name: (domain.home / "users" / name).read_bytes() for name in TABLES[1:]}
    assert account(domain, "set", "-f", "extensions", f"ana@{DOMAIN}").returncode == 0
    for name in TABLES[1:]:
        path = domain.home / "users" / name
        new = path.read_bytes()
        path.unlink()
        done = account(domain, "check", f"ana@{DOMAIN}")
        assert (done.returncode, b"run qmail-newaccounts" in done.stdout) == (1, True), name
        domain.write(f"users/{name}", old[name], 0o600)
        done = account(domain, "check", f"ana@{DOMAIN}")
        assert (done.returncode, b"run qmail-newaccounts" in done.stdout) == (1, True), name
        domain.write(f"users/{name}", new, 0o600)
        assert account(domain, "check", f"ana@{DOMAIN}").returncode == 0


@pytest.mark.parametrize("change", [["passwd", "-p", "0"], ["set", "-f", "extensions"]], ids=["passwd", "set"])
def test_account_killed_while_it_writes(domain, change):
    """Whatever it was at: the file is the old or the new one, its tables are whole, check knows whether they are the file's, and
    the next one goes on."""
    for i in range(3):
        add(domain, f"u{i}@{DOMAIN}")
    strace = shutil.which("strace")
    found = set()
    for call, nth in (("fsync", 1), ("rename", 1), ("rename", 2), ("rename", 3)):
        with password_file() as file:
            done = domain.run(strace, "-f", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={nth}", "--",
                              domain.bin / "qmail-account", *change, f"u1@{DOMAIN}", stdin=file,
                              env={"ASAN_OPTIONS": "detect_leaks=0"})
        assert done.returncode != 0
        assert [text.split(":")[0] for text in lines(domain)] == [f"u{i}@{DOMAIN}" for i in range(3)]
        for name in TABLES[1:]:
            assert len(cdb(domain.home / "users" / name)) == 5
        found.add(is_in_order(domain, f"u1@{DOMAIN}"))
        done = account(domain, "check", f"u1@{DOMAIN}")
        assert (done.returncode == 0, b"run qmail-newaccounts" not in done.stdout) == (is_in_order(domain, f"u1@{DOMAIN}"),) * 2, done
    assert found == {True, False}
    assert account(domain, "passwd", f"u1@{DOMAIN}", password="last").returncode == 0
    assert account(domain, "check", f"u1@{DOMAIN}", password="last").returncode == 0
    assert not [name for name in os.listdir(domain.home / "users") if "tmp" in name]


class Terminal:
    """qmail-account on a terminal of its own."""

    def __init__(self, tree, *args, wrap=()):
        self.ours, theirs = pty.openpty()
        self.seen = b""
        # the tests may run where SIGINT is ignored, in the background of a script
        self.process = tree.popen("/usr/bin/setsid", "--ctty", "--wait", "/usr/bin/env", "--default-signal=INT", *wrap, str(tree.bin / "qmail-account"), *args, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.ours)

    def expect(self, text):
        """Waits until it shows text."""
        while text not in self.seen:
            ready, _, _ = select.select([self.ours], [], [], 30)
            assert ready, self.seen
            try:
                self.seen += os.read(self.ours, 1000)
            except OSError:
                pytest.fail(f"it ended: {self.seen}")
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def answer(self, question, text):
        """Types when the question is there and the echo is off."""
        self.expect(question)
        wait_for(lambda: not self.echoes(), what="no echo")
        os.write(self.ours, text)

    def echoes(self):
        return bool(termios.tcgetattr(self.ours)[3] & termios.ECHO)

    def end(self):
        """(exit code, what it showed)"""
        while True:
            try:
                octets = os.read(self.ours, 1000)
            except OSError:
                break
            if not octets:
                break
            self.seen += octets
        return self.process.wait(30), self.seen


def test_account_asks_on_the_terminal(domain):
    with Terminal(domain, "add", "-d", "mail/ana", f"ana@{DOMAIN}") as terminal:
        terminal.answer(b"New password: ", b"secret word\n")
        terminal.answer(b"The same again: ", b"secret word\n")
        code, seen = terminal.end()
    assert code == 0 and b"secret" not in seen
    assert account(domain, "check", f"ana@{DOMAIN}", password="secret word").returncode == 0


def test_account_two_different_answers(domain):
    with Terminal(domain, "add", "-d", "mail/ana", f"ana@{DOMAIN}") as terminal:
        terminal.answer(b"New password: ", b"secret word\n")
        terminal.answer(b"The same again: ", b"secret world\n")
        code, seen = terminal.end()
    assert code == 1 and b"two passwords" in seen and b"secret" not in seen
    assert not (domain.home / "users/accounts").exists()


def test_account_interrupted_at_the_terminal(domain):
    """The terminal shows again what is typed."""
    with Terminal(domain, "add", "-d", "mail/ana", f"ana@{DOMAIN}") as terminal:
        terminal.answer(b"New password: ", b"secr\x03")
        wait_for(terminal.echoes, what="echo")
        terminal.end()
        assert terminal.process.returncode != 0
    assert not (domain.home / "users/accounts").exists()


def test_account_interrupted_when_the_echo_was_just_turned_off(domain):
    """The signal comes before anything is waited for, and is not forgotten."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace")
    wrap = strace, "-qq", "-o", domain.home / "trace", "-e", "trace=ioctl", "-e", "inject=ioctl:signal=INT:when=2+"
    with Terminal(domain, "add", "-d", "mail/ana", f"ana@{DOMAIN}", wrap=map(str, wrap)) as terminal:
        terminal.expect(b"New password: ")
        terminal.end()
        trace = (domain.home / "trace").read_text()
        if not trace:
            pytest.skip("strace is not allowed here")
        assert "TCSETSF" in trace and "SIGINT" in trace
        assert terminal.echoes() and terminal.process.returncode != 0


def test_account_without_a_terminal(domain):
    done = domain.run("/usr/bin/setsid", "--wait", domain.bin / "qmail-account", "add", "-d", "mail/ana", f"ana@{DOMAIN}", input=b"secret\n")
    assert done.returncode == 111 and b"terminal" in done.stderr
    assert not (domain.home / "users/accounts").exists()


def test_mail_for_an_account_that_was_just_added(shop):
    """What qmail-account makes is all that a delivery needs."""
    add(shop, f"eva@{DOMAIN}")
    send(shop, f"eva@{DOMAIN}")
    shop.arrived(1, mail(shop, "eva"))


# --- quota ---------------------------------------------------------------------

def test_quota_is_shown(shop):
    """check says how much of it is used: what deliveries write down."""
    compiled(shop, line(shop, f"ana@{DOMAIN}", quota="1000000S,3C"))
    ana = f"ana@{DOMAIN}"
    assert account(shop, "check", ana).stdout == f"{ana}: nothing counted yet; quota 1000000S,3C\n{ana}: in order\n".encode()
    for n in range(1, 3):
        send(shop, ana)
        octets = sum(map(len, shop.arrived(n, mail(shop, "ana"))))
        shop.logged("success: did_1+0+0/", n)
        assert account(shop, "check", ana).stdout == f"{ana}: {n} messages, {octets} octets; quota 1000000S,3C\n{ana}: in order\n".encode()


def test_quota_of_messages(shop):
    """The mailbox is full: mail waits, and comes when there is room, also for what deletes without writing it down."""
    compiled(shop, line(shop, f"ana@{DOMAIN}", quota="3C"))
    for _ in range(4):
        send(shop, f"ana@{DOMAIN}")
    shop.logged("success: did_1+0+0/", 3)
    log = shop.logged("deferral: The_mailbox_is_full._(#4.2.2)/")
    assert log.count("success: did_1+0+0/") == 3 and len(shop.maildir(mail(shop, "ana"))) == 3
    maildir = shop.home / f"mail/ana@{DOMAIN}/Maildir"
    octets = sum(path.stat().st_size for path in (maildir / "new").iterdir())
    sums = [tuple(map(int, text.split())) for text in (maildir / "maildirsize").read_text().splitlines()[1:]]
    assert (sum(s[0] for s in sums), sum(s[1] for s in sums)) == (octets, 3)
    next((maildir / "new").iterdir()).unlink()
    os.utime(maildir / "maildirsize", (1, 1))
    shop.send.send_signal(signal.SIGALRM)
    shop.logged("success: did_1+0+0/", 4)
    assert len(list((maildir / "new").iterdir())) == 3


def test_quota_that_changes(shop):
    """At once, with the table: a worker that knows the old one is not asked again."""
    compiled(shop, line(shop, f"ana@{DOMAIN}", quota="1C"))
    send(shop, f"ana@{DOMAIN}")
    shop.arrived(1, mail(shop, "ana"))
    compiled(shop, line(shop, f"ana@{DOMAIN}", quota="2C"))
    send(shop, f"ana@{DOMAIN}")
    shop.arrived(2, mail(shop, "ana"))
    compiled(shop, line(shop, f"ana@{DOMAIN}"))
    send(shop, f"ana@{DOMAIN}")
    shop.arrived(3, mail(shop, "ana"))


def test_quota_that_a_message_never_fits(shop):
    compiled(shop, line(shop, f"ana@{DOMAIN}", quota="2000S"), line(shop, f"open@{DOMAIN}"))
    assert shop.queue(MESSAGE + b"x" * 2000 + b"\n", f"open@{DOMAIN}", f"ana@{DOMAIN}").returncode == 0
    [bounce] = shop.arrived(1, mail(shop, "open"))
    assert b"(#5.2.3)" in bounce
    send(shop, f"ana@{DOMAIN}")
    shop.arrived(1, mail(shop, "ana"))


def test_quota_of_a_batch(shop):
    """What comes together is counted one by one."""
    compiled(shop, line(shop, f"ana@{DOMAIN}", quota="20C"))
    shop.stop_send()
    for _ in range(30):
        send(shop, f"ana@{DOMAIN}")
    shop.start_send()
    shop.logged("deferral: The_mailbox_is_full._(#4.2.2)/", 10)
    log = shop.logged("success: did_1+0+0/", 20)
    assert log.count("deferral: ") == 10 and log.count("success: ") == 20 == len(shop.maildir(mail(shop, "ana")))
