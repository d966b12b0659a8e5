"""From the fleet that serves to the fleet that planners.yaml declares: all of it, or nothing."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from s3lora_serve.adapters.fetch.address import Source
from s3lora_serve.control.operation import Kind, Operation, Order, Step, Wanted, fingerprint
from s3lora_serve.errors import S3LoRAError
from s3lora_serve.fleet.deployment import DeploymentState
from s3lora_serve.fleet.planner import Alias
from s3lora_serve.fleet.slots import slot_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.orders.execution import Execution
    from s3lora_serve.control.replica_port import Replica
    from s3lora_serve.fleet.planner import DesiredPlanner

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


def diff(replica: Replica, desired: Mapping[str, DesiredPlanner]) -> tuple[Change, ...]:
    """What must change, in the order of the file, removals last.

    A planner whose declaration is the one that was applied last is left alone, although an operator may have
    swapped it since: an edit elsewhere in the file must not undo that.
    """
    changes = []
    for name, after in desired.items():
        if name not in replica.names():
            changes.append(Change(name, "added", None, _shown(after)))
            continue
        before = replica.alias(name).desired
        if before == after:
            continue
        what: Literal["changed", "described"] = (
            "changed" if before.declared != after.declared else "described"
        )
        changes.append(Change(name, what, _shown(before), _shown(after)))
    for name in replica.names():
        if name not in desired:
            changes.append(Change(name, "removed", _shown(replica.alias(name).desired), None))
    return tuple(changes)


async def apply(
    run: Execution, desired: Mapping[str, DesiredPlanner], order: Order, *, dry_run: bool
) -> Operation:
    """Begin to bring the fleet to what is declared. Raises Conflict, StateError."""
    asked = fingerprint(Kind.APPLY, None, order, desired=shown(desired), dry_run=dry_run)
    if (known := await run.operations.known(order, asked)) is not None:
        return known
    changes = diff(run.replica, desired)
    op = await run.operations.begin(
        Kind.APPLY,
        tuple(change.planner for change in changes),
        order,
        step=Step.ADMITTING,
        fingerprint=asked,
        details={"changes": [change.to_json() for change in changes], "dry_run": dry_run},
        decides=not dry_run,
    )
    if dry_run or not changes:
        return await run.operations.end(op.id, Step.DONE, "apply.checked" if dry_run else "apply.done")
    return run.go(op, Apply(run).run(op, changes, desired))


@dataclass(frozen=True)
class _Before:
    """What a planner's name meant, and the revisions themselves, should the engine lose what it holds."""

    alias: Alias
    active: Revision
    candidate: Revision | None


