"""One request's guard: it is asked beside the answer, which waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Self

from s3lora_serve.errors import GuardUndecided, RefusedByGuard
from s3lora_serve.guard.question import Part
from s3lora_serve.guard.ruling import Finding, Ruling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from s3lora_serve.config import GuardConfig
    from s3lora_serve.errors import PlannerError
    from s3lora_serve.guard.judge_port import Judge
    from s3lora_serve.guard.question import Question

log = logging.getLogger(__name__)


class Guarding:
    """Use as an async context around the answer: judging begins at its start.

    ``withheld`` is set as soon as it is certain that the answer must not leave: whoever makes the answer can
    stop. Nothing of the answer may leave before ``passed`` has returned. Under ``observe`` both come at once,
    and judging goes on after the context's end, but ends with a cancelled request.
    """

    def __init__(
        self,
        settings: GuardConfig,
        judges: Sequence[Judge],
        question: Question,
        *,
        caller: str,
        request_id: str,
        told: Callable[[Guarding], None],
    ) -> None:
        """``told`` hears of it once all is judged or it is certain that the answer stays, at most once."""
        self.question = question
        self.caller = caller
        self.request_id = request_id
        self.withheld = asyncio.Event()
        self.rulings: list[Ruling] = []
        self._settings = settings
        self._judges = judges
        self._told = told
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
        if self.observes and kind is None:
            return  # what is counted must not make a client wait
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

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
        for ruling in self.rulings:
            if self._refuses(ruling):
                return _refused(ruling)
        if self._settings.fail == "open":
            return None
        for ruling in self.rulings:
            if ruling.finding in (Finding.UNDECIDED, Finding.FAILED) and self._counts(ruling):
                return _undecided(ruling)
        return None

    def about(self) -> dict[str, Any]:
        """What an answer that left says of it: allowed, open (no verdict, and served), observed."""
        if self.observes:
            verdict = "observed"
        else:
            allowed = all(r.finding is Finding.ALLOWED or not self._counts(r) for r in self.rulings)
            verdict = "allowed" if allowed else "open"
        return {"verdict": verdict, "by": [judge.name for judge in self._judges]}

    def _refuses(self, ruling: Ruling) -> bool:
        return ruling.finding is Finding.REFUSED and self._counts(ruling)

    def _counts(self, ruling: Ruling) -> bool:
        """Whether it may withhold an answer: not if it is about a part that is only observed."""
        return ruling.part not in self._settings.observe_parts

    async def _judge(self) -> None:
        if self.question.unreadable:
            why = f"no guard can read {self.question.unreadable}"
            self._heard([Ruling(Finding.UNDECIDED, judge.name, why=why) for judge in self._judges])
            return
        asked = [asyncio.create_task(self._ask(judge)) for judge in self._judges]
        try:
            for answer in asyncio.as_completed(asked):
                self.rulings.append(await answer)
                if self._refuses(self.rulings[-1]):
                    break
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        self._heard(self.rulings)

    async def _ask(self, judge: Judge) -> Ruling:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.seconds):
                return await judge.rule(self.question, self.caller, self.request_id)
        except TimeoutError:
            why = f"no verdict within {self._settings.seconds:g} s"
        except Exception as error:  # a defect of ours must not let an answer out either
            log.exception("the guard by %s failed", judge.name)
            why = f"failed with {type(error).__name__}"
        return Ruling(Finding.FAILED, judge.name, why=why, seconds=time.monotonic() - began)

    def _heard(self, rulings: Sequence[Ruling]) -> None:
        self.rulings = list(rulings)
        if self.error() is not None:
            self.withheld.set()
        self._told(self)


def _refused(ruling: Ruling) -> RefusedByGuard:
    part = ruling.part or Part.TASK
    return RefusedByGuard(
        f"the guard refused this request for its {part}; the answer is withheld",
        part=part,
        hint="change that part; asking the same again changes nothing",
    )


def _undecided(ruling: Ruling) -> GuardUndecided:
    failed = ruling.finding is Finding.FAILED
    return GuardUndecided(
        "the guard came to no verdict about this request, and the answer is withheld",
        again=failed,
        hint="try again" if failed else "say it in plain English; asking the same again changes nothing",
    )
