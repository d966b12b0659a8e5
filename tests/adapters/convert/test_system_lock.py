"""A locked process reaches nothing but its memory and what it has open."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from s3lora_serve.adapters.convert import system_lock

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="the lock is Linux's")

PROGRAM = """
import ctypes, mmap, os, signal, socket, sys, threading
from s3lora_serve.adapters.convert.system_lock import lock
go, seen = threading.Event(), []
def other():
    go.wait()
    try:
        socket.socket()
    except PermissionError:
        seen.append("kept")
thread = threading.Thread(target=other, daemon=True); thread.start()
{before}
lock(256 << 20, 1 << 20, 30)
go.set(); thread.join()
libc = ctypes.CDLL(None, use_errno=True)
def start_thread():
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        raise PermissionError
tries = dict(
    network=lambda: socket.socket(),
    pair=lambda: socket.socketpair(),
    read=lambda: open("/etc/hostname"),
    write=lambda: open("/tmp/s3lora-escaped", "w"),
    remove=lambda: os.unlink("/tmp/s3lora-nothing"),
    folder=lambda: os.mkdir("/tmp/s3lora-nothing"),
    mode=lambda: os.chmod("/tmp", 0o777),
    child=lambda: os.fork(),
    program=lambda: os.execv("/bin/true", ["true"]),
    signal=lambda: os.kill(os.getppid(), signal.SIGTERM),
    thread=lambda: start_thread(),
    trace=lambda: libc.ptrace(16, os.getppid(), 0, 0) == -1 and (_ for _ in ()).throw(PermissionError),
)
for name, attempt in tries.items():
    try:
        attempt()
    except PermissionError:
        continue
    print("not kept from", name)
try:
    bytearray(1 << 30)
    print("not kept from memory")
except MemoryError:
    pass
print(seen, os.read(0, 5), "done")
"""


def test_nothing_can_be_reached_and_what_is_open_can():
    """Whatever runs in it, in any of its threads: each attempt is refused, and reading goes on."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before="")], input=b"hello", capture_output=True, timeout=60
    )
    assert (done.stdout.decode(), done.returncode) == ("['kept'] b'hello' done\n", 0), done.stderr


def test_a_lock_that_does_not_hold_is_found_out():
    """Should the kernel say yes and mean nothing, no byte is looked at."""
    before = "import s3lora_serve.adapters.convert.system_lock as l; l._RETURN, l._REFUSE = 0x06, 0x7fff0000"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before)], input=b"hello", capture_output=True, timeout=60
    )
    assert done.returncode != 0
    assert b"NoLock: it does not keep from the network" in done.stderr


def test_another_machine_has_none(monkeypatch: pytest.MonkeyPatch):
    """The numbers of its calls are not known, and nothing was changed."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(system_lock.NoLock, match="riscv64"):
        system_lock.lock(1, 1, 1)
