"""Work that ends when something happens first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T], error: Callable[[], Exception]) -> T:
    """The result of ``work``; once ``event`` is set it is cancelled instead, and has ended.

    Raises ``error()`` then.
    """
    working = asyncio.ensure_future(work)
    happening = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((working, happening), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise error()
    finally:
        for task in (working, happening):
            task.cancel()
        await asyncio.gather(working, happening, return_exceptions=True)
