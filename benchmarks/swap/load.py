"""The steady load: a few clients, each asking again as soon as its answer has ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
from answers import Answer
from prompts import messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAUSE_AFTER_FAILURE = 1.0  # seconds; without it a server that is down would be asked thousands of times


@dataclass(frozen=True)
class Client:
    """One client: whom it asks, and for how many tokens."""

    name: str
    planner: str | None
    tokens: int


CLIENTS = (
    Client("alpha-1", "alpha", 24),
    Client("alpha-2", "alpha", 40),
    Client("beta-1", "beta", 24),
    Client("gamma-1", "gamma", 96),  # the background stream
    Client("base-1", None, 24),
)


class Load:
    """All clients against one server. ``phase`` is written on each answer that begins in it."""

    def __init__(self, url: str, base_model: str) -> None:
        self.answers: list[Answer] = []
        self.phase = "warm-up"
        self._url = url
        self._base_model = base_model
        self._numbers = itertools.count()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask until the block ends; then let the answers that have begun end."""
        stopping = asyncio.Event()
        async with self._http() as http:
            tasks = [asyncio.create_task(self._ask_on(http, client, stopping)) for client in CLIENTS]
            try:
                yield
            finally:
                stopping.set()
                await asyncio.gather(*tasks)

    async def once(self, planner: str | None, tokens: int = 4, limit: float = 30) -> Answer:
        """One answer, now."""
        async with self._http(limit) as http:
            return await self._ask(http, Client("once", planner, tokens))

    def take(self) -> list[Answer]:
        """The answers so far, which are then forgotten here."""
        taken, self.answers = self.answers, []
        return taken

    def _http(self, limit: float = 120) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self._url, verify=False, timeout=httpx.Timeout(limit, connect=5))

    async def _ask_on(self, http: httpx.AsyncClient, client: Client, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            answer = await self._ask(http, client)
            self.answers.append(answer)
            if answer.error:
                await asyncio.sleep(PAUSE_AFTER_FAILURE)

    async def _ask(self, http: httpx.AsyncClient, client: Client) -> Answer:
        answer = Answer(client.name, client.planner, self.phase, time.monotonic())
        body = {
            "model": client.planner or self._base_model,
            "messages": messages(next(self._numbers)),
            "max_tokens": client.tokens,
            "temperature": 0,
            "stream": True,
        }
        try:
            async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                answer.status = response.status_code
                if response.status_code != 200:
                    answer.error = (await response.aread()).decode(errors="replace")[:300]
                else:
                    answer.leased = response.headers.get("x-s3lora-revision", "")
                    await _read(response, answer)
        except (httpx.HTTPError, ValueError) as error:
            answer.error = f"{type(error).__name__}: {error}"
        answer.ended = time.monotonic()
        return answer


async def _read(response: httpx.Response, answer: Answer) -> None:
    """Read the stream of events to its end. An error in it, or an end too early, is noted as the error."""
    finish = None
    async for line in response.aiter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line[6:])
        if "error" in event:
            answer.error = json.dumps(event["error"])[:300]
            return
        for choice in event["choices"]:
            finish = choice.get("finish_reason") or finish
            if text := choice["delta"].get("content"):
                answer.chunks.append(time.monotonic())
                answer.text += text
    if finish not in ("length", "stop"):
        answer.error = f"the stream ended without a finish reason that counts: {finish}"
