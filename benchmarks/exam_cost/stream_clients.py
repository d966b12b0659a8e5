"""Clients that stream chats without pause, and when each piece of an answer came."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
from exam_arms import BACKGROUND
from examined_server import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOKENS = 105  # of an answer, as a demo plan has


class StreamClients:
    """``gaps``: (Unix time of a piece, seconds since the one before); ``firsts``: those of first pieces."""

    def __init__(self, url: str, count: int) -> None:
        self._url, self._count = url, count
        self._asked = 0
        self.gaps: list[tuple[float, float]] = []
        self.firsts: list[tuple[float, float]] = []
        self.errors: list[str] = []

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """They ask meanwhile."""
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(self._client(number)) for number in range(self._count)]
            try:
                yield
            finally:
                for client in clients:
                    client.cancel()

    async def _client(self, number: int) -> None:
        await asyncio.sleep(0.1 * number)  # else the engine would read all prompts in the same step
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=self._url, headers=headers, timeout=600, verify=False) as http:
            while True:
                try:
                    await self._one(http)
                except (httpx.HTTPError, RuntimeError) as error:
                    self.errors.append(repr(error)[:200])
                    await asyncio.sleep(1)

    async def _one(self, http: httpx.AsyncClient) -> None:
        self._asked += 1
        body: dict[str, Any] = {
            "model": BACKGROUND,
            "messages": [{"role": "user", "content": f"Request {self._asked}: what is to be done first?"}],
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
        }
        before, first = time.time(), True
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                raise RuntimeError(f"{answer.status_code} {(await answer.aread())[:150]!r}")
            async for line in answer.aiter_lines():
                if not line.startswith("data: {") or '"content"' not in line:
                    continue
                now = time.time()
                (self.firsts if first else self.gaps).append((now, now - before))
                before, first = now, False
