"""The engine's processes out of the server's process group, so that only the server gets a Ctrl-C.

A terminal sends SIGINT to the whole foreground group, and ``timeout`` its SIGTERM. vLLM's processes would end
at once, under the requests that the server still has to finish. ``register`` is a ``vllm.general_plugins``
entry point: vLLM calls it in every process it starts.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

SERVER = "S3LORA_SERVER_PID"  # in the environment of the server and of what it starts


def announce() -> None:
    """Mark this process as the server, and those that it starts as the engine's."""
    os.environ[SERVER] = str(os.getpid())


def register() -> None:
    """In a process of the engine: lead a group of our own, and end with the parent. Safe to call twice.

    Does nothing in the server itself and under a vLLM that is not ours.
    """
    parent = multiprocessing.parent_process()
    if parent is None or os.environ.get(SERVER, str(os.getpid())) == str(os.getpid()):
        return
    if os.getpgrp() == os.getpid():
        return
    os.setpgid(0, 0)
    # No Ctrl-C reaches this process any more, so it must not outlive a server that was killed.
    threading.Thread(target=_end_with, args=(parent.sentinel,), name="end-with-parent", daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
