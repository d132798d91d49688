"""users/assign and its compiler, qmail-newmrh, qmail-pw2u, qmail-getpw: interfaces section 7, stock bug 11."""
import fcntl
import os
import pwd
import subprocess
import time

import pytest

from conftest import program_of, wait_for


def cdb(path):
    """Key and value of each record, in order."""
    out = subprocess.run(["cdb", "-d", path], check=True, stdout=subprocess.PIPE).stdout
    records = []
    while out != b"\n":
        head, out = out[1:].split(b":", 1)
        key_len, value_len = (int(n) for n in head.split(b","))
        key, value = out[:key_len], out[key_len + 2:key_len + 2 + value_len]
        records.append((key, value))
        out = out[key_len + 2 + value_len + 1:]
    return records


@pytest.fixture
def users(tree):
    tree.need("qmail-newu", "qmail-pw2u", "qmail-newmrh", "qmail-getpw")
    for name in ("assign", "cdb"):
        (tree.home / "users" / name).unlink(missing_ok=True)
    return tree


# --- qmail-newu --------------------------------------------------------------

def test_newu_compiles(users):
    users.write("users/assign", "=Ana:ana:1000:1001:/home/ana:::\n+Foo:foo:1:2:/foo:-:Pre:ignored:\n+:alias:7:8:/alias:-::\n.\n=x")
    assert users.run("qmail-newu").returncode == 0
    assert cdb(users.home / "users/cdb") == [
        (b"!ana\0", b"ana\x001000\x001001\0/home/ana\0\0"),
        (b"!foo", b"foo\x001\x002\0/foo\0-\0Pre"),
        (b"!", b"alias\x007\x008\0/alias\0-\0"),
        (b"", b"o"),
    ]
    assert (users.home / "users/cdb").stat().st_mode & 0o777 == 0o644
    assert not (users.home / "users/cdb.tmp").exists()


@pytest.mark.parametrize("text, what", [
    ("=ana:ana:1000:1001:/home/ana:::\n", "the line \".\""),
    ("", "the line \".\""),
    ("=ana:ana:1000:1001:/home/ana::\n.\n", "line 1"),
    ("=ana:ana:1000:1001:/home/ana:::\n\n.\n", "line 2"),
    ("ana:ana:1000:1001:/home/ana:::\n.\n", "line 1"),
    ("=ana:a\0na:1000:1001:/home/ana:::\n.\n", "line 1"),
    ("=" + "a" * 70000 + ":ana:1000:1001:/home/ana:::\n.\n", "line 1"),
], ids=["no end", "empty", "too few colons", "empty line", "no sign", "NUL", "long line"])
def test_newu_refuses_and_keeps_the_old_table(users, text, what):
    users.write("users/assign", "=old:old:1:1:/old:::\n.\n")
    users.run("qmail-newu", check=True)
    users.write("users/assign", text)
    done = users.run("qmail-newu")
    assert done.returncode == 111
    assert what in done.stderr.decode()
    assert cdb(users.home / "users/cdb")[0][0] == b"!old\0"
    assert sorted(os.listdir(users.home / "users")) == ["assign", "cdb"]


def test_newu_last_line_without_newline(users):
    users.write("users/assign", "=old:old:1:1:/old:::\n.")
    users.run("qmail-newu", check=True)


def test_newu_comments_and_unusable_entries(users):
    users.write("users/assign", "#=a:a:1:1:/a:::\n=b:b:x:1:/b:::\n.\n")
    done = users.run("qmail-newu")
    assert done.returncode == 0
    assert "line 2" in done.stderr.decode()
    assert [key for key, _ in cdb(users.home / "users/cdb")] == [b"!b\0", b""]


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_newu_writes_no_warning_into_the_table(users, closed):
    """Where nobody gave it a descriptor to write warnings to."""
    users.write("users/assign", "=b:b:x:1:/b:::\n=ana:ana:1:1:/a:::\n.\n")
    users.run("/bin/sh", "-c", f'"$0" {closed}', str(users.bin / "qmail-newu"), check=True)
    assert [key for key, _ in cdb(users.home / "users/cdb")] == [b"!b\0", b"!ana\0", b""]


def test_newu_without_assign(users):
    assert users.run("qmail-newu").returncode == 111


def test_newu_many_entries_and_equal_keys(users):
    lines = [f"=u{i}:u{i}:{i}:{i}:/h/{i}:::\n" for i in range(1, 3001)]
    users.write("users/assign", "".join(lines) + "=U7:other:1:1:/x:::\n.\n")
    users.run("qmail-newu", check=True)
    got = subprocess.run(["cdb", "-q", users.home / "users/cdb", b"!u7"], stdout=subprocess.PIPE)
    assert got.returncode != 0  # without its NUL it is another key
    records = cdb(users.home / "users/cdb")
    assert len(records) == 3002
    assert [value.split(b"\0")[0] for key, value in records if key == b"!u7\0"] == [b"u7", b"other"]


