"""What was accepted and what has arrived, written down by many processes: each appends lines to a file of its own.

A message has a name, in its field X-Soak, and a digest of its body. Lines end with LF in it, whichever way it came."""
import hashlib
import json
import pathlib
import re

FIELD = re.compile(rb"^X-Soak: (\S+)\r?$", re.M)


def digest(message):
    """Of the body of a message as octets."""
    body = message.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
    return hashlib.sha256(body).hexdigest()[:16]


class Ledger:
    """A process's own part. kind: accepted (name, digest, recipients) or arrived (name, digest, where)."""

    def __init__(self, directory, kind, who):
        self.file = open(pathlib.Path(directory) / f"{kind}.{who}", "a", buffering=1)

    def add(self, name, of_body, where):
        self.file.write(json.dumps([name, of_body, where]) + "\n")


def read(directory, kind):
    """All lines of that kind, of all processes."""
    for path in sorted(pathlib.Path(directory).glob(f"{kind}.*")):
        with open(path) as lines:
            yield from map(json.loads, lines)


def differences(directory, refusing):
    """What is wrong, in words, and how many deliveries there were. refusing(recipient): whether it is refused
    for ever, so that its sender gets a bounce, here, in its place."""
    due, arrived, wrong = {}, {}, []
    for name, of_body, recipients in read(directory, "accepted"):
        for recipient in recipients:
            due[name, "bounce" if refusing(recipient) else recipient] = of_body
    for name, of_body, where in read(directory, "arrived"):
        key = name, where
        arrived[key] = arrived.get(key, 0) + 1
        if where != "bounce" and key in due and due[key] != of_body:
            wrong.append(f"damaged: {name} at {where}")
    wrong += [f"lost: {name} to {where}" for name, where in due if (name, where) not in arrived]
    wrong += [f"{n} times: {name} at {where}" for (name, where), n in arrived.items() if n > 1]
    # a message whose acceptance was not heard may arrive all the same
    unheard = {name for name, *_ in read(directory, "doubtful")}
    wrong += [f"from nowhere: {name} at {where}" for name, where in arrived if (name, where) not in due and name not in unheard]
    return wrong, len(arrived)
