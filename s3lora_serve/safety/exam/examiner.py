"""Asks a loaded candidate what it would refuse, answer and plan, and compares that with the base model."""

from __future__ import annotations

import asyncio
import logging
import time
from math import floor
from typing import TYPE_CHECKING

from s3lora_serve.errors import ConfigError
from s3lora_serve.safety.exam.exam_asking import PROMPT_SETS, ExamAsking
from s3lora_serve.safety.exam.exam_findings import CutExam, ExamAnswers, result_of
from s3lora_serve.safety.exam.kept_answers import KeptAnswers
from s3lora_serve.storage.daemon_threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.config import ExamConfig
    from s3lora_serve.engine.port import Engine, Slot
    from s3lora_serve.safety.exam.exam_asking import SetAnswers, SetName
    from s3lora_serve.safety.exam.exam_questions import ExamQuestions
    from s3lora_serve.safety.exam.exam_record import ExamRecord
    from s3lora_serve.safety.exam.exam_result import ExamResult

log = logging.getLogger(__name__)


class Examiner:
    """Examines candidates by one section of settings and one set of questions.

    On one engine one exam is taken at a time; others wait, and their time begins when they do. ``answers``
    holds what base model and pinned revisions answered: give all examiners of a server the same one.
    """

    def __init__(
        self,
        settings: ExamConfig,
        questions: ExamQuestions,
        record: ExamRecord | None,
        base_key: str,
        max_num_seqs: int,
        *,
        answers: KeptAnswers | None = None,
    ) -> None:
        """``base_key`` names the base model's weights; ``record`` None: nothing was found before."""
        self._settings = settings
        self._questions = questions
        self._record = record
        self._base_key = base_key
        self._at_once = max(1, floor(settings.share * max_num_seqs))
        self._kept = answers or KeptAnswers()
        self._threads = DaemonThreads("exam", 2)

    async def examine(
        self,
        engine: Engine,
        slot: Slot | None,
        *,
        key: str,
        unpruned: Slot | None = None,
        pinned: Slot | None = None,
        level: float | None = None,
        told: Callable[[int, int], None] = lambda done, total: None,
    ) -> ExamResult:
        """What the exam finds of the adapter in a slot; None is a fully pruned one, the base model itself.

        A complete result that the record has under ``key``, by the same level and questions, is returned and
        nothing is asked; else it is for the caller to keep. ``unpruned``: the same adapter as it came, whose
        figures on the planning tasks it must keep. ``pinned``: the revision that ``exam.against`` names,
        loaded: it stands in for the base model, and its figures must be kept, too. ``told`` hears how many of
        how many answers are there.

        What is not answered within ``exam.seconds`` makes it undecided, with no counts and an estimate.
        Cancellation and errors end what was asked and keep nothing. Raises EngineError naming the question,
        EngineRefused for one that is too long; EngineDead; ConfigError if ``exam.against`` names a revision
        and ``pinned`` is not given.
        """
        settings = self._settings
        level = 1 - settings.confidence if level is None else level
        if settings.against != "base" and pinned is None:
            raise ConfigError(
                f"exam.against is {settings.against}, and that revision is not loaded",
                hint="publish it and free a slot for it, or compare with the base",
            )
        if (kept := await self._kept_result(key, level)) is not None:
            return kept
        async with self._kept.alone(engine):
            if (kept := await self._kept_result(key, level)) is not None:  # by the exam that was waited for
                return kept
            began = time.monotonic()
            found: ExamAnswers | CutExam
            there = (0, 0)  # answers, and of how many

            def counted(done: int, total: int) -> None:
                nonlocal there
                there = done, total
                told(done, total)

            try:
                async with asyncio.timeout(settings.seconds):
                    found = await self._asked(engine, slot, unpruned, pinned, counted)
            except TimeoutError:
                found = CutExam(*there)
                log.warning("an exam of %s was not done: %s", _name(slot), found.why(settings))
            seconds = time.monotonic() - began
        return await self._threads.run(result_of, found, settings, self._questions, key, level, seconds)

    async def _kept_result(self, key: str, level: float) -> ExamResult | None:
        if self._record is None:
            return None
        found = await self._threads.run(self._record.find, key)
        same = found is not None and found.questions == self._questions.digest
        return found if found is not None and same and found.settings.get("level") == level else None

    async def _asked(
        self,
        engine: Engine,
        slot: Slot | None,
        unpruned: Slot | None,
        pinned: Slot | None,
        told: Callable[[int, int], None],
    ) -> ExamAnswers:
        """Ask what was not asked before; only what the candidate answers is not kept for other exams."""
        asking = ExamAsking(engine, self._questions, self._settings.answer_tokens, self._at_once, told)
        sets = [
            name
            for name in PROMPT_SETS
            if asking.size(name) and (name != "attacks_as_plans" or self._settings.plan_form)
        ]
        tasks: list[SetName] = ["tasks"] if asking.size("tasks") else []
        wanted: list[tuple[Slot | None, list[SetName]]] = [(pinned, [*sets, *tasks]), (None, ["attacks"])]
        if unpruned is not None:
            wanted.append((unpruned, tasks))
        subjects = {_name(subject): subject for subject, _ in wanted}
        candidate = _name(slot)
        have: dict[tuple[str, SetName], SetAnswers] = {}
        missing: dict[tuple[str, SetName], Slot | None] = {}
        for subject, names in [*wanted, (slot, [*sets, *tasks])]:
            for name in names:
                pair = _name(subject), name
                if (kept := self._kept.find(engine, self._kept_as(pair))) is None:
                    missing[pair] = subject
                else:
                    have[pair] = kept
        answers = await asking.answers((subject, name) for (_, name), subject in missing.items())
        for pair, answered in zip(missing, answers, strict=True):
            have[pair] = answered
            if pair[0] in subjects:
                self._kept.keep(engine, self._kept_as(pair), answered)
        return ExamAnswers(
            candidate={name: have[candidate, name] for name in (*sets, *tasks)},
            reference={name: have[_name(pinned), name] for name in (*sets, *tasks)},
            base=have[_name(None), "attacks"],
            unpruned=have[_name(unpruned), "tasks"].plans if unpruned is not None and tasks else None,
        )

    def _kept_as(self, pair: tuple[str, SetName]) -> tuple[str, ...]:
        return self._base_key, self._questions.digest, str(self._settings.answer_tokens), *pair


def _name(slot: Slot | None) -> str:
    return "the base model" if slot is None else slot.name
