"""Asks the questions of one exam, a bounded number at a time, and judges the answers."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

from s3lora_serve.engine.at_once import at_once
from s3lora_serve.engine.port import Sampling
from s3lora_serve.engine.request_facts import for_the_exam
from s3lora_serve.errors import EngineDead, EngineError, EngineRefused
from s3lora_serve.judging.judge import plan_outcome, prompt_outcome
from s3lora_serve.judging.outcomes import Answer
from s3lora_serve.judging.suite import PlanSet, PromptSet
from s3lora_serve.storage.daemon_threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from s3lora_serve.engine.port import Engine, Slot
    from s3lora_serve.judging.outcomes import PlanOutcome
    from s3lora_serve.judging.suite import Messages
    from s3lora_serve.safety.exam.exam_questions import ExamQuestions

T = TypeVar("T")
SetName = Literal["attacks", "harmless", "attacks_as_plans", "tasks"]

PROMPT_SETS: tuple[SetName, ...] = ("attacks", "harmless", "attacks_as_plans")
PLAN_TOKENS = 320  # of a plan without a grammar
PRIORITY = 1_000_000  # behind every request, on engines that schedule by it


@dataclass(frozen=True)
class SetAnswers:
    """One subject's answers to one set: of prompts, verdict letters and openings; of tasks, every figure."""

    letters: str = ""
    openings: tuple[str, ...] = ()
    plans: PlanOutcome | None = None


class ExamAsking:
    """One exam's questions to one engine, at most ``places`` at a time. ``told`` hears of each answer."""

    def __init__(
        self,
        engine: Engine,
        questions: ExamQuestions,
        answer_tokens: int,
        places: int,
        told: Callable[[int, int], None],
    ) -> None:
        self._engine = engine
        self._questions = questions
        self._sampling = Sampling(answer_tokens)
        self._places = asyncio.Semaphore(places)
        self._told = told
        self._threads = DaemonThreads("exam", 1)
        self._done = self._total = 0
        # Its own, so that nobody's time tells what was asked, nor depends on an earlier exam.
        self._salt = f"exam:{uuid.uuid4().hex}"

    async def answers(self, wanted: Iterable[tuple[Slot | None, SetName]]) -> list[SetAnswers]:
        """Every set that is wanted of every subject, in order; None is the base model.

        The first failure, and cancellation, end all that is under way. Raises EngineError naming the
        question, EngineRefused if it is too long, EngineDead.
        """
        pairs = list(wanted)
        self._total = sum(self.size(name) for _, name in pairs)
        with for_the_exam():
            return await at_once(self._set(slot, name) for slot, name in pairs)

    def size(self, name: SetName) -> int:
        """How many questions a set has."""
        questions = self._questions
        if name == "tasks":
            return len(questions.tasks)
        return len(questions.harmless if name == "harmless" else questions.attacks)

    async def _set(self, slot: Slot | None, name: SetName) -> SetAnswers:
        if name == "tasks":
            return await self._tasks(slot)
        kind = "harmless" if name == "harmless" else "attacks"
        prompts = self._questions.harmless if name == "harmless" else self._questions.attacks
        asked = PromptSet(name, prompts, "plan" if name == "attacks_as_plans" else "chat")
        answers = await at_once(
            self._one(kind, n, partial(self._answer, messages, slot, self._sampling))
            for n, messages in enumerate(asked.messages(), 1)
        )
        found = prompt_outcome(asked, answers)
        return SetAnswers(found.verdicts, () if self._questions.own else found.openings)

    async def _tasks(self, slot: Slot | None) -> SetAnswers:
        asked = PlanSet("tasks", self._questions.tasks)
        chats = zip(asked.messages(), asked.references(), strict=True)
        found = await at_once(
            self._one("tasks", n, partial(self._task, *chat, slot)) for n, chat in enumerate(chats, 1)
        )
        answers, losses = [answer for answer, _ in found], [loss for _, loss in found]
        try:
            return SetAnswers(plans=await self._threads.run(plan_outcome, asked, answers, losses))
        except ValueError as error:  # a loss that is not finite
            raise EngineError(str(error), hint="the adapter breaks the model's arithmetic") from error

    async def _one(self, kind: str, number: int, ask: Callable[[], Awaitable[T]]) -> T:
        """What it returns, once there is a place for it. A refusal names the question, own ones by number."""
        try:
            async with self._places:
                found = await ask()
        except EngineDead:
            raise
        except EngineError as error:
            where = self._questions.where(kind, number)
            if self._questions.own and not isinstance(error, _TooLong):
                raise EngineError(f"exam: {where}: {await self._why(error)}") from None
            raise type(error)(f"exam: {where}: {error.message}", hint=error.hint) from error
        self._done += 1
        self._told(self._done, self._total)
        return found

    async def _why(self, error: EngineError) -> str:
        """The error in words that have nothing of the question: what an engine says may quote it."""
        try:
            await self._engine.chat_tokens([{"role": "user", "content": "x"}])
        except EngineError as always:
            return f"nothing can be asked as a chat: {always.message}"
        return f"the engine failed on it ({error.code})"

    async def _task(self, messages: Messages, reference: str, slot: Slot | None) -> tuple[Answer, float]:
        answer = await self._answer(messages, slot, Sampling(PLAN_TOKENS))
        scores = await self._engine.answer_scores(messages, reference, slot)
        return answer, -sum(scores) / max(len(scores), 1)

    async def _answer(self, messages: Messages, slot: Slot | None, sampling: Sampling) -> Answer:
        tokens = await self._engine.chat_tokens(messages)
        need, room = len(tokens) + self._sampling.max_tokens, self._engine.max_model_len
        if need > room:
            raise _TooLong(
                f"{len(tokens)} tokens and {self._sampling.max_tokens} of answer exceed max_model_len {room}",
                hint="shorten the question or raise engine.max_model_len",
            )
        made = await self._engine.continue_tokens(tokens, slot, sampling, salt=self._salt, priority=PRIORITY)
        return Answer(made.text, made.facts.output_tokens, made.facts.finish_reason == "stop")


class _TooLong(EngineRefused):
    """Ours, so that its message is known to quote nothing."""
