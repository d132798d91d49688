"""What a power cut can leave of recorded calls (record.c), on a file system whose flushes are the only promise it keeps.

Of a file, what was written since its last flush may be there, missing, torn where a sector (512 octets) or a page
(4 KiB) of the file begins, or be zeros up to the new size. Of a folder, each change since its last flush may be there or not,
whatever became of the others: a file that was renamed may have both names, or none. There is no order between files, between
folders, or between data and names."""
import hashlib
import os
import random

SECTOR, PAGE = 512, 4096
NAMES_MAX, WRITES_MAX, CUTS_MAX, RANDOM = 12, 6, 12, 6	# of a moment: changes, writes, places where one is torn, mixtures
LONG = 16	# writes


def put(octets, offset, data):
    if len(octets) < offset:
        octets.extend(b"\0" * (offset - len(octets)))
    octets[offset:offset + len(data)] = data


def units(offset, start, end, unit):
    """The sectors, or pages, of a file in which the octets from start to end of a write at offset lie: (from, to) in the write."""
    while start < end:
        stop = min(end, start + unit - (offset + start) % unit)
        yield start, stop
        start = stop


class File:
    """base: what was flushed. pending: since then (offset, octets), or (length, None) where it was truncated. id: the same
    in each walk through the same record."""

    def __init__(self, id, octets=b""):
        self.id, self.version = id, 0
        self.base, self.pending = bytearray(octets), []

    def flush(self):
        if self.pending:
            self.base = bytearray(self.content("all"))
            self.version += 1
            self.pending = []

    def content(self, choice):
        """choice: 'none' or 'all' of the pending calls, 'zeros' in the place of what is new, or pieces: (index of the
        call, from, to)."""
        if choice == "none" or not self.pending:
            return self.base
        octets = bytearray(self.base)
        if choice == "zeros":
            size = max([len(octets), *(at + len(data) for at, data in self.pending if data is not None)])
            return octets + b"\0" * (size - len(octets))
        pieces = [(i, 0, None) for i in range(len(self.pending))] if choice == "all" else choice
        for i, start, end in pieces:
            offset, data = self.pending[i]
            if data is None:
                put(octets, offset, b"")
                del octets[offset:]
            else:
                put(octets, offset + start, data[start:end])
        return octets

    def write_to(self, fd, choice):
        """The same into a file that may be there already: a ring is large."""
        if choice == "none":
            choice = ()
        elif choice == "all":
            choice = tuple((i, 0, None) for i in range(len(self.pending)))
        pieces = choice if isinstance(choice, tuple) else None
        octets = self.base if pieces is not None and all(self.pending[i][1] is not None for i, _, _ in pieces) else None
        if octets is None:
            octets, pieces = self.content(choice), ()
        os.pwrite(fd, octets, 0)
        size = len(octets)
        for i, start, end in pieces:
            offset, data = self.pending[i]
            size = max(size, offset + start + os.pwrite(fd, data[start:end], offset + start))
        os.ftruncate(fd, size)

    def key(self, choice):
        """The same for the same octets."""
        if len(self.base) <= 1 << 20:
            return hashlib.blake2b(self.content(choice), digest_size=16).digest()
        if choice in ("none", "zeros", "all") or not self.pending:
            pieces = [(i, 0, None) for i in range(len(self.pending))] if choice == "all" else ()
        else:
            pieces = choice
        said = hashlib.blake2b(b"%d %d" % (self.id, self.version), digest_size=16)
        for i, start, end in pieces:	# what makes no difference is left out
            offset, data = self.pending[i]
            for at, stop in units(offset, start, len(data) if end is None else end, SECTOR):
                if self.base[offset + at:offset + stop] != data[at:stop]:
                    said.update(b"%d " % (offset + at) + data[at:stop])
        return said.digest()

    def all_but(self, *missing):
        return tuple((i, 0, None) for i in range(len(self.pending)) if i not in missing)

    def choices(self, rng):
        """Ways in which only a part of it is there."""
        yield "none"
        yield "zeros"
        last = len(self.pending) - 1
        if self.is_long():
            yield self.all_but(last)
            yield self.mixture(rng)
            return
        for i in range(max(0, last + 1 - WRITES_MAX), last + 1):
            yield self.all_but(i)			# one is missing, the later ones are there
            yield tuple((j, 0, None) for j in range(i + 1))	# as many as this one
        if last < 0 or self.pending[last][1] is None:
            return
        before, (offset, data) = self.all_but(last), self.pending[last]
        for unit in SECTOR, PAGE:
            cuts = list(units(offset, 0, len(data), unit))[1:]
            if len(cuts) > CUTS_MAX:
                cuts = cuts[:CUTS_MAX // 3] + rng.sample(cuts[CUTS_MAX // 3:-2], CUTS_MAX - CUTS_MAX // 3 - 2) + cuts[-2:]
            for at, stop in cuts:
                yield (*before, (last, 0, at))		# torn: the first part is there
                yield (*before, (last, at, None))	# or the last
                yield (*before, (last, 0, at), (last, stop, None)) if stop < len(data) else (*before, (last, 0, at))
        for _ in range(2):
            yield self.mixture(rng)

    def is_long(self):
        """A ring that is being made: all its writes are alike."""
        return len(self.pending) > LONG

    def mixture(self, rng):
        pieces = []
        if self.is_long():
            return tuple((i, 0, None) for i in range(len(self.pending)) if rng.random() < 0.7)
        for i, (offset, data) in enumerate(self.pending):
            chance = rng.random()
            if data is None or chance < 0.4:
                pieces += [(i, 0, None)] * (chance < 0.7)
                continue
            unit = rng.choice((SECTOR, PAGE))
            pieces += [(i, at, stop) for at, stop in units(offset, 0, len(data), unit) if rng.random() < chance]
        return tuple(pieces)


class State:
    """names: path to File, as the folders say; choices: what of a file is there, 'all' where nothing is said; keys: those of
    the disk's files that are known."""

    def __init__(self, names, choices, keys):
        self.names, self.choices, self.keys, self.own = names, choices, keys, {}

    def content(self, path):
        file = self.names[path]
        return file.content(self.choices.get(file, "all"))

    def key(self, below=""):
        """The same for the same files with the same octets below a folder."""
        if below not in self.own:
            self.own[below] = self.make_key(below)
        return self.own[below]

    def make_key(self, below):
        said = hashlib.blake2b(digest_size=16)
        for path in sorted(self.names):
            if path.startswith(below):
                file = self.names[path]
                choice = self.choices.get(file, "all")
                mark = (file.id, file.version, len(file.pending), choice)
                if mark not in self.keys:
                    self.keys[mark] = file.key(choice)
                said.update(path.encode() + b"\0" + self.keys[mark])
        return said.digest()


class Disk:
    """names: path to File as the programs see it; flushed: as a power cut is sure to leave it; changes: of names since then,
    in order, (path, File or None)."""

    def __init__(self, files):
        """files: (path, inode, octets)."""
        self.inodes = {inode: File(i, octets) for i, (_, inode, octets) in enumerate(files)}
        self.made, self.keys = len(files), {}
        self.names = {path: self.inodes[inode] for path, inode, _ in files}
        self.flushed, self.changes = dict(self.names), []

    def change(self, path, file):
        if file is None:
            self.names.pop(path, None)
        else:
            self.names[path] = file
        self.changes.append((path, file))

    def sync(self, folder):
        """None: all."""
        kept = []
        for path, file in self.changes:
            if folder is not None and path.rpartition("/")[0] != folder:
                kept.append((path, file))
            elif file is None:
                self.flushed.pop(path, None)
            else:
                self.flushed[path] = file
        self.changes = kept

    def apply(self, verb, words):
        """One line of the record; True if it can change what a power cut leaves."""
        if verb in ("create", "tmpfile"):
            self.made += 1
            self.inodes[words[0]] = File(self.made)
            if verb == "create":
                self.change(words[1], self.inodes[words[0]])
        elif verb == "write":
            self.inodes[words[0]].pending.append((int(words[1]), bytes.fromhex(words[2])))
        elif verb == "truncate":
            self.inodes[words[0]].pending.append((int(words[1]), None))
        elif verb == "flush":
            if words[0] in self.inodes:
                self.inodes[words[0]].flush()
        elif verb == "link":
            self.change(words[1], self.inodes[words[0]])
        elif verb == "rename":
            file = self.names.get(words[0])
            if file is None:	# a socket
                return False
            self.change(words[1], file)
            self.change(words[0], None)
        elif verb == "unlink":
            if words[0] not in self.names:
                return False
            self.change(words[0], None)
        elif verb == "syncdir":
            self.sync(words[0])
        elif verb == "syncall":
            self.sync(None)
            for file in self.inodes.values():
                file.flush()
        else:
            return False
        return True

    def named(self, chosen):
        """The names if these changes (indices) are on the disk."""
        names = dict(self.flushed)
        for i in chosen:
            path, file = self.changes[i]
            if file is None:
                names.pop(path, None)
            else:
                names[path] = file
        return names

    def name_choices(self, rng):
        count = len(self.changes)
        some = range(max(0, count - NAMES_MAX), count)
        yield range(count)
        yield ()
        for i in some:
            yield [j for j in range(count) if j != i]
            yield [i]
            yield range(i)
        for _ in range(2 if count > 2 else 0):
            yield [i for i in range(count) if rng.random() < 0.5]

    def states(self, seed):
        """What a power cut can leave now: bounded, and the same for the same seed."""
        rng = random.Random(seed)

        def state(names, choices):
            return State(names, choices, self.keys)

        dirty = [f for f in {*self.flushed.values(), *(f for _, f in self.changes if f)} if f.pending]
        dirty.sort(key=lambda f: f.id)
        for chosen in self.name_choices(rng):
            names = self.named(chosen)
            yield state(names, {})
            if dirty:
                yield state(names, {f: "none" for f in dirty})
                yield state(names, {f: "zeros" for f in dirty})
        names, old = self.named(range(len(self.changes))), self.named(())
        for file in dirty:
            for choice in file.choices(rng):
                yield state(names, {file: choice})
                if len(dirty) > 1:
                    yield state(names, {f: choice if f is file else "none" for f in dirty})
                if self.changes:
                    yield state(old, {f: choice if f is file else "none" for f in dirty})
        for _ in range(RANDOM if len(dirty) > 1 or dirty and not dirty[0].is_long() or len(self.changes) > 1 else 0):
            chosen = [i for i in range(len(self.changes)) if rng.random() < 0.6]
            yield state(self.named(chosen), {f: f.mixture(rng) for f in dirty})
