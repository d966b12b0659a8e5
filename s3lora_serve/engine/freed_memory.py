"""Memory of an engine that was replaced, given back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress


def give_back_memory() -> None:
    """Free what nothing holds any more, a fraction of a second in which nothing else runs.

    An engine's client is full of cycles with threads, sockets and tokenizers in them, 50 MB of vLLM's. Python
    finds those late, and glibc keeps what it frees.
    """
    gc.collect()
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # not every C library has it
            ctypes.CDLL(None).malloc_trim(0)
