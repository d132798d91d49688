"""Mail servers, clients and a name server that others wrote, for tests: unpacked from their packages, not installed."""
import functools
import os
import pathlib
import platform
import re
import socket
import subprocess
import threading

import pytest

from conftest import BUILD, SOURCE

UNPACKED = BUILD / "unpacked"


@functools.cache
def unpacked(package):
    """Where the package's files are; fails the test if it cannot be had."""
    done = subprocess.run([SOURCE / "admin/unpack", UNPACKED, package], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        pytest.fail(f"the package {package} is missing: {done.stdout.decode()}")
    return UNPACKED / package


def libraries(package):
    """The environment in which programs of an unpacked package find what belongs to them."""
    top = unpacked(package)
    return {**os.environ, "LD_LIBRARY_PATH": f"{top}/usr/lib/postfix:{top}/usr/lib/{platform.machine()}-linux-gnu"}


class Tap:
    """Stands between a client and the server at an address, and keeps what was said: sessions is a list of lists of
    (who, octets), who being "client" or "server"; octets that one of them says without waiting for the other are together."""

    def __init__(self, server):
        self.server, self.sessions = server, []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.host, self.port = self.listener.getsockname()
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server, said = socket.create_connection(self.server), []
            self.sessions.append(said)
            lock = threading.Lock()
            for who, source, target in (("client", client, server), ("server", server, client)):
                thread = threading.Thread(target=self.pass_on, args=(said, lock, who, source, target), daemon=True)
                self.threads.append(thread)
                thread.start()

    @staticmethod
    def pass_on(said, lock, who, source, target):
        while True:
            try:
                octets = source.recv(65536)
                with lock:
                    if octets and said and said[-1][0] == who:
                        said[-1] = who, said[-1][1] + octets
                    elif octets:
                        said.append((who, octets))
                if not octets:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(octets)
            except OSError:
                return

    def client(self):
        """All that clients said."""
        return b"".join(octets for session in self.sessions for who, octets in session if who == "client")

    def line(self, verb):
        """The first line that began with verb."""
        found = re.search(rb"(?mi)^%s\b.*?(?=\r\n)" % verb.encode(), self.client())
        assert found, self.sessions
        return found.group().decode()

    def has_pipelined(self, first, second):
        """Whether second was sent before there was a reply to first."""
        return any(who == "client" and re.search(rb"(?ms)^%s.*^%s" % (first.encode(), second.encode()), octets)
                   for session in self.sessions for who, octets in session)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)


def undone(octets):
    """A message as it was before it was sent: without the fields that delivery and servers put on top, lines ending in LF."""
    octets = octets.replace(b"\r\n", b"\n")
    return re.sub(rb"\A(?:(?:Return-Path|Delivered-To|Received|X-Original-To|Envelope-to|Delivery-date):[^\n]*\n(?:[ \t][^\n]*\n)*)*", b"", octets)
