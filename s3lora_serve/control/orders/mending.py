"""Mending: of a revision that the exam refused, the least pruning with which it passes; decided once."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.errors import ExamFailed, ExamRefused, NoEffectError, TrialFailed
from s3lora_serve.fleet.slots import slot_name
from s3lora_serve.safety.exam.ladder import Ladder, ladder
from s3lora_serve.safety.exam.rung_exam import RungFound, RungTerms, serves
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.operation import Wanted
    from s3lora_serve.control.orders.mending_port import Hands, RungExams
    from s3lora_serve.control.replica_port import Replica
    from s3lora_serve.safety.exam.exam_result import ExamResult
    from s3lora_serve.safety.exam.ladder import Rung
    from s3lora_serve.safety.exam.utility import Utility

MENDED, NOT_MENDED = "exam.mended", "exam.not_mended"


@dataclass(frozen=True)
class Candidate:
    """What is to serve a planner: the revision, and what was wanted, with the policy it was admitted by."""

    planner: str
    revision: Revision
    wanted: Wanted


class Mending:
    """Loads candidates; with ``action: mend`` one that is refused is tried on a ladder of prunings."""

    def __init__(self, replica: Replica, exams: RungExams | None = None) -> None:
        """``exams`` None: nothing is examined, so nothing is mended."""
        self._replica = replica
        self._exams = exams

    def mends(self, planner: str) -> bool:
        """Whether what its exam refuses is tried on a ladder of prunings."""
        return self._exams is not None and self._exams.settings(planner).action == "mend"

    async def load(self, held: AsyncExitStack, hands: Hands, candidate: Candidate) -> Revision:
        """The revision that was loaded and passed its checks, the candidate's or a rung's; ``held`` keeps it.

        Rungs are ordinary revisions, admitted under the policy ``top`` and loaded one at a time. Raises
        ExamRefused if none passes, with the table of rungs in its ``facts``, and whatever else ends a load;
        then the engine holds nothing of them. What is undecided is not mended: pruning would not decide it.
        """
        name, revision = candidate.planner, candidate.revision
        try:
            await hold(self._replica, held, hands, name, revision)
        except ExamRefused as refused:
            if (exams := self._exams) is None or not self.mends(name):
                raise
            return await _Climb(self._replica, exams, hands, candidate, refused).to_what_passes(held)
        return revision


async def hold(
    replica: Replica, held: AsyncExitStack, hands: Hands, planner: str, revision: Revision
) -> None:
    """Load a revision and let ``held`` keep it; if the load fails, it is taken out again."""
    async with AsyncExitStack() as now:
        await now.enter_async_context(replica.held(slot_name(planner, revision.digest)))
        await hands.load(planner, revision)
        held.push_async_exit(now.pop_all())


class _Climb:
    """One walk up the ladder of a refused candidate."""

    def __init__(
        self, replica: Replica, exams: RungExams, hands: Hands, candidate: Candidate, refused: ExamRefused
    ) -> None:
        self._replica = replica
        self._exams = exams
        self._hands = hands
        self._refused = refused
        self._planner, self._first = candidate.planner, candidate.revision
        # The same weights as the first, should its source change while others of them are examined.
        self._wanted = replace(candidate.wanted, sha256=candidate.revision.lineage.source_sha256)
        self._settings = exams.settings(candidate.planner)
        self._ladder = self._rungs()
        self._found: list[RungFound] = []
        self._unpruned: tuple[Utility, ...] = ()

    def _rungs(self) -> Ladder:
        if self._wanted.source is None:
            return Ladder(abstained="a revision of the store is served as it is; order its source instead")
        return ladder(self._first.lineage.report, self._settings.taus)

    async def to_what_passes(self, held: AsyncExitStack) -> Revision:
        """The revision of the least rung that passes. Raises ExamRefused if none does."""
        chosen: Revision | None = None
        for number, rung in enumerate(self._ladder.rungs, start=1):
            self._hands.tell(f"mending: rung {number} of {len(self._ladder.rungs)}, top {rung.top}")
            found, chosen = await self._try(rung, held)
            self._found.append(found)
            if chosen is not None:
                break
            if not rung.top and found.chosen is not None:
                self._unpruned = found.chosen.utility  # what the other rungs are compared with
        details = self._told()
        await self._hands.note(
            NewEntry(
                actor="",  # the hands know whose order it is
                action=NOT_MENDED if chosen is None else MENDED,
                planner=self._planner,
                from_digest=self._first.digest,
                to_digest=None if chosen is None else chosen.digest,
                details=details,
            )
        )
        if chosen is not None:
            return chosen
        why = self._ladder.abstained or "; ".join(map(str, self._found))
        raise ExamRefused(
            f"{self._refused.message}; it was not mended: {why}",
            hint="review the adapter, or have it trained again; exam.taus are the shares that were tried",
            facts={**self._refused.facts, "mending": details},
        ) from self._refused

    async def _try(self, rung: Rung, held: AsyncExitStack) -> tuple[RungFound, Revision | None]:
        """What became of the rung, and its revision, loaded and held, if it may serve."""
        if set(rung.pruned) == set(self._first.lineage.pruned):
            known = await self._exams.current(self._planner, self._first)
            return RungFound.of(rung, self._first.digest, "it is what was refused", known), None
        policy = replace(self._wanted.policy or PrunePolicy(), rule=Top(rung.top), action="prune")
        revision = await self._hands.admit(self._planner, replace(self._wanted, policy=policy))
        if revision.fully_pruned:
            return RungFound(rung, revision.digest, why="nothing of it would be left"), None
        known = await self._exams.current(self._planner, revision)
        if known is not None and not serves(known, self._settings):
            return RungFound.of(rung, revision.digest, f"examined before: {known.why}", known), None
        return await self._load(rung, revision, known, held)

    async def _load(
        self, rung: Rung, revision: Revision, known: ExamResult | None, held: AsyncExitStack
    ) -> tuple[RungFound, Revision | None]:
        terms = RungTerms(self._ladder.level(self._settings.confidence), self._unpruned)
        with self._exams.trials.on(slot_name(self._planner, revision.digest), terms) as trial:
            try:
                async with AsyncExitStack() as now:
                    await hold(self._replica, now, self._hands, self._planner, revision)
                    result = trial.found.result if trial.found else known
                    # Or another load of the same revision was examined meanwhile, and this one waited.
                    result = result or await self._exams.current(self._planner, revision)
                    if result is None:  # it was loaded already, so that no check ran
                        why = "it is loaded already, and was not examined by these settings"
                        return RungFound(rung, revision.digest, why=why), None
                    found = RungFound.of(rung, revision.digest, result.why, result, trial.found)
                    if not serves(result, self._settings):
                        return found, None
                    held.push_async_exit(now.pop_all())
                    return found, revision
            except (NoEffectError, TrialFailed) as error:
                return RungFound(rung, revision.digest, why=error.message), None
            except ExamFailed as error:
                result = trial.found.result if trial.found else None
                result = result or await self._exams.current(self._planner, revision)
                why = result.why if result else error.message
                return RungFound.of(rung, revision.digest, why, result, trial.found), None

    def _told(self) -> dict[str, Any]:
        """All of the decision as JSON values: counts of every rung, and by which level they were judged."""
        return {
            "rungs": [found.to_json() for found in self._found],
            "level": self._ladder.level(self._settings.confidence) if self._ladder.rungs else None,
            "abstained": self._ladder.abstained,
            "left_out": list(self._ladder.left_out),
        }
