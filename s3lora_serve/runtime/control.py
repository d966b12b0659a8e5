"""What operators order: swap, rollback, canary, promote, apply; each is checked, begun, and goes on alone"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import ConfigError, Conflict, S3LoRAError
from s3lora_serve.runtime.apply import Apply, diff
from s3lora_serve.runtime.deployment import DeploymentState
from s3lora_serve.runtime.operation import Kind, Operation, Order, Step, Wanted
from s3lora_serve.runtime.operations import fingerprint
from s3lora_serve.runtime.rollout import Rollout
from s3lora_serve.runtime.slots import slot_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.runtime.fleet import Fleet
    from s3lora_serve.runtime.journal import Entry, Journal
    from s3lora_serve.runtime.operations import Operations
    from s3lora_serve.runtime.planner import Alias, DesiredPlanner
    from s3lora_serve.runtime.residency import Residency
    from s3lora_serve.runtime.swap import Swap
    from s3lora_serve.runtime.verification import Finding

log = logging.getLogger(__name__)

_QUICK = (DeploymentState.STANDBY, DeploymentState.DRAINING)
_SHORTEST_PREFIX = 8


class Control:
    """Orders from the command line, the admin routes and the rules. Every method may raise UnknownPlanner,
    Conflict and StateError; whatever fails later is in the operation, and what served before still serves.
    """

    def __init__(
        self,
        fleet: Fleet,
        residency: Residency,
        swap: Swap,
        operations: Operations,
        journal: Journal,
        read: Callable[[], Mapping[str, DesiredPlanner]] | None = None,
        check: Callable[[], Awaitable[list[Finding]]] | None = None,
    ) -> None:
        """``read`` reads planners.yaml again, ``check`` compares journal, store and engine."""
        self._fleet = fleet
        self._residency = residency
        self._steps = swap
        self._operations = operations
        self._journal = journal
        self._read = read
        self._check = check
        self._tasks: set[asyncio.Task[None]] = set()

    # Orders

    async def swap(
        self, name: str, wanted: Wanted, order: Order, *, dry_run: bool = False, force: bool = False
    ) -> Operation:
        """Serve another revision. A dry run admits it and says what would change.

        While a candidate is on trial only with ``force``, which gives it up.
        """
        asked = fingerprint(
            kind=Kind.SWAP, name=name, wanted=wanted, expected=order.expected, dry_run=dry_run, force=force
        )
        if (known := await self._operations.known(order, asked)) is not None:
            return known
        alias = self._alias(name, order)
        if alias.candidate is not None and not (dry_run or force):
            raise Conflict(
                f"planner {name!r} has a candidate on trial", hint="promote it or roll it back first"
            )
        details = {"wanted": _shown(wanted), "dry_run": dry_run}
        op = await self._begin(Kind.SWAP, alias, order, asked, details=details, decides=not dry_run)
        return self._go(op, self._swap(op, name, wanted, dry_run))

    async def rollback(self, name: str, order: Order, *, to: str | None = None) -> Operation:
        """Serve the revision before, or ``to``; with a candidate on trial and no ``to``, give that up.

        When the revision is still loaded, the planner answers from it before this returns.
        """
        asked = fingerprint(kind=Kind.ROLLBACK, name=name, to=to, expected=order.expected)
        if (known := await self._operations.known(order, asked)) is not None:
            return known
        alias = self._alias(name, order)
        if alias.candidate is not None:
            if to is not None:
                raise Conflict(
                    f"planner {name!r} has a candidate on trial", hint="roll it back without a goal first"
                )
            op = await self._begin(Kind.ROLLBACK, alias, order, asked, details={"gives_up": alias.candidate})
            return await self._give_up_candidate(op, alias)
        goal = self._goal(alias, to)
        key = slot_name(name, goal)
        op = await self._begin(
            Kind.ROLLBACK, alias, order, asked, to_digest=goal if len(goal) == 64 else None
        )
        live = self._fleet.find(key)
        if live is not None and live.state in _QUICK:
            with self._residency.held(key):
                await self._decide(op, self._serve(op, alias, live.revision, "rollback.flipped", judge=False))
            return self._go(op, self._finish(op, alias.active))
        return self._go(op, self._roll_back(op, alias, goal))

    async def canary(
        self,
        name: str,
        wanted: Wanted | None,
        order: Order,
        *,
        share: float,
        shadow: bool = False,
        promote_after: int | None = None,
    ) -> Operation:
        """Try another revision on a share of the requests; with ``wanted`` None change the share of the one
        that is on trial."""
        kind = Kind.SHADOW if shadow else Kind.CANARY
        try:
            rollout = Rollout(share=share, since=time.time(), shadow=shadow, promote_after=promote_after)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        asked = fingerprint(
            kind=kind, name=name, wanted=wanted, expected=order.expected, share=share, after=promote_after
        )
        if (known := await self._operations.known(order, asked)) is not None:
            return known
        alias = self._alias(name, order)
        details: dict[str, Any] = {"share": share, "shadow": shadow, "promote_after": promote_after}
        if wanted is None:
            if alias.candidate is None:
                raise Conflict(
                    f"planner {name!r} has no candidate", hint="name an adapter or a revision to try"
                )
            op = await self._begin(kind, alias, order, asked, details=details)
            candidate = self._fleet[alias.candidate].revision
            await self._decide(op, self._try(op, alias, candidate, rollout, f"{kind}.changed"))
            return await self._operations.end(op.id, Step.DONE, f"{kind}.done")
        if alias.candidate is not None:
            raise Conflict(
                f"planner {name!r} has a candidate on trial", hint="promote it or roll it back first"
            )
        op = await self._begin(kind, alias, order, asked, details={**details, "wanted": _shown(wanted)})
        return self._go(op, self._canary(op, name, wanted, rollout))

    async def promote(self, name: str, order: Order) -> Operation:
        """Serve the candidate's revision to everybody."""
        asked = fingerprint(kind=Kind.PROMOTE, name=name, expected=order.expected)
        if (known := await self._operations.known(order, asked)) is not None:
            return known
        alias = self._alias(name, order)
        if alias.candidate is None:
            raise Conflict(f"planner {name!r} has no candidate", hint="start one: s3lora canary")
        revision = self._fleet[alias.candidate].revision
        op = await self._begin(Kind.PROMOTE, alias, order, asked, to_digest=revision.digest)
        await self._decide(op, self._serve(op, alias, revision, "promote.flipped"))
        return self._go(op, self._finish(op, alias.active))

    async def apply(
        self, desired: Mapping[str, DesiredPlanner], order: Order, *, dry_run: bool = False
    ) -> Operation:
        """Bring the fleet to what ``desired`` declares: all of it, or nothing when one part fails."""
        changes = diff(self._fleet, desired)
        asked = fingerprint(
            kind=Kind.APPLY, desired={n: d.declared for n, d in desired.items()}, dry_run=dry_run
        )
        if (known := await self._operations.known(order, asked)) is not None:
            return known
        op = await self._operations.begin(
            Kind.APPLY,
            tuple(change.planner for change in changes),
            order,
            step=Step.ADMITTING,
            fingerprint=asked,
            details={"changes": [change.to_json() for change in changes], "dry_run": dry_run},
            decides=not dry_run,
        )
        if dry_run or not changes:
            return await self._operations.end(op.id, Step.DONE, "apply.done")
        apply = Apply(self._fleet, self._residency, self._steps, self._operations)
        return self._go(op, apply.run(op, changes, desired))

    async def reload(self, order: Order, *, dry_run: bool = False) -> Operation:
        """Apply planners.yaml as it is now. Raises ConfigError, naming every problem of it."""
        if self._read is None:
            raise ConfigError("this server was started without a planners.yaml to read again")
        return await self.apply(await asyncio.to_thread(self._read), order, dry_run=dry_run)

    # Questions

    async def verify(self) -> list[Finding]:
        """Whether journal, store and engine agree with each other and with what was written once."""
        return await self._check() if self._check else []

    def operation(self, id_: str) -> Operation:
        """Raises UnknownOperation."""
        return self._operations.get(id_)

    def operations(self, limit: int = 50) -> list[Operation]:
        """The newest first."""
        return self._operations.list(limit)

    async def wait(self, id_: str, seconds: float) -> Operation:
        """The operation once it changes, or after ``seconds``. Raises UnknownOperation."""
        return await self._operations.wait(id_, seconds)

    def history(self, planner: str | None = None, after: int = 0, limit: int = 100) -> list[Entry]:
        """Journal entries, the newest first; ``after`` is a sequence number that they exceed."""
        return list(self._journal.entries(planner=planner, after=after, limit=limit, newest_first=True))

    # How they go on

    async def _swap(self, op: Operation, name: str, wanted: Wanted, dry_run: bool) -> None:
        desired = self._fleet.alias(name).desired
        wanted = replace(wanted, policy=wanted.policy or desired.policy)
        revision = await self._steps.admit(op, name, wanted)
        alias = self._fleet.alias(name)
        serving = self._fleet[alias.active].revision
        if dry_run or revision.digest == serving.digest:
            same = {"same": revision.digest == serving.digest, "would": _compared(serving, revision)}
            await self._operations.end(op.id, Step.DONE, "swap.done", details={**op.details, **same})
            return
        with self._residency.held(slot_name(name, revision.digest)):
            await self._steps.deploy(op, name, revision)
            await self._serve(op, alias, revision, "swap.flipped")
        if alias.candidate not in (None, slot_name(name, revision.digest)):
            await self._steps.retire(op, str(alias.candidate), keep=False)
        await self._finish(op, alias.active)

    async def _roll_back(self, op: Operation, alias: Alias, goal: str) -> None:
        revision = await self._steps.admit(op, alias.name, Wanted(revision=goal))
        if revision.digest == self._fleet[alias.active].revision.digest:
            raise Conflict(f"planner {alias.name!r} serves revision {revision.short} already")
        with self._residency.held(slot_name(alias.name, revision.digest)):
            await self._steps.deploy(op, alias.name, revision)
            await self._serve(op, alias, revision, "rollback.flipped", judge=False)
        await self._finish(op, alias.active)

    async def _canary(self, op: Operation, name: str, wanted: Wanted, rollout: Rollout) -> None:
        desired = self._fleet.alias(name).desired
        revision = await self._steps.admit(op, name, replace(wanted, policy=wanted.policy or desired.policy))
        alias = self._fleet.alias(name)
        if revision.digest == self._fleet[alias.active].revision.digest:
            raise Conflict(
                f"planner {name!r} serves revision {revision.short} already", hint="nothing to try"
            )
        with self._residency.held(slot_name(name, revision.digest)):
            await self._steps.deploy(op, name, revision)
            await self._try(op, alias, revision, rollout, f"{op.kind}.flipped")
        await self._operations.end(op.id, Step.DONE, f"{op.kind}.done")

    async def _give_up_candidate(self, op: Operation, alias: Alias) -> Operation:
        active = self._fleet[alias.active].revision
        flip = self._steps.flip(op, alias.name, "rollback.flipped", active=active, previous=alias.previous)
        await self._decide(op, flip)
        return self._go(op, self._finish(op, str(alias.candidate), keep=False))

    async def _serve(
        self, op: Operation, alias: Alias, revision: Revision, action: str, *, judge: bool = True
    ) -> None:
        """Flip to ``revision``; from then on others may decide about the planner."""
        before = self._fleet[alias.active].revision.digest
        await self._steps.flip(op, alias.name, action, active=revision, previous=before, judge=judge)
        self._operations.decided(op.id)

    async def _try(
        self, op: Operation, alias: Alias, candidate: Revision, rollout: Rollout, action: str
    ) -> None:
        active = self._fleet[alias.active].revision
        await self._steps.flip(
            op,
            alias.name,
            action,
            active=active,
            previous=alias.previous,
            candidate=candidate,
            rollout=rollout,
        )

    async def _finish(self, op: Operation, old: str, *, keep: bool = True) -> None:
        self._operations.decided(op.id)
        await self._steps.retire(op, old, keep=keep)
        await self._operations.end(op.id, Step.DONE, f"{op.kind}.done")

    # Common to all

    def _alias(self, name: str, order: Order) -> Alias:
        alias = self._fleet.alias(name)
        serving = self._fleet[alias.active].revision.digest
        expected = order.expected
        if expected is not None and (len(expected) < _SHORTEST_PREFIX or not serving.startswith(expected)):
            raise Conflict(
                f"planner {name!r} serves revision {serving}, not the expected {expected[:64]!r}",
                hint="look at it again: s3lora status; an expected revision has at least 8 digits",
            )
        return alias

    def _goal(self, alias: Alias, to: str | None) -> str:
        serving = self._fleet[alias.active].revision.digest
        goal = to or alias.previous
        if goal is None:
            raise Conflict(
                f"planner {alias.name!r} has served no revision before {serving[:12]}",
                hint="name one: s3lora rollback --to; s3lora history shows them",
            )
        if len(goal) < _SHORTEST_PREFIX:
            raise Conflict(f"{goal!r} is too short for a revision", hint="give at least 8 digits")
        if serving.startswith(goal):
            raise Conflict(f"planner {alias.name!r} serves revision {serving[:12]} already")
        for deployment in self._fleet.of(alias.name):
            if deployment.revision.digest.startswith(goal):
                return deployment.revision.digest
        return goal

    async def _begin(
        self,
        kind: Kind,
        alias: Alias,
        order: Order,
        asked: str,
        *,
        to_digest: str | None = None,
        details: Mapping[str, Any] | None = None,
        decides: bool = True,
    ) -> Operation:
        return await self._operations.begin(
            kind,
            (alias.name,),
            order,
            step=Step.ADMITTING,
            fingerprint=asked,
            from_digest=self._fleet[alias.active].revision.digest,
            to_digest=to_digest,
            details=details,
            decides=decides,
        )

    async def _decide(self, op: Operation, work: Awaitable[object]) -> None:
        """Do what is decided while the caller waits. An operation that fails here has failed as a whole."""
        try:
            await asyncio.shield(asyncio.ensure_future(work))
        except Exception as error:
            await self._operations.fail(op.id, error)
            raise

    def _go(self, op: Operation, work: Coroutine[Any, Any, None]) -> Operation:
        """Let the rest happen in the background; its failure ends the operation."""

        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise  # the server stops; the next start finishes or undoes it
            except S3LoRAError as error:
                log.warning("%s of %s failed: %s", op.kind, op.planner or "the fleet", error)
                await self._operations.fail(op.id, error)
            except Exception as error:
                log.exception("%s of %s failed", op.kind, op.planner or "the fleet")
                await self._operations.fail(op.id, error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return self._operations.get(op.id)

    async def close(self) -> None:
        """Leave running operations to the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._steps.close()


def _shown(wanted: Wanted) -> dict[str, Any]:
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
