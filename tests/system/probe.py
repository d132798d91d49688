"""Makes another process do a system call, as its own: what it answers is what whoever took that process over would get.

The process is stopped with ptrace, wherever it is, gets the registers of one call, does it, and goes on with its own
registers as if nothing had been. A call that its filter forbids kills it. Linux on x86-64 only, needs root."""
import ctypes
import errno
import os
import pathlib
import platform
import signal
import struct
import time

import pytest

NUMBERS = {"read": 0, "open": 2, "close": 3, "socket": 41, "connect": 42, "bind": 49, "execve": 59, "kill": 62, "mkdir": 83,
           "unlink": 87, "setuid": 105, "ptrace": 101, "mmap": 9, "unshare": 272, "getpid": 39}
KILLED = "killed by its filter"
PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_ATTACH, PTRACE_DETACH, PTRACE_SINGLESTEP = 12, 13, 16, 17, 9
REGISTERS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
             "ds es fs gs").split()
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def is_sanitized(program):
    """Whether it was built with ASan: then it loads no filter, needs its libraries, and much memory."""
    return b"__asan_init" in pathlib.Path(program).read_bytes()


def need():
    if platform.machine() != "x86_64":
        pytest.skip("makes system calls for another process on x86-64 only")
    if os.getuid():
        pytest.skip("only root can make system calls for another user's process")


def ptrace(request, pid, data=None):
    if libc.ptrace(request, pid, None, data) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def wait_stopped(pid):
    """None when the process has stopped, else what became of it."""
    _, status = os.waitpid(pid, 0x40000000)  # __WALL: it is no child of ours
    return None if os.WIFSTOPPED(status) else status


def registers(pid):
    buffer = ctypes.create_string_buffer(8 * len(REGISTERS))
    ptrace(PTRACE_GETREGS, pid, buffer)
    return dict(zip(REGISTERS, struct.unpack(f"{len(REGISTERS)}Q", buffer.raw)))


def set_registers(pid, values):
    ptrace(PTRACE_SETREGS, pid, ctypes.create_string_buffer(struct.pack(f"{len(REGISTERS)}Q", *(values[r] for r in REGISTERS))))


def stop_in_call(pid):
    """Stops pid where it waits in a system call; returns its registers and its memory."""
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
    for _ in range(1000):
        ptrace(PTRACE_ATTACH, pid)
        wait_stopped(pid)
        own = registers(pid)
        if os.pread(memory, 2, own["rip"] - 2) == b"\x0f\x05":
            return own, memory
        ptrace(PTRACE_DETACH, pid)
        time.sleep(0.01)
    os.close(memory)
    pytest.fail(f"process {pid} never waits in a system call")


def call(pid, name, *arguments):
    """Lets pid do a system call: a number as the kernel returns it (negative: -errno), or KILLED. Arguments are numbers,
    or octets, of which the call gets the address."""
    need()
    own, memory = stop_in_call(pid)
    try:
        at = (own["rsp"] - 16384) & ~15  # below what its stack holds
        saved = os.pread(memory, 4096, at)
        values, room = [], at
        for a in arguments:
            if isinstance(a, bytes):
                os.pwrite(memory, a, room)
                values.append(room)
                room += (len(a) + 15) & ~15
            else:
                values.append(a & (1 << 64) - 1)
        values += [0] * (6 - len(values))
        set_registers(pid, {**own, "rax": NUMBERS[name], "orig_rax": (1 << 64) - 1, "rip": own["rip"] - 2,
                            **dict(zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), values))})
        ptrace(PTRACE_SINGLESTEP, pid)
        ended = wait_stopped(pid)
        if ended is not None:
            assert os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGSYS, ended
            return KILLED
        result = registers(pid)["rax"]
        os.pwrite(memory, saved, at)
        set_registers(pid, own)
        ptrace(PTRACE_DETACH, pid)
        return result - (1 << 64) if result >> 63 else result
    finally:
        os.close(memory)


def opens(pid, path, flags=os.O_RDONLY):
    """Whether pid can open path (octets or text, as it sees it): True, the name of the error, or KILLED."""
    result = call(pid, "open", os.fsencode(path) + b"\0", flags, 0o600)
    if result == KILLED:
        return KILLED
    if result < 0:
        return errno.errorcode[-result]
    call(pid, "close", result)
    return True
