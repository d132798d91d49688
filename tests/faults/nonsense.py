"""A spawner that talks nonsense: qmail-send alone, for which tests/system/sending.py plays the rest."""
import os
import socket
import struct

import sending
from conftest import HOST

ASKED_MAX = 100  # requests to a spawner about two recipients
LINES_MAX = 50	# of the log


def frame(kind, payload):
    return struct.pack(">I", len(payload)) + kind + payload


def to(number, *strings):
    return struct.pack(">I", number) + b"".join(s + b"\0" for s in strings)


FAR = "far.example"
RECIPIENTS = {"qmail-lspawn": (f"ana@{HOST}", f"luis@{HOST}"), "qmail-rspawn": (f"x@{FAR}", f"y@{FAR}")}  # two of the spawner

# What a spawner answers to the request with that number. qmail-rspawn tells no facts of a user, and whatever it tells of one is nothing
# to qmail-send: it is nonsense for it as well.
NONSENSE = {
    "a frame that is none": lambda number: frame(b"Q", to(number)),
    "a frame that is too long": lambda number: b"\xff\xff\xff\xffK",
    "no number": lambda number: frame(b"K", b"\0"),
    "a number that nobody gave": lambda number: frame(b"Z", to(number + 77) + b"later"),
    "two answers": lambda number: 2 * frame(b"Z", to(number) + b"later"),
    "no facts": lambda number: frame(b"K", to(number)),
    "too few facts": lambda number: frame(b"K", to(number, b"ana", b"1000")),
    "facts without an end": lambda number: frame(b"K", to(number, b"ana", b"1000", b"1000", b"/home/ana", b"") + b"x"),
    "no user": lambda number: frame(b"K", to(number, b"", b"1000", b"1000", b"/home/ana", b"", b"")),
    "a user that is no number": lambda number: frame(b"K", to(number, b"ana", b"-1", b"99999999999", b"/home/ana", b"", b"")),
    "too many facts": lambda number: frame(b"K", to(number, *[b"ana"] * 1000)),
    "octets": lambda number: bytes(range(256)) * 20,
    "a file for a worker": "/dev/null",
    "a worker of somebody else": "socket",
}
ALL = [(spawner, what) for spawner in RECIPIENTS for what in NONSENSE]


def check(tree, spawner, what):
    """qmail-send in a tree, with such a spawner of that name: mail is deferred, or qmail-send ends and says why, to be started again with another: nothing
    fails for good."""
    world = sending.World(tree)
    tree.write("control/locals", f"{HOST}\n")
    try:
        asked = spoil(world, NONSENSE[what])
        world.start()
        message = world.message(*RECIPIENTS[spawner])
        world.until(lambda: len(asked) > ASKED_MAX or world.process.poll() is not None or "deferral: " in world.log or message.ended)
        if world.process.poll() is not None:
            world.logged("status: exiting")
            assert world.process.returncode == 111 and world.log.count(f"alert: lost {spawner}: ") == 1
        else:
            world.quiet(0.1)
        assert not message.ended and "D" not in message.states.values() and "failure: " not in world.log
        assert len(asked) <= ASKED_MAX and len(world.log.splitlines()) < LINES_MAX
    finally:
        world.close()


def spoil(world, nonsense):
    """Who is asked answers nonsense to each request, or starts something that is no worker. Returns the list of requests."""
    asked, usual = [], world.spawner_frame

    def answer(channel, kind, payload):
        number = struct.unpack(">I", payload[:4])[0]
        asked.append(kind)
        spawner = world.spawners[channel]
        if callable(nonsense):
            spawner.out += nonsense(number)
            spawner.flush()
        elif kind == "S":
            fd = os.open(nonsense, os.O_RDWR) if nonsense != "socket" else socket.socket(socket.AF_UNIX).detach()
            user = payload[4:] if nonsense != "socket" else b"mallory"
            spawner.send("K", to(number, user, b"1000", b"1000", b"/home/x", b"", b""), fd)
            os.close(fd)
        else:
            usual(channel, kind, payload)
    world.spawner_frame = answer
    return asked
