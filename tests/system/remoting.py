"""qmail-remote, run once or as a worker, towards the servers of fake_smtp."""
import resource
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from certificates import authority
from conftest import Tree, make_tree, new_directory, wait_for
from probe import is_sanitized
from spawn_peer import ON_3, Worker, remote_job

MEMORY = 48 << 20  # octets of address space: the program, its libraries, and every buffer that it may fill
HOST = "dest.example"


@pytest.fixture(scope="module")
def remote_tree(installation):
    """One for all tests of a module: they change control files only."""
    top = new_directory()
    yield make_tree(installation, Tree, top / "tambo")
    shutil.rmtree(top)


@pytest.fixture
def tree(remote_tree):
    """In the place of conftest's, for modules that import both."""
    shutil.rmtree(remote_tree.control)
    remote_tree.write("control/me", "mail.test.example\n")
    return remote_tree


def capped(tree):
    """What Popen has to be told for a process that may not grow."""
    if is_sanitized(tree.bin / "qmail-remote"):
        return {}
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))}


def route_to(tree, *servers, host=""):
    """All mail, or that for host, goes to the server."""
    tree.write("control/smtproutes", "".join(f"{host}:[{s.host}]:{s.port}\n" for s in servers))


def believe(tree):
    """The tests' authority is known to the tree."""
    tree.write("control/authorities.pem", Path(authority().name, "ca.pem").read_text())
    tree.write("control/tlscafile", "control/authorities.pem\n")


def reports(octets):
    """[(letter, text), ...] of the report of a run."""
    assert octets.endswith(b"\0"), octets
    return [(chr(r[0]), r[1:].decode()) for r in octets[:-1].split(b"\0")]


def send(tree, *recipients, sender="ana@mail.test.example", message=b"Subject: x\n\nbody\n", host=HOST, env=None, **more):
    """Runs qmail-remote once; returns its report. Messages are a file on descriptor 0, as qmail-rspawn gives them."""
    recipients = recipients or ("r@dest.example",)
    path = tree.home / "message"
    path.write_bytes(message)
    with open(path, "rb") as file:
        done = tree.run("qmail-remote", host, sender, *recipients, stdin=file, env=env, **capped(tree), **more)
    assert (done.returncode, done.stderr) == (0, b""), done
    return reports(done.stdout)


def expect_in_log_and_bounce(server, recipient, reason):
    """Sends a message that is older than it may be when it is tried first, with a server of which nothing runs yet."""
    server.write("control/queuelifetime", "0\n")
    server.start_keeper()
    assert server.queue(b"Subject: x\n\nbody\n", "ana@mail.test.example", recipient).returncode == 0
    born = int(time.time())
    wait_for(lambda: time.time() > born + 1, what="the message to be older than it may be")
    server.start_send()
    (bounce,) = server.arrived(1)
    assert reason in " ".join(bounce.decode().split()), bounce.decode()
    server.logged(reason.replace(" ", "_"))


class RemoteWorker(Worker):
    """A kept worker; close() ends it and looks how it ended."""

    def __init__(self, tree, host=HOST, **more):
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        self.number = 0
        self.errors = tree.home / "worker.stderr"
        self.errors.unlink(missing_ok=True)
        with open(self.errors, "ab") as errors:
            self.process = tree.popen(ON_3[0], *ON_3[1:], theirs.fileno(), tree.home / "libexec/qmail-remote", "-W", host,
                                      pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                                      **capped(tree), **more)
        theirs.close()

    def put(self, *recipients, sender="ana@mail.test.example", message=b"Subject: x\n\nbody\n", host=HOST, parameters="", file=None):
        recipients = recipients or ("r@dest.example",)
        self.number += 1
        self.job(self.number, remote_job(sender, host, *recipients, parameters=parameters), message, file)
        return len(recipients)

    def outcomes(self, count):
        """(letter, text) of the recipients of the last job, in their order."""
        answers = [self.done() for _ in range(count)]
        assert None not in answers, self.errors.read_text()
        assert {a[0] for a in answers} == {self.number}
        return [(letter, text.decode()) for _, _, letter, text in sorted(answers, key=lambda a: a[1])]

    def deliver(self, *recipients, **more):
        return self.outcomes(self.put(*recipients, **more))

    def close(self):
        super().close()
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert (code, self.errors.read_text()) == (0, "")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()
        else:
            super().close()
            self.process.kill()
            self.process.wait()


def took(function):
    """(result, seconds)"""
    start = time.monotonic()
    return function(), time.monotonic() - start
