"""Programs with the checkpassword interface: interfaces section 13, row P14 of the hostile inputs. Third parties' chains start
them; here a small program takes the place of the POP3 server. The parts for users of the machine need root."""
import functools
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

from conftest import wait_for
from real_server import identity, only
from test_accounts import DOMAIN, PASSWORD, account, add, compiled, line, make_home, of_domain
from test_root_users import installed, lspawn, machine  # noqa: F401 (fixtures)

ANA = f"ana@{DOMAIN}"
# puts a descriptor on 3, and nowhere else
ON_3 = ("/bin/bash", "-c", 'fd=$1; shift; exec "$@" 3<&$fd {fd}<&-', "-")
# what was started prints the variables, its directory, and whether it was left the descriptor
SHOW = ["/bin/sh", "-c", "echo $USER $HOME $SHELL $MAILDIRQUOTA; pwd; test -e /proc/$$/fd/3 && echo leak; true"]


@functools.cache
def crypt(password, setting):
    """A hash made elsewhere, of a method of crypt(3)."""
    return subprocess.run(["perl", "-e", "print crypt($ARGV[0], $ARGV[1])", password, setting], check=True, capture_output=True,
                          text=True).stdout


def login(run, program, *octets, prog=("/bin/true",), options=(), **more):
    """Runs program with what is given on descriptor 3. Returns subprocess.CompletedProcess."""
    ours, theirs = os.pipe()
    text = b"".join(o if isinstance(o, bytes) else o.encode() + b"\0" for o in octets)
    assert len(text) < 4096
    os.write(theirs, text)
    os.close(theirs)
    try:
        return run(*ON_3, ours, program, *options, *prog, pass_fds=[ours], **more)
    finally:
        os.close(ours)


@pytest.fixture
def accounts(tree):
    of_domain(tree)
    tree.write("mail/.keep", "")
    add(tree, ANA)
    account(tree, "set", "-q", "5000C", ANA)
    return tree


def check(tree, *octets, **more):
    return login(tree.run, tree.bin / "checkpassword-accounts", *octets, **more)


# --- accounts --------------------------------------------------------------------

