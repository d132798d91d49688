"""The memory of dead hosts as administrators see it: qmail-tcpto, qmail-tcpok, qmail-route."""
import os
import re
import socket
import struct
import time

import pytest

ENTRIES, WAYS = 1024, 8


def digest(address):
    h = 2166136261
    for octet in address:
        h = (h ^ octet) * 16777619 & 0xffffffff
    return h ^ h >> 16


def table(*rows):
    """run/tcpto with rows (address, seconds since the last time-out, count), as bin-src/remote/tcpto.c describes it. Its clock
    began when the machine did, so that only a short time ago was certainly later."""
    octets = bytearray(24 * ENTRIES)
    now = int(time.clock_gettime(time.CLOCK_MONOTONIC)) + 1
    for text, age, count in rows:
        address = socket.inet_pton(socket.AF_INET6, text if ":" in text else "::ffff:" + text)
        d = digest(address)
        place = ((d >> 16 ^ d) & 0xffffffff) % (ENTRIES // WAYS) * WAYS
        while any(octets[24 * place + 16:24 * place + 24]):
            place += 1
        struct.pack_into("=16sQ", octets, 24 * place, address, (now - age) << 24 | count << 16 | d & 0xffff)
    return bytes(octets)


@pytest.fixture
def dead(tree):
    tree.need("qmail-tcpto", "qmail-tcpok", "qmail-route")
    return tree


def shown(tree):
    done = tree.run("qmail-tcpto", check=True)
    assert done.stderr == b""
    return sorted(done.stdout.decode().splitlines())


def test_it_shows_and_forgets(dead):
    dead.write("run/tcpto", table(("192.0.2.25", 1, 3), ("2001:db8::25", 31, 10)))
    lines = shown(dead)
    assert len(lines) == 2
    shape = r"(\S+) timed out (\d+) seconds ago; # recent timeouts: (\d+)"
    (first, age, count), (second, older, more) = (re.fullmatch(shape, line).groups() for line in lines)
    assert (first, count, second, more) == ("192.0.2.25", "3", "2001:db8::25", "10")
    assert int(older) - int(age) == 30
    assert dead.run("qmail-tcpok", check=True).stdout == b""
    assert shown(dead) == []
    assert (dead.home / "run/tcpto").stat().st_size == 24 * ENTRIES


def test_what_setup_makes_is_empty(dead):
    assert (dead.home / "run/tcpto").stat().st_mode & 0o777 == 0o644
    assert shown(dead) == []  # it has its size when qmail-rspawn has run
    dead.run("qmail-tcpok", check=True)


def test_without_the_file_there_is_nothing(dead):
    (dead.home / "run/tcpto").unlink()
    assert shown(dead) == []
    dead.run("qmail-tcpok", check=True)
    assert not (dead.home / "run/tcpto").exists()


def test_a_file_that_is_none(dead):
    dead.write("run/tcpto", b"x" * 1024)
    for program in ("qmail-tcpto", "qmail-tcpok"):
        done = dead.run(program)
        assert done.returncode == 111 and b"run/tcpto" in done.stderr
    assert dead.run("qmail-route", "[198.51.100.1]").returncode == 0


def test_nonsense_is_not_shown(dead):
    dead.write("run/tcpto", os.urandom(24 * ENTRIES))
    assert len(shown(dead)) < 4


def test_route_says_what_is_skipped(dead):
    dead.write("run/tcpto", table(("198.51.100.1", 10, 2), ("198.51.100.2", 10, 1)))
    done = dead.run("qmail-route", "[198.51.100.1]", "[198.51.100.2]", check=True)
    assert [line for line in done.stdout.decode().splitlines() if line[0] == "0"] == [
        "0\t198.51.100.1\t198.51.100.1\t25\tskipped: timed out lately", "0\t198.51.100.2\t198.51.100.2\t25"]


def test_usage(dead):
    for program in ("qmail-tcpto", "qmail-tcpok"):
        assert dead.run(program, "x").returncode == 100