class Apply:
    """Carries the difference out: everything is admitted first, then loaded and flipped planner by planner.

    When one fails, those that were changed are changed back.
    """

    def __init__(self, run: Execution) -> None:
        self._run = run
        self._replica = run.replica
        self._steps = run.steps
        self._operations = run.operations

    async def run(
        self, op: Operation, changes: Sequence[Change], desired: Mapping[str, DesiredPlanner]
    ) -> None:
        """Raises what failed first; then the fleet is as it was."""
        revisions = {}
        for name in (change.planner for change in changes if change.what in ("added", "changed")):
            with _naming(name):
                revisions[name] = await self._steps.admit(op, name, Wanted.of(desired[name]))
        before = {c.planner: self._before(c.planner) for c in changes if c.what != "added"}
        done: list[Change] = []
        try:
            for change in changes:
                name = change.planner
                with _naming(name):
                    if change.what == "described":
                        self._steps.point_of_no_return(op)
                        self._replica.flip(replace(self._replica.alias(name), desired=desired[name]))
                        done.append(change)
                        await self._pin(op, name)
                        continue
                    if change.what == "removed":
                        await self._remove(op, name)
                    else:
                        await self._serve(op, change, desired[name], revisions[name])
                done.append(change)
        except Exception:  # when the server stops, the next start continues from the journal
            await self._undo(op, done, before)
            raise
        self._operations.decided(op.id)
        for change in changes:
            await self._let_go(op, change, before)
        await self._operations.end(op.id, Step.DONE, "apply.done")

    async def _pin(self, op: Operation, name: str) -> None:
        """Load a pinned planner that has no slot now: a pinned one is always loaded."""
        alias = self._replica.alias(name)
        active = self._replica.find(alias.active)
        if alias.desired.pinned and active is not None and active.state is DeploymentState.EVICTED:
            await self._steps.deploy(op, name, active.revision)

    def _before(self, name: str) -> _Before:
        alias = self._replica.alias(name)
        candidate = self._replica.revision(alias.candidate) if alias.candidate else None
        return _Before(alias, self._replica.revision(alias.active), candidate)

    async def _let_go(self, op: Operation, change: Change, before: Mapping[str, _Before]) -> None:
        """Let what lost its role by a change drain."""
        if change.what in ("changed", "removed"):
            await self._retire(op, before[change.planner].alias, keep=change.what == "changed")

    async def _retire(self, op: Operation, old: Alias, *, keep: bool) -> None:
        for key in (old.active, old.candidate):
            if key is not None and not self._replica.meant(key):
                await self._steps.retire(op, key, keep=keep and key == old.active)

    async def _serve(
        self, op: Operation, change: Change, desired: DesiredPlanner, revision: Revision
    ) -> None:
        name = change.planner
        async with AsyncExitStack() as held:
            # One that is withheld is loaded, and so checked, although its name means that revision.
            if not self._serves(change, revision) or self._replica.alias(name).withheld:
                revision = await self._run.load(held, op, name, revision, Wanted.of(desired))
            if self._serves(change, revision):
                # Another source or policy that comes to the same revision: only the declaration changes.
                await self._declare(op, self._before(name), desired)
                return
            if change.what == "added":
                key = slot_name(name, revision.digest)
                await self._declare(op, _Before(Alias(name, desired, key), revision, None), desired)
                return
            serving = self._replica.revision(self._replica.alias(name).active).digest
            await self._steps.flip(
                op, name, "apply.flipped", active=revision, previous=serving, desired=desired, judge=True
            )

    def _serves(self, change: Change, revision: Revision) -> bool:
        key = slot_name(change.planner, revision.digest)
        return change.what == "changed" and self._replica.alias(change.planner).active == key

    async def _declare(
        self, op: Operation, meant: _Before, desired: DesiredPlanner, *, withheld: str = ""
    ) -> None:
        """Let the name mean this, under another declaration: first in the journal, then in memory.

        What is declared anew is an order, so that it is ``withheld`` only where an apply is taken back.
        """
        alias = replace(meant.alias, desired=desired, withheld=withheld)
        record = alias.record(meant.active, meant.candidate)
        known = meant.alias.name in self._replica.names()
        moved = (meant.active.digest if known else None, meant.active.digest)
        self._steps.point_of_no_return(op)
        await self._operations.write(op.id, "apply.declared", planner=record, moved=moved, step=Step.DRAINING)
        self._replica.flip(alias, meant.active, *([meant.candidate] if meant.candidate else []))

    async def _remove(self, op: Operation, name: str) -> None:
        moved = (self._replica.revision(self._replica.alias(name).active).digest, None)
        self._steps.point_of_no_return(op)
        await self._operations.write(op.id, "apply.removed", remove=name, moved=moved, step=Step.DRAINING)
        self._replica.remove(name)

    async def _undo(self, op: Operation, done: Sequence[Change], before: Mapping[str, _Before]) -> None:
        stay = []
        for change in reversed(done):
            try:
                await self._take_back(op, change, before.get(change.planner))
            except Exception as error:  # the others are to be taken back all the same
                log.exception("planner %s stays as applied: %s", change.planner, error)
                stay.append(change)
        for change in stay:
            await self._let_go(op, change, before)

    async def _take_back(self, op: Operation, change: Change, old: _Before | None) -> None:
        name = change.planner
        if old is None:
            now = self._replica.alias(name)
            await self._remove(op, name)
            await self._retire(op, now, keep=False)
        elif change.what == "removed":
            await self._declare(op, old, old.alias.desired, withheld=old.alias.withheld)
        elif change.what == "described":
            self._replica.flip(old.alias)
        elif self._replica.alias(name).active == old.alias.active:
            meant, withheld = self._before(name), old.alias.withheld
            await self._declare(op, meant, old.alias.desired, withheld=withheld)
        else:
            now = self._replica.alias(name)
            await self._steps.flip(
                op,
                name,
                "apply.taken_back",
                active=old.active,
                previous=old.alias.previous,
                candidate=old.candidate,
                rollout=old.alias.rollout,
                desired=old.alias.desired,
                withheld=old.alias.withheld,
            )
            await self._retire(op, now, keep=False)


@contextmanager
def _naming(planner: str) -> Iterator[None]:
    """An error of one among several planners says which."""
    try:
        yield
    except S3LoRAError as error:
        error.message = f"planner {planner!r}: {error.message}"
        raise


def shown(desired: Mapping[str, DesiredPlanner]) -> dict[str, Any]:
    """All that is declared, as JSON values."""
    return {name: _shown(planner) for name, planner in desired.items()}


def _shown(desired: DesiredPlanner) -> dict[str, Any]:
    return {
        **Source.parse(desired.source).to_json(),
        "sha256": desired.sha256,
        "policy": desired.policy.to_json(),
        "description": desired.description,
        "pinned": desired.pinned,
        "tools": [tool.name for tool in desired.tools],
    }
