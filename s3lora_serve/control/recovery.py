"""From what was written down to what serves: after a start, and after the engine came back."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.journal.agreement import rows_digest
from s3lora_serve.control.journal.derived import STARTED, shown
from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.reconciliation import Reconciled
from s3lora_serve.control.operation import Kind, Operation, Step
from s3lora_serve.errors import EngineDead
from s3lora_serve.fleet.planner import Alias
from s3lora_serve.fleet.rollout import Rollout
from s3lora_serve.fleet.slots import slot_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.admission_port import Admission
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.control.orders.start_mending import StartMending
    from s3lora_serve.control.replica_port import Replica
    from s3lora_serve.fleet.planner import DesiredPlanner
    from s3lora_serve.fleet.planner_record import PlannerRecord
    from s3lora_serve.fleet.work_threads import WorkThreads

log = logging.getLogger(__name__)

_ACTOR = "s3lora-serve"


class Recovery:
    """Restores names, candidates and rollback goals; the journal says what became of orders cut short."""

    def __init__(
        self,
        replica: Replica,
        journal: Journal,
        admission: Admission,
        threads: WorkThreads,
        found: Reconciled | None = None,
        mending: StartMending | None = None,
        unserved: set[str] | None = None,
    ) -> None:
        """``found``: who is withheld, and which operations are not what was written down; ``mending``: for
        those that their exam withholds; ``unserved``: holds, while planners are restored, the keys of those
        whose name did not mean that revision before.
        """
        self._unserved = set() if unserved is None else unserved
        self._mending = mending
        self._replica = replica
        self._journal = journal
        self._admission = admission
        self._threads = threads
        self._found = found or Reconciled()
        self._given_up: dict[str, str] = {}  # planner → why its candidate did not come back

    async def restore(self, desired: Mapping[str, DesiredPlanner], revisions: Mapping[str, Revision]) -> None:
        """Load and prove every planner. Names keep the order of ``desired``. Raises EngineDead."""
        records = self._found.records(await self._threads.journal.run(self._journal.planner_rows))
        withheld = self._found.withheld
        aliases = [
            replace(
                _alias(name, want, revisions[name], records.get(name)),
                withheld=withheld[name].reason if name in withheld else "",
            )
            for name, want in desired.items()
        ]
        served = {slot_name(name, record.active) for name, record in records.items()}
        self._unserved |= {alias.active for alias in aliases} - served
        await self._replica.restore([(alias, revisions[alias.name]) for alias in aliases])
        if self._mending is not None:
            for name in desired:
                await self._mending.mend(name, records.get(name))
        self._unserved.clear()
        # Last: a candidate keeps its slot and its planner's, which must not be the last ones.
        for name in desired:
            await self._restore_candidate(name, records.get(name))

    async def _restore_candidate(self, name: str, record: PlannerRecord | None) -> None:
        alias = self._replica.alias(name)
        if alias.withheld or record is None or record.candidate is None or record.rollout is None:
            return
        if record.active != self._replica.revision(alias.active).digest:
            # It was tried against another revision, and may be the very one that serves now.
            self._give_up(name, record.candidate, "planners.yaml was edited while nothing ran")
            return
        try:
            rollout = Rollout.from_json(record.rollout)
            revision = await self._threads.files.run(self._admission.restore, record.candidate)
            key = slot_name(name, revision.digest)
            await self._replica.restore_candidate(replace(alias, candidate=key, rollout=rollout), revision)
        except EngineDead:
            raise
        except Exception as error:  # a candidate is an experiment: it must not keep the planner from serving
            self._give_up(name, record.candidate, str(error) or type(error).__name__)

    def _give_up(self, name: str, candidate: str, why: str) -> None:
        self._given_up[name] = f"candidate {candidate[:12]} is given up: {why}"
        log.error("planner %s: %s", name, self._given_up[name])

    async def commit(self) -> None:
        """Write down what serves now, and how the orders ended that the last run left. Raises StateError."""
        rows = await self._threads.journal.run(self._journal.planner_rows)
        records = self._found.records(rows)
        for operation in await self._threads.journal.run(self._journal.running):
            await self._end(operation)
        for entry in self._mending.entries if self._mending else ():
            await self._threads.journal.run(self._journal.write, entry)
        for name in self._replica.names():
            if self._replica.alias(name).withheld:
                continue  # nothing is decided by a start that cannot prove what was
            record = self._record(self._replica.alias(name))
            before = records.get(name)
            if record != before:
                await self._write("planner.serves", record, before)
        for name in rows.keys() - set(self._replica.names()):
            entry = NewEntry(
                _ACTOR,
                "planner.removed",
                name,
                from_digest=records[name].active if name in records else None,
                reason="not in planners.yaml",
            )
            await self._threads.journal.run(self._journal.write, entry, remove=name)
        await self._threads.journal.run(
            self._journal.write, NewEntry(_ACTOR, STARTED, details=self._all(records))
        )

    def _all(self, records: Mapping[str, PlannerRecord]) -> dict[str, Any]:
        """All that is to be served, and what all rows of operations came to: later starts read on from it."""
        serves: dict[str, Any] = {}
        for name in self._replica.names():
            alias = self._replica.alias(name)
            # What an exam withholds keeps the row that it had, if it had one.
            record = records.get(name) if alias.withheld else self._record(alias)
            serves[name] = None if record is None else shown(record)
        details: dict[str, Any] = {"fleet": self._journal.fleet, "serves": serves}
        if not self._found.operations:  # else each start says so again until they are accepted
            details["operations"] = rows_digest(self._journal.tables().operations)
        return details

    async def _end(self, operation: Operation) -> None:
        """An order that the last run left: finished if it had been decided, else undone."""
        decided = operation.step is Step.DRAINING
        step = Step.DONE if decided else Step.UNDONE
        action = f"{operation.kind}.{'finished' if decided else 'undone'}"
        reason = (
            "decided before the server ended; what it replaced is not loaded any more"
            if decided
            else f"the server ended at step {operation.step}, before the decision; nothing changed"
        )
        if (changed := self._found.operations.pop(operation.id, None)) is not None:
            step, action = Step.UNDONE, f"{operation.kind}.undone"
            reason = f"{changed}: what became of it is not known"
        elif operation.kind is Kind.APPLY:
            # Each start follows planners.yaml, so it does what the order was for, if the file still says so.
            reason = f"the server ended at step {operation.step}; this start follows planners.yaml itself"
        entry = NewEntry(
            actor=_ACTOR,
            action=action,
            planner=operation.planner,
            operation=operation.id,
            from_digest=operation.from_digest,
            to_digest=operation.to_digest,
            reason=reason,
        )
        ended = replace(operation, step=step, ended_at=time.time(), progress="", fraction=None)
        await self._threads.journal.run(self._journal.write, entry, operation=ended)
        log.warning("%s of %s: %s", action, operation.planner or "the fleet", reason)

    def _record(self, alias: Alias) -> PlannerRecord:
        candidate = self._replica.revision(alias.candidate) if alias.candidate else None
        return alias.record(self._replica.revision(alias.active), candidate)

    async def _write(self, action: str, record: PlannerRecord, before: PlannerRecord | None) -> None:
        edited = before is None or before.declared != record.declared
        entry = NewEntry(
            actor="planners.yaml" if edited else _ACTOR,
            action=action,
            planner=record.name,
            from_digest=before.active if before else None,
            to_digest=record.active,
            reason=self._given_up.get(record.name, "") if before else "first start",
            details={"generation": record.generation},
        )
        await self._threads.journal.run(self._journal.write, entry, planner=record)


def _alias(name: str, desired: DesiredPlanner, revision: Revision, record: PlannerRecord | None) -> Alias:
    """What a name means at a start that serves ``revision``."""
    alias = Alias(name, desired, slot_name(name, revision.digest))
    if record is None:
        return alias
    if record.active == revision.digest:
        return replace(alias, generation=record.generation, previous=record.previous)
    # planners.yaml was edited while nothing ran: that is a decision, too.
    return replace(alias, generation=record.generation + 1, previous=record.active)
