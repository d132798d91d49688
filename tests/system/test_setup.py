"""Installing and setting up: admin/install, qmail-setup, config-fast, config."""
import fcntl
import grp
import os
import pwd
import shutil
import stat
import subprocess

import pytest

from conftest import BUILD, SOURCE, new_directory

root_only = pytest.mark.skipif(os.getuid() != 0, reason="makes users in a private root directory: needs root")


def install(home):
    done = subprocess.run(["admin/install", str(BUILD), str(home)], cwd=SOURCE, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


@pytest.fixture
def home():
    top = new_directory()
    yield top / "var/qmail"
    shutil.rmtree(top)


# --- admin/install ------------------------------------------------------------

def test_install_again_changes_nothing(home):
    install(home)
    first = {p: p.stat().st_ino for p in home.rglob("*") if p.is_file()}
    assert install(home) == ""
    assert first == {p: p.stat().st_ino for p in home.rglob("*") if p.is_file()}


def test_install_keeps_a_replaced_program(home):
    """A site's own bin/qmail-queue wins; ours is libexec/qmail-queue."""
    install(home)
    own = home / "bin/qmail-queue"
    own.unlink()
    own.write_text("#!/bin/sh\n")
    assert "qmail-queue is your own program and stays" in install(home)
    assert own.read_text() == "#!/bin/sh\n"
    assert (home / "libexec/qmail-queue").read_bytes() == (BUILD / "bin/qmail-queue").read_bytes()


def test_install_over_another_qmail(home):
    """Its programs that ours replace are kept, without setuid; the others stay where they are."""
    (home / "bin").mkdir(parents=True)
    for name, mode in (("qmail-queue", 0o4711), ("pinq", 0o755)):
        (home / "bin" / name).write_text(f"old {name}")
        (home / "bin" / name).chmod(mode)
    assert "another qmail" in install(home)
    kept = home / "bin.qmail/qmail-queue"
    assert kept.read_text() == "old qmail-queue"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o711
    assert (home / "bin/pinq").read_text() == "old pinq"
    assert os.path.samefile(home / "bin/qmail-queue", home / "libexec/qmail-queue")
    assert stat.S_IMODE((home / "bin/qmail-queue").stat().st_mode) == 0o755
    install(home)
    assert kept.read_text() == "old qmail-queue"


def test_install_waits_for_the_old_qmail_to_be_stopped(home):
    """Its programs are not taken away under a qmail that runs."""
    for name in ("bin", "queue/lock"):
        (home / name).mkdir(parents=True)
    (home / "bin/qmail-queue").write_text("old")
    lock = home / "queue/lock/sendmutex"
    lock.touch()
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = subprocess.run(["admin/install", BUILD, home], cwd=SOURCE, capture_output=True, text=True)
    assert done.returncode == 111 and "stop it first" in done.stderr
    assert [p.name for p in home.iterdir() if p.name != "queue"] == ["bin"]
    assert (home / "bin/qmail-queue").read_text() == "old"


def test_install_keeps_a_changed_service(home):
    install(home)
    run = home / "service/qmail-send/run"
    changed = run.read_text() + "# changed here\n"
    run.write_text(changed)
    assert "was changed and stays" in install(home)
    assert run.read_text() == changed
    assert (run.parent / "run.new").read_bytes() == (SOURCE / "service/qmail-send/run").read_bytes()


def test_install_leaves_a_network_server_as_the_administrator_wants_it(home):
    """It is down in a new tree; who has taken that away is not asked again."""
    install(home)
    names = ("qmail-smtpd", "qmail-submission", "qmail-submissions", "qmail-qmtpd", "qmail-qmqpd", "qmail-popup", "qmail-pop3s")
    assert all((home / "service" / name / "down").exists() for name in names)
    assert not (home / "service/qmail-send/down").exists()
    (home / "service/qmail-smtpd/down").unlink()
    install(home)
    assert not (home / "service/qmail-smtpd/down").exists()
    assert (home / "service/qmail-qmtpd/down").exists()


def test_every_page_is_installed(installation):
    pages = {p.name for p in (installation / "man").rglob("*.[1-8]")}
    assert {"qmail-setup.8", "qmailctl.8", "svstat.8"} <= pages
    for page in (installation / "man").rglob("*.[1-8]"):
        assert page.parent.name == "man" + page.suffix[1:]
    assert {p.name for p in (installation / "bin").iterdir()} <= {p[:-2] for p in pages}


# --- config-fast --------------------------------------------------------------

@pytest.fixture
def config_fast(home):
    """A tree that holds nothing but config-fast."""
    for name in ("bin", "control"):
        (home / name).mkdir(parents=True)
    shutil.copy(BUILD / "bin/config-fast", home / "bin")
    return home / "bin/config-fast"


@pytest.mark.parametrize("name, domain, plus", [
    ("mx.example.org", "example.org", "example.org"),
    ("a.b.example.org", "b.example.org", "example.org"),
    ("example.org", "example.org", "example.org"),
    ("host", "host", "host"),
    ("MX.Example.ORG", "example.org", "example.org"),
])
def test_config_fast(home, config_fast, name, domain, plus):
    subprocess.run([config_fast, name], check=True, stdout=subprocess.PIPE)
    values = {p.name: p.read_text() for p in (home / "control").iterdir()}
    lower = name.lower()
    assert values == {"me": lower + "\n", "defaultdomain": domain + "\n", "plusdomain": plus + "\n",
                      "locals": lower + "\n", "rcpthosts": lower + "\n"}
    assert sorted(os.listdir(home)) == ["bin", "control"]


def test_config_fast_adds_to_lists_once(home, config_fast):
    (home / "control/locals").write_text("other.example\n# no end of line")
    for _ in range(2):
        subprocess.run([config_fast, "mx.example.org"], check=True, stdout=subprocess.PIPE)
    assert (home / "control/locals").read_text() == "other.example\n# no end of line\nmx.example.org\n"


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../x", ".example", "x.", "a..b", "-n", "a\nb"])
def test_config_fast_refuses(home, config_fast, name):
    done = subprocess.run([config_fast, name], stderr=subprocess.PIPE)
    assert done.returncode == 100
    assert os.listdir(home / "control") == []


# --- qmail-setup ---------------------------------------------------------------

USERS = {"alias": "nofiles", "qmaild": "nofiles", "qmaill": "nofiles", "qmailp": "nofiles", "qmailq": "qmail",
         "qmailr": "nofiles", "qmails": "qmails", "qmailt": "nofiles", "qmailk": "nofiles",
         "qmailm": "nofiles", "qmailu": "nofiles"}


@pytest.fixture
def private_root(home, installation):
    """A DESTDIR with users and groups of its own and the programs installed."""
    top = home.parents[1]
    (top / "etc").mkdir()
    for name in ("passwd", "group", "shadow", "gshadow"):
        (top / "etc" / name).write_text("root:x:0:0:root:/root:/bin/sh\n" if name == "passwd" else
                                        "root:x:0:\n" if name == "group" else "root:*::::::\n" if name == "shadow"
                                        else "root:*::\n")
    shutil.copy("/etc/login.defs", top / "etc/login.defs")
    home.mkdir(parents=True)
    for name in ("bin", "libexec", "service"):
        subprocess.run(["cp", "-a", installation / name, home], check=True)
        subprocess.run(["chown", "-R", "0:0", home / name], check=True)
    return top


def set_up(top, *args, **more):
    return subprocess.run([top / "var/qmail/bin/qmail-setup", *args], env={**os.environ, "DESTDIR": str(top)},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)


def numbers(top):
    """(uid of each user, gid of each group) of a private root."""
    rows = [line.split(":") for line in (top / "etc/passwd").read_text().splitlines()]
    groups = [line.split(":") for line in (top / "etc/group").read_text().splitlines()]
    gids = {g[0]: int(g[2]) for g in groups}
    names = {gid: name for name, gid in gids.items()}
    return {r[0]: int(r[2]) for r in rows}, gids, {r[0]: names[int(r[3])] for r in rows}


@root_only
def test_setup_users_and_owners(private_root):
    done = set_up(private_root, "mx.example.org")
    assert done.returncode == 0, done.stdout
    uid, gid, primary = numbers(private_root)
    assert {u: primary[u] for u in USERS} == USERS
    assert len({uid[u] for u in USERS}) == len(USERS) and 0 not in {uid[u] for u in USERS}
    home = private_root / "var/qmail"
    rules = [("queue", 0o750, "qmailq", "qmails"), ("queue/journal", 0o750, "qmailq", "qmails"),
             ("queue/damaged", 0o750, "qmailq", "qmails"), ("queue/new", 0o750, "qmailq", "qmails"),
             ("run", 0o711, "qmailq", "qmails"), ("run/qmail-rcptd", 0o711, "qmailp", "nofiles"), ("run/qmail-submitd", 0o711, "qmailu", "nofiles"),
             ("run/qmail-tlsd", 0o711, "qmailt", "nofiles"),
             ("run/qmail-authd", 0o711, "root", "root"), ("run/qmail-mtastsd", 0o711, "qmailm", "nofiles"),
             ("run/qmail-keyd", 0o711, "qmailk", "nofiles"), ("tls", 0o700, "qmailk", "nofiles"), ("tls/client", 0o700, "qmailk", "nofiles"), ("tls/self-signed.pem", 0o400, "qmailk", "nofiles"),
             ("alias", 0o755, "alias", "nofiles"),
             ("alias/Maildir", 0o700, "alias", "nofiles"), ("control", 0o755, "root", "root"),
             ("bin", 0o755, "root", "root"), ("libexec", 0o755, "root", "root"), ("users", 0o755, "root", "root")]
    rules += [(f"queue/{sub}/{n}", 0o750, "qmailq", "qmails") for sub in ("mess", "info") for n in range(23)]
    for name, mode, user, group in rules:
        st = (home / name).stat()
        assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (mode, uid[user], gid[group]), name
    for service in ("qmail-send", "qmail-queued", "qmail-rcptd", "qmail-keyd", "qmail-tlsd", "qmail-authd", "qmail-submitd", "qmail-mtastsd", "qmail-smtpd", "qmail-submission", "qmail-submissions", "qmail-qmtpd", "qmail-qmqpd", "qmail-popup", "qmail-pop3s"):
        st = (private_root / "var/log/qmail" / service).stat()
        assert (stat.S_IMODE(st.st_mode), st.st_uid) == (0o700, uid["qmaill"])
    assert os.readlink(home / "log") == "/var/log/qmail"
    assert (home / "control/defaultdelivery").read_text() == "./Maildir/\n"
    for box in ("postmaster", "mailer-daemon", "root"):
        st = (home / f"alias/.qmail-{box}").stat()
        assert (st.st_size, st.st_uid) == (0, uid["alias"])
    for name in ("qmail", "nofiles", "qmails"):	# this host's own users are not touched
        with pytest.raises(KeyError):
            grp.getgrnam(name)
    with pytest.raises(KeyError):
        pwd.getpwnam("qmailq")


def everything(top):
    return {p: (p.lstat().st_mode, p.lstat().st_uid, p.lstat().st_gid, p.read_bytes() if p.is_file() else b"")
            for p in top.rglob("*")}


@root_only
def test_setup_again_changes_nothing(private_root):
    assert set_up(private_root, "mx.example.org").returncode == 0
    (private_root / "var/qmail/alias/.qmail-root").write_text("&ana\n")
    (private_root / "var/qmail/control/defaultdelivery").write_text("./Mailbox\n")
    before = everything(private_root)
    assert set_up(private_root).returncode == 0
    assert everything(private_root) == before


@root_only
def test_setup_repairs_modes(private_root):
    assert set_up(private_root, "mx.example.org").returncode == 0
    before = everything(private_root)
    (private_root / "var/qmail/queue").chmod(0o777)
    os.chown(private_root / "var/qmail/run", 0, 0)
    assert set_up(private_root).returncode == 0
    assert everything(private_root) == before


@root_only
@pytest.mark.parametrize("name", ["alias/Maildir", "queue/mess", "run/qmail-rcptd", "tls/client"])
def test_setup_goes_through_no_link_of_another_user(private_root, tmp_path, name):
    """Or alias, or a service, would be given what root finds there."""
    assert set_up(private_root, "mx.example.org").returncode == 0
    target = tmp_path / "target"
    target.mkdir(mode=0o755)
    (target / "new").mkdir()
    place = private_root / "var/qmail" / name
    place.rename(place.with_name("aside"))
    place.symlink_to(target)
    before = everything(tmp_path)
    done = set_up(private_root)
    assert done.returncode == 111 and f"{name} is a link" in done.stdout
    assert everything(tmp_path) == before


@root_only
def test_setup_makes_no_alias_file_through_a_link(private_root, tmp_path):
    assert set_up(private_root, "mx.example.org").returncode == 0
    place = private_root / "var/qmail/alias/.qmail-root"
    place.unlink()
    place.symlink_to(tmp_path / "made")
    assert set_up(private_root).returncode == 0
    assert not (tmp_path / "made").exists()


@root_only
def test_setup_keeps_the_users_of_a_qmail(private_root):
    """On a machine that had qmail, qmails and qmailr are in the group qmail; they stay there."""
    subprocess.run(["groupadd", "--prefix", private_root, "-g", "2107", "qmail"], check=True)
    for name, number in (("qmailr", "7795"), ("qmails", "7796")):
        subprocess.run(["useradd", "--prefix", private_root, "-u", number, "-g", "2107", "-M", name], check=True)
    assert set_up(private_root, "mx.example.org").returncode == 0
    uid, gid, primary = numbers(private_root)
    assert (uid["qmails"], primary["qmails"], uid["qmailr"], primary["qmailr"]) == (7796, "qmail", 7795, "qmail")
    assert (private_root / "var/qmail/queue").stat().st_gid == gid["qmails"] != gid["qmail"]


@root_only
def test_setup_refuses_members_of_the_queues_group(private_root):
    assert set_up(private_root, "mx.example.org").returncode == 0
    path = private_root / "etc/group"
    path.write_text("".join(line.rstrip("\n") + ("qmailr\n" if line.startswith("qmails:") else "\n")
                            for line in path.read_text().splitlines(True)))
    done = set_up(private_root)
    assert done.returncode == 111 and "opens the queue" in done.stdout


@root_only
def test_setup_leaves_the_queue_of_a_qmail_alone(private_root):
    queue = private_root / "var/qmail/queue"
    for name in ("mess/3", "info/3", "pid", "intd", "todo", "lock"):
        (queue / name).mkdir(parents=True)
    (queue / "mess/3/1234").write_text("old mail\n")
    (queue / "mess/3/1234").chmod(0o640)
    os.chown(queue / "mess/3/1234", 7, 8)
    (queue / "lock/sendmutex").write_text("")
    before = {str(p.relative_to(queue)): v for p, v in everything(queue).items()}
    assert set_up(private_root, "mx.example.org").returncode == 0
    kept = queue.parent / "queue.qmail"
    assert {str(p.relative_to(kept)): v for p, v in everything(kept).items()} == before
    assert (queue / "journal").is_dir() and not (queue / "todo").exists()


@root_only
def test_setup_waits_for_the_old_qmail_to_be_stopped(private_root):
    queue = private_root / "var/qmail/queue"
    for name in ("pid", "lock"):
        (queue / name).mkdir(parents=True)
    (queue / "lock/sendmutex").write_text("")
    with subprocess.Popen(["flock", queue / "lock/sendmutex", "cat"], stdin=subprocess.PIPE) as holder:
        while subprocess.run(["flock", "-n", queue / "lock/sendmutex", "true"]).returncode == 0:
            pass
        done = set_up(private_root, "mx.example.org")
        holder.stdin.close()
    assert done.returncode == 111 and "stop it first" in done.stdout
    assert (queue / "pid").is_dir() and not (queue.parent / "queue.qmail").exists()


def test_setup_without_root_says_what_to_do(tree):
    """A user who is not root gets no half-made tree: he is told of -1."""
    done = tree.run("qmail-setup", "mx.example.org")
    assert done.returncode == 100 and b"qmail-setup -1" in done.stderr
    assert done.stdout == b""


@pytest.mark.parametrize("command, code", [(["config-fast", "mx.example.org"], 0), (["qmail-setup", "-1", "mx.example.org"], 0),
                                           (["qmailctl", "cdb"], 111)], ids=lambda c: c[0] if isinstance(c, list) else "")
def test_a_script_works_on_the_tree_that_it_lies_in(tree, command, code):
    """Called as bin/NAME by somebody who has a CDPATH in his environment, too."""
    for name in ("bin", "control", "users", "queue", "run", "service"):
        tree.write(f"other/{name}/.keep", "")
    before = sorted(str(p) for p in (tree.home / "other").rglob("*"))
    tree.write("users/assign", "nonsense\n")
    done = tree.run("/bin/sh", "-c", '"$@"', "-", f"bin/{command[0]}", *command[1:], env={"CDPATH": str(tree.home / "other")})
    assert done.returncode == code, done
    assert sorted(str(p) for p in (tree.home / "other").rglob("*")) == before
    assert code or (tree.home / "control/me").read_text() == "mx.example.org\n"


def test_nothing_is_setuid(installation):
    for p in installation.rglob("*"):
        assert not p.lstat().st_mode & 0o6000, p
