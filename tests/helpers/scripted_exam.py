"""An exam whose answers a test has written: what it is asked, keeps and raises is as of the real one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fleet_factory import Shelf
from revision_factory import make_revision

from s3lora_serve.config import ExamConfig
from s3lora_serve.errors import ExamRefused, ExamUndecided
from s3lora_serve.exam.exam_result import ExamResult, ExamVerdict, PairedCounts, Utility
from s3lora_serve.exam.kept_exam import KeptExam
from s3lora_serve.exam.rung_exam import RungTrials, examine_rung, serves
from s3lora_serve.fleet.proof import Proof
from s3lora_serve.spectral.prune_policy import Top

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.operation import Wanted
    from s3lora_serve.engine.port import Engine, Slot

MODULES = 20  # of the adapters that are examined
PASSED, REFUSED, UNDECIDED = ExamVerdict.PASSED, ExamVerdict.REFUSED, ExamVerdict.UNDECIDED


def result(verdict: ExamVerdict = PASSED, *, why: str = "", valid: float | None = None) -> ExamResult:
    """A result of 100 attacks; ``valid`` is its share of valid plans."""
    risen = {PASSED: 0, UNDECIDED: 8, REFUSED: 30}[verdict]
    return ExamResult(
        verdict,
        why or f"it is {verdict}",
        key="k",
        questions="q",
        own_questions=False,
        against="base",
        attacks=PairedCounts(100, 20, risen, 0),
        p_rise=0.5,
        p_tolerated=0.5,
        utility=() if valid is None else (Utility("valid", valid, valid),),
        seconds=1.0,
    )


@dataclass
class ScriptedExam:
    """The last check of a load. ``says(pruned, half)`` answers: half 0 or 1 of a rung, None for all of it."""

    says: Callable[[int, int | None], ExamResult]
    config: ExamConfig = field(default_factory=lambda: ExamConfig(action="mend"))
    trials: RungTrials = field(default_factory=RungTrials)
    record: dict[str, ExamResult] = field(default_factory=dict)
    asked: list[tuple[int, int | None, float | None]] = field(default_factory=list)  # pruned, half, level
    stays: asyncio.Event | None = None  # an exam goes on until it is set
    name = "exam"
    long = False

    def settings(self, planner: str) -> ExamConfig:
        """One for all."""
        return self.config

    async def kept(self, planner: str, revision: Revision) -> KeptExam | None:
        """By revision alone."""
        found = self.record.get(revision.digest)
        return None if found is None else KeptExam(found)

    async def __call__(self, engine: Engine, slot: Slot, revision: Revision, *_: object) -> Proof:
        """As a check is called. Raises ExamRefused, ExamUndecided."""
        if len(revision.lineage.report) != MODULES:
            return Proof()  # what else a test serves passes unasked
        trial, pruned = self.trials.of(slot.name), len(revision.lineage.pruned)
        if (found := self.record.get(revision.digest)) is None:
            if trial is None:
                found = await self._ask(pruned, None, None)
            else:
                trial.found = await examine_rung(
                    lambda half, level: self._ask(pruned, half, level), self.config, trial.terms
                )
                found = trial.found.result
            self.record[revision.digest] = found
        if self.config.action != "observe" and not serves(found, self.config):
            kind = ExamRefused if found.verdict is REFUSED else ExamUndecided
            raise kind(f"revision {revision.short} is {found.verdict}: {found.why}", facts=found.to_json())
        return Proof(facts=found.to_json())

    async def _ask(self, pruned: int, half: int | None, level: float | None) -> ExamResult:
        self.asked.append((pruned, half, level))
        if self.stays is not None:
            await self.stays.wait()
        return self.says(pruned, half)


class PruningShelf(Shelf):
    """Adapters of 20 modules that are admitted by their policy; others as they were put."""

    def admit(self, planner: str, wanted: Wanted, progress: Callable[[str, float], None]) -> Revision:
        """A revision for each source that begins with "bad" and number of modules that ``top`` prunes."""
        if not str(wanted.source).startswith("bad"):
            return super().admit(planner, wanted, progress)
        self.before()
        rule = wanted.policy.rule
        assert isinstance(rule, Top)
        self.admitted.append(f"{wanted.source} {rule.tau}")
        name = f"{wanted.source} {rule.tau}"
        if name not in self.revisions:
            base = self.put(name)
            made = make_revision(
                base.path,
                digest=base.digest,
                source=base.lineage.source,
                modules=MODULES,
                pruned=range(MODULES - rule.tau, MODULES),
            )
            lineage = replace(made.lineage, policy=wanted.policy.to_json())
            self.revisions[name] = replace(made, lineage=lineage)
        return self.revisions[name]
