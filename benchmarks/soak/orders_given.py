"""The operators: swaps to new adapters, rollbacks, canaries, and a source that never answers."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from soak_server import SoakServer

ENDED = ("done", "failed", "undone", "cancelled")


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.CancelledError, OSError):
        await reader.read()
    writer.close()


@dataclass
class Given:
    """One order: ``id`` is the operation's, once it was acknowledged; ``step`` the last one seen."""

    what: str
    planner: str
    at: float
    id: str = ""
    status: int = 0
    step: str = ""
    code: str = ""


class OrdersGiven:
    """``given`` are all orders; ``hung`` what became of those about the source that never answers."""

    def __init__(self, server: SoakServer, pause: float) -> None:
        self.given: list[Given] = []
        self.hung: list[str] = []
        self._server = server
        self._pause = pause

    async def run(self) -> None:
        """Until cancelled: two planners are swapped in turn; gamma's source hangs."""
        await asyncio.gather(self._operate("alpha"), self._operate("beta"), self._hang())

    async def _operate(self, planner: str) -> None:
        while True:
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))
            chance = random.random()
            source = {"source": str(await asyncio.to_thread(self._server.new_adapter))}
            if chance < 0.55:
                await self._order(planner, "swap", source)
            elif chance < 0.75:
                await self._order(planner, "rollback", {})
            else:
                begun = await self._order(planner, "canary", source | {"share": 0.5})
                if begun.step == "done":
                    await asyncio.sleep(self._pause)
                    await self._order(planner, random.choice(("promote", "rollback")), {})

    async def _order(self, planner: str, what: str, body: dict[str, Any]) -> Given:
        given = Given(what, planner, time.time())
        self.given.append(given)
        try:
            answer = await self._server.admin.post(f"/admin/planners/{planner}/{what}", json=body)
            given.status = answer.status_code
            if given.status not in (200, 202):
                given.code = answer.json()["error"]["code"]
                return given
            given.id = answer.json()["id"]
            await self._follow(given)
        except httpx.HTTPError as error:
            given.code = type(error).__name__
        return given

    async def _follow(self, given: Given, seconds: float = 600) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            operation = (await self._server.admin.get(f"/admin/operations/{given.id}?wait=1")).json()
            given.step = operation["step"]
            if given.step in ENDED:
                given.code = (operation["error"] or {}).get("code", "")
                return

    async def _hang(self) -> None:
        """Swap to a source that takes the connection and says nothing; cancel it, if this build can."""
        port = self._server.silent
        silent = await asyncio.start_server(_say_nothing, "127.0.0.1", port)
        cancel = await self._server.cancel_route()
        async with silent:
            while True:
                await asyncio.sleep(self._pause * 2)
                given = Given("swap", "gamma", time.time())
                self.given.append(given)
                source = {"source": f"http://127.0.0.1:{port}/adapter.zip"}
                answer = await self._server.admin.post("/admin/planners/gamma/swap", json=source)
                given.status = answer.status_code
                if given.status not in (200, 202):
                    given.code = answer.json()["error"]["code"]
                    self.hung.append(f"refused: {given.code}")
                    if given.code != "conflict":
                        return  # this build lets no order reach such a source
                    continue
                given.id = answer.json()["id"]
                await asyncio.sleep(5)
                if cancel is None:
                    self.hung.append("not cancelled: this build has no route for it")
                    await self._follow(given, 900)
                    continue
                told = await self._server.admin.post(cancel.replace("{id}", given.id), json={})
                await self._follow(given, 60)
                self.hung.append(f"cancel: {told.status_code}, then {given.step}")
