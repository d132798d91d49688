"""Deliveries by qmail-local, once by its command line and once as a worker: the same question, the same answer."""
import os
import socket
import stat
import subprocess
import tempfile
from collections import namedtuple

import spawn_peer
from fake_keeper import FakeKeeper

Result = namedtuple("Result", "code text")
CODES = {"K": 0, "Z": 111, "D": 100}
DOMAIN = "test.example"
SENDER = "joe@sender.example"
MESSAGE = b"Subject: hello\nFrom: joe@sender.example\n\nbody\n"


def start_worker(tree, default="./Maildir/", user="ana", home="home/ana", classic=False, env=None, wrap=()):
    """A spawn_peer.Worker with .process: libexec/qmail-local -W. wrap: a program and arguments that run it."""
    ours, theirs = socket.socketpair()
    worker = spawn_peer.Worker(ours)
    options = ["-W", "-C"] if classic else ["-W"]
    worker.process = tree.popen(spawn_peer.ON_3[0], *spawn_peer.ON_3[1:], theirs.fileno(), *wrap,
                                str(tree.home / "libexec/qmail-local"), *options, user, home, default, env=env,
                                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    theirs.close()
    return worker


def end_worker(worker):
    worker.close()
    return worker.process.wait(30)


def ending(text):
    """The lines of a report, as str."""
    return text.decode(errors="replace").splitlines()


class Local:
    """how: "once" or "worker"."""

    def __init__(self, tree, how):
        self.tree, self.how = tree, how
        self.home = tree.home / "home/ana"
        tree.need("qmail-local")

    def file(self, name, text="", mode=0o600):
        """Writes a file in ana's home."""
        path = self.tree.write(f"home/ana/{name}", text, 0o600)
        path.chmod(mode)
        return path

    def qmail(self, text, name=".qmail", mode=0o600):
        return self.file(name, text, mode)

    def deliver(self, message=MESSAGE, local="ana", dash="", ext="", domain=DOMAIN, sender=SENDER, default="./Maildir/",
                user="ana", home="home/ana", env=None, wrap=(), timeout=60):
        """wrap: a program and arguments that run qmail-local."""
        if self.how == "once":
            with tempfile.TemporaryFile() as file:
                file.write(message)
                file.seek(0)
                args = ["--", user, home, local, dash, ext, domain, sender, default]
                program = [*wrap, str(self.tree.bin / "qmail-local")]
                done = self.tree.run(*program, *args, stdin=file, env=env, timeout=timeout)
                assert done.stderr == b"", done
                return Result(done.returncode, done.stdout)
        worker = start_worker(self.tree, default, user, home, env=env, wrap=wrap)
        try:
            if len(message) > 100000:  # a large message comes as a descriptor
                with tempfile.TemporaryFile() as file:
                    file.write(message)
                    file.seek(0)
                    worker.job(7, (sender, local, dash, ext, domain), file=file.fileno())
            else:
                worker.job(7, (sender, local, dash, ext, domain), message)
            number, recipient, letter, text = worker.done(timeout)
            assert (number, recipient) == (7, 0)
            return Result(CODES[letter], text)
        finally:
            assert end_worker(worker) == 0

    def extension(self, ext, **more):
        """Delivers to ana-EXT."""
        return self.deliver(local=f"ana-{ext}", dash="-", ext=ext, **more)

    def maildir(self, folder="Maildir"):
        return self.tree.maildir("ana", folder)

    def left_in_tmp(self, folder="Maildir"):
        return os.listdir(self.home / folder / "tmp")

    def output(self, command, **more):
        """What a program in .qmail prints."""
        self.qmail("|" + command + "\n")
        result = self.deliver(**more)
        assert result.code == 0, result
        lines = result.text.split(b"\n")
        assert lines[-2] == b"did 0+0+1" and lines[-1] == b""
        return b"\n".join(lines[:-2])

    def keeper(self, code=0, number=1234):
        """A context manager: a queue that keeps what comes in .submissions, and answers code."""
        return Queue(self.tree, code, number)


class Queue(FakeKeeper):
    def __init__(self, tree, code, number):
        self.submissions = []

        def serve(connection):
            while True:
                submission = connection.submission()
                if len(submission) == 3:
                    return
                self.submissions.append(submission)
                connection.answer(code, number)

        super().__init__(tree, "run/qmail-queued", serve)


def envelope(sender, *recipients):
    return b"F" + sender.encode() + b"\0" + b"".join(b"T" + r.encode() + b"\0" for r in recipients) + b"\0"


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)
