"""Programs shut themselves in before they read what others wrote, and work while they are; what runs other people's
programs does not."""
import os
import signal
import subprocess

import pytest

from conftest import wait_for
from fake_keeper import FakeKeeper
from probe import is_sanitized


def shut_in(pid):
    """(no_new_privs, filters) of a process."""
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":" in line)
    return int(status["NoNewPrivs"]), int(status.get("Seccomp_filters", -1))


@pytest.fixture(scope="session")
def has_seccomp():
    actions = "/proc/sys/kernel/seccomp/actions_avail"
    if not os.path.exists(actions) or "kill_process" not in open(actions).read():
        pytest.skip("this kernel has no filters of system calls")


def test_inject_while_it_reads_the_message(tree, has_seccomp):
    tree.need("qmail-inject")
    got = []

    def serve(keeper):
        got.append(keeper.submission())
        keeper.answer()

    with FakeKeeper(tree, "run/qmail-queued", serve):
        process = tree.popen("qmail-inject", "ana@example.org", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(b"Subject: x\n\n" + b"body\n" * 20_000)
        process.stdin.flush()  # more than a pipe holds: it reads
        seen = shut_in(process.pid)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert seen == (1, 0 if is_sanitized(tree.bin / "qmail-inject") else 1)
    assert got[0][1].endswith(b"\0Tana@example.org\0\0") and got[0][0].endswith(b"body\n")


def test_inject_with_a_program_of_the_callers(tree, has_seccomp):
    """QMAILQUEUE is the caller's choice: it runs as if the caller had started it."""
    tree.need("qmail-inject")
    script = tree.write("filter", "#!/bin/sh\nexec 3<&1; cat >/dev/null; cat <&3 >/dev/null\ngrep -E 'NoNewPrivs|Seccomp:' /proc/self/status | tr '\\n' ' ' >state\nexit 0\n", 0o755)
    done = tree.inject("Subject: x\n\nx\n", "ana@example.org", env={"QMAILQUEUE": str(script)})
    assert done.returncode == 0
    assert (tree.home / "state").read_text().split() == ["NoNewPrivs:", "0", "Seccomp:", "0"]


def test_inject_with_a_replaced_qmail_queue(tree, has_seccomp):
    tree.need("qmail-inject")
    tree.replace("qmail-queue", "#!/bin/sh\nexec 3<&1; cat >/dev/null; cat <&3 >/dev/null\ngrep -E 'NoNewPrivs|Seccomp:' /proc/self/status | tr '\\n' ' ' >state\nexit 0\n")
    tree.inject("Subject: x\n\nx\n", "ana@example.org")
    assert (tree.home / "state").read_text().split() == ["NoNewPrivs:", "0", "Seccomp:", "0"]


def test_inject_prints_and_dates(tree):
    """-n, local time zone, QMAILMFTFILE outside the home: everything is read before."""
    tree.need("qmail-inject")
    lists = tree.write("lists", "list@example.org\n")
    text = tree.inject("To: list@example.org\n\nx\n", "-n", env={"QMAILMFTFILE": str(lists), "TZ": "America/Lima"}).stdout
    for field in (b"Return-Path:", b"\nDate: ", b"\nMessage-ID:", b"\nFrom:", b"\nMail-Followup-To: list@example.org\n"):
        assert field in text


def test_inject_with_symbolic_links_in_control(tree):
    tree.need("qmail-inject")
    elsewhere = tree.write("elsewhere", "linked.example\n")
    (tree.control / "idhost").symlink_to(elsewhere)
    assert b"@linked.example>\n" in tree.inject("To: a@b\n\n", "-n").stdout


def test_send_reads_control_files_that_are_links(stopped):
    """A file elsewhere that control/ leads to can be read again; one that took its place later cannot, and the old settings
    stay."""
    elsewhere = stopped.write("elsewhere", (stopped.control / "locals").read_text())
    (stopped.control / "locals").unlink()
    (stopped.control / "locals").symlink_to(elsewhere)
    stopped.start()
    stopped.inject("Subject: 1\n\n", "ana")
    stopped.arrived(1)
    with open(elsewhere, "a") as f:
        f.write("more.example\n")
    stopped.send.send_signal(signal.SIGHUP)
    wait_for(lambda: stopped.inject("Subject: 2\n\n", "ana@more.example") and "to local ana@more.example" in stopped.log())
    new = stopped.write("elsewhere.new", elsewhere.read_text() + "third.example\n")
    new.rename(elsewhere)
    stopped.send.send_signal(signal.SIGHUP)
    if shut_in(stopped.send.pid)[1] == 1:
        stopped.logged("warning: unable to reread control/locals: Permission denied; keeping the old settings")
    before = len(stopped.maildir())
    stopped.inject("Subject: 3\n\n", "ana@more.example")
    stopped.arrived(before + 1)


def test_daemons_say_once_what_they_lack(server):
    """With everything there, nothing is said."""
    lacking = [log for log in ("qmail-queued", "qmail-send", "qmail-send.stderr") if "runs without" in server.log(log)]
    if shut_in(server.keeper.pid)[1] == 1:
        assert not lacking
    else:
        assert lacking
