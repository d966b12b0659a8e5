"""What a process may ask of the kernel, cut down for good to memory and the files that it has open.

An allow-list of system calls (seccomp), which no privilege is needed for and which nothing in the process can
take back: no network, no other process, no file opened or removed. What is not on it fails with EPERM.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import socket
import struct
from pathlib import Path

# Numbers of one call on x86_64 and on aarch64.
_ALLOWED = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "pread64": (17, 67), "pwrite64": (18, 68),
    "readv": (19, 65), "writev": (20, 66), "sched_yield": (24, 124), "mremap": (25, 216),
    "madvise": (28, 233), "nanosleep": (35, 101), "getpid": (39, 172), "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165), "sysinfo": (99, 179), "sigaltstack": (131, 132), "gettid": (186, 178),
    "futex": (202, 98), "sched_getaffinity": (204, 123), "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "newfstatat": (262, 79), "getrandom": (318, 278),
    "membarrier": (324, 283), "rseq": (334, 293),
}  # fmt: skip
_MACHINES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}  # column, audit, call
_NO_NEW_PRIVILEGES, _SET_FILTER, _ALL_THREADS = 38, 1, 1
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # of BPF: a word of the call's data, jump if equal, the verdict


class NoLock(Exception):
    """This system has no such lock, or it does not hold."""


def lock(more_bytes: int, written_bytes: int, cpu_seconds: int) -> None:
    """Lock this process, with all its threads, and prove that the lock holds. Raises NoLock.

    From here on it may take ``more_bytes`` of memory, write files of ``written_bytes`` and compute so long.
    """
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        raise NoLock(f"{platform.system()} on {platform.machine()} has no such lock")
    for limit, value in (
        (resource.RLIMIT_AS, _mapped() + more_bytes),
        (resource.RLIMIT_FSIZE, written_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    column, machine, number = _MACHINES[platform.machine()]
    program = _filter([numbers[column] for numbers in _ALLOWED.values()], machine)
    held = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.syscall(
        number, _SET_FILTER, _ALL_THREADS, described
    ):
        raise NoLock(f"the kernel refuses it: {os.strerror(ctypes.get_errno())}")
    _prove()


def _prove() -> None:
    for what, forbidden in (
        ("the network", socket.socket),
        ("files", lambda: os.open("/dev/null", os.O_RDONLY)),
        ("other processes", os.fork),
    ):
        try:
            child = forbidden()
        except PermissionError:
            continue
        if child == 0:
            os._exit(0)
        raise NoLock(f"it does not keep from {what}")


def _filter(allowed: list[int], machine: int) -> bytes:
    """The BPF program: another machine's calls are refused, these are allowed, every other one is refused."""
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, 0)]
    for place, number in enumerate(allowed):
        steps.append((_EQUAL, len(allowed) - place, 0, number))
    steps += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _mapped() -> int:
    """Bytes of address space that the process has mapped."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
