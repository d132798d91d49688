"""splogger: lines become syslog entries. /dev/log is one of the test's own, in a private mount namespace."""
import re
import subprocess
import sys

import pytest

# Runs in the namespace: takes what splogger sends and prints it, an entry a line.
COLLECT = r"""
import os, select, socket, subprocess, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
os.chmod("/dev/log", 0o666)
program = subprocess.Popen(sys.argv[1:])
while True:
    ready, _, _ = select.select([log], [], [], 0.05)
    if ready:
        sys.stdout.buffer.write(log.recv(65536) + b"\n")
    elif program.poll() is not None:
        break
sys.exit(program.returncode)
"""


@pytest.fixture
def splogger(tree):
    tree.need("splogger")
    # the tree itself may be below /dev
    mounts = 'mount --bind "$0" /mnt && mount -t tmpfs tmpfs /dev && mkdir -p "$0" && mount --bind /mnt "$0" && exec "$@"'
    wrap = ["unshare", "-rm", "sh", "-c", mounts, str(tree.home)]
    if subprocess.run([*wrap, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no mount namespace of its own: splogger needs a /dev/log")

    def run(text, *args, code=0):
        done = subprocess.run([*wrap, sys.executable, "-c", COLLECT, str(tree.bin / "splogger"), *args], input=text,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == code, done.stderr
        entry = re.compile(rb"<(\d+)>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ([^:]+): (.*)", re.S)
        return [m.group(1, 2, 3) for m in map(entry.fullmatch, done.stdout.split(b"\n")[:-1])]

    return run


def test_levels_tag_and_stamp(splogger):
    entries = splogger(b"status: local 0/10 remote 0/20\nwarning: slow\nalert: cannot start\nan alert: no\n")
    assert [(int(p), tag) for p, tag, _ in entries] == [(22, b"splogger"), (20, b"splogger"), (17, b"splogger"), (22, b"splogger")]
    for _, _, text in entries:
        assert re.match(rb"\d{10}\.\d{6} [a-z]", text)
    assert entries[0][2].endswith(b" status: local 0/10 remote 0/20")


def test_tag_and_facility(splogger):
    assert [(int(p), tag) for p, tag, _ in splogger(b"x\n", "qmail", "16")] == [(16 * 8 + 6, b"qmail")]
    splogger(b"x\n", "qmail", "24", code=100)
    splogger(b"x\n", "qmail", "mail", code=100)
    splogger(b"x\n", "a", "2", "b", code=100)


def test_long_lines_go_on_with_a_plus_sign(splogger):
    entries = splogger(b"warning: " + b"x" * 2000 + b"\nnext\n" + b"y" * 800 + b"\n")
    assert [int(p) & 7 for p, _, _ in entries] == [4, 4, 4, 6, 6]
    assert [text[17:18] for _, _, text in entries] == [b" ", b"+", b"+", b" ", b" "]
    assert [len(text) - 18 for _, _, text in entries] == [800, 800, 409, 4, 800]


def test_masks_what_is_not_printable_and_takes_the_last_line(splogger):
    texts = [text[18:] for _, _, text in splogger(b"a\0b\x1b[2J\xc3\xa9%s%n\n\nlast")]
    assert texts == [b"a?b?[2J??%s%n", b"", b"last"]
