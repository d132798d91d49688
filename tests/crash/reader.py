"""What a reader sees of the messages of a run, in the queue, in a maildir and in an mbox.

Messages are known by labels: one that was submitted by its sender, which is unique; what the server made of it by COPY, BOUNCE
or REPORT and that sender."""
import re

COPY, BOUNCE, REPORT = b"copy of ", b"bounce to ", b"report to "
TRACE = (b"Return-Path: ", b"Delivered-To: ", b"Received: ")


def after_trace(octets):
    """Where the lines end that the server put before a message."""
    at = 0
    while octets.startswith(TRACE, at):
        at = octets.find(b"\n", at) + 1 or len(octets)
    return at


def label_of(octets, sender, bodies):
    """The label of a message from sender; None if it is not whole, or not what was submitted."""
    if not sender:
        return report_label(octets, bodies)
    body = bodies.get(sender)
    at = after_trace(octets)
    if body is None or octets[at:] != body:
        return None
    return COPY + sender if octets.count(b"\nReceived: ", 0, at) + octets.startswith(b"Received: ") > 1 else sender


def report_label(octets, bodies):
    """The same of a bounce, which ends with the whole message, or of a report, which ends with its header."""
    to, boundary = re.search(rb"\nTo: (.*)\n", octets), re.search(rb'\n\tboundary="(.*)"\n', octets)
    body = bodies.get(to[1]) if to else None
    if body is None or not boundary or b"\0" in octets:
        return None
    end = b"\n--" + boundary[1] + b"--\n"
    if b"\nAction: failed\n" in octets and octets.endswith(body + end):
        return BOUNCE + to[1]
    if b"\nAction: delivered\n" in octets and octets.endswith(body.partition(b"\n\n")[0] + b"\n" + end):
        return REPORT + to[1]
    return None


def maildir_label(octets, bodies):
    sender = re.match(rb"Return-Path: <(.*)>\n", octets)
    return label_of(octets, sender[1], bodies) if sender else None


def mbox_letters(octets):
    """The messages of an mbox: each begins with a From line, at the start or after an empty line."""
    return [letter for letter in re.split(rb"(?:\A|(?<=\n\n))(?=From )", octets) if letter]


def mbox_label(letter, bodies):
    """Returns the label of a letter, None if it is not whole, and what a reader sees behind its end, which should be nothing."""
    first, _, rest = letter.partition(b"\n")
    words = first.split(b" ")
    body = bodies.get(words[1]) if words[0] == b"From" and len(words) > 2 else None
    at = after_trace(rest)
    if body is None or not rest.startswith(body + b"\n", at):
        return None, b""
    return words[1], rest[at + len(body) + 1:]


def mbox_labels(octets, bodies):
    """What is whole in an mbox, and the label of the last letter, if that is whole and nothing is behind it. A part of a message
    of which nobody said that it was delivered may be left by a power cut: by itself, or, if its From line is not there, as
    zeros and more behind the letter before. Any other sequel is an error (ValueError)."""
    labels, last = set(), None
    for letter in mbox_letters(octets):
        label, sequel = mbox_label(letter, bodies)
        if sequel and not sequel.startswith(b"\0"):
            raise ValueError(f"behind the message of {label}: {sequel[:100]}")
        labels |= {label} - {None}
        last = label if not sequel else None
    return labels, last
