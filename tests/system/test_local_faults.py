"""qmail-local where the disk is full or may not be written: the message is deferred, nothing half-made is left. It has a limit
of memory."""
import os

import pytest

from delivering import MESSAGE, Local
from smtp_session import MEMORY, SANITIZED

CAP = "" if SANITIZED else f"ulimit -v {MEMORY >> 10}; "
TMPFS = 'mount -t tmpfs -o "mode=700,$1" tmpfs "$2" || exit 99; shift 2; '


@pytest.fixture(params=["once", "worker"])
def local(request, tree):
    return Local(tree, request.param)


def in_namespace(local, options, script):
    """A program and arguments that mount a tmpfs over ana's home in a namespace of its own, run script (the home is the
    current directory), and then the rest of the line. What is in the home at the end is copied to home/ana.after."""
    probe = ["unshare", "-Urm", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs "$1"', "-", str(local.home)]
    done = local.tree.run("/usr/bin/env", *probe)
    if done.returncode:
        pytest.skip(f"no namespace for a user: {done.stderr.decode()}")
    after = local.home.with_name("ana.after")
    shell = TMPFS + f'here=$PWD; cd {local.home}; mkdir -p Maildir/tmp Maildir/new Maildir/cur; {script}; cd "$here"; {CAP}"$@"; code=$?; ' \
        f'cp -a {local.home} {after} 2>/dev/null; exit $code'
    return "/usr/bin/unshare", "-Urm", "sh", "-c", shell, "-", options, str(local.home)


def after(local):
    """{path: octets} of the regular files that were left."""
    base = local.home.with_name("ana.after")
    return {str(p.relative_to(base)): p.read_bytes() for p in base.rglob("*") if p.is_file() and p.name != "filler"}


FULL = "head -c 10000000 /dev/zero >filler 2>/dev/null; :"


@pytest.mark.parametrize("default, size", [  # a few octets more find room in the last page of Mailbox
    ("./Maildir/", 100), ("./Maildir/", 20000), ("./Maildir/", 90000), ("./Mailbox", 20000), ("./Mailbox", 90000)])
def test_S20_disk_full(local, default, size):
    message = b"Subject: x\n\n" + b"m" * size
    script = "printf 'From a b\\n\\nold\\n\\n' >Mailbox; " + FULL
    result = local.deliver(message, default=default, wrap=in_namespace(local, "size=64k", script))
    assert result.code == 111 and b"(#4.3.1)" in result.text
    assert after(local) == {"Mailbox": b"From a b\n\nold\n\n"}


def test_S20_disk_full_in_the_middle(local):
    message = b"Subject: x\n\n" + b"m" * 90000
    result = local.deliver(message, wrap=in_namespace(local, "size=64k", ":"))
    assert result.code == 111 and after(local) == {}
    result = local.deliver(MESSAGE, wrap=in_namespace(local, "size=64k", ":"))
    assert result.code == 0


def test_S20_mbox_full_in_the_middle(local):
    message = b"Subject: x\n\n" + b"m" * 90000
    script = "printf 'From a b\\n\\nold\\n\\n' >Mailbox"
    result = local.deliver(message, default="./Mailbox", wrap=in_namespace(local, "size=64k", script))
    assert result.code == 111 and after(local) == {"Mailbox": b"From a b\n\nold\n\n"}


@pytest.mark.parametrize("default", ["./Maildir/", "./Mailbox"])
def test_S20_no_inodes(local, default):
    script = "i=0; while touch f$i 2>/dev/null; do i=$((i+1)); done"
    result = local.deliver(default=default, wrap=in_namespace(local, "size=1m,nr_inodes=20", script))
    assert result.code == 111
    assert all(name.startswith("f") for name in after(local))


@pytest.mark.parametrize("default", ["./Maildir/", "./Mailbox"])
def test_S20_read_only(local, default):
    script = f"mount -o remount,bind,ro {local.home}"
    result = local.deliver(default=default, wrap=in_namespace(local, "size=1m", script))
    assert result.code == 111 and b"(#4.2.1)" in result.text
    assert after(local) == {}


def test_S20_batch_with_one_that_is_too_large(tree):
    """One failure affects its own job."""
    import delivering
    local = Local(tree, "worker")
    wrap = in_namespace(local, "size=128k", ":")
    worker = delivering.start_worker(tree, wrap=wrap)
    parts = (delivering.SENDER, "ana", "", "", delivering.DOMAIN)
    for number, size in ((1, 10), (2, 200000), (3, 10)):
        worker.job(number, parts, b"X: %d\n\n" % number + b"m" * size)
    got = {}
    for _ in range(3):
        number, _, letter, _ = worker.done()
        got[number] = letter
    worker.close()
    worker.process.wait(30)
    assert got == {1: "K", 2: "Z", 3: "K"}
    assert len(after(local)) == 2


def test_S20_programs_of_a_full_disk(local):
    """What a program says about it comes back."""
    result = local.deliver(default="|cat >copy || exit 111", wrap=in_namespace(local, "size=64k", FULL))
    assert result.code == 111


def test_dev_full(local):
    os.symlink("/dev/full", local.home / "Mailbox")
    assert local.deliver(default="./Mailbox").code == 111


def test_quota_of_open_files(local):
    """No descriptors left for the pipe of a program: later."""
    script = 'ulimit -n 6; exec "$@"'
    result = local.deliver(default="|true\n", wrap=("/bin/sh", "-c", script, "-"))
    assert result.code in (0, 111)
