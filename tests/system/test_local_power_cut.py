"""A power cut after the answers: what qmail-local said is delivered is there, on ext4 with and without a journal, and XFS.

The file system lies in an image; the picture of the image that is taken while it is mounted holds what was written out, and
is repaired and looked at. Run as a program (in a mount namespace of its own), this file makes the deliveries."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

BATCHES, BATCH = 8, 16
BODY = b"".join(b"%07d\n" % i for i in range(500))
FILE_SYSTEMS = {
    "ext4": ["mkfs.ext4", "-q"],
    "ext4-without-journal": ["mkfs.ext4", "-q", "-O", "^has_journal"],
    "xfs": ["mkfs.xfs", "-q"],
}
PARTS = ("joe@h", "ana", "", "", "test.example")


def deliver(program, home):
    """Into a maildir in batches, into a new mbox one at a time."""
    import socket
    import spawn_peer

    for default in "./Maildir/", "./Mailbox":
        ours, theirs = socket.socketpair()
        worker = spawn_peer.Worker(ours)
        process = subprocess.Popen([*spawn_peer.ON_3, str(theirs.fileno()), program, "-W", "ana", home, default],
                                   pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        count = BATCHES * BATCH if default == "./Maildir/" else 3
        for i in range(count):
            worker.job(i, PARTS, b"Subject: %d\n\n" % i + BODY)
            if i % BATCH == BATCH - 1 or i == count - 1:
                for _ in range(i % BATCH + 1):
                    assert worker.done()[2] == "K"
        worker.close()
        assert process.wait() == 0


def run_cut(program, image, picture, mount):
    """In a namespace of its own: deliver, take the picture, repair it, list what is in it."""
    def run(*command, **more):
        return subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **more)

    home = f"{mount}/home"
    try:
        run("mount", "-o", "loop", image, mount)
    except subprocess.CalledProcessError:
        sys.exit(99)
    for sub in "tmp", "new", "cur":
        os.makedirs(f"{home}/Maildir/{sub}")
    os.chmod(home, 0o700)
    os.sync()
    deliver(program, home)
    run("cp", "--sparse=always", image, picture)
    run("umount", mount)
    with open(picture, "rb") as f:
        f.seek(1080)
        if f.read(2) == b"\x53\xef":  # ext4
            assert subprocess.run(["e2fsck", "-fy", picture], check=False, stdout=subprocess.DEVNULL).returncode in (0, 1)
    run("mount", "-o", "loop", picture, mount)
    for path in sorted(pathlib.Path(home, "Maildir/new").iterdir()):
        octets = path.read_bytes()
        number = re.search(rb"\nSubject: (\d+)\n\n(.*)", octets, re.DOTALL)
        print("message", int(number[1]), number[2] == BODY)
    octets = pathlib.Path(home, "Mailbox").read_bytes()
    print("mbox", octets.count(b"\nSubject: "), octets.count(BODY))
    run("umount", mount)


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_power_cut(tree, tmp_path, kind):
    if os.getuid():
        pytest.skip("needs root, to mount an image")
    if not shutil.which(FILE_SYSTEMS[kind][0]):
        pytest.skip(f"{FILE_SYSTEMS[kind][0]} is not installed")
    image, picture, mount = tmp_path / "image", tmp_path / "picture", tmp_path / "mount"
    mount.mkdir()
    with open(image, "wb") as f:
        f.truncate(400 << 20)
    subprocess.run([*FILE_SYSTEMS[kind], str(image)], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(["unshare", "-m", "/usr/bin/python3", __file__, str(tree.home / "libexec/qmail-local"), str(image),
                           str(picture), str(mount)], check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
    picture.unlink(missing_ok=True)
    image.unlink()
    if done.returncode == 99:
        pytest.skip(f"no image can be mounted: {done.stderr.decode()}")
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert lines[-1] == "mbox 3 3"
    assert sorted(lines[:-1]) == sorted(f"message {i} True" for i in range(BATCHES * BATCH))


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    run_cut(*sys.argv[1:])
