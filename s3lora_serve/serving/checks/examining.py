"""Examining: each revision is asked once, and what was found holds for every planner, start and reload"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from s3lora_serve.engine.request_facts import for_the_exam
from s3lora_serve.errors import ConfigError
from s3lora_serve.fleet.proof import Proof
from s3lora_serve.safety.exam.exam_facts import BASE_ANSWERS, IS_PINNED, exam_facts, unasked
from s3lora_serve.safety.exam.exam_result import lets_serve
from s3lora_serve.safety.exam.kept_exam import KeptExam
from s3lora_serve.safety.exam.rung_exam import RungTrials, examine_rung

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.config import ExamConfig
    from s3lora_serve.engine.port import Engine, Slot
    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.safety.exam.exam_result import ExamResult

    Told = Callable[[int, int], None]
    Asked = Callable[[str, Revision, KeptExam], Awaitable[None]]

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

_REMEMBERED = 256  # results; the file has the others
_GUARD = "guard"  # in a result's settings: the digest of those of the guard, which its figure hangs on


class Asks(Protocol):
    """What asks; ``safety/exam/examiner.py`` does."""

    async def examine(
        self,
        engine: Engine,
        slot: Slot | None,
        *,
        key: str,
        pinned: Slot | None = None,
        level: float | None = None,
        told: Told,
    ) -> ExamResult:
        """``pinned``: the revision that it is compared with, None for the base model; ``level``: of either
        proof, None is that of the settings.

        Raises EngineError, EngineDead; its cancellation ends what it asked.
        """
        ...


class Keeps(Protocol):
    """Where results are kept; ``safety/exam/exam_record.py`` does that. It waits for the disk."""

    def find(self, key: str) -> ExamResult | None: ...
    def latest(self, served: str) -> ExamResult | None: ...
    def keep(self, result: ExamResult, served: str, source: str) -> None: ...
    def tries(self, source: str) -> int: ...


@dataclass(frozen=True)
class PlannerExam:
    """How one planner's revisions are examined. ``guard`` is the digest of its guard's settings."""

    settings: ExamConfig
    # Lineage.served, engine's version → all that a verdict hangs on. May read the questions: ConfigError.
    key: Callable[[str, str], str]
    examiner: Callable[[], Asks]  # made when it is first needed. Raises ConfigError for bad questions
    guard: str = ""
    halves: Callable[[], tuple[Asks, Asks]] | None = None  # for mending: who asks one half of the questions


class Examining:
    """Finds what is kept, and asks where nothing is: one exam at a time, so that together they fill no more
    of the engine than one may.
    """

    def __init__(
        self,
        of: Callable[[str], PlannerExam],
        record: Keeps,
        run: Callable[[Callable[[], Any]], Awaitable[Any]],
        engine: Callable[[], Engine],
        reference: Callable[[str, str], AbstractAsyncContextManager[Slot]],
    ) -> None:
        """``of`` a planner, also of one that is added later; ``run`` calls in a thread; ``reference`` holds a
        revision, by planner and the beginning of its digest, in the engine.
        """
        self._of = of
        self._record = record
        self._run = run
        self._engine = engine
        self._reference = reference
        self.returning: set[str] = set()  # keys of what rollbacks go back to
        self.trials = RungTrials()  # what is loaded as a rung, for mending
        self._turn = asyncio.Lock()
        self._remembered: OrderedDict[str, ExamResult] = OrderedDict()  # by key
        self._last: OrderedDict[tuple[str, str], KeptExam] = OrderedDict()  # by planner and revision's digest
        self.counted: Callable[[str, KeptExam, bool], None] = lambda planner, found, asked: None
        self.renewed: Callable[[str, Proof], None] = lambda key, proof: None

    def settings(self, planner: str) -> ExamConfig:
        """The planner's, whether or not it has an exam."""
        return self._of(planner).settings

    async def kept(self, planner: str, revision: Revision) -> KeptExam | None:
        """What is kept of this revision, perhaps stale; None if it was never examined. Asks no engine.

        Raises StateError, EngineDead.
        """
        exam = self._of(planner)
        if why := _unasked(exam, revision):
            return unasked(why, exam.settings.against)
        try:
            key = await self._key(exam, revision)
        except ConfigError:  # of an exam that is off: what is kept is of other questions
            key = ""
        if (result := self._remembered.get(key)) is None:
            result = await self._run(partial(self._record.find, key))
            if result is not None:
                _put(self._remembered, result.key, result)
            elif (result := await self._run(partial(self._record.latest, revision.lineage.served))) is None:
                return None
        tries = await self._run(partial(self._record.tries, revision.lineage.source))
        return KeptExam(result, _stale(exam, result, key), tries)

    async def current(self, planner: str, revision: Revision) -> ExamResult | None:
        """The kept verdict that a load of this revision would go by and ask nothing; None if it would ask.

        Raises StateError, EngineDead.
        """
        found = await self._good(planner, revision)
        return None if found is None else found.result

    async def outdated(self, planner: str, revision: Revision) -> bool:
        """Whether the planner's revisions are examined, and what is kept of this one is stale."""
        found = await self.kept(planner, revision) if self._of(planner).settings.asks else None
        return found is not None and found.stale

    @contextmanager
    def back(self, key: str) -> Iterator[None]:
        """Within, the deployment of that key counts as one that serves: a rollback goes back to it."""
        self.returning.add(key)
        try:
            yield
        finally:
            self.returning.discard(key)

    async def examine(self, planner: str, deployment: Deployment, told: Told) -> KeptExam:
        """Ask a loaded deployment, whatever ``exam.action`` is, and keep what was found; a verdict that is
        not stale is the answer.

        ``told`` hears how many of how many questions are answered. Cancelling ends what it asked and keeps
        nothing. Raises EngineError, EngineDead, ConfigError for questions that cannot be read, StateError.
        """
        engine, slot, revision = self._engine(), deployment.slot, deployment.revision
        exam = self._of(planner)
        if slot is None:
            return unasked(_unasked(exam, revision) or BASE_ANSWERS, exam.settings.against)
        found = await self.verdict(planner, revision, engine, slot, told, ordered=True)
        if exam.settings.asks:  # it is shown in place of what its load found
            self.renewed(deployment.key, Proof(facts=exam_facts(found)))
        return found

    async def verdict(
        self,
        planner: str,
        revision: Revision,
        engine: Engine,
        slot: Slot,
        told: Told,
        *,
        serves: bool = False,
        ordered: bool = False,
        waits: Callable[[], None] = lambda: None,
        asked: Asked | None = None,
    ) -> KeptExam:
        """What is kept of the revision in the slot, or else what it answers now: then ``asked`` hears of it.

        ``serves``: a name means it already, so a stale verdict that lets it serve will do. ``ordered``: none
        that is stale will do, not even one by these questions that only the guard made so. ``waits`` is
        called if another exam is under way. Raises what ``examine`` does.
        """
        taken = False
        if (found := await self._good(planner, revision, serves=serves, ordered=ordered)) is None:
            if self._turn.locked():
                waits()
            async with self._turn:
                # What was waited for may have been an exam of the same revision, for another planner.
                if (found := await self._good(planner, revision, serves=serves, ordered=ordered)) is None:
                    found, taken = await self._ask(planner, revision, engine, slot, told), True
        _put(self._last, (planner, revision.digest), found)
        self.counted(planner, found, taken)
        if taken and asked is not None:
            await asked(planner, revision, found)
        return found

    def facts(self, deployment: Deployment) -> dict[str, Any] | None:
        """What is shown of a deployment's exam; None without one."""
        planner, revision = deployment.planner, deployment.revision
        exam = self._of(planner)
        if not exam.settings.asks:
            return None
        if why := _unasked(exam, revision):
            return exam_facts(unasked(why, exam.settings.against))
        if (proof := deployment.proofs.get("exam")) is not None:
            return dict(proof.facts) or None  # it could not be taken, and what it finds is only observed
        if (found := self._last.get(key := (planner, revision.digest))) is None:
            return None
        self._last.move_to_end(key)  # of one that is withheld there is no other word, whatever is tried since
        return exam_facts(found)

    async def _good(
        self, planner: str, revision: Revision, *, serves: bool = False, ordered: bool = False
    ) -> KeptExam | None:
        exam = self._of(planner)
        found = await self.kept(planner, revision)
        if found is None or not found.stale or not found.result.key:  # without a key nothing is to be asked
            return found
        if not ordered and found.result.key == await self._key(exam, revision):
            return found
        return found if serves and lets_serve(found.result.verdict, exam.settings) else None

    async def _ask(
        self, planner: str, revision: Revision, engine: Engine, slot: Slot, told: Told
    ) -> KeptExam:
        exam, source = self._of(planner), revision.lineage.source
        key = await self._key(exam, revision)
        against = exam.settings.against
        with for_the_exam():
            if against == "base":
                result = await self._answered(exam, engine, slot, key, None, told)
            else:
                async with self._reference(planner, against) as pinned:
                    result = await self._answered(exam, engine, slot, key, pinned, told)
        result = replace(result, settings={**result.settings, _GUARD: exam.guard})
        await self._run(partial(self._record.keep, result, revision.lineage.served, source))
        if result.complete:  # else it is asked again, when it is ordered again
            _put(self._remembered, result.key, result)
        log.info("planner %s, revision %s: exam %s: %s", planner, revision.short, result.verdict, result.why)
        return KeptExam(result, tries=await self._run(partial(self._record.tries, source)))

    async def _key(self, exam: PlannerExam, revision: Revision) -> str:
        """What the verdict is kept under. In a thread: the first one reads the questions.

        By what is served, and not by the revision's digest: another policy that comes to the same files must
        not be another try.
        """
        served = revision.lineage.served
        digest: str = await self._run(partial(exam.key, served, self._engine().version))
        return digest

    async def _answered(
        self, exam: PlannerExam, engine: Engine, slot: Slot, key: str, pinned: Slot | None, told: Told
    ) -> ExamResult:
        """What it answers to all questions; a rung to half of them, and to the others if it may be chosen."""
        trial = self.trials.of(slot.name)
        if trial is None or exam.halves is None:
            return await exam.examiner().examine(engine, slot, key=key, pinned=pinned, told=told)
        halves = exam.halves()

        async def ask(half: int, level: float | None) -> ExamResult:
            return await halves[half].examine(engine, slot, key=key, pinned=pinned, level=level, told=told)

        trial.found = await examine_rung(ask, exam.settings, trial.terms)
        return trial.found.result


def _put(kept: OrderedDict[K, V], key: K, value: V) -> None:
    """As the newest of so many."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _REMEMBERED:
        kept.popitem(last=False)


def _unasked(exam: PlannerExam, revision: Revision) -> str:
    """Why nothing is asked of a revision; empty if it is."""
    if revision.fully_pruned:
        return BASE_ANSWERS
    return IS_PINNED if revision.digest == exam.settings.against else ""


def _stale(exam: PlannerExam, result: ExamResult, key: str) -> bool:
    return result.key != key or result.settings.get(_GUARD, exam.guard) != exam.guard