def test_right_password_runs_the_program(accounts):
    home = accounts.home / "mail" / ANA
    done = check(accounts, "Ana@Shop.Example", PASSWORD, "<1.2@host>", prog=SHOW, env={"MAILDIRQUOTA": "old"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines() == [f"{ANA} {home} /bin/false 5000C", str(home)]


def test_the_mail_of_the_account_is_read(accounts):
    """qmail-pop3d as the program: interfaces section 13's chain behind qmail-popup."""
    accounts.need("qmail-pop3d")
    accounts.write(f"mail/{ANA}/Maildir/new/1.a,S=17", "Subject: x\n\nbody\n", 0o600)
    done = check(accounts, ANA, PASSWORD, "<1.2@host>", prog=[accounts.bin / "qmail-pop3d", "Maildir"], input=b"STAT\r\nRETR 1\r\nQUIT\r\n")
    assert done.returncode == 0, done.stderr
    assert b"+OK 1 " in done.stdout and b"\r\nbody\r\n.\r\n" in done.stdout
    (seen,) = (accounts.home / "mail" / ANA / "Maildir/cur").iterdir()
    assert seen.name == "1.a,S=17:2,"


def test_no_quota_is_none(accounts):
    account(accounts, "set", "-q", "none", ANA)
    done = check(accounts, ANA, PASSWORD, "", prog=SHOW, env={"MAILDIRQUOTA": "old"})
    assert done.stdout.decode().splitlines()[0].endswith(" /bin/false")


def test_exit_code_is_the_programs(accounts):
    assert check(accounts, ANA, PASSWORD, "", prog=("/bin/sh", "-c", "exit 7")).returncode == 7


@pytest.mark.parametrize("octets", [
    (ANA, "wrong", ""), (ANA, PASSWORD + " ", ""), (ANA, PASSWORD[:-1], ""), (ANA, "", ""), ("", PASSWORD, ""), (f"luis@{DOMAIN}", PASSWORD, ""),
    (f"ana-x@{DOMAIN}", PASSWORD, ""), ("ana", PASSWORD, ""), ("root", PASSWORD, ""), (f"@{DOMAIN}", PASSWORD, ""), ("\0" + DOMAIN, PASSWORD, ""),
    (ANA + "\n", PASSWORD, ""), (b"\xff\xfe@\x01\0x\0\0",),
], ids=repr)
def test_refused(accounts, octets):
    done = check(accounts, *octets, prog=("/bin/echo", "in"))
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@pytest.mark.parametrize("octets", [(b"",), (b"ana",), (b"ana\0",), (b"ana\0secret",)], ids=repr)
def test_misuse(accounts, octets):
    assert check(accounts, *octets).returncode == 2


def test_misuse_without_program_or_descriptor(accounts):
    assert check(accounts, ANA, PASSWORD, "", prog=()).returncode == 2
    assert check(accounts, ANA, PASSWORD, "", prog=(), options=["-x"]).returncode == 2
    assert accounts.run("/bin/sh", "-c", 'exec "$@" 3<&-', "sh", accounts.bin / "checkpassword-accounts", "/bin/true").returncode == 2


def test_timestamp_may_be_missing(accounts):
    assert check(accounts, ANA, PASSWORD).returncode == 0
    assert check(accounts, ANA, PASSWORD, b"no end").returncode == 0


@pytest.mark.parametrize("setting", ["$y$j9T$saltsaltsaltsalt", "$6$saltsalt", "$5$saltsalt", "$2b$05$abcdefghijklmnopqrstuu", "$1$saltsalt"])
def test_hashes_of_other_systems(accounts, setting):
    hashed = crypt("another word", setting)
    compiled(accounts, line(accounts, ANA, hashed))
    assert check(accounts, ANA, "another word", "").returncode == 0
    assert check(accounts, ANA, "another", "").returncode == 1


@pytest.mark.parametrize("hashed, flags", [("*", ""), ("!", ""), ("!HASH", ""), ("HASH", "locked")])
def test_accounts_that_nobody_logs_in_to(accounts, hashed, flags):
    compiled(accounts, line(accounts, ANA, hashed.replace("HASH", crypt(PASSWORD, "$5$saltsalt")), flags=flags))
    assert check(accounts, ANA, PASSWORD, "").returncode == 1
    assert check(accounts, ANA, hashed, "").returncode == 1


def test_what_cannot_be_known_now(accounts):
    """Exit 111, and the reason: somebody else's account, no home, no program; L4, a damaged passwords.cdb, or none."""
    compiled(accounts, line(accounts, ANA, crypt(PASSWORD, "$5$saltsalt"), home="mail/gone"),
             f"eva@{DOMAIN}:{crypt(PASSWORD, '$5$saltsalt')}:{accounts.uid + 1}:{accounts.gid}:mail:: \n".replace(" ", ""))
    for name, prog, what in ((ANA, ["/bin/true"], b"enter the home"), (f"eva@{DOMAIN}", ["/bin/true"], b"become the user")):
        done = check(accounts, name, PASSWORD, "", prog=prog)
        assert done.returncode == 111 and what in done.stderr, done
    compiled(accounts, line(accounts, ANA, crypt(PASSWORD, "$5$saltsalt")))
    done = check(accounts, ANA, PASSWORD, "", prog=["/nowhere/at/all"])
    assert done.returncode == 111 and b"execute the program" in done.stderr
    path = accounts.home / "users/passwords.cdb"
    whole = path.read_bytes()
    for text in (whole[:-8], b"", b"x" * 5000):
        path.write_bytes(text)
        assert check(accounts, ANA, PASSWORD, "").returncode == 111
        assert check(accounts, f"luis@{DOMAIN}", PASSWORD, "").returncode == 111
    path.unlink()
    assert check(accounts, ANA, PASSWORD, "").returncode == 111


def test_where_no_accounts_were_made_there_are_none(accounts):
    """A guess at one is a failed login, which counts, and no trouble."""
    for name in ("accounts", "passwords.cdb"):
        (accounts.home / "users" / name).unlink()
    done = check(accounts, ANA, PASSWORD, "")
    assert (done.returncode, done.stderr) == (1, b"")


def test_nothing_is_setuid_or_setgid(accounts):
    for name in ("checkpassword-accounts", "checkpassword-system", "qmail-account", "qmail-newaccounts"):
        assert (accounts.bin / name).stat().st_mode & (stat.S_ISUID | stat.S_ISGID) == 0


# --- what it costs -----------------------------------------------------------------

def counting(tree, program):
    """A function that logs in and tells how often a yescrypt hash was worked through: each takes 16 MiB at once, which
    nothing else here does. It is no clock, so it tells the same on a busy machine."""
    strace = shutil.which("strace") or pytest.skip("strace is not installed")
    if b"__asan_init" in (tree.bin / program).read_bytes():
        pytest.skip("the sanitizers take memory in large pieces, too")
    log = tree.home / "trace"

    def count(*octets):
        log.unlink(missing_ok=True)
        done = login(tree.run, strace, *octets, options=["-f", "-o", log, "-e", "trace=mmap", "--", tree.bin / program],
                     env={"ASAN_OPTIONS": "detect_leaks=0"})
        sizes = [int(size) for size in re.findall(r"mmap\(NULL, (\d+), [^)]*MAP_ANONYMOUS[^)]*, -1, 0\) = 0x", log.read_text())]
        return done.returncode, len([size for size in sizes if 8 << 20 <= size <= 64 << 20])

    return count


@pytest.fixture
def hashings(accounts):
    return counting(accounts, "checkpassword-accounts")


def test_who_does_not_exist_costs_as_much(accounts, hashings):
    add(accounts, f"idle@{DOMAIN}")
    account(accounts, "set", "-f", "locked", f"idle@{DOMAIN}")
    assert hashings(ANA, PASSWORD, "") == (0, 1)
    for name, password in ((ANA, "wrong"), (f"nobody@{DOMAIN}", PASSWORD), ("nobody@nowhere.example", PASSWORD), ("ana", PASSWORD),
                           ("\xff", PASSWORD), (f"idle@{DOMAIN}", PASSWORD), ("x" * 300, PASSWORD)):
        assert hashings(name, password, "") == (1, 1), name


def test_who_does_not_exist_costs_what_hashes_here_cost(accounts, hashings):
    """Another method than the usual one, and nobody who could log in."""
    compiled(accounts, line(accounts, ANA, crypt(PASSWORD, "$5$saltsalt")))
    assert hashings(ANA, PASSWORD, "") == (0, 0)
    assert hashings(f"nobody@{DOMAIN}", PASSWORD, "") == (1, 0)
    compiled(accounts, line(accounts, ANA))
    assert hashings(ANA, PASSWORD, "") == (1, 1)


@pytest.mark.parametrize("order", [1, -1])
def test_who_does_not_exist_costs_what_the_dearest_costs(accounts, hashings, order):
    """Where hashes of several methods are side by side, wherever they stand."""
    hashes = [crypt(PASSWORD, "$5$saltsalt"), crypt(PASSWORD, "$y$j9T$saltsalt"), crypt(PASSWORD, "$1$saltsalt")][::order]
    compiled(accounts, *(line(accounts, f"u{n}@{DOMAIN}", text) for n, text in enumerate(hashes)))
    for n in range(3):
        make_home(accounts, f"u{n}@{DOMAIN}")
    assert [hashings(f"u{n}@{DOMAIN}", PASSWORD, "") for n in range(3)] == [(0, 0), (0, 1), (0, 0)]
    assert hashings(f"nobody@{DOMAIN}", PASSWORD, "") == (1, 1)


def test_p14_long_passwords_cost_nothing(accounts, hashings):
    """512 octets in all are hashed, one more is refused before."""
    rest = 512 - len(ANA) - 2
    assert hashings(ANA, "x" * (rest - 1), b"\0") == (1, 1)
    assert hashings(ANA, "x" * rest, b"\0") == (1, 0)
    assert hashings(ANA, PASSWORD, "x" * 490) == (1, 0)


def test_p14_megabyte(accounts):
    """It is not read to its end, and its writer is told."""
    ours, theirs = os.pipe()
    process = accounts.popen(*ON_3, ours, accounts.bin / "checkpassword-accounts", "/bin/true", pass_fds=[ours])
    os.close(ours)
    with pytest.raises(BrokenPipeError), open(theirs, "wb", buffering=0) as pipe:
        pipe.write(ANA.encode() + b"\0" + b"x" * (1 << 20) + b"\0\0")
        pipe.write(b"x" * (1 << 20))
    assert process.wait(30) == 1


# --- as root: becoming somebody else -------------------------------------------------

WHOAMI = ["/bin/sh", "-c", "id -u; id -g; id -G; pwd; echo $USER $HOME $SHELL; cat /proc/$$/status | grep CapEff"]


def whoami(uid, gid, home, name, shell, real=None):
    return [str(uid), str(gid), str(gid), str(real or home), f"{name} {home} {shell}", "CapEff:\t0000000000000000"]


@pytest.fixture
def host(machine):  # noqa: F811
    """A machine whose users ana and luis have passwords; the shadow file is put back at the end."""
    shadow = machine.path("/etc/shadow")
    before = shadow.read_bytes()
    for user in ("ana", "luis", "root"):
        set_user(machine, "-p", crypt(PASSWORD, "$5$saltsalt"), user)
    yield machine
    shadow.write_bytes(before)


def set_user(machine, *args):  # noqa: F811
    done = machine.run("/usr/sbin/usermod", *args)
    assert done.returncode == 0, done.stderr


def system(host, *octets, **more):
    return login(host.run, host.bin / "checkpassword-system", *octets, **more)


root_part = pytest.mark.xdist_group("root_checkpassword")  # one process makes the module's machine, once


@root_part
def test_system_user(host):
    uid, gid = host.passwd["ana"]
    done = system(host, "ana", PASSWORD, "<1@h>", prog=WHOAMI)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines() == whoami(uid, gid, "/home/ana", "ana", "/bin/sh")
    done = system(host, "ana", PASSWORD, "", prog=SHOW, env={"MAILDIRQUOTA": "1S"})
    assert done.stdout.decode().splitlines() == ["ana /home/ana /bin/sh", "/home/ana"]
    assert system(host, "ana", "wrong", "").returncode == 1
    assert system(host, "ana", "", "").returncode == 1
    assert system(host, "nobody-at-all", PASSWORD, "").returncode == 1
    assert system(host, "ana:x", PASSWORD, "").returncode == 1
    assert system(host, "ana\nluis", PASSWORD, "").returncode == 1
    assert system(host, "ana", PASSWORD, "x" * 512).returncode == 1
    assert system(host, b"ana").returncode == 2
    assert system(host, "ana", PASSWORD, "", prog=()).returncode == 2


@root_part
@pytest.mark.parametrize("change", [["-L"], ["-e", "1"], ["-e", "1971-01-01"], ["-p", ""], ["-p", "*"], ["-p", "!"], ["-p", "x"]], ids=" ".join)
def test_system_user_who_is_refused(host, change):
    set_user(host, *change, "luis")
    for password in (PASSWORD, "", "*", "!", "x"):
        assert system(host, "luis", password, "").returncode == 1
    assert system(host, "ana", PASSWORD, "").returncode == 0


@root_part
@pytest.mark.parametrize("uid, gid", [(0, 5), (5, 0), (0, 0)])
def test_system_root_by_another_name(host, uid, gid):
    passwd = host.path("/etc/passwd")
    passwd.write_text(re.sub(r"^luis:x:\d+:\d+:", f"luis:x:{uid}:{gid}:", passwd.read_text(), flags=re.M))
    assert f"luis:x:{uid}:{gid}:" in passwd.read_text()
    assert system(host, "luis", PASSWORD, "").returncode == 1


@root_part
@pytest.mark.parametrize("change, code", [(["-d", "0"], 1), (["-d", "1990-01-01", "-M", "30"], 1), (["-d", "1990-01-01", "-M", "-1"], 0),
                                          (["-d", "1990-01-01", "-M", "99999"], 0), (["-E", "-1"], 0)], ids=str)
def test_system_password_that_is_too_old(host, change, code):
    assert host.run("/usr/bin/chage", *change, "luis").returncode == 0
    assert system(host, "luis", PASSWORD, "").returncode == code


@root_part
@pytest.mark.parametrize("user", ["ana", "luis"])
def test_system_who_does_not_exist_costs_what_the_dearest_costs(host, user):
    """Of the hashes of the shadow file, wherever it stands. Where all are cheap, nobody is hashed as a new password would be."""
    hashings = counting(host, "checkpassword-system")
    assert hashings("ana", PASSWORD, "") == (0, 0)
    assert hashings("nobody-at-all", PASSWORD, "") == (1, 0)
    assert hashings("root", PASSWORD, "") == (1, 0)
    set_user(host, "-p", crypt(PASSWORD, "$y$j9T$saltsalt"), user)
    assert hashings(user, PASSWORD, "") == (0, 1)
    for name in ("nobody-at-all", "root", "\xff"):
        assert hashings(name, PASSWORD, "") == (1, 1), name


@root_part
def test_system_root_is_refused(host):
    for name in ("root", "ROOT", "0"):
        assert system(host, name, PASSWORD, "").returncode == 1


@root_part
def test_system_without_rights(host):
    """Not root: it cannot know, and says so."""
    done = login(lambda *args, **more: host.run(*args, user="luis", **more), host.bin / "checkpassword-system", "ana", PASSWORD, "")
    assert done.returncode == 111 and b"user database" in done.stderr


@root_part
def test_account_of_another_uid(host):
    """As root: the account's uid and gid, no other group; its home was made by qmail-account with this owner."""
    host.write("control/virtualdomains", f"{DOMAIN}:{DOMAIN}\n", 0o644)
    uid, gid = host.passwd["ana"]
    done = host.run("qmail-account", "add", "-p", "0", "-u", "ana", ANA, input=PASSWORD.encode() + b"\n")
    assert (done.returncode, done.stderr) == (0, b"")
    home = f"/home/ana/{DOMAIN}/ana"
    for path in (home, f"{home}/Maildir", f"{home}/Maildir/new"):
        st = host.path(path).stat()
        assert (st.st_uid, st.st_gid) == (uid, gid)
    assert host.run("qmail-account", "check", ANA).returncode == 0
    done = login(host.run, host.bin / "checkpassword-accounts", ANA, PASSWORD, "", prog=WHOAMI)
    assert done.stdout.decode().splitlines() == whoami(uid, gid, home, ANA, "/bin/false")
    modes = {name: (host.home / "users" / name).stat() for name in ("accounts", "passwords.cdb")}
    assert {(st.st_uid, st.st_mode & 0o777) for st in modes.values()} == {(0, 0o600)}


@root_part
def test_accounts_owner(host):
    """vmail unless another is named, and never root. What another user's directory would hold is not made as root."""
    def add_as(*options):
        return host.run("qmail-account", "add", "-p", "0", *options, input=b"x\n")

    done = add_as(ANA)
    assert done.returncode == 100 and b"there is no user vmail" in done.stderr
    for owner in ("root", "0:5", "5:0"):
        assert add_as("-u", owner, "-d", "/home/x", ANA).returncode == 100
    assert host.run("/usr/sbin/useradd", "--create-home", "--user-group", "vmail").returncode == 0
    assert add_as(ANA).returncode == 0
    assert host.path(f"/home/vmail/{DOMAIN}/ana/Maildir/tmp").stat().st_uid == host.path("/home/vmail").stat().st_uid
    host.path("/home/vmail/way").symlink_to("/root")
    done = add_as("-d", "/home/vmail/way/eva", f"eva@{DOMAIN}")
    assert done.returncode == 0 and b"unable to make /home/vmail/way/eva/Maildir" in done.stderr
    assert not pathlib.Path("/root/eva").exists()
    done = add_as("-u", "54321:54321", f"eve@{DOMAIN}")
    assert done.returncode == 100 and b"-d says" in done.stderr


@root_part
def test_readers_of_the_passwords_are_chosen(host):
    """A group of its own for the file is the table's, too."""
    gid = host.groups["nofiles"]
    host.write("users/accounts", f"{ANA}:{crypt(PASSWORD, '$5$saltsalt')}:{':'.join(map(str, host.passwd['ana']))}:/home/ana::\n", 0o640)
    os.chown(host.home / "users/accounts", 0, gid)
    assert host.run("qmail-newaccounts").returncode == 0
    st = (host.home / "users/passwords.cdb").stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (0, gid, 0o640)
    assert host.run("qmail-account", "set", "-q", "5C", ANA).returncode == 0
    st = (host.home / "users/accounts").stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (0, gid, 0o640)
    done = login(lambda *args, **more: host.run(*args, user="ana:nofiles", **more), host.bin / "checkpassword-accounts", ANA, "wrong", "")
    assert done.returncode == 1  # it may read the table


@root_part
def test_both_kinds_behind_one_program(host):
    """-s: a name without a domain is a user's of the machine."""
    uid, gid = host.passwd["luis"]
    host.write("users/accounts", f"{ANA}:{crypt('other', '$5$saltsalt')}:{':'.join(map(str, host.passwd['ana']))}:/home/ana::\n", 0o600)
    assert host.run("qmail-newaccounts").returncode == 0

    def both(*octets, options=("-s",)):
        return login(host.run, host.bin / "checkpassword-accounts", *octets, options=options, prog=WHOAMI)

    assert both(ANA, "other", "").stdout.decode().splitlines()[4].startswith(f"{ANA} /home/ana ")
    assert both("luis", PASSWORD, "").stdout.decode().splitlines() == whoami(uid, gid, "/home/luis", "luis", "/bin/sh")
    for name, password in ((ANA, PASSWORD), ("luis", "other"), ("ana", "other"), ("root", PASSWORD)):
        assert both(name, password, "").returncode == 1
    assert both("luis", PASSWORD, "", options=()).returncode == 1


@root_part
def test_delivery_belongs_to_the_account(host, lspawn):
    """A worker of the account's uid, in its home, with the quota in its environment and nothing of root's."""
    host.write("control/virtualdomains", f"{DOMAIN}:{DOMAIN}\n", 0o644)
    uid, gid = host.passwd["luis"]
    assert host.run("qmail-account", "add", "-p", "0", "-u", "luis", "-q", "100C", ANA, input=b"x\n").returncode == 0
    home = f"/home/luis/{DOMAIN}/ana"
    worker = lspawn("./Mailbox").start(1, f"{DOMAIN}-ana")
    assert worker.account == [ANA.encode(), str(uid).encode(), str(gid).encode(), home.encode(), b"", b""]
    pid = wait_for(lambda: [p for p in host.processes() if "qmail-local" in os.readlink(f"/proc/{p}/exe")], what="worker")[0]
    assert identity(pid) == only(uid, gid)
    assert b"MAILDIRQUOTA=100C" in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    worker.job(9, ("s@x.example", f"{DOMAIN}-ana", "", "", DOMAIN), b"Subject: x\n\nbody\n")
    number, recipient, letter, text = worker.done()
    assert (number, recipient, letter) == (9, 0, "K"), text
    (arrived,) = host.path(f"{home}/Maildir/new").iterdir()
    st = arrived.stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (uid, gid, 0o600)
    worker.close()


@root_part
def test_an_account_of_root_is_no_account(host, lspawn):
    """Also if somebody puts it into the table by hand."""
    value = f"{ANA}::0:0:/root::"
    text = f"+0,0:->\n+{len(DOMAIN) + 1},0:\0{DOMAIN}->\n+{len(ANA)},{len(value)}:{ANA}->{value}\n\n"
    path = host.home / "users/accounts.cdb"
    subprocess.run(["cdb", "-c", "-t", f"{path}.tmp", str(path)], input=text.encode(), check=True, stdout=subprocess.DEVNULL)
    path.chmod(0o644)
    assert lspawn().who(1, f"{DOMAIN}-ana")[0] == "Z"
