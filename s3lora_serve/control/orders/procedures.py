"""The procedures of a swap, a rollback and a trial once ordered: their steps, in order"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.operation import Operation, Step, Wanted
from s3lora_serve.errors import Conflict
from s3lora_serve.fleet.slots import slot_name

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.operations import Operations
    from s3lora_serve.control.steps import SwapSteps
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.planner import Alias
    from s3lora_serve.fleet.rollout import Rollout
    from s3lora_serve.serving.loading import Loading


class Procedures:
    """The operation holds the decision about its planner meanwhile; what fails leaves what serves serving."""

    def __init__(self, fleet: Fleet, residency: Loading, swap: SwapSteps, operations: Operations) -> None:
        self._fleet = fleet
        self._residency = residency
        self._swap = swap
        self._operations = operations

    async def swap(self, op: Operation, name: str, wanted: Wanted, dry_run: bool) -> None:
        """Admit, load, prove, flip, drain; a dry run ends once it is admitted."""
        desired = self._fleet.alias(name).desired
        wanted = replace(wanted, policy=wanted.policy or desired.policy)
        revision = await self._swap.admit(op, name, wanted)
        alias = self._fleet.alias(name)
        serving = self._fleet[alias.active].revision
        if dry_run or revision.digest == serving.digest:
            same = {"same": revision.digest == serving.digest, "would": _compared(serving, revision)}
            action = "swap.checked" if dry_run else "swap.done"
            await self._operations.end(op.id, Step.DONE, action, details={**op.details, **same})
            return
        async with self._residency.held(slot_name(name, revision.digest)):
            await self._swap.deploy(op, name, revision)
            await self.serve(op, alias, revision, "swap.flipped")
        if alias.candidate not in (None, slot_name(name, revision.digest)):
            await self._swap.retire(op, str(alias.candidate), keep=False)
        await self.finish(op, alias.active)

    async def roll_back(self, op: Operation, alias: Alias, goal: str) -> None:
        """Serve a revision from the store again. ``goal`` is its digest, or 8 digits of it or more."""
        revision = await self._swap.admit(op, alias.name, Wanted(revision=goal))
        if revision.digest == self._fleet[alias.active].revision.digest:
            raise Conflict(f"planner {alias.name!r} serves revision {revision.short} already")
        async with self._residency.held(slot_name(alias.name, revision.digest)):
            await self._swap.deploy(op, alias.name, revision)
            await self.serve(op, alias, revision, "rollback.flipped", judge=False)
        await self.finish(op, alias.active)

    async def canary(self, op: Operation, name: str, wanted: Wanted, rollout: Rollout) -> None:
        """Admit, load, prove, and give it its share."""
        desired = self._fleet.alias(name).desired
        revision = await self._swap.admit(op, name, replace(wanted, policy=wanted.policy or desired.policy))
        alias = self._fleet.alias(name)
        if revision.digest == self._fleet[alias.active].revision.digest:
            raise Conflict(
                f"planner {name!r} serves revision {revision.short} already", hint="nothing to try"
            )
        async with self._residency.held(slot_name(name, revision.digest)):
            await self._swap.deploy(op, name, revision)
            await self.try_(op, alias, revision, rollout, f"{op.kind}.flipped")
        await self._operations.end(op.id, Step.DONE, f"{op.kind}.done")

    async def serve(
        self, op: Operation, alias: Alias, revision: Revision, action: str, *, judge: bool = True
    ) -> None:
        """Flip to ``revision``; from then on others may decide about the planner."""
        before = self._fleet[alias.active].revision.digest
        await self._swap.flip(op, alias.name, action, active=revision, previous=before, judge=judge)
        self._operations.decided(op.id)

    async def try_(
        self, op: Operation, alias: Alias, candidate: Revision, rollout: Rollout, action: str
    ) -> None:
        """Flip to the active revision and ``candidate`` beside it."""
        active = self._fleet[alias.active].revision
        await self._swap.flip(
            op,
            alias.name,
            action,
            active=active,
            previous=alias.previous,
            candidate=candidate,
            rollout=rollout,
        )

    async def give_up(self, op: Operation, alias: Alias) -> None:
        """Flip to the active revision alone."""
        active = self._fleet[alias.active].revision
        await self._swap.flip(op, alias.name, "rollback.flipped", active=active, previous=alias.previous)

    async def finish(self, op: Operation, old: str, *, keep: bool = True) -> None:
        """Let the deployment that lost its role drain, and end the operation."""
        self._operations.decided(op.id)
        await self._swap.retire(op, old, keep=keep)
        await self._operations.end(op.id, Step.DONE, f"{op.kind}.done")


def shown_wanted(wanted: Wanted) -> dict[str, Any]:
    """What was wanted, for the journal."""
    policy = wanted.policy.to_json() if wanted.policy else None
    return {"source": wanted.source, "sha256": wanted.sha256, "revision": wanted.revision, "policy": policy}


def _compared(serving: Revision, wanted: Revision) -> dict[str, Any]:
    """What a dry run shows: both revisions' pruning and sharpness."""

    def facts(revision: Revision) -> dict[str, Any]:
        ssi = revision.lineage.report.summary()
        return {
            "revision": revision.digest,
            "source": revision.lineage.source,
            "kept_modules": revision.lineage.kept,
            "pruned_modules": list(revision.lineage.pruned),
            "ssi_max": ssi.max,
            "ssi_median": ssi.median,
            "warnings": list(revision.lineage.warnings),
        }

    return {"serving": facts(serving), "wanted": facts(wanted)}