def test_newu_twice_at_once(users):
    """Each of two that run at the same time writes a whole table."""
    users.write("users/assign", "".join(f"=u{i}:u:1:1:/h:::\n" for i in range(3000)) + ".\n")
    running = [users.popen("qmail-newu", stderr=subprocess.PIPE) for _ in range(6)]
    for process in running:
        assert (process.communicate()[1], process.returncode) == (b"", 0)
    assert len(cdb(users.home / "users/cdb")) == 3001


@pytest.mark.parametrize("program, source, table, temporary, old, new", [
    ("qmail-newu", "users/assign", "users/cdb", "users/cdb.tmp", "=old:u:1:1:/h:::\n.\n", "=new:u:1:1:/h:::\n.\n"),
    ("qmail-newmrh", "control/morercpthosts", "control/morercpthosts.cdb", "control/morercpthosts.tmp", "old\n", "new\n"),
], ids=["qmail-newu", "qmail-newmrh"])
def test_who_waits_reads_what_is_there_at_its_turn(users, program, source, table, temporary, old, new):
    """Of several that wait for another any may be the last: what was replaced while it waited is not compiled."""
    users.write(source, old)
    with open(users.write(temporary, ""), "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = users.popen(program, stderr=subprocess.PIPE)
        wait_for(lambda: program_of(process.pid) == program)
        time.sleep(0.3)
        assert process.poll() is None
        users.write(source + ".new", new)
        os.rename(users.home / f"{source}.new", users.home / source)
    assert (process.communicate(timeout=30)[1], process.returncode) == (b"", 0)
    assert b"new" in cdb(users.home / table)[0][0]


@pytest.mark.parametrize("program, folder", [("qmail-newu", "users"), ("qmail-newmrh", "control")])
def test_a_source_that_cannot_be_read_leaves_nothing(users, program, folder):
    source = {"qmail-newu": "assign", "qmail-newmrh": "morercpthosts"}[program]
    for prepare in (lambda path: None, os.mkdir):
        prepare(users.home / folder / source)
        assert users.run(program).returncode == 111
        assert not [name for name in os.listdir(users.home / folder) if "tmp" in name]


# --- qmail-newmrh ------------------------------------------------------------

def test_newmrh(users):
    users.write("control/morercpthosts", "Example.ORG \n\n# comment\n.sub.Example\nlast")
    users.run("qmail-newmrh", check=True)
    assert cdb(users.home / "control/morercpthosts.cdb") == [
        (b"example.org", b""), (b".sub.example", b""), (b"last", b"")]


def test_newmrh_without_list(users):
    assert users.run("qmail-newmrh").returncode == 111
    assert not (users.home / "control/morercpthosts.cdb").exists()


# --- qmail-pw2u --------------------------------------------------------------

@pytest.fixture
def passwd(users):
    """Homes: own of uid, other is not there. A function that gives the lines of a passwd file."""
    own = users.home / "home/own"
    own.mkdir(parents=True)
    users.own(own)
    uid = users.uid

    def text(*more):
        lines = [f"own:x:{uid}:50:Own:{own}:/bin/sh", "gone:x:1001:51:Gone:/nonexistent:/bin/sh",
                 f"Upper:x:{uid}:52::{own}:/bin/sh", "root:x:0:0::/root:/bin/sh",
                 f"alias:x:{uid}:54::{own}:/bin/sh", *more]
        return "".join(line + "\n" for line in lines).encode()

    text.own, text.uid = own, uid
    return text


def pw2u(tree, text, *options):
    done = tree.run("qmail-pw2u", *options, input=text)
    return done.returncode, done.stdout.decode().splitlines()


def lines_of(name, passwd, gid, dash="-", end="-", home=None, uid=None):
    where = f"{name}:{uid or passwd.uid}:{gid}:{home or passwd.own}"
    lines = [f"={name}:{where}:::"]
    return lines + [f"+{name}{end}:{where}:{dash}::"] if end else lines


def test_pw2u_default(users, passwd):
    p = passwd
    assert pw2u(users, p()) == (0, [
        *lines_of("own", p, 50), f"+:alias:{p.uid}:54:{p.own}:-::", *lines_of("alias", p, 54), "."])


def test_pw2u_compiles(users, passwd):
    users.write("users/assign", "\n".join(pw2u(users, passwd())[1]) + "\n")
    users.run("qmail-newu", check=True)


def test_pw2u_any_home(users, passwd):
    lines = pw2u(users, passwd(), "-H")[1]
    assert lines[2:4] == lines_of("gone", passwd, 51, home="/nonexistent", uid=1001)


def test_pw2u_home_must_exist(users, passwd):
    assert pw2u(users, passwd(), "-h")[0] == 111
    assert pw2u(users, passwd(), "-h", "-o")[0] == 0


def test_pw2u_not_the_owner(users, passwd):
    text = passwd(f"stranger:x:{passwd.uid + 1}:55::{passwd.own}:/bin/sh")
    assert not [line for line in pw2u(users, text)[1] if "stranger" in line]


def test_pw2u_upper_case(users, passwd):
    assert lines_of("Upper", passwd, 52)[0] in pw2u(users, passwd(), "-u")[1]
    assert lines_of("Upper", passwd, 52)[0] not in pw2u(users, passwd(), "-u", "-U")[1]


def test_pw2u_break(users, passwd):
    assert pw2u(users, passwd(), "-c+")[1][:2] == lines_of("own", passwd, 50, end="+")
    assert pw2u(users, passwd(), "-c", "=")[1][:2] == lines_of("own", passwd, 50, end="=")
    assert pw2u(users, passwd(), "-C")[1][:2] == [*lines_of("own", passwd, 50, end=""), f"+:alias:{passwd.uid}:54:{passwd.own}:-::"]


def test_pw2u_folder(users, passwd):
    assert pw2u(users, passwd(), "-/")[1][:2] == lines_of("own", passwd, 50, dash="-/")


def test_pw2u_include_and_exclude(users, passwd):
    users.write("users/include", "alias\nown\n")
    users.write("users/exclude", "own\n")
    lines = pw2u(users, passwd(f"more:x:{passwd.uid}:55::{passwd.own}:"))[1]
    assert {line.split(":")[1] for line in lines[:-1]} == {"alias"}


def test_pw2u_mailnames(users, passwd):
    users.write("users/mailnames", "own:first.last:o\n")
    where = f"own:{passwd.uid}:50:{passwd.own}"
    assert pw2u(users, passwd())[1][:4] == [
        f"=first.last:{where}:::", f"+first.last-:{where}:-::", f"=o:{where}:::", f"+o-:{where}:-::"]


def test_pw2u_subusers_and_append(users, passwd):
    users.write("users/subusers", "info:own:office:\nx:nobody-here:y:\n")
    users.write("users/append", "+last:line:1:1:/x:::")
    where = f"own:{passwd.uid}:50:{passwd.own}"
    assert pw2u(users, passwd())[1][-4:] == [
        f"=info:{where}:-:office:", f"+info-:{where}:-:office-:", "+last:line:1:1:/x:::", "."]


def test_pw2u_needs_alias(users):
    code, lines = pw2u(users, b"ana:x:1:1::/:\n")
    assert code == 111
    assert "." not in lines


@pytest.mark.parametrize("options", [["-x"], ["more"], ["-c"], ["-c:"]])
def test_pw2u_usage(users, passwd, options):
    assert pw2u(users, passwd(), *options)[0] == 100


def test_pw2u_malformed_lines(users, passwd):
    text = passwd("", "short:x:1", f"word:x:one:1::{passwd.own}:", f":x:1:1::{passwd.own}:", "nohome:x:1:1:::")
    assert pw2u(users, text) == pw2u(users, passwd())


# --- qmail-getpw -------------------------------------------------------------

def find_user():
    for user in pwd.getpwall():
        try:
            if user.pw_uid and "-" not in user.pw_name and os.stat(user.pw_dir).st_uid == user.pw_uid:
                return user
        except OSError:
            pass
    pytest.skip("this machine has no user but root with a home of his own")


def test_getpw_user(users):
    user = find_user()
    name, rest = user.pw_name.encode(), [str(user.pw_uid).encode(), str(user.pw_gid).encode(), user.pw_dir.encode()]
    for local, dash, ext in ((user.pw_name, b"", b""), (user.pw_name.upper() + "-A-b", b"-", b"A-b"), (user.pw_name + "-", b"-", b"")):
        done = users.run("qmail-getpw", local)
        assert done.returncode == 0
        assert done.stdout == b"".join(f + b"\0" for f in [name, *rest, dash, ext])


def test_getpw_alias(users):
    done = users.run("qmail-getpw", "No-Such-User")
    try:
        pwd.getpwnam("alias")
    except KeyError:
        assert done.returncode == 116
        assert done.stdout == b""
        return
    assert done.stdout.split(b"\0")[0] == b"alias"
    assert done.stdout.split(b"\0")[4:] == [b"-", b"No-Such-User", b""]


def test_getpw_usage(users):
    assert users.run("qmail-getpw").returncode == 112
    assert users.run("qmail-getpw", "a", "b").returncode == 112


def test_getpw_nowhere_to_write(users):
    user = find_user()
    with open("/dev/full", "w") as full:
        assert users.run("qmail-getpw", user.pw_name, stdout=full).returncode == 118
