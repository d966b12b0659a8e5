"""One request's guard: it is asked beside the answer, which waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from s3lora_serve.engine.request_facts import HeldFacts, held_facts
from s3lora_serve.errors import GuardUndecided, RefusedByGuard
from s3lora_serve.safety.guard.allowance import Allowance
from s3lora_serve.safety.guard.guard_question import Part
from s3lora_serve.safety.guard.ruling import Found, Ruling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from s3lora_serve.config import GuardConfig
    from s3lora_serve.engine.port import RequestFacts
    from s3lora_serve.errors import PlannerError
    from s3lora_serve.safety.guard.guard_question import GuardQuestion
    from s3lora_serve.safety.guard.judge_port import Judge

log = logging.getLogger(__name__)

PROMPTS_AT_ONCE = 4  # of one request, that a judge is asked about; each may take it many questions
_CROWDED = "too many requests were being judged after their answers"


class Guarding:
    """Use as an async context around the answer: judging begins at its start.

    ``withheld`` is set as soon as it is certain that the answer must not leave: whoever makes the answer can
    stop. Nothing of the answer may leave before ``passed`` has returned, an error that may quote it neither.
    Under ``observe`` it is never set, ``passed`` returns at once, and judging goes on after the context's end
    unless the request was cancelled.
    """

    def __init__(
        self,
        settings: GuardConfig,
        judges: Sequence[Judge],
        question: GuardQuestion,
        *,
        caller: str,
        request_id: str,
        told: Callable[[Guarding], None],
        more: Sequence[GuardQuestion] = (),
        priority: int = 0,
        counted: Callable[[RequestFacts, bool], None] = lambda facts, passed: None,
        goes_on: Callable[[asyncio.Task[None]], bool] = lambda task: True,
    ) -> None:
        """``told`` hears of it once all is judged or it is certain that the answer stays, at most once.
        ``more`` are further prompts of the same request, each judged; any refusal refuses. ``priority`` is
        the request's in the engine. ``counted`` hears what the answer cost the engine, and whether it was
        free to leave, once that is known. ``goes_on`` is given the judging that outlasts the context, to keep
        and to end, and says whether it does: else that has failed.
        """
        self.question = question  # of several the one that was refused, else the first
        self._questions = (question, *more)
        self.caller = caller
        self.request_id = request_id
        self.withheld = asyncio.Event()
        self.rulings: list[Ruling] = []
        self.revision = ""  # that answers, for the records; whoever leases it says so
        self._settings = settings
        self._judges = judges
        self._priority = priority
        self._told = told
        self._counted = counted
        self._goes_on = goes_on
        self._facts = HeldFacts()
        self._done = False
        self._task: asyncio.Task[None] | None = None

    @property
    def observes(self) -> bool:
        """Whether answers leave whatever is found."""
        return self._settings.action == "observe"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._judge(), name="guard")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "it was entered"
        passed = self._done and self.error() is None
        self._facts.release(lambda facts: self._counted(facts, passed))
        if self.observes and (kind is None or issubclass(kind, Exception)):
            # What is only counted must not make a client wait.
            if self._done or self._goes_on(self._task):
                return
            await self._end(self._task)
            self._heard([Ruling(Found.FAILED, judge.name, why=_CROWDED) for judge in self._judges])
            return
        await self._end(self._task)

    async def _end(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def answering(self) -> AbstractContextManager[None]:
        """Use it around what asks the engine for the answer, in coroutines: what that costs waits, too."""
        return nullcontext() if self.observes else held_facts(self._facts)

    async def passed(self) -> None:
        """Return once the answer may leave. Raises RefusedByGuard, GuardUndecided."""
        if self.observes:
            return
        assert self._task is not None, "it was entered"
        await asyncio.shield(self._task)
        if (error := self.error()) is not None:
            raise error

    def error(self) -> PlannerError | None:
        """What the client is told instead of the answer; None while, or if, nothing is against it."""
        if self.observes:
            return None
        if (refusing := self._refusing()) is not None:
            return _refused(refusing)
        if self._settings.fail == "open":
            return None
        for ruling in self.rulings:
            if ruling.finding in (Found.UNDECIDED, Found.FAILED) and self._counts(ruling):
                return _undecided(ruling, self._unreadable)
        return None

    def why_withheld(self) -> PlannerError:
        """``error``, of an answer that is withheld."""
        error = self.error()
        assert error is not None, "withheld is set"
        return error

    def about(self) -> dict[str, Any]:
        """What an answer says of it: allowed, open (no verdict, and served), observed, or refused and why."""
        if not self.observes and (refusing := self._refusing()) is not None:
            part = refusing.part or Part.TASK
            return {"verdict": "refused", "part": part.value, "by": [refusing.by]}
        if self.observes:
            verdict = "observed"
        else:
            allowed = all(r.finding is Found.ALLOWED or not self._counts(r) for r in self.rulings)
            verdict = "allowed" if allowed else "open"
        return {"verdict": verdict, "by": [judge.name for judge in self._judges]}

    @property
    def tokens(self) -> int | None:
        """What judges read and wrote in an engine for this request; None while they judge."""
        if not self._done:
            return None
        return sum(ruling.prompt_tokens + ruling.output_tokens for ruling in self.rulings)

    @property
    def _unreadable(self) -> str:
        return next((question.unreadable for question in self._questions if question.unreadable), "")

    def _refusing(self) -> Ruling | None:
        return next((ruling for ruling in self.rulings if self._refuses(ruling)), None)

    def _refuses(self, ruling: Ruling) -> bool:
        return ruling.finding is Found.REFUSED and self._counts(ruling)

    def _counts(self, ruling: Ruling) -> bool:
        """Whether it may withhold an answer: not if it is about a part that is only observed."""
        return ruling.part not in self._settings.observe_parts

    async def _judge(self) -> None:
        if (unreadable := self._unreadable) and self._settings.fail == "closed":
            self._heard([_not_read(judge, unreadable) for judge in self._judges])
            return
        terms = [(judge, asyncio.Semaphore(PROMPTS_AT_ONCE), Allowance()) for judge in self._judges]
        asked = [
            asyncio.create_task(self._ask(judge, question, place, allowance))
            for question in self._questions
            for judge, place, allowance in terms
        ]
        try:
            for answer in asyncio.as_completed(asked):
                question, ruling = await answer
                self.rulings.append(ruling)
                if self._refuses(ruling):
                    self.question = question
                    break
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        self._heard(self.rulings)

    async def _ask(
        self, judge: Judge, question: GuardQuestion, place: asyncio.Semaphore, allowance: Allowance
    ) -> tuple[GuardQuestion, Ruling]:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.seconds), place:
                ruling = await judge.rule(question, self.caller, self.request_id, self._priority, allowance)
            if question.unreadable and not self._refuses(ruling):
                # What could be read was judged all the same: else an image would let any text past.
                return question, _not_read(judge, question.unreadable, ruling)
            return question, ruling
        except TimeoutError:
            why = f"no verdict within {self._settings.seconds:g} s"
        except Exception as error:  # a defect of ours must not let an answer out either
            log.exception("the guard by %s failed", judge.name)
            why = f"failed with {type(error).__name__}"
        return question, Ruling(Found.FAILED, judge.name, why=why, seconds=time.monotonic() - began)

    def _heard(self, rulings: Sequence[Ruling]) -> None:
        self.rulings, self._done = list(rulings), True
        if self.error() is not None:
            self.withheld.set()
        try:
            self._told(self)
        except Exception:  # what is written down decides nothing
            log.exception("a verdict of the guard could not be told")


def _not_read(judge: Judge, unreadable: str, rest: Ruling | None = None) -> Ruling:
    """That there is no verdict about a request; ``rest`` is what was found of what can be read in it."""
    ruling = rest or Ruling(Found.UNDECIDED, judge.name)
    return replace(ruling, finding=Found.UNDECIDED, part=None, why=f"no guard can read {unreadable}")


def _refused(ruling: Ruling) -> RefusedByGuard:
    part = ruling.part or Part.TASK
    return RefusedByGuard(
        f"the guard refused this request for its {part}; the answer is withheld",
        part=part,
        hint="change that part; asking the same again changes nothing",
    )


def _undecided(ruling: Ruling, unreadable: str) -> GuardUndecided:
    if unreadable:
        return GuardUndecided(
            f"the guard can judge text alone, and this request holds {unreadable}; the answer is withheld",
            again=False,
            hint="say it in text",
        )
    if ruling.too_many:
        return GuardUndecided(
            "the guard came to no verdict about this request, which takes more questions than are asked about"
            " one; the answer is withheld",
            again=False,
            hint="send fewer prompts, or less text, at once",
        )
    failed = ruling.finding is Found.FAILED
    return GuardUndecided(
        "the guard came to no verdict about this request, and the answer is withheld",
        again=failed,
        hint="try again" if failed else "say it in plain English; asking the same again changes nothing",
    )
