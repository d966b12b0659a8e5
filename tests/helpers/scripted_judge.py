"""A judge of requests that goes by a word in them, as fast as a test wants, and guards made with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from s3lora_serve.config import GuardConfig
from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import GuardUndecided, RefusedByGuard
from s3lora_serve.safety.guard.guard_question import Part
from s3lora_serve.safety.guard.guards import Guards
from s3lora_serve.safety.guard.ruling import Found, Ruling

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.engine.port import Engine
    from s3lora_serve.safety.guard.guard_question import GuardQuestion
    from s3lora_serve.safety.guard.guarding import Guarding

HARM = "bomb"  # in a request: it is refused
MURKY = "murmur"  # in a request: it is neither refused nor allowed


class ScriptedJudge:
    """Refuses requests with HARM in them, and names the part where it stands."""

    name = "base"

    def __init__(self, seconds: Callable[[], float] = lambda: 0.0) -> None:
        """``seconds``: how long the next verdict takes."""
        self.seconds = seconds
        self.asked: list[tuple[GuardQuestion, str]] = []  # with the caller
        self.priorities: list[int] = []
        self.judging = 0  # now
        self.gate = asyncio.Event()  # closed by ``gate.clear()``: no verdict until it is open
        self.gate.set()
        self.fails = False
        self.engine: Engine | None = None  # that it asks something before each verdict

    async def rule(
        self, question: GuardQuestion, caller: str, request_id: str, priority: int = 0, *_: object
    ) -> Ruling:
        """As ``Judge.rule``."""
        self.asked.append((question, caller))
        self.priorities.append(priority)
        self.judging += 1
        try:
            if self.engine is not None:
                words = [{"role": "user", "content": question.task}]
                await self.engine.chat(words, None, Sampling(max_tokens=4))
            await self.gate.wait()
            await asyncio.sleep(self.seconds())
        finally:
            self.judging -= 1
        if self.fails:
            return Ruling(Found.FAILED, "base", why="as ordered")
        texts = [(Part.TASK, question.task), *((passage.part, passage.text) for passage in question.passages)]
        for part, text in texts:
            if HARM in text:
                return Ruling(Found.REFUSED, "base", part, prompt_tokens=5, output_tokens=2)
        finding = Found.UNDECIDED if any(MURKY in text for _, text in texts) else Found.ALLOWED
        return Ruling(finding, "base", prompt_tokens=5, output_tokens=2)


def guards_by(judge: ScriptedJudge, *planners: str, **settings: Any) -> Guards:
    """Guards of these planners by the judge; they refuse unless ``settings`` say other."""
    terms = GuardConfig(**{"action": "refuse", **settings})
    return Guards(dict.fromkeys(planners, terms), {name: {judge.name: judge} for name in planners})


async def judged(
    guards: Guards, *questions: GuardQuestion
) -> tuple[Guarding, RefusedByGuard | GuardUndecided | None]:
    """Planner p's guarding of a request with these prompts, once it is over; with what ``passed`` raised."""
    guarding = guards.guarding("p", questions[0], "ann", "r1", more=questions[1:])
    error: RefusedByGuard | GuardUndecided | None = None
    async with guarding:
        try:
            await guarding.passed()
        except (RefusedByGuard, GuardUndecided) as raised:
            error = raised
    return guarding, error
