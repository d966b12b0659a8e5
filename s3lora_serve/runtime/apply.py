"""From the fleet that serves to the fleet that planners.yaml declares: all of it, or nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from s3lora_serve.errors import S3LoRAError
from s3lora_serve.runtime.deployment import DeploymentState
from s3lora_serve.runtime.journal import PlannerRecord
from s3lora_serve.runtime.operation import Operation, Step, Wanted
from s3lora_serve.runtime.planner import Alias
from s3lora_serve.runtime.slots import slot_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.runtime.fleet import Fleet
    from s3lora_serve.runtime.operations import Operations
    from s3lora_serve.runtime.planner import DesiredPlanner
    from s3lora_serve.runtime.residency import Residency
    from s3lora_serve.runtime.swap import Swap

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """One line of the difference. ``described``: only what clients read, or pinning; nothing is loaded."""

    planner: str
    what: Literal["added", "changed", "removed", "described"]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """For the journal and for people."""
        return {"planner": self.planner, "what": self.what, "before": self.before, "after": self.after}


def diff(fleet: Fleet, desired: Mapping[str, DesiredPlanner]) -> tuple[Change, ...]:
    """What must change, in the order of the file, removals last.

    A planner whose declaration is the one that was applied last is left alone, although an operator may have
    swapped it since: an edit elsewhere in the file must not undo that.
    """
    changes = []
    for name, after in desired.items():
        if name not in fleet.names():
            changes.append(Change(name, "added", None, _shown(after)))
            continue
        before = fleet.alias(name).desired
        if before == after:
            continue
        what: Literal["changed", "described"] = (
            "changed" if before.declared != after.declared else "described"
        )
        changes.append(Change(name, what, _shown(before), _shown(after)))
    for name in fleet.names():
        if name not in desired:
            changes.append(Change(name, "removed", _shown(fleet.alias(name).desired), None))
    return tuple(changes)


class Apply:
    """Carries the difference out: everything is admitted first, then loaded and flipped planner by planner.

    When one fails, those that were flipped are flipped back.
    """

    def __init__(self, fleet: Fleet, residency: Residency, swap: Swap, operations: Operations) -> None:
        self._fleet = fleet
        self._residency = residency
        self._swap = swap
        self._operations = operations

    async def run(
        self, op: Operation, changes: Sequence[Change], desired: Mapping[str, DesiredPlanner]
    ) -> None:
        """Raises what failed first; then the fleet is as it was."""
        revisions = {
            change.planner: await self._swap.admit(op, change.planner, _wanted(desired[change.planner]))
            for change in changes
            if change.what in ("added", "changed")
        }
        before = {c.planner: self._fleet.alias(c.planner) for c in changes if c.what != "added"}
        done: list[Change] = []
        try:
            for change in changes:
                if change.what in ("added", "changed"):
                    await self._serve(op, change, desired[change.planner], revisions[change.planner])
                    done.append(change)
        except BaseException:
            await self._undo(op, done, before)
            raise
        for change in changes:
            if change.what == "described":
                alias = self._fleet.alias(change.planner)
                self._fleet.set_alias(replace(alias, desired=desired[change.planner]))
            elif change.what == "removed":
                await self._remove(op, change.planner)
        self._operations.decided(op.id)
        for change in changes:
            old = before.get(change.planner)
            if old is None or change.what == "described":
                continue
            for key in (old.active, old.candidate):
                if key is not None and key != self._active(change.planner):
                    await self._swap.retire(op, key, keep=change.what == "changed")
        await self._operations.end(op.id, Step.DONE, "apply.done")

    def _active(self, planner: str) -> str | None:
        return self._fleet.alias(planner).active if planner in self._fleet.names() else None

    async def _serve(
        self, op: Operation, change: Change, desired: DesiredPlanner, revision: Revision
    ) -> None:
        name = change.planner
        key = slot_name(name, revision.digest)
        with self._residency.held(key):
            if change.what == "changed" and self._fleet[self._fleet.alias(name).active].key == key:
                # Another source or policy that comes to the same revision: only the declaration changes.
                await self._declare(op, self._fleet.alias(name), desired)
                return
            await self._swap.deploy(op, name, revision)
            if change.what == "added":
                await self._declare(op, Alias(name, desired, key), desired)
                self._fleet.settle(key)
                return
            serving = self._fleet[self._fleet.alias(name).active].revision.digest
            alias = await self._swap.flip(
                op, name, "apply.flipped", active=revision, previous=serving, declared=desired.declared
            )
            self._fleet.set_alias(replace(alias, desired=desired))

    async def _declare(self, op: Operation, alias: Alias, desired: DesiredPlanner) -> None:
        record = PlannerRecord(
            name=alias.name,
            active=self._fleet[alias.active].revision.digest,
            previous=alias.previous,
            candidate=self._fleet[alias.candidate].revision.digest if alias.candidate else None,
            rollout=alias.rollout.to_json() if alias.rollout else None,
            declared=desired.declared,
            generation=alias.generation,
        )
        await self._operations.write(op.id, "apply.declared", planner=record, step=Step.DRAINING)
        self._fleet.set_alias(replace(alias, desired=desired))

    async def _remove(self, op: Operation, name: str) -> None:
        alias = self._fleet.alias(name)
        await self._operations.write(op.id, "apply.removed", remove=name, step=Step.DRAINING)
        self._fleet.drop_alias(name)
        for key in (alias.active, alias.candidate):
            live = self._fleet.find(key) if key else None
            if live is not None and DeploymentState.DRAINING in _next(live.state):
                self._fleet.set(live.to(DeploymentState.DRAINING))
        for deployment in self._fleet.of(name):
            if deployment.state is DeploymentState.STANDBY:
                await self._residency.unload(deployment.key)

    async def _undo(self, op: Operation, done: Sequence[Change], before: Mapping[str, Alias]) -> None:
        for change in reversed(done):
            try:
                await self._take_back(op, change, before)
            except S3LoRAError as error:  # the others are to be taken back all the same
                log.error("planner %s stays as applied: %s", change.planner, error)

    async def _take_back(self, op: Operation, change: Change, before: Mapping[str, Alias]) -> None:
        name, now = change.planner, self._fleet.alias(change.planner)
        if change.what == "added":
            await self._remove(op, name)
            await self._swap.retire(op, now.active, keep=False)
            return
        old = before[name]
        if old.active == now.active:
            await self._declare(op, now, old.desired)
            return
        await self._swap.flip(
            op,
            name,
            "apply.taken_back",
            active=self._fleet[old.active].revision,
            previous=old.previous,
            declared=old.desired.declared,
        )
        self._fleet.set_alias(replace(self._fleet.alias(name), desired=old.desired))
        await self._swap.retire(op, now.active, keep=False)


def _next(state: DeploymentState) -> frozenset[DeploymentState]:
    from s3lora_serve.runtime.states import TRANSITIONS

    return TRANSITIONS[state]


def _wanted(desired: DesiredPlanner) -> Wanted:
    return Wanted(source=desired.source, sha256=desired.sha256, policy=desired.policy)


def _shown(desired: DesiredPlanner) -> dict[str, Any]:
    return {
        "source": desired.source,
        "sha256": desired.sha256,
        "policy": desired.policy.to_json(),
        "description": desired.description,
        "pinned": desired.pinned,
    }
