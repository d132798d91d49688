"""What a power cut can leave of recorded writes: a file system whose flushes are the only promise it keeps."""
import pathlib

SECTOR = 512


class File:
    def __init__(self, octets=b""):
        self.disk = bytearray(octets)
        self.pending = []	# (offset, octets) not flushed

    def write(self, offset, octets):
        self.pending.append((offset, octets))

    def flush(self):
        for offset, octets in self.pending:
            put(self.disk, offset, octets)
        self.pending = []

    def after_power_cut(self, choose):
        """choose is random.Random, or 'none' or 'all' of the pending writes."""
        octets = bytearray(self.disk)
        for offset, data in self.pending if choose != "none" else []:
            if choose == "all":
                put(octets, offset, data)
                continue
            kind = choose.random()
            if kind < 0.3:
                continue
            if kind < 0.5:
                put(octets, offset, data)
                continue
            step = choose.choice((SECTOR, 8 * SECTOR))	# torn at sectors or pages
            for at in range(0, len(data), step):
                if choose.random() < 0.5:
                    put(octets, offset + at, data[at:at + step])
        return bytes(octets)


def put(octets, offset, data):
    if len(octets) < offset:
        octets.extend(b"\0" * (offset - len(octets)))
    octets[offset:offset + len(data)] = data


class Disk:
    """Names: path to File as the programs see it; folders: for each, what is on disk and what is pending by name."""

    def __init__(self, queue):
        self.names, self.folders = {}, {}
        queue = pathlib.Path(queue)
        for path in [queue, *sorted(queue.rglob("*"))]:
            name = str(path.relative_to(queue.parent))
            if path.is_dir():
                self.folders[name] = ({}, {})
            elif path.is_file():
                self.names[name] = File(path.read_bytes())
                folder, base = name.rsplit("/", 1)
                self.folders[folder][0][base] = self.names[name]

    def entry(self, path, file):
        folder, base = path.rsplit("/", 1)
        if file is None:
            self.names.pop(path, None)
        else:
            self.names[path] = file
        self.folders[folder][1].setdefault(base, []).append(file)

    def apply(self, line):
        """One line of the record; True if it can change what a power cut leaves."""
        verb, *words = line.split(" ")
        if verb == "write":
            self.names[words[0]].write(int(words[1]), bytes.fromhex(words[2]))
        elif verb == "flush":
            if words[0] in self.names:
                self.names[words[0]].flush()
        elif verb == "create":
            if words[0] not in self.names:
                self.entry(words[0], File())
        elif verb == "rename":
            file = self.names.get(words[0])
            if file is not None:	# else it fails
                self.entry(words[1], file)
                self.entry(words[0], None)
        elif verb == "unlink":
            if words[0] in self.names:
                self.entry(words[0], None)
        elif verb == "syncdir":
            disk, pending = self.folders[words[0]]
            for base, versions in pending.items():
                disk[base] = versions[-1]
            pending.clear()
        else:
            return False
        return True

    def build(self, home, choose):
        """Makes home/queue as a power cut may leave it."""
        for name in self.folders:
            (pathlib.Path(home) / name).mkdir(parents=True, exist_ok=True)
        for name, (disk, pending) in self.folders.items():
            left = dict(disk)
            for base, versions in pending.items():
                if choose == "none":
                    continue
                left[base] = versions[-1] if choose == "all" else choose.choice([disk.get(base), *versions])
            for base, file in left.items():
                if file is not None:
                    (pathlib.Path(home) / name / base).write_bytes(file.after_power_cut(choose))
