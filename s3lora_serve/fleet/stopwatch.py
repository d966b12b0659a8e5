"""How long a step took, in seconds."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """A function that tells the seconds since the block was entered."""
    began = time.monotonic()
    yield lambda: time.monotonic() - began
