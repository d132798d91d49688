"""The private tree that the other tests use."""
import os
import stat


def test_second_names(tree):
    """libexec/ holds second names of the replaceable programs, and nothing else."""
    names = os.listdir(tree.home / "libexec")
    assert set(names) <= {"qmail-queue", "qmail-remote", "qmail-local", "qmail-inject", "qmail-getpw"}
    for name in names:
        assert os.path.samefile(tree.home / "libexec" / name, tree.bin / name)


def test_modes(tree):
    """The queue is closed, the sockets can be reached, nothing is setuid."""
    def mode(name):
        return stat.S_IMODE((tree.home / name).stat().st_mode)

    assert mode("run") == 0o711
    for name in ("queue", "queue/journal", "queue/mess/22", "queue/info/0", "queue/new", "queue/damaged"):
        assert mode(name) == 0o750
    for path, _, files in os.walk(tree.home):
        for file in files:
            assert not os.lstat(os.path.join(path, file)).st_mode & 0o6000


def test_server_starts_and_ends(server):
    """Both daemons say that they are ready; a second one of each leaves the first alone."""
    assert server.keeper.poll() is None and server.send.poll() is None
