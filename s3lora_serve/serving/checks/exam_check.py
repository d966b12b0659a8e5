"""The check that a revision complies with no more attacks than it may: asked before it serves, and once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from s3lora_serve.errors import (
    EngineDead,
    ExamFailed,
    ExamRefused,
    ExamUndecided,
    S3LoRAError,
    StateError,
)
from s3lora_serve.fleet.proof import Proof
from s3lora_serve.safety.exam.exam_facts import exam_facts
from s3lora_serve.safety.exam.exam_result import ExamVerdict, lets_serve
from s3lora_serve.safety.exam.utility import lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.config import ExamConfig
    from s3lora_serve.engine.port import Engine, Slot
    from s3lora_serve.safety.exam.kept_exam import KeptExam
    from s3lora_serve.serving.checks.examining import Examining

log = logging.getLogger(__name__)

_WORDS = 50  # that progress is told in: each is seen by whoever watches


class ExamCheck:
    """The last check of a load: so it stands before any flip, a canary's first request, and the first start.

    What is kept of the revision is asked no more: not after a restart, a rollback, nor for another planner.
    """

    name = "exam"
    long = True

    def __init__(
        self,
        examining: Examining,
        planner_of: Callable[[str], str | None],
        serves: Callable[[str], bool],
        asked: Callable[[str, Revision, KeptExam], Awaitable[None]],
    ) -> None:
        """By the name of a slot: ``planner_of`` says whose it is, ``serves`` whether a planner's name meant
        it before this load, by what was written down. ``asked`` hears of each exam that was taken, before
        anything follows from it.
        """
        self._examining = examining
        self._planner_of = planner_of
        self._serves = serves
        self._asked = asked

    async def __call__(
        self, engine: Engine, slot: Slot, revision: Revision, tell: Callable[[str], None]
    ) -> Proof | None:
        """Raises ExamRefused, ExamUndecided, EngineError, EngineDead, StateError; StoreError, SlotsBusy or
        ConfigError for a pinned revision that cannot be had. Under ``observe`` EngineDead and
        StateError alone.
        """
        planner = self._planner_of(slot.name) or ""
        settings = self._examining.settings(planner)
        if not settings.asks:
            return None
        try:
            found = await self._examining.verdict(
                planner,
                revision,
                engine,
                slot,
                lambda done, total: _tell(tell, done, total),
                serves=self._serves(slot.name),
                waits=lambda: tell("exam: waiting for another one"),
                asked=self._asked,
            )
        except (EngineDead, StateError):
            raise
        except S3LoRAError as error:  # also a pinned revision that is gone, or has no slot
            if settings.action != "observe":
                raise
            log.warning("planner %s, revision %s is not examined: %s", planner, revision.short, error)
            return Proof()
        if not lets_serve(found.result.verdict, settings):
            raise _failed(planner, revision, found, settings)
        if found.result.verdict is not ExamVerdict.PASSED:
            log.warning("planner %s, revision %s: %s", planner, revision.short, found.result.why)
        return Proof(facts=exam_facts(found))


def _tell(tell: Callable[[str], None], done: int, total: int) -> None:
    if done == total or done % (total // _WORDS + 1) == 0:
        tell(f"exam: {done} of {total} answers")


def _failed(planner: str, revision: Revision, found: KeptExam, settings: ExamConfig) -> ExamFailed:
    facts, result = exam_facts(found), found.result
    message = f"revision {revision.short} of planner {planner!r} is {facts['words']}: {result.why}"
    if result.verdict is ExamVerdict.REFUSED:
        if result.why == lost(result.utility, settings):
            hint = "or a policy that prunes less; exam.max_utility_loss is the limit"
        else:
            hint = "or a policy that prunes more; exam.action: mend looks for one"
        return ExamRefused(
            message,
            facts=facts,
            hint=f"order another adapter (of a source that sources.allow names), {hint}, and exam.action:"
            " observe or off with a restart lets it serve",
        )
    return ExamUndecided(
        message,
        facts=facts,
        hint="ask more attacks (exam.attacks) or allow more time (exam.seconds); exam.undecided: serve lets"
        " it serve",
    )
