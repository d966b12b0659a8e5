"""The questions of one request to the base model: cut to fit, counted, asked all at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Self

from planners.prompts.control_tokens import control_tokens_of
from s3lora_serve.engine.at_once import at_once
from s3lora_serve.errors import EngineDead, EngineError, EngineRefused
from s3lora_serve.safety.guard.allowance import MOST_TOGETHER, Allowance
from s3lora_serve.safety.guard.base_answer import LONGEST, SAMPLING, BaseAnswer, ask_base, on_one_line
from s3lora_serve.safety.guard.ruling import Found, too_many
from s3lora_serve.safety.guard.texts.frame import FRAME, chat_of
from s3lora_serve.safety.guard.texts.windows import windows
from s3lora_serve.safety.guard.verdict_cache import verdict_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from s3lora_serve.engine.port import Engine
    from s3lora_serve.safety.guard.guard_question import Part
    from s3lora_serve.safety.guard.texts.windows import Tokens
    from s3lora_serve.safety.guard.verdict_cache import VerdictCache

MOST = 64  # questions that one request may cause, and once more to find out which part was refused
TEXTS = 4 * MOST  # of one request that are looked at: most of a long conversation's turns are remembered
_ANY = "x"  # in a chat, what it begins and ends with else is the template


@dataclass(eq=False)
class BaseQuestion:
    """A text for the base model. ``part``: what of the request it is, None for the task with passages.

    ``quotes``: whether it holds texts of others. ``opening``: how the text begins that each window of it
    repeats, if it is short.
    """

    text: str
    part: Part | None = None
    opening: str = _ANY
    quotes: bool = False
    refused: bool = False
    problem: BaseAnswer | None = None  # why there is no verdict about some of it

    @cached_property
    def line(self) -> str:
        """The text on one line, to be looked for in answers."""
        return on_one_line(self.text)

    def heard(self, answer: BaseAnswer) -> None:
        """Take in the answer to one window."""
        if answer.finding is Found.REFUSED:
            self.refused = True
        elif answer.finding is not Found.ALLOWED and (self.problem is None or answer.finding is Found.FAILED):
            self.problem = answer


TOO_MANY = BaseAnswer(Found.UNDECIDED, too_many(MOST, MOST_TOGETHER, "the base model"))


@dataclass
class Asker:
    """Asks for one caller's request. A question that is remembered, or stands there twice, costs nothing."""

    engine: Engine
    cache: VerdictCache[BaseAnswer]
    caller: str
    priority: int = 0  # of the request, in the engine
    allowance: Allowance = field(default_factory=Allowance)  # shared by the request's prompts
    prompt_tokens: int = 0
    output_tokens: int = 0
    asked: int = 0
    reused: int = 0
    _keys: set[str] = field(default_factory=set)

    def key(self, tokens: Tokens, question: BaseQuestion) -> str:
        """What the answer is remembered under."""
        of = self.engine.version, self.engine.base_name, FRAME, SAMPLING, question.quotes
        return verdict_key(tokens, self.caller, *of)

    async def cut(self, question: BaseQuestion) -> list[Tokens]:
        """The question as tokens, in windows if it is longer than the context, at most ``MOST``.

        There is no verdict about one that has more: those that are not looked at would go unread, also once
        the others are remembered. None if it has another problem.
        """
        engine = self.engine
        room = engine.max_model_len - LONGEST
        try:
            whole = await self._tokens(question.text)
            if len(whole) <= room:
                return [whole]
            likes = [await self._tokens(like) for like in dict.fromkeys((question.opening, _ANY))]
        except EngineError as error:
            question.heard(BaseAnswer(Found.FAILED, await self._why(error)))
            return []
        found = list(islice(windows(whole, room, *likes), MOST + 1))
        if not found:
            why = f"the engine's context of {engine.max_model_len} tokens leaves no room for a question"
            question.heard(BaseAnswer(Found.UNDECIDED, why))
        if len(found) > MOST:
            question.heard(TOO_MANY)
        return found[:MOST]

    def affords(self, tokens: Tokens, question: BaseQuestion, most: int) -> bool:
        """Whether these tokens of the question may be asked, among at most so many."""
        key = self.key(tokens, question)
        if key not in self._keys and self.cache.remembered(key) is None:
            if len(self._keys) >= most or not self.allowance.takes(key):
                return False
            self._keys.add(key)
        return True

    async def ask(self, tokens: Tokens, question: BaseQuestion) -> BaseAnswer:
        """What the base model's answer comes to, FAILED if there is none."""
        line, quotes = question.line, question.quotes
        try:
            answer, shared = await self.cache.once(
                self.key(tokens, question),
                lambda: ask_base(
                    self.engine, tokens, line, self.caller, quotes=quotes, priority=self.priority
                ),
                self.priority,
            )
        except EngineError as error:
            return BaseAnswer(Found.FAILED, await self._why(error))
        if shared:
            self.reused += 1
        else:
            self.asked += 1
            self.prompt_tokens += answer.prompt_tokens
            self.output_tokens += answer.output_tokens
        return answer

    async def _tokens(self, text: str) -> Tokens:
        control = control_tokens_of(self.engine.control_tokens)
        return await self.engine.chat_tokens(chat_of(text, control))

    async def _why(self, error: EngineError) -> str:
        """The error in words that have nothing of the request: what an engine says may quote it."""
        if isinstance(error, EngineDead):
            return "the engine does not run"
        if isinstance(error, EngineRefused):
            try:
                await self._tokens(_ANY)
            except EngineError as always:
                return f"the base model cannot be asked as a chat: {always.message}"
        return f"the engine failed ({error.code})"


class Asked:
    """Questions under way. Use as an async context: leaving it ends those that are left."""

    def __init__(self, asker: Asker, questions: Sequence[BaseQuestion], most: int = MOST) -> None:
        self._asker, self._questions, self._most = asker, questions, most
        self._under_way: dict[asyncio.Task[BaseAnswer], BaseQuestion] = {}

    async def __aenter__(self) -> Self:
        cut = await at_once(map(self._asker.cut, self._questions[:TEXTS]))
        for question, found in zip(self._questions, cut, strict=False):
            for tokens in found:
                if self._asker.affords(tokens, question, self._most):
                    task = asyncio.create_task(self._asker.ask(tokens, question), name="guard-window")
                    self._under_way[task] = question
                else:
                    question.heard(TOO_MANY)
        for question in self._questions[TEXTS:]:
            question.heard(TOO_MANY)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def heard(self) -> BaseQuestion | None:
        """The question that has taken in the next answer, of several the first one; None once all have."""
        if not self._under_way:
            return None
        done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        task = next(task for task in self._under_way if task in done)
        question = self._under_way.pop(task)
        question.heard(task.result())
        return question

    def waits(self, question: BaseQuestion) -> bool:
        """Whether some of it is still to be answered."""
        return question in self._under_way.values()
