"""Engine requests that belong together: one that fails, or the caller's leaving, ends them all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

T = TypeVar("T")


async def at_once(requests: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each returns, in order. Raises what the first to fail does, once all have ended."""
    tasks = [asyncio.create_task(request) for request in requests]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
