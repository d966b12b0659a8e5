"""The load: each client asks again as soon as its answer has ended, and notes what came."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import httpx
from soak_server import TOOLS

if TYPE_CHECKING:
    from soak_server import SoakServer

PAUSE = 0.5  # after a failure, seconds
_NUMBERS = itertools.count()


@dataclass
class Outcome:
    """One request. Times are of the wall clock, since the journal's are; ``left``: the client hung up."""

    kind: str
    planner: str
    started: float
    ended: float = 0.0
    status: int = 0
    revision: str = ""
    code: str = ""  # of an error: the server's, or the exception's name
    message: str = ""
    left: bool = False

    @property
    def ok(self) -> bool:
        """Whether it was answered whole, or the client did not want to know."""
        return self.left or (self.status == 200 and not self.code)

    def to_json(self) -> dict[str, Any]:
        """For the file of what failed."""
        return asdict(self)


def _plan(planner: str, stream: bool) -> tuple[str, dict[str, Any]]:
    task = f"Question {next(_NUMBERS)}: which of the two is older?"
    asked = {"planner": planner, "task": task, "tools": TOOLS, "max_steps": 2, "max_text": 24}
    return "/v1/plans", {**asked, "stream": stream}


def _chat(planner: str, stream: bool, tokens: int, n: int = 1) -> tuple[str, dict[str, Any]]:
    message = {"role": "user", "content": f"Question {next(_NUMBERS)}: who wrote it?"}
    body = {"model": planner, "messages": [message], "max_tokens": tokens, "stream": stream, "n": n}
    return "/v1/chat/completions", {**body, "temperature": 1.0, "ignore_eos": True}


KINDS = {
    "plan": lambda: _plan("alpha", False),
    "plan, streamed": lambda: _plan("beta", True),
    "chat": lambda: _chat("beta", False, 12),
    "chat, streamed": lambda: _chat("alpha", True, 24),
    "chat, two answers": lambda: _chat("alpha", False, 8, n=2),
    "chat, left": lambda: _chat("alpha", True, 200, n=2),
    "chat, third planner": lambda: _chat("gamma", True, 8),
}


async def ask(http: httpx.AsyncClient, kind: str) -> Outcome:
    """One request of this kind, to its end, whatever that is."""
    path, body = KINDS[kind]()
    outcome = Outcome(kind, body.get("planner") or body["model"], time.time())
    reading = asyncio.ensure_future(_read(http, path, body, outcome))
    try:
        if kind.endswith("left"):
            await asyncio.wait((reading,), timeout=random.uniform(0.05, 2.0))
            outcome.left = not reading.done()
            reading.cancel()
        await reading
    except asyncio.CancelledError:
        if not outcome.left:
            raise
    except (httpx.HTTPError, ValueError) as error:
        outcome.code, outcome.message = type(error).__name__, str(error)[:200]
    finally:
        reading.cancel()
    outcome.ended = time.time()
    return outcome


async def _read(http: httpx.AsyncClient, path: str, body: dict[str, Any], outcome: Outcome) -> None:
    async with http.stream("POST", path, json=body) as answer:
        outcome.status = answer.status_code
        outcome.revision = answer.headers.get("x-s3lora-revision", "")
        if answer.status_code != 200 or not body["stream"]:
            data = json.loads(await answer.aread())
            if answer.status_code != 200:
                outcome.code, outcome.message = data["error"]["code"], data["error"]["message"][:200]
            return
        last = ""
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                last = line[6:]
                data = json.loads(last)
                if "error" in data:
                    outcome.code = str(data["error"].get("code"))
                    outcome.message = str(data["error"].get("message"))[:200]
        if not outcome.code and not _whole(last):
            outcome.code, outcome.message = "cut_short", last[:200]


def _whole(last: str) -> bool:
    """Whether a stream ended as streams do: a plan's with its meta, a chat's with its usage."""
    data = json.loads(last or "{}")
    return "planner" in data or bool(data.get("usage"))


class Requests:
    """All clients, until ``stop``."""

    def __init__(self, server: SoakServer) -> None:
        self.outcomes: list[Outcome] = []
        self._server = server
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Ask until ``stop``; answers that have begun are waited for."""
        async with self._server.clients() as http:
            await asyncio.gather(*(self._again(http, kind) for kind in KINDS))

    def stop(self) -> None:
        """Begin no more."""
        self._stopping.set()

    async def _again(self, http: httpx.AsyncClient, kind: str) -> None:
        while not self._stopping.is_set():
            outcome = await ask(http, kind)
            self.outcomes.append(outcome)
            if not outcome.ok:
                await asyncio.sleep(PAUSE)
