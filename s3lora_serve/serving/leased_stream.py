"""An engine's stream under a lease: it ends with the lease, its timeout or its reader."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from s3lora_serve.fleet.leases import Lease

T = TypeVar("T")


async def leased_stream(
    source: AsyncGenerator[T, None], lease: Lease, seconds: float | None
) -> AsyncGenerator[T, None]:
    """The items of ``source``, which runs in its own task. Raises its errors, TimeoutError, LeaseCut.

    A task, since neither the lease's end nor a timeout could otherwise stop a generator that waits, and a
    timeout around a ``yield`` would stop the reader instead. The source has ended when this has. It is the
    lease's last work: once it has ended, the engine does nothing more for the lease.
    """
    items: asyncio.Queue[T | None] = asyncio.Queue()

    async def produce() -> None:
        async with asyncio.timeout(seconds), aclosing(source):
            async for item in source:
                items.put_nowait(item)

    def ended(_: asyncio.Future[None]) -> None:
        lease.left = True
        items.put_nowait(None)

    work = asyncio.ensure_future(lease.run(produce()))
    work.add_done_callback(ended)
    try:
        while (item := await items.get()) is not None:
            yield item
        work.result()
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
