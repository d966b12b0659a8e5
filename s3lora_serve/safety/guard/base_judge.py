"""The base model as the guard's judge: it stands unharmed in the engine, and is asked what a planner is."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from s3lora_serve.errors import EngineDead, EngineError
from s3lora_serve.safety.guard.allowance import Allowance
from s3lora_serve.safety.guard.base_questions import MOST, TEXTS, Asked, Asker, BaseQuestion
from s3lora_serve.safety.guard.guard_question import Part
from s3lora_serve.safety.guard.ruling import Found, Ruling
from s3lora_serve.safety.guard.texts.frame import framed, led, parts_of
from s3lora_serve.safety.guard.texts.plain_text import plain_text
from s3lora_serve.safety.guard.texts.planned import planned
from s3lora_serve.safety.guard.texts.sentences import sentences
from s3lora_serve.safety.guard.verdict_cache import VerdictCache
from s3lora_serve.storage.daemon_threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from s3lora_serve.config import GuardConfig
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.safety.guard.base_answer import BaseAnswer
    from s3lora_serve.safety.guard.guard_question import GuardQuestion, Passage
    from s3lora_serve.safety.guard.ruling import JudgeName

log = logging.getLogger(__name__)

LONG = 50_000  # characters of a request that are taken apart in a few hundredths of a second


class BaseJudge:
    """Asks the base model the task, what it wants a plan for, each earlier turn of the user, and the task
    with all else; and, as what is to be done, each sentence of a longer task and each kind of passage. What
    is asked alone as a turn is none of the history's: what a client lets an assistant have said is.

    All are asked at once. The first refusal decides and ends the rest. What stands in parts under
    ``observe_parts`` is asked apart from what decides, so that it neither causes a refusal nor hides one.
    """

    def __init__(self, engine: Callable[[], Engine], settings: GuardConfig) -> None:
        """``engine``: the one that runs now. Raises EngineDead while there is none, EngineError for one that
        must not be asked, with a message that has nothing of requests.
        """
        self._engine = engine
        self._settings = settings
        self._asked: Engine | None = None  # whose answers are remembered
        self._cache: VerdictCache[BaseAnswer] = VerdictCache(settings.cache_seconds)
        self._threads = DaemonThreads("guard", 2)

    @property
    def name(self) -> JudgeName:
        return "base"

    async def rule(
        self,
        question: GuardQuestion,
        caller: str,
        request_id: str,
        priority: int = 0,
        allowance: Allowance | None = None,
    ) -> Ruling:
        """See ``Judge``. A refusal beats a failure: else who can make one fail is not refused."""
        began = time.monotonic()
        try:
            asker = self._asker(caller, priority, allowance or Allowance())
        except EngineError as error:
            why = "the engine does not run" if isinstance(error, EngineDead) else error.message
            return Ruling(Found.FAILED, "base", why=why)
        # Taking apart megabytes takes seconds, for which no other request would be answered.
        make = partial(_Request, asker, self._settings, question, began)
        request = make() if question.size < LONG else await self._threads.run(make)
        finding, part, why = await request.judged()
        return Ruling(
            finding,
            "base",
            part=part,
            why=why,
            prompt_tokens=asker.prompt_tokens,
            output_tokens=asker.output_tokens,
            seconds=time.monotonic() - began,
            cached=asker.reused > 0 and not asker.asked,
        )

    def _asker(self, caller: str, priority: int, allowance: Allowance) -> Asker:
        engine = self._engine()
        if engine is not self._asked:  # what another one said is not known to be what this one would
            self._asked, self._cache = engine, VerdictCache(self._settings.cache_seconds)
        return Asker(engine, self._cache, caller, priority, allowance)


_Judged = tuple[Found, Part | None, str]


class _Request:
    """One request on its way to a finding."""

    def __init__(self, asker: Asker, settings: GuardConfig, question: GuardQuestion, began: float) -> None:
        self._asker = asker
        self._observed = frozenset(settings.observe_parts)
        self._deadline = began + settings.seconds
        self._task = question.task
        passages = question.passages
        deciding = [passage for passage in passages if passage.part not in self._observed]
        self._passages = passages
        turns = dict.fromkeys(question.turns)
        earlier = (turn for turn in turns if turn != self._task)
        led = [p for p in passages if p.text and not (p.part is Part.HISTORY and p.text in turns)]
        self._alone = [
            BaseQuestion(question.task, Part.TASK),
            *(BaseQuestion(goal, Part.TASK) for goal in filter(None, (planned(self._task),))),
            *(self._led(Part.TASK, sentence) for sentence in sentences(self._task)),
            *(
                self._led(part, *(plain_text(p.text) for p in led if p.part is part))
                for part in parts_of(led)
            ),
            # Last, and of too many one that is not asked: so nothing else is left out, and that shows.
            *(BaseQuestion(turn, Part.HISTORY) for turn in islice(earlier, TEXTS)),
        ]
        self._deciding = self._framed(deciding) if deciding else None
        self._whole = self._framed(passages) if len(deciding) < len(passages) else None

    def _framed(self, passages: Iterable[Passage], part: Part | None = None) -> BaseQuestion:
        return BaseQuestion(framed(self._task, passages), part, framed(self._task, ()), quotes=True)

    def _led(self, part: Part, *texts: str) -> BaseQuestion:
        return BaseQuestion(led(*texts), part, led(), quotes=True)

    async def judged(self) -> _Judged:
        """The finding, of a refusal the part that it is about, and why there is no verdict."""
        together = [question for question in (self._deciding, self._whole) if question is not None]
        task, *others = self._alone
        counted: Part | None = None
        async with Asked(self._asker, [task, *together, *others]) as asked:
            while (question := await asked.heard()) is not None:
                if not question.refused:
                    continue
                part = question.part
                if question is self._deciding and counted is None:
                    part = counted = await self._blamed(asked, decides=True)
                if part is not None and part not in self._observed:
                    return Found.REFUSED, part, ""
            return await self._undecided(asked, counted)

    async def _undecided(self, asked: Asked, counted_part: Part | None) -> _Judged:
        """What is left if nothing that decides was refused: no verdict, or what is only counted."""
        decides = [q for q in self._alone if q.part not in self._observed]
        problems = [q.problem for q in (*decides, self._deciding) if q is not None and q.problem is not None]
        if problems:
            worst = next((p for p in problems if p.finding is Found.FAILED), problems[0])
            return worst.finding, None, worst.why
        if counted_part is not None:
            return Found.REFUSED, counted_part, ""
        counted = [q for q in (*self._alone, self._whole) if q is not None and q not in decides]
        if any(q.refused for q in counted):
            return Found.REFUSED, await self._blamed(asked, decides=False), ""
        for question in counted:
            if (problem := question.problem) is not None:
                part = question.part or self._kinds(decides=False)[-1]
                return problem.finding, None if problem.finding is Found.FAILED else part, problem.why
        return Found.ALLOWED, None, ""

    def _kinds(self, *, decides: bool) -> tuple[Part, ...]:
        return tuple(part for part in parts_of(self._passages) if (part not in self._observed) is decides)

    async def _blamed(self, asked: Asked, *, decides: bool) -> Part:
        """Which part a refusal is about that the task with passages got.

        What is refused alone; else the first kind of passage, in the order of ``Part``,
        with which alone the task is refused; if there is none, or no time to find out, the last kind. The
        refusal stands whatever becomes of this: it takes at most half of the time that is left.
        """
        kinds = self._kinds(decides=decides)
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic()) / 2):
                while any(asked.waits(question) for question in self._alone):
                    await asked.heard()
                refused = [question for question in self._alone if question.refused]
                alone = {q.part for q in refused if not q.quotes or q.part in (Part.TASK, *kinds)}
                if found := [part for part in Part if part in alone]:
                    return next((part for part in found if part not in self._observed), found[0])
                if len(kinds) > 1:
                    return await self._refused_with(kinds) or kinds[-1]
        except TimeoutError:
            log.info("no time to find out which part the base model refused")
        return kinds[-1]

    async def _refused_with(self, kinds: Sequence[Part]) -> Part | None:
        questions = [self._framed((p for p in self._passages if p.part is kind), kind) for kind in kinds]
        async with Asked(self._asker, questions, 2 * MOST) as asked:
            while await asked.heard() is not None:
                pass
        return next((question.part for question in questions if question.refused), None)
