"""qmail-remote and servers that others wrote: smtp-sink on loopback; what it lacks, and how it misbehaves."""
import contextlib
import os
import quopri
import signal
import socket
import subprocess

import pytest

from conftest import wait_for
from neighbours import libraries, unpacked
from remoting import RemoteWorker, send

ONLY_ASCII = b"Subject: hello\n\nfirst\n.\n..\nlast\n"
EIGHT = "Subject: hello\n\nma\u00f1ana\n".encode()


class Sink:
    def __init__(self, tree, *options):
        self.folder = tree.home / "sink"
        self.folder.mkdir()
        tree.own(self.folder)
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        self.log = open(tree.home / "sink.log", "w+b")
        self.process = subprocess.Popen(
            [unpacked("postfix") / "usr/sbin/smtp-sink", *options, *(["-u", "nobody"] if os.getuid() == 0 else []), "-c",
             "-d", f"{self.folder}/%M.", f"127.0.0.1:{self.port}", "100"],
            env=libraries("postfix"), stdout=self.log, stderr=self.log, start_new_session=True)
        tree.write("control/smtproutes", f":[127.0.0.1]:{self.port}\n")

    def listens(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)) as s:
            s.recv(1)  # a greeting, or the end
            return True

    def messages(self):
        """The messages as dumped: fields of smtp-sink's own, then what came; not the empty line at the end of an mbox's message."""
        return [p.read_bytes().replace(b"\r\n", b"\n").removesuffix(b"\n") for p in self.folder.iterdir() if p.stat().st_size]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture
def sink(tree):
    """A function that starts smtp-sink with options; all mail goes there."""
    tree.need("qmail-remote")
    made = []

    def start(*options):
        made.append(Sink(tree, *options))
        wait_for(made[-1].listens, 10, f"smtp-sink {options}")
        return made[-1]

    yield start
    for s in made:
        s.stop()


@pytest.mark.parametrize("options", [(), ("-e",), ("-p",), ("-8",), ("-e", "-p", "-8"), ("-w", "1")], ids=" ".join)
def test_sink(tree, sink, options):
    """ESMTP with everything; HELO only; without PIPELINING; without 8BITMIME; none of it; slow after DATA."""
    s = sink(*options)
    report = send(tree, "a@dest.example", "b@dest.example", message=ONLY_ASCII)
    assert [letter for letter, _ in report] == ["r", "r", "K"] and "250 2.0.0 Ok" in report[-1][1]
    (message,) = s.messages()
    assert message.endswith(b"\n" + ONLY_ASCII) and message.count(b"\nX-Rcpt-Args: <") == 2


@pytest.mark.parametrize("options", [(), ("-8",), ("-e",)], ids=" ".join)
def test_sink_eight_bits(tree, sink, options):
    s = sink(*options)
    assert send(tree, message=EIGHT)[-1][0] == "K"
    (message,) = s.messages()
    text = EIGHT.partition(b"\n\n")[2]
    assert message.endswith(EIGHT if not options else b"\nContent-Transfer-Encoding: quoted-printable\n\n" + quopri.encodestring(text))
    assert (b"BODY=8BITMIME" in message) == (not options)


@pytest.mark.parametrize("option, command, letters", [
    ("-r", "EHLO", "Z"), ("-r", "MAIL", "Z"), ("-r", "RCPT", "sD"), ("-r", "DATA", "rZ"), ("-r", ".", "rZ"),
    ("-f", "EHLO", "rK"), ("-f", "MAIL", "D"), ("-f", "RCPT", "hD"), ("-f", "DATA", "rD"), ("-f", ".", "rD"),
    ("-q", "CONNECT", "Z"), ("-q", "EHLO", "Z"), ("-q", "MAIL", "Z"), ("-q", "RCPT", "Z"), ("-q", "DATA", "Z"), ("-q", ".", "Z"),
    ("-q", "QUIT", "rK")])
def test_sink_refuses(tree, sink, option, command, letters):
    """-r: 450, -f: 500, -q: hangs up, at a command."""
    sink(option, command)
    report = "".join(letter for letter, _ in send(tree))
    # whether the recipients were answered before may depend on pipelining
    assert report == letters or report.lstrip("r") == letters.lstrip("r")


def test_sink_over_a_kept_session(tree, sink):
    s = sink()
    with RemoteWorker(tree) as worker:
        for n in range(50):
            (outcome,) = worker.deliver(message=b"Subject: %d\n\nx\n" % n)
            assert outcome[0] in "kK"
    wait_for(lambda: len(s.messages()) == 50)


def test_sink_that_stops_within_a_message(tree, sink):
    """SIGKILL while the message is under way: deferred."""
    s = sink("-w", "30")
    with RemoteWorker(tree) as worker:
        worker.put(message=b"x\n" * 100_000)
        wait_for(lambda: any(s.folder.iterdir()))
        os.kill(s.process.pid, signal.SIGKILL)
        assert worker.outcomes(1)[0][0] == "Z"
