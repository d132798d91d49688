"""What a program that was taken over could try, as attempts of a stand-in.

An attempt is made in several ways, each a function of a stand-in (stand_in.py) that gives True, or the name of the error that
kept it from it. look(model, world, pid) makes all of them and gives a Row: the words of each column of SECURITY's table."""
import contextlib
import errno
import mmap
import os
import pathlib
import re
import socket
import stat
import struct
from dataclasses import dataclass, field

from stand_in import Gone, Killed

KILLED = "killed"
AT_FDCWD = -100
NONBLOCK = socket.SOCK_NONBLOCK
MANY = 64  # forks after which there is no limit
MIB = 1 << 20
MAP_NORESERVE = 0x4000
COLUMNS = ("reads", "writes", "asks", "network", "runs", "forks", "memory", "touches", "kernel")


@dataclass
class Row:
    """What one program could do. words: by column; tried: (column, word, way, what it gave), each attempt."""
    name: str
    user: str = ""
    holds: list = field(default_factory=list)
    words: dict = field(default_factory=lambda: {c: [] for c in COLUMNS})
    tried: list = field(default_factory=list)


def path_octets(path):
    return os.fsencode(path) + b"\0"


def result_of(result):
    """True, or the name of the error."""
    return True if result >= 0 else errno.errorcode.get(-result, str(result))


def unix_address(name):
    return struct.pack("H", socket.AF_UNIX) + (name if isinstance(name, bytes) else path_octets(name))


def tcp_address(port):
    return struct.pack("=H2s4s8x", socket.AF_INET, port.to_bytes(2, "big"), b"\x7f\0\0\1")


# --- files ---------------------------------------------------------------------------------------------------------------------

class Target:
    """A path, as it is named from the root or from a directory that the program has open: a descriptor, and where that is."""
    def __init__(self, path, fd=AT_FDCWD, directory=None):
        self.path, self.fd, self.directory = path, fd, directory

    def name(self, below=""):
        path = self.path / below
        return path_octets(path.relative_to(self.directory) if self.directory else path)

    @property
    def mode(self):
        return self.path.stat().st_mode & 0o7777


# ways to get at a Target: {name: function of a stand-in and a Target}; the name's first word is the call, and whatever else a filter may
# look at is in the name, too: one that it has ended says nothing about another

def opens(flags, below=""):
    return lambda s, t: s.call("open", t.name(below), flags, 0o600)


def opens_at(flags, below=""):
    return lambda s, t: s.call("openat", t.fd, t.name(below), flags, 0o600)


def opens_newly(flags, below=""):
    return lambda s, t: s.call("openat2", t.fd, t.name(below), struct.pack("QQQ", flags, 0o600 if flags & os.O_CREAT else 0, 0), 24)


def each_open(below="", **flags):
    """Each flag in each call that opens."""
    return {f"{call} {name}": way(of, below) for name, of in flags.items() for call, way in OPENING.items()}


def by_handle(s, t):
    name = t.name()
    result = s.call("name_to_handle_at", t.fd, name, struct.pack("Ii", 128, 0) + bytes(128), bytes(8), 0)
    return result if result < 0 else s.call("open_by_handle_at", t.fd, s.octets(136, behind=name), os.O_RDONLY)


def binds(s, t):
    fd = s.call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
    address = unix_address(t.path / "made")
    result = s.call("bind", fd, address, len(address))
    s.call("close", fd)
    return result


OPENING = {"open": opens, "openat": opens_at, "openat2": opens_newly}
TAKE_A_DIRECTORY = ("openat", "openat2", "open_by_handle_at", "mkdirat", "mknodat", "symlinkat", "linkat", "renameat", "renameat2", "unlinkat",
                    "fchmodat", "fchownat")
