"""Clients that ask without pause, and what one block of their requests came to."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from guard_cells import (
    BASE_ROWS,
    BASE_TOKENS,
    GUARDED_PLANNER,
    KEY,
    LONG_GUARD,
    LONG_KEY,
    PLAIN,
    PLAIN_PLANNER,
    PLAN_TOKENS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_tasks import CostTasks
    from guard_cells import Cell

Request = tuple[str, dict[str, Any]]  # path, body
_WHOLE = {"max_tokens": PLAN_TOKENS, "ignore_eos": True, "temperature": 0}


@dataclass
class Asked:
    """One request for a plan: when it began and ended, and what its answer says."""

    began: float
    ended: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    guard_tokens: int = 0
    verdict: str = ""
    error: str = ""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


class BlockClients:
    """Asks the server. ``block`` is one arm's turn in a cell."""

    def __init__(self, url: str, base_model: str, tasks: CostTasks) -> None:
        self._url, self._base_model, self._tasks = url, base_model, tasks

    def requests(self, cell: Cell, count: int) -> list[dict[str, Any]]:
        """So many new requests of the cell's kind, for whichever planner."""
        if cell.route == "plan":
            return [self._tasks.plan_fields(cell) for _ in range(count)]
        made = []
        for _ in range(count):
            earlier = self._tasks.earlier(cell.history, cell.turns)
            messages = [*earlier, {"role": "user", "content": self._tasks.task(cell.sentences)}]
            made.append({**_WHOLE, "messages": messages})
        return made

    async def block(
        self, cell: Cell, arm: str, requests: Sequence[dict[str, Any]], in_flight: int, spread: float
    ) -> dict[str, Any]:
        """Ask them, so many at a time. The clients begin one after the other within ``spread`` seconds.

        Else the engine would read all prompts in the same step, and none while it writes.
        """
        planner = PLAIN_PLANNER if arm in (PLAIN, BASE_ROWS) else GUARDED_PLANNER
        key = LONG_KEY if arm == LONG_GUARD else KEY
        left = list(requests)
        clients: list[list[Asked]] = [[] for _ in range(in_flight)]

        async def client(number: int, http: httpx.AsyncClient) -> None:
            await asyncio.sleep(spread * number / in_flight)
            for _ in range(len(requests) // in_flight):
                fields = left.pop()
                asked = _ask(http, *_of(cell.route, planner, fields))
                if arm == BASE_ROWS:
                    base = _of("chat", self._base_model, {**fields, "max_tokens": BASE_TOKENS})
                    answer, row = await asyncio.gather(asked, _ask(http, *base))
                    answer.error = answer.error or row.error
                else:
                    answer = await asked
                clients[number].append(answer)

        async with AsyncExitStack() as owned:
            connections = [
                await owned.enter_async_context(
                    httpx.AsyncClient(
                        base_url=self._url,
                        headers={"authorization": f"Bearer {key}"},
                        timeout=600,
                        verify=False,  # no TLS here, and its context costs 20 ms
                    )
                )
                for _ in range(in_flight)
            ]
            await asyncio.gather(*(client(number, http) for number, http in enumerate(connections)))
        return {"arm": arm, **figures(clients)}


def figures(clients: Sequence[Sequence[Asked]]) -> dict[str, Any]:
    """One block's: request times in seconds, and requests per second while all clients asked.

    A request counts for the throughput with the share of it that lies in that time, and for the times if that
    is half of it or more. If each client asked once, all of it counts.
    """
    every = [asked for client in clients for asked in client]
    begin = max(client[0].began for client in clients)
    end = min(client[-1].ended for client in clients)
    if end <= begin or len(every) == len(clients):
        begin, end = min(asked.began for asked in every), max(asked.ended for asked in every)
    shares = [max(0.0, min(asked.ended, end) - max(asked.began, begin)) / asked.seconds for asked in every]
    counted = [asked for asked, share in zip(every, shares, strict=True) if share >= 0.5] or every
    return {
        "requests": len(every),
        "seconds": sorted(round(asked.seconds, 5) for asked in counted),
        "per_second": sum(shares) / (end - begin),
        "wall": max(asked.ended for asked in every) - min(asked.began for asked in every),
        "prompt_tokens": statistics.fmean(asked.prompt_tokens for asked in every),
        "cached_tokens": statistics.fmean(asked.cached_tokens for asked in every),
        "output_tokens": statistics.fmean(asked.output_tokens for asked in every),
        "guard_tokens": statistics.fmean(asked.guard_tokens for asked in every),
        "verdicts": dict(Counter(asked.verdict for asked in every)),
        "errors": dict(Counter(asked.error for asked in every if asked.error)),
    }


def _of(route: str, model: str, fields: dict[str, Any]) -> Request:
    if route == "plan":
        return "/v1/plans", {"planner": model, **fields}
    return "/v1/chat/completions", {"model": model, **fields}


async def _ask(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Asked:
    asked = Asked(time.perf_counter())
    try:
        answer = await http.post(path, json=body)
        asked.ended = time.perf_counter()
        told = answer.json()
        if answer.status_code != 200:
            asked.error = f"{answer.status_code} {answer.text[:200]}"
            return asked
    except (httpx.HTTPError, ValueError) as error:
        asked.ended, asked.error = time.perf_counter(), repr(error)[:200]
        return asked
    meta = told.get("meta", {})
    cost = meta.get("cost") or told.get("cost") or {}  # an answer that was withheld tells little
    asked.prompt_tokens, asked.output_tokens = cost.get("prompt_tokens", 0), cost.get("output_tokens", 0)
    asked.cached_tokens, asked.guard_tokens = cost.get("cached_prompt_tokens", 0), cost.get("guard_tokens", 0)
    guard = meta.get("guard") or told.get("s3lora", {}).get("guard")
    asked.verdict = guard["verdict"] if guard else "none"
    return asked
