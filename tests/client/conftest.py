"""A served fleet, and both clients behind one face."""

from __future__ import annotations

import asyncio

import pytest
from threaded_server import threaded_server

from planners.client import AsyncPlannerClient, PlannerClient


class Sync:
    """``PlannerClient`` as it is."""

    kind = PlannerClient

    def __init__(self, *given, **options):
        self._make = lambda: PlannerClient(*given, **options)

    def plan(self, *given, **asking):
        with self._make() as client:
            return client.plan(*given, **asking)

    def chunks(self, *given, **asking):
        with self._make() as client:
            return list(client.stream(*given, **asking))

    def planners(self):
        with self._make() as client:
            return client.planners()


class Async:
    """``AsyncPlannerClient``, each call in a new event loop."""

    kind = AsyncPlannerClient

    def __init__(self, *given, **options):
        self._make = lambda: AsyncPlannerClient(*given, **options)

    def plan(self, *given, **asking):
        async def call():
            async with self._make() as client:
                return await client.plan(*given, **asking)

        return in_own_loop(call())

    def chunks(self, *given, **asking):
        async def call():
            async with self._make() as client:
                return [chunk async for chunk in client.stream(*given, **asking)]

        return in_own_loop(call())

    def planners(self):
        async def call():
            async with self._make() as client:
                return await client.planners()

        return in_own_loop(call())


def in_own_loop(work):
    """Run to the end without touching the session's event loop."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def client(request):
    """Makes a client of either kind; each call has a new connection."""
    return request.param


@pytest.fixture
def served(tmp_path):
    """Planners p and q on a real socket."""
    with threaded_server(tmp_path, "p", "q") as server:
        yield server
