"""Forks of a running program, which a test lets make system calls: what they get is what whoever took the program over gets.

The program is stopped where it waits and made to fork once; then it goes on as if nothing had been. The fork has its user,
groups, descriptors, limits, Landlock rules and filter, all from the kernel, and no will of its own: it forks again for each
stand-in, which does what it is told. The filter is left out for the forks (PTRACE_O_SUSPEND_SECCOMP), and holds from then on.

    with model_of(pid) as model:
        with model.stand_in() as s:
            s.call("openat", AT_FDCWD, b"control/me\\0", os.O_RDONLY)     a number, negative: -errno; or Killed

Linux on x86-64, root."""
import contextlib
import ctypes
import mmap
import os
import signal
import time

from probe import PTRACE_ATTACH, PTRACE_DETACH, PTRACE_SINGLESTEP, ptrace, registers, set_registers

NUMBERS = {
    "read": 0, "write": 1, "open": 2, "close": 3, "mmap": 9, "mprotect": 10, "dup": 32, "socket": 41, "connect": 42, "sendto": 44, "recvfrom": 45,
    "shmget": 29, "bind": 49, "listen": 50, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "setsid": 112, "semget": 64, "msgget": 68, "fcntl": 72,
    "chdir": 80, "fchdir": 81, "rename": 82, "mkdir": 83, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "chown": 92,
    "truncate": 76, "ptrace": 101, "setuid": 105, "setgid": 106, "setgroups": 116, "setreuid": 113, "setresuid": 117, "setresgid": 119, "capset": 126,
    "mknod": 133, "personality": 135, "setpriority": 141, "prctl": 157, "setrlimit": 160, "chroot": 161, "mount": 165, "sethostname": 170,
    "init_module": 175, "setxattr": 188, "poll": 7, "tkill": 200, "tgkill": 234, "mq_open": 240, "add_key": 248, "request_key": 249,
    "keyctl": 250, "inotify_init1": 294, "openat": 257, "mkdirat": 258, "mknodat": 259, "fchownat": 260, "unlinkat": 263, "renameat": 264,
    "linkat": 265, "symlinkat": 266, "fchmodat": 268, "unshare": 272, "perf_event_open": 298, "fanotify_init": 300, "prlimit64": 302,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "kcmp": 312, "renameat2": 316, "memfd_create": 319,
    "bpf": 321, "execveat": 322, "userfaultfd": 323, "pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_open": 434, "clone3": 435,
    "openat2": 437, "pidfd_getfd": 438, "landlock_create_ruleset": 444, "memfd_secret": 447,
}
WALL = 0x40000000  # of waitpid: children of any kind
PTRACE_CONT, PTRACE_SETOPTIONS, PTRACE_GETEVENTMSG = 7, 0x4200, 0x4201
TRACE_CHILDREN = 1 << 1 | 1 << 2 | 1 << 3  # fork, vfork, clone
TRACE_EXEC, EXITKILL, SUSPEND_SECCOMP = 1 << 4, 1 << 20, 1 << 21
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC = 1, 2, 3, 4
NEW = (EVENT_FORK, EVENT_VFORK, EVENT_CLONE)
ROOM = 65536  # octets that the arguments of a call may take


class Killed(Exception):
    """Its filter ended the process."""


class Gone(Exception):
    """The process ended, or never waited, before it could be forked."""


def wait(pid):
    """Waits for a traced process to stop; returns (signal, event). Killed or Gone if it has ended."""
    _, status = os.waitpid(pid, WALL)
    if not os.WIFSTOPPED(status):
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS:
            raise Killed
        raise Gone(f"process {pid} has ended: {status}")
    return os.WSTOPSIG(status), status >> 16


def end(pid):
    """Kills a traced process and takes its status."""
    try:
        os.kill(pid, signal.SIGKILL)
        while os.WIFSTOPPED(os.waitpid(pid, WALL)[1]):
            pass
    except (ProcessLookupError, ChildProcessError):
        pass


