"""How tests give orders, hold requests and wait."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from s3lora_serve.control.operation import Operation, Order, Wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from faulty_engine import FaultyEngine
    from fleet_factory import Fleet

    from s3lora_serve.fleet.leases import Lease

TOKENS = (1, 2, 3, 4)


def order(**terms: str) -> Order:
    """An order of Alice's."""
    return Order(**{"actor": "alice", "reason": "better", **terms})


async def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Return once ``true()`` holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.001)


async def swap(fleet: Fleet, name: str, source: str, **options: object) -> Operation:
    """Swap to what lies under ``source``, and wait for the end."""
    return await fleet.done(await fleet.control.swap(name, Wanted(source=source), order(), **options))


async def rollback(fleet: Fleet, name: str, **options: object) -> Operation:
    """Roll back, and wait for the end."""
    return await fleet.done(await fleet.control.rollback(name, order(), **options))


async def canary(fleet: Fleet, name: str, source: str, share: float = 0.5, **options: object) -> Operation:
    """Try what lies under ``source``, and wait until it answers."""
    wanted = Wanted(source=source)
    return await fleet.done(await fleet.control.canary(name, wanted, order(), share=share, **options))


def serving(fleet: Fleet, name: str) -> str:
    """The first digit of the revision that the planner serves; in a shelf each has its own."""
    return fleet.service.get(name).revision.digest[0]


def states(fleet: Fleet, name: str) -> dict[str, str]:
    """The state of each live deployment of the planner, by its revision's first digit."""
    return {d.revision.digest[0]: d.state.value for d in fleet.service._fleet.of(name)}


async def ask(fleet: Fleet, name: str, **terms: object) -> str:
    """Let the planner answer; the first digit of the revision that did, by what it says."""
    async with fleet.service.lease(name, **terms) as lease:
        await lease.run(fleet.service.engine.score(TOKENS, lease.slot))
        return lease.deployment.revision.digest[0]


def next_engine(fleet: Fleet, prepare: Callable[[FaultyEngine], object]) -> None:
    """Order faults of the engine that will be started next, before any request can use it."""
    make = fleet.starts._make

    def prepared() -> FaultyEngine:
        fleet.starts._make = make
        engine = make()
        prepare(engine)
        return engine

    fleet.starts._make = prepared


class Held:
    """A request that runs until it is told to end."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.end = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def _hold(self, fleet: Fleet, name: str, terms: dict[str, str]) -> None:
        async with fleet.service.lease(name, **terms) as lease:
            self.lease = lease
            await lease.run(self.end.wait())
            await fleet.service.engine.score(TOKENS, lease.slot)  # its adapter is still there


@contextlib.asynccontextmanager
async def held(fleet: Fleet, name: str, **terms: str) -> AsyncIterator[Held]:
    """Within, a request of the planner runs; it must end well afterwards, unless the test has ended it."""
    request = Held()
    request.task = asyncio.create_task(request._hold(fleet, name, terms))
    await until(lambda: request.lease is not None or request.task.done())
    try:
        yield request
    finally:
        request.end.set()
        if not request.task.cancelled():
            await asyncio.wait((request.task,))
    if not request.task.cancelled():
        request.task.result()
