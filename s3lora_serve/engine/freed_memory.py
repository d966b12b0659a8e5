"""Memory of an engine that was replaced, given back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress


def give_back_memory() -> None:
    """Free what nothing holds any more, a fraction of a second in which nothing else runs.

    An engine's client is full of cycles with threads, sockets and tokenizers in them, 50 MB of vLLM's. Python
    finds those late, and glibc keeps what it frees. In what is frozen Python does not look for them at all:
    vLLM's app freezes all that there is when it starts, for shorter pauses. So that is thawed, and frozen
    again.
    """
    frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # not every C library has it
            ctypes.CDLL(None).malloc_trim(0)