class Traced:
    """A stopped process. own: its registers, with which it would go on after the system call that it waits in."""

    room = None  # where the octets of arguments are put
    options = 0  # of ptrace
    has_ended = False  # then its number may be another's

    def __init__(self, pid, own=None):
        self.pid = pid
        self.memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        self.own = own or registers(pid)
        self.children = []  # stopped as well
        self.signals = []  # that came meanwhile, and were kept from it

    def step(self):
        """Goes on by one instruction; returns the event that stopped it, or 0."""
        while True:
            ptrace(PTRACE_SINGLESTEP, self.pid)
            try:
                came, event = wait(self.pid)
            except (Killed, Gone):
                self.has_ended = True
                raise
            if event or came == signal.SIGTRAP:
                return event
            self.signals.append(came)

    def call(self, name, *arguments):
        """The result of a system call, negative: -errno. Arguments are numbers, or octets, of which the call gets the address.
        Raises Killed if the filter ends it."""
        values, at = [], self.room
        for a in arguments:
            if isinstance(a, bytes):
                os.pwrite(self.memory, a, at)
                values.append(at)
                at += (len(a) + 15) & ~15
            else:
                values.append(a & (1 << 64) - 1)
        values += [0] * (6 - len(values))
        set_registers(self.pid, {**self.own, "rax": NUMBERS[name], "orig_rax": (1 << 64) - 1, "rip": self.own["rip"] - 2,
                                 **dict(zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), values))})
        event = self.step()
        if event in NEW:
            return self.take_child(event)
        if event:
            return 0  # exec
        result = registers(self.pid)["rax"]
        return result - (1 << 64) if result >> 63 else result

    def take_child(self, event):
        """A fork has stopped it: the child is stopped as well, before its first instruction."""
        message = ctypes.c_ulong()
        ptrace(PTRACE_GETEVENTMSG, self.pid, ctypes.byref(message))
        wait(message.value)
        self.children.append(message.value)
        if event != EVENT_VFORK:  # this one would wait for its child
            self.step()
        return message.value

    def leave(self):
        """Lets it go on, with the signals that came meanwhile."""
        ptrace(PTRACE_DETACH, self.pid)
        os.close(self.memory)
        for came in self.signals:
            os.kill(self.pid, came)

    @contextlib.contextmanager
    def unfiltered(self):
        ptrace(PTRACE_SETOPTIONS, self.pid, TRACE_CHILDREN | SUSPEND_SECCOMP)
        yield
        ptrace(PTRACE_SETOPTIONS, self.pid, self.options)

    def fork(self, kind):
        """A Traced of the given kind. Its end is told to nobody, and wait(2) does not see it."""
        with self.unfiltered():
            result = self.call("clone", 0, 0, 0, 0, 0)
        if result < 0:
            raise OSError(-result, f"process {self.pid} cannot be forked: {os.strerror(-result)}")
        self.children.clear()  # whoever has it ends it
        made = kind(result, self.own)
        made.room = self.room
        return made


class StandIn(Traced):
    """A fork that does what call() says. What spoils it (exec, setuid) spoils nothing else."""

    def __init__(self, pid, own):
        super().__init__(pid, own)
        self.options = TRACE_CHILDREN | TRACE_EXEC | EXITKILL
        ptrace(PTRACE_SETOPTIONS, pid, self.options)

    def octets(self, size, behind=b""):
        """What the first octet argument of the last call is now, or the one behind this first one."""
        return os.pread(self.memory, size, self.room + ((len(behind) + 15) & ~15))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in [*self.children, *([] if self.has_ended else [self.pid])]:
            end(pid)
        os.close(self.memory)


class Model(StandIn):
    """A fork of which the others are forked."""

    def stand_in(self):
        return self.fork(StandIn)


def stop_in_call(pid):
    for _ in range(1000):
        try:
            ptrace(PTRACE_ATTACH, pid)
        except OSError as e:
            raise Gone(f"process {pid}: {e}") from e
        came = []
        while (stop := wait(pid)[0]) != signal.SIGSTOP:
            came.append(stop)
            ptrace(PTRACE_CONT, pid)
        stopped = Traced(pid)
        stopped.signals += came
        if os.pread(stopped.memory, 2, stopped.own["rip"] - 2) == b"\x0f\x05":
            return stopped
        stopped.leave()
        time.sleep(0.005)
    raise Gone(f"process {pid} never waits in a system call")


def model_of(pid):
    """A Model of a running program, which goes on."""
    program = stop_in_call(pid)
    try:
        model = program.fork(Model)
        with model.unfiltered():
            model.call("setsid")  # its group may be killed with a child of the program
    finally:
        set_registers(pid, program.own)
        program.leave()
    model.room = model.call("mmap", 0, ROOM, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    return model
