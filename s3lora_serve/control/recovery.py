"""From what was written down to what serves: after a start, and after the engine came back."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.operation import Kind, Operation, Step
from s3lora_serve.errors import EngineDead, S3LoRAError
from s3lora_serve.fleet.deployment import DeploymentState
from s3lora_serve.fleet.planner import Alias
from s3lora_serve.fleet.rollout import Rollout
from s3lora_serve.fleet.slots import slot_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.admission_port import Admission
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.planner import DesiredPlanner
    from s3lora_serve.fleet.planner_record import PlannerRecord
    from s3lora_serve.serving.loading import Loading

log = logging.getLogger(__name__)

_S = DeploymentState
_ACTOR = "s3lora-serve"
# Seconds for a slot after a restart: requests may have taken what there is. Then it is loaded on demand.
_PATIENCE = 5.0


class Recovery:
    """Restores names, candidates and rollback goals; the journal says what became of orders cut short."""

    def __init__(self, fleet: Fleet, loading: Loading, journal: Journal, admission: Admission) -> None:
        self._fleet = fleet
        self._loading = loading
        self._journal = journal
        self._admission = admission
        self._given_up: dict[str, str] = {}  # planner → why its candidate did not come back

    async def restore(self, desired: Mapping[str, DesiredPlanner], revisions: Mapping[str, Revision]) -> None:
        """Load and prove every planner, pinned ones last so that their slots stay. Raises EngineDead.

        Names keep the order of ``desired``. With more planners than slots each is loaded once all the same: a
        defect must show at the start, not with the first request.
        """
        records = await asyncio.to_thread(self._journal.planners)
        for name, wanted in desired.items():
            self._restore_name(wanted, self._fleet.add(name, revisions[name]).key, name, records.get(name))
        for name in sorted(desired, key=lambda n: desired[n].pinned):
            await self._bring_in(self._fleet.alias(name).active)
        # Last: a candidate keeps its slot and its planner's, which must not be the last ones.
        for name in desired:
            await self._restore_candidate(name, records.get(name))

    def _restore_name(
        self, desired: DesiredPlanner, key: str, name: str, record: PlannerRecord | None
    ) -> None:
        if record is None:
            self._fleet.set_alias(Alias(name, desired, key))
            return
        serving = self._fleet[key].revision.digest
        same = record.active == serving
        self._fleet.set_alias(
            Alias(
                name,
                desired,
                key,
                # planners.yaml was edited while nothing ran: that is a decision, too.
                generation=record.generation if same else record.generation + 1,
                previous=record.previous if same else record.active,
            )
        )

    async def _restore_candidate(self, name: str, record: PlannerRecord | None) -> None:
        alias = self._fleet.alias(name)
        if record is None or record.candidate is None or record.rollout is None:
            return
        if record.active != self._fleet[alias.active].revision.digest:
            # It was tried against another revision, and may be the very one that serves now.
            self._give_up(name, record.candidate, "planners.yaml was edited while nothing ran")
            return
        try:
            rollout = Rollout.from_json(record.rollout)
            revision = await asyncio.to_thread(self._admission.restore, record.candidate)
            key = self._fleet.add(name, revision).key
            self._fleet.set_alias(replace(alias, candidate=key, rollout=rollout))
            for each in (alias.active, key):  # the active one may have been evicted again meanwhile
                await self._loading.load(each, seconds=_PATIENCE)
        except EngineDead:
            raise
        except Exception as error:  # a candidate is an experiment: it must not keep the planner from serving
            self._fleet.set_alias(alias)
            self._fleet.forget(slot_name(name, record.candidate))
            self._give_up(name, record.candidate, str(error) or type(error).__name__)

    def _give_up(self, name: str, candidate: str, why: str) -> None:
        self._given_up[name] = f"candidate {candidate[:12]} is given up: {why}"
        log.error("planner %s: %s", name, self._given_up[name])

    async def _bring_in(self, key: str) -> None:
        try:
            await self._loading.load(key)
        except EngineDead:
            raise
        except S3LoRAError as error:
            self._fail(key, str(error))
        except Exception as error:  # a defect met by one adapter must not keep the others from serving
            log.exception("%s: unexpected failure", key)
            self._fail(key, f"{type(error).__name__}: {error}")

    def _fail(self, key: str, reason: str) -> None:
        deployment = self._fleet[key]
        if deployment.state is not _S.FAILED:
            self._fleet.set(deployment.to(_S.FAILED, reason=reason))

    async def commit(self) -> None:
        """Write down what serves now, and how the orders ended that the last run left. Raises StateError."""
        records = await asyncio.to_thread(self._journal.planners)
        for operation in await asyncio.to_thread(self._journal.running):
            await self._end(operation)
        for name in self._fleet.names():
            record = self._record(self._fleet.alias(name))
            before = records.get(name)
            if record != before:
                await self._write("planner.serves", record, before)
        for name in records.keys() - set(self._fleet.names()):
            entry = NewEntry(
                _ACTOR,
                "planner.removed",
                name,
                from_digest=records[name].active,
                reason="not in planners.yaml",
            )
            await asyncio.to_thread(self._journal.write, entry, remove=name)
        await asyncio.to_thread(
            self._journal.write,
            NewEntry(
                _ACTOR,
                "server.started",
                details={
                    name: self._fleet[self._fleet.alias(name).active].revision.digest
                    for name in self._fleet.names()
                },
            ),
        )

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
        if operation.kind is Kind.APPLY:
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
        await asyncio.to_thread(self._journal.write, entry, operation=ended)
        log.warning("%s of %s: %s", action, operation.planner or "the fleet", reason)

    def _record(self, alias: Alias) -> PlannerRecord:
        candidate = self._fleet[alias.candidate].revision if alias.candidate else None
        return alias.record(self._fleet[alias.active].revision, candidate)

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
        await asyncio.to_thread(self._journal.write, entry, planner=record)

    async def reload(self) -> None:
        """After the engine came back: load again what the names mean, as far as slots go. The rest is loaded
        on demand. Raises EngineDead if it died again."""
        wanted = []
        for name in self._fleet.names():
            alias = self._fleet.alias(name)
            wanted += [(not alias.desired.pinned, alias.active)] + (
                [(False, alias.candidate)] if alias.candidate else []
            )
        for _, key in sorted(wanted)[: self._loading.capacity]:
            # An order may have changed what the names mean while others were loaded.
            if self._fleet.role(key) is None or self._fleet[key].state is not _S.EVICTED:
                continue
            try:
                await self._loading.load(key, seconds=_PATIENCE)
            except EngineDead:
                raise
            except Exception as error:  # one adapter must not keep the engine from coming back
                log.error("%s could not be loaded again: %s", key, error)
