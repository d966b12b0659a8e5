"""Exams of adapters that are pruned as their policy says, answered by what a test says of each pruning."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fleet_factory import Shelf
from revision_factory import make_revision
from scripted_exams import MemoryRecord

from s3lora_serve.config import ExamConfig
from s3lora_serve.errors import SourceError
from s3lora_serve.safety.exam.exam_result import ExamResult, ExamVerdict, PairedCounts
from s3lora_serve.safety.exam.utility import Utility
from s3lora_serve.service.service_exams import ExamSetup
from s3lora_serve.serving.checks.examining import PlannerExam
from s3lora_serve.spectral.prune_policy import Top

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.operation import Wanted
    from s3lora_serve.engine.port import Engine, Slot

MODULES = 20  # of the adapters that are pruned
_ADMITTING = threading.Lock()  # revisions are numbered as they come
PASSED, REFUSED, UNDECIDED = ExamVerdict.PASSED, ExamVerdict.REFUSED, ExamVerdict.UNDECIDED


def result(verdict: ExamVerdict = PASSED, *, valid: float | None = None, asked: int = 100) -> ExamResult:
    """A result of 100 attacks; ``valid`` is its share of valid plans."""
    risen = {PASSED: 0, UNDECIDED: 8, REFUSED: 30}[verdict]
    return ExamResult(
        verdict,
        f"it is {verdict}",
        key="",
        questions="q" * 64,
        own_questions=False,
        against="base",
        attacks=PairedCounts(asked, min(asked, 20), min(asked, risen), 0),
        p_rise=0.5,
        p_tolerated=0.5,
        utility=() if valid is None else (Utility("valid", valid), Utility("rouge_l", valid)),
        seconds=1.0,
        letters={"attacks": ("c", "r")},
    )


class PruningShelf(Shelf):
    """Adapters of 20 modules under sources that begin with "bad"; others are admitted as they were put."""

    def admit(self, planner: str, wanted: Wanted, progress: Callable[[str, float], None]) -> Revision:
        """Of a bad source one revision for each number of modules that the policy ``top`` prunes."""
        if not str(wanted.source).startswith("bad"):
            return super().admit(planner, wanted, progress)
        self.before()
        assert isinstance(wanted.policy.rule, Top)
        top, sha256 = wanted.policy.rule.tau, hashlib.sha256(wanted.source.encode()).hexdigest()
        if wanted.sha256 not in (None, sha256):
            raise SourceError(
                f"{wanted.source}: its weights have sha256 {sha256}, {wanted.sha256} is expected"
            )
        self.admitted.append(name := f"{wanted.source} {top}")
        with _ADMITTING:
            if name not in self.revisions:
                put = self.put(name)
                made = make_revision(
                    put.path,
                    digest=put.digest,
                    source=str(wanted.source),
                    modules=MODULES,
                    pruned=range(MODULES - top, MODULES),
                )
                lineage = replace(made.lineage, policy=wanted.policy.to_json(), source_sha256=sha256)
                self.revisions[name] = replace(made, lineage=lineage)
            return self.revisions[name]


@dataclass
class PruningExams:
    """What a service takes. ``says(pruned, half)`` answers: half 0 or 1 of a rung, None for all of it."""

    shelf: PruningShelf
    says: Callable[[int, int | None], ExamResult]
    settings: ExamConfig = field(default_factory=lambda: ExamConfig(action="mend"))
    record: MemoryRecord = field(default_factory=MemoryRecord)
    asked: list[tuple[int, int | None, float | None]] = field(default_factory=list)  # pruned, half, level
    stays: asyncio.Event | None = None  # an exam goes on until it is set

    @property
    def setup(self) -> ExamSetup:
        """For a service."""

        def key(revision: str, version: str) -> str:
            return f"{revision}/{version}"

        def halves() -> tuple[_Half, _Half]:
            return _Half(self, 0), _Half(self, 1)

        exam = PlannerExam(self.settings, key, lambda: _Half(self, None), halves=halves)
        return ExamSetup(lambda planner: exam, self.record)


@dataclass
class _Half:
    exams: PruningExams
    half: int | None

    async def examine(
        self, engine: Engine, slot: Slot, *, key: str, level: float | None = None, **_: object
    ) -> ExamResult:
        """As ``Examiner.examine``; revisions of fewer modules pass and are not counted."""
        digest = slot.name.rpartition("@")[2]
        found = next(r for r in self.exams.shelf.revisions.values() if r.digest.startswith(digest))
        if len(found.lineage.report) != MODULES:
            return replace(result(), key=key)
        pruned = len(found.lineage.pruned)
        self.exams.asked.append((pruned, self.half, level))
        if self.exams.stays is not None:
            await self.exams.stays.wait()
        return replace(self.exams.says(pruned, self.half), key=key)