TO_WRITE = {"O_WRONLY": os.O_WRONLY, "O_RDWR": os.O_RDWR, "O_APPEND": os.O_WRONLY | os.O_APPEND}
READING = {**each_open(O_RDONLY=os.O_RDONLY), "open_by_handle_at": by_handle}
# into a directory, in which root has put a file "canary"
MAKING = {
    **each_open("made", O_CREAT=os.O_RDONLY | os.O_CREAT, O_EXCL=os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    **each_open("canary", **TO_WRITE, O_TRUNC=os.O_RDONLY | os.O_TRUNC, O_WRONLY_TRUNC=os.O_WRONLY | os.O_TRUNC),
    "open O_TMPFILE": opens(os.O_WRONLY | os.O_TMPFILE), "openat O_TMPFILE": opens_at(os.O_WRONLY | os.O_TMPFILE),
    "creat": lambda s, t: s.call("creat", t.name("made"), 0o600),
    "truncate": lambda s, t: s.call("truncate", t.name("canary"), 0),
    "mkdir": lambda s, t: s.call("mkdir", t.name("made"), 0o700),
    "mkdirat": lambda s, t: s.call("mkdirat", t.fd, t.name("made"), 0o700),
    "mknodat": lambda s, t: s.call("mknodat", t.fd, t.name("made"), 0o010600, 0),
    "symlinkat": lambda s, t: s.call("symlinkat", b"/etc/passwd\0", t.fd, t.name("made")),
    "bind": binds,
}
# in the same directory
MOVING = {
    "link": lambda s, t: s.call("link", t.name("canary"), t.name("made")),
    "linkat": lambda s, t: s.call("linkat", t.fd, t.name("canary"), t.fd, t.name("made"), 0),
    "rename": lambda s, t: s.call("rename", t.name("canary"), t.name("made")),
    "renameat": lambda s, t: s.call("renameat", t.fd, t.name("canary"), t.fd, t.name("made")),
    "renameat2": lambda s, t: s.call("renameat2", t.fd, t.name("canary"), t.fd, t.name("made"), 1),
    "unlink": lambda s, t: s.call("unlink", t.name("canary")),
    "unlinkat": lambda s, t: s.call("unlinkat", t.fd, t.name("canary"), 0),
}
# a file that is there, without changing it
CHANGING = {
    **each_open(**TO_WRITE),
    "truncate": lambda s, t: s.call("truncate", t.name(), t.path.stat().st_size),
    "chmod": lambda s, t: s.call("chmod", t.name(), t.mode),
    "fchmodat": lambda s, t: s.call("fchmodat", t.fd, t.name(), t.mode),
    "chown": lambda s, t: s.call("chown", t.name(), t.path.stat().st_uid, -1),
    "fchownat": lambda s, t: s.call("fchownat", t.fd, t.name(), t.path.stat().st_uid, -1, 0),
    "setxattr": lambda s, t: s.call("setxattr", t.name(), b"user.probe\0", b"x", 1, 0),
}
# --- sockets -----------------------------------------------------------------------------------------------------------------------
# name: (path, type, question, what an answer begins with)
SOCKETS = {
    "queued": ("run/qmail-queued", socket.SOCK_STREAM, b"\0\0\0\1X!", b""),
    "qmail-send": ("queue/qmail-send", socket.SOCK_STREAM, b"", b""),
    "rcptd": ("run/qmail-rcptd/socket", socket.SOCK_SEQPACKET, b"\0\0\0\1ana@mail.test.example", b"\0\0\0\1"),
    "submitd": ("run/qmail-submitd/socket", socket.SOCK_SEQPACKET, b"Sx", b"T"),
    "tlsd": ("run/qmail-tlsd/socket", socket.SOCK_SEQPACKET, b"", b"R"),
    "keyd": ("run/qmail-keyd/socket", socket.SOCK_SEQPACKET, b"C\x0f", b"C"),
    "keyd-clients": ("run/qmail-keyd/socket", socket.SOCK_SEQPACKET, b"Pclient", b"P"),
    "mtastsd": ("run/qmail-mtastsd/socket", socket.SOCK_SEQPACKET, b"y.example\0", b"N"),
    "authd": ("run/qmail-authd/socket", socket.SOCK_SEQPACKET, b"Cana@mail.test.example\0a password of ana\0\0", b"K"),  # a wrong one would be charged
}


def asks(name, home):
    """Connects, asks, and reads: a service takes everybody's connection and answers those it serves."""
    path, kind, question, answer = SOCKETS[name]

    def attempt(s):
        fd = s.call("socket", socket.AF_UNIX, kind, 0)
        if fd < 0:
            return result_of(fd)
        address = unix_address(home / path)
        connected = s.call("connect", fd, address, len(address))
        if connected < 0 or not answer:
            return result_of(connected)
        if question:
            sent = s.call("sendto", fd, question, len(question), socket.MSG_NOSIGNAL)
            if sent < 0:
                return result_of(sent)
        s.call("poll", struct.pack("ihh", fd, 1, 0), 1, 20000)
        got = s.call("recvfrom", fd, bytes(512), 512, 0)
        return True if got > 0 and s.octets(got).startswith(answer) else "no answer"

    return attempt


def makes_socket(family, kind, protocol=0):
    return lambda s: result_of(s.call("socket", family, kind, protocol))


def sends(kind, port):
    """Sends to the test, over the loopback interface, which no network is nearer than."""
    def attempt(s):
        fd = s.call("socket", socket.AF_INET, kind, 0)
        return result_of(fd if fd < 0 else s.call("connect", fd, tcp_address(port), 16))

    return attempt


def listens(s):
    fd = s.call("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    if fd < 0:
        return result_of(fd)
    bound = s.call("bind", fd, tcp_address(0), 16)
    return result_of(bound if bound < 0 else s.call("listen", fd, 1))


def connects_to(address):
    def attempt(s):
        fd = s.call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0)
        return result_of(fd if fd < 0 else s.call("connect", fd, unix_address(address), 2 + len(address)))

    return attempt


# --- the process ------------------------------------------------------------------------------------------------------------------

def makes_code(s):
    """Memory that is written and then executed."""
    at = s.call("mmap", 0, 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    return result_of(at if at < 0 else s.call("mprotect", at, 4096, mmap.PROT_READ | mmap.PROT_EXEC))


RUNS = {
    "programs": {"execve": lambda s: result_of(s.call("execve", b"/bin/true\0", 0, 0)),
                 "execveat": lambda s: result_of(s.call("execveat", AT_FDCWD, b"/bin/true\0", 0, 0, 0))},
    "code": {"mprotect": makes_code,
                 "mmap": lambda s: result_of(s.call("mmap", 0, 4096, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
                                                    mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0))},
}


def forks(how, *arguments):
    def attempt(s):
        for n in range(MANY):
            result = s.call(how, *arguments)
            if result < 0:
                return f"{n} times" if n else result_of(result)
        return True

    return attempt


FORKS = {"fork": forks("fork"), "vfork": lambda s: result_of(s.call("vfork")), "clone": forks("clone", 17, 0, 0, 0, 0), "clone3": forks("clone3", bytes(64), 64)}


def memory_limit(model):
    """MiB of address space that the process may have, or None: as much as there is."""
    with model.stand_in() as s:
        size, got = 1 << 40, 0
        while size >= 4096:
            if s.call("mmap", 0, size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) >= 0:
                got += size
                if got >= 1 << 40:
                    return None
            else:
                size >>= 1
        own = int(re.search(r"VmSize:\s*(\d+)", pathlib.Path(f"/proc/{model.pid}/status").read_text())[1]) << 10
        return round((got + own) / MIB)


# --- others, and the kernel -------------------------------------------------------------------------------------------------------

def may_read(result):
    """EFAULT: it may, but there is nothing at that address."""
    return True if result == -errno.EFAULT else result_of(result)


def touching(pid):
    """Ways to another process: the first is to disturb it, the others to be it."""
    return {
        "kill": lambda s: result_of(s.call("kill", pid, 0)), "tkill": lambda s: result_of(s.call("tkill", pid, 0)),
        "pidfd_send_signal": lambda s: result_of(s.call("pidfd_send_signal", s.call("pidfd_open", pid, 0), 0, 0, 0)),
    }, {
        "ptrace": lambda s: result_of(s.call("ptrace", 0x4206, pid, 0, 0)),
        "process_vm_readv": lambda s: may_read(s.call("process_vm_readv", pid, struct.pack("QQ", s.room, 8), 1, struct.pack("QQ", s.room, 8), 1, 0)),
        "pidfd_getfd": lambda s: result_of(s.call("pidfd_getfd", s.call("pidfd_open", pid, 0), 0, 0)),
        **{f"/proc/PID/{name}": lambda s, name=name: result_of(READING["openat O_RDONLY"](s, Target(pathlib.Path(f"/proc/{pid}/{name}"))))
           for name in ("mem", "environ", "fd/0")},
    }


NEW_USER, NEW_MOUNT, NEW_NET = 0x10000000, 0x00020000, 0x40000000
KERNEL = {
    "root": {  # what nobody but root may
        "setuid": ("setuid", 0), "setgid": ("setgid", 0), "setgroups": ("setgroups", 1, bytes(4)), "setresuid": ("setresuid", 0, 0, 0),
        "setreuid": ("setreuid", 0, 0), "setresgid": ("setresgid", 0, 0, 0), "chroot": ("chroot", b"/\0"), "mount": ("mount", b"x\0", b"/tmp\0", b"tmpfs\0", 0, 0),
        "unshare mounts": ("unshare", NEW_MOUNT), "unshare network": ("unshare", NEW_NET), "sethostname": ("sethostname", b"x", 1),
        "init_module": ("init_module", bytes(8), 8, b"\0"), "mknod device": ("mknod", b"/tmp/probe\0", 0o060600, 0x0700),
        "be nicer": ("setpriority", 0, 0, -10), "raw socket": ("socket", socket.AF_INET, socket.SOCK_RAW, 1),
        "packet socket": ("socket", socket.AF_PACKET, socket.SOCK_RAW, 0x0300),
    },
    "kernel": {  # what the kernel gives to everybody, and a mail program has no use for
        "new user namespace": ("unshare", NEW_USER), "clone into one": ("clone", NEW_USER | 17, 0, 0, 0, 0), "io_uring": ("io_uring_setup", 1, bytes(120)),
        "bpf": ("bpf", 0, bytes(72), 72), "add_key": ("add_key", b"user\0", b"probe\0", b"x", 1, -2), "keyctl": ("keyctl", 0, -3, 1),
        "userfaultfd": ("userfaultfd", 1), "perf_event_open": ("perf_event_open", bytes(128), 0, -1, -1, 0), "memfd_create": ("memfd_create", b"x\0", 0),
        "inotify": ("inotify_init1", 0), "fanotify": ("fanotify_init", 0, 0), "shmget": ("shmget", 0, 4096, 0o1600), "msgget": ("msgget", 0, 0o1600),
        "semget": ("semget", 0, 1, 0o1600), "mq_open": ("mq_open", b"probe\0", 0o102, 0o600, 0), "personality": ("personality", 0x0040000),
        "landlock": ("landlock_create_ruleset", bytes(8), 8, 0), "netlink socket": ("socket", socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "crypto socket": ("socket", 38, socket.SOCK_SEQPACKET, 0), "vsock": ("socket", 40, socket.SOCK_STREAM, 0),
        "memfd_secret": ("memfd_secret", 0), "dumpable": ("prctl", 4, 1, 0, 0, 0),
    },
}


# --- all of it for one program ------------------------------------------------------------------------------------------------------

class Look:
    def __init__(self, model, world, pid, row):
        self.model, self.world, self.pid, self.row = model, world, pid, row
        self.idle = None  # a stand-in that can be used again
        self.closed = set()  # ways to files that the filter ends, whatever the path: it sees numbers and flags only

    def make(self, way, is_one_call=False):
        """One attempt, by a stand-in of its own. One that nothing came of but an error has changed nothing, and is used again."""
        s, self.idle = self.idle or self.model.stand_in(), None
        got = None
        try:
            got = way(s)
        except Killed:
            got = KILLED
        except Gone as e:
            got = str(e)
        finally:
            if is_one_call and isinstance(got, str) and not s.has_ended:
                self.idle = s
            else:
                s.__exit__()
        return got

    def rest(self):
        if self.idle:
            self.idle.__exit__()
            self.idle = None

    def tries(self, column, word, ways, of="", is_one_call=False):
        """Whether one of the ways leads there; then the column has the word."""
        worked = False
        for name, way in ways.items():
            got = self.make(way, is_one_call)
            self.row.tried.append((column, word, f"{name} {of}".strip(), got))
            worked |= got is True
        if worked and word not in self.row.words[column]:
            self.row.words[column].append(word)
        return worked

    def files(self, column, ways, targets):
        """The same for paths. A way that the filter has ended once is closed to all: it sees numbers and flags, not paths."""
        for word, path in targets:
            for target in [Target(path), *(Target(path, fd, d) for fd, d in self.held.items() if path.is_relative_to(d))]:
                for name, way in ways.items():
                    if name not in self.closed and (not target.directory or name.split()[0] in TAKE_A_DIRECTORY):
                        self.file(column, word, name, way, target)

    def file(self, column, word, name, way, target):
        said = f"{name}({target.fd})" if target.directory else name
        with self.world.canary(target.path):
            self.tries(column, word, {said: lambda s: result_of(way(s, target))}, target.path, True)
        if self.row.tried[-1][-1] == KILLED:
            self.closed.add(name)

    def moves(self):
        """Where nothing can be written, files may still be removed, renamed and linked."""
        written = self.row.words["writes"]
        self.files("writes", MOVING, [(word if word in written else f"moves:{word}", path) for word, path in self.world.folders])

    def opens_again(self):
        """What it has open for reading, for writing."""
        ways = {name: way for name, way in each_open(**TO_WRITE).items() if name not in self.closed}
        for fd, to in self.read_only.items():
            target = Target(pathlib.Path(f"/proc/self/fd/{fd}"))
            self.tries("writes", f"again:{self.world.tell(to)}".replace(" ", "-"),
                       {name: lambda s, way=way, target=target: result_of(way(s, target)) for name, way in ways.items()}, target.path, True)

    def look(self):
        row, world = self.row, self.world
        held = descriptors(self.pid)
        self.held = {fd: world.seen_from_outside(to) for fd, to in held.items() if to.endswith("/")}
        self.read_only = {fd: to for fd, to in held.items() if is_open_for_reading(self.pid, fd)}
        self.files("reads", READING, world.readable)
        self.files("writes", MAKING, world.folders)
        self.files("writes", CHANGING, world.changeable)
        self.moves()
        self.opens_again()
        self.rest()
        for name in SOCKETS:
            self.tries("asks", name, {"connect": asks(name, world.server.home)})
        self.tries("asks", "abstract", {"connect": connects_to(world.abstract)})
        self.tries("network", "tcp", {"connect": sends(socket.SOCK_STREAM, world.outside.getsockname()[1])})
        self.tries("network", "udp", {"connect": sends(socket.SOCK_DGRAM, world.names.getsockname()[1])})
        self.tries("network", "listen", {"listen": listens})
        for word, ways in RUNS.items():
            self.tries("runs", word, ways)
        self.tries("forks", "forks", FORKS)
        limit = memory_limit(self.model)
        row.words["memory"] = [f"{limit} MiB"] if limit else []
        self.others()
        for word, calls in KERNEL.items():
            self.tries("kernel", word, {name: lambda s, c=c: result_of(s.call(*c)) for name, c in calls.items()})

    def others(self):
        """Each other process of the server, by the name of its program."""
        for name, pid in sorted(self.world.others(self.pid)):
            disturb, become = touching(pid)
            if self.tries("touches", f"{name}!", become, f"{name} {pid}"):
                continue
            self.tries("touches", name, disturb, f"{name} {pid}")


def descriptors(pid):
    """{descriptor: what it is}: tcp, udp, unix, pipe, a path (of a directory: ending in /), or the kind of the kernel."""
    tables = {}
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in pathlib.Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            tables[line.split()[9]] = name.rstrip("6")
    found = {}
    for fd in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
        with contextlib.suppress(OSError):
            to = os.readlink(f"/proc/{pid}/fd/{fd}")
            if to.startswith("socket:"):
                to = tables.get(to[8:-1], "unix")
            elif to.startswith("pipe:"):
                to = "pipe"
            elif os.path.isdir(f"/proc/{pid}/fd/{fd}"):
                to += "/"
            found[int(fd)] = to
    return found


def is_open_for_reading(pid, fd):
    """Whether that is all, of a file."""
    flags = re.search(r"^flags:\s*(\d+)", pathlib.Path(f"/proc/{pid}/fdinfo/{fd}").read_text(), re.M)[1]
    return stat.S_ISREG(os.stat(f"/proc/{pid}/fd/{fd}").st_mode) and int(flags, 8) & os.O_ACCMODE == os.O_RDONLY


def look(model, world, pid, name):
    row = Row(name)
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    uid, gid = (int(re.search(rf"^{what}:\s*(\d+)", status, re.M)[1]) for what in ("Uid", "Gid"))
    row.user = f"{world.user(uid)}:{world.group(gid)}"
    row.holds = sorted({world.tell(to) for to in descriptors(pid).values()} - {""})
    looking = Look(model, world, pid, row)
    try:
        looking.look()
    finally:
        looking.rest()
    return row
