"""What operators order: swap, rollback, canary, promote, apply; checked, begun, and run in the background"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from s3lora_serve.control.operation import Kind, Operation, Order, Step, Wanted, fingerprint
from s3lora_serve.control.orders.apply import Apply, diff, shown
from s3lora_serve.control.orders.preconditions import alias_as_expected, rollback_goal
from s3lora_serve.control.orders.procedures import Procedures, shown_wanted
from s3lora_serve.errors import ConfigError, Conflict, S3LoRAError
from s3lora_serve.fleet.background import Background
from s3lora_serve.fleet.deployment import DeploymentState
from s3lora_serve.fleet.rollout import RolloutOrder
from s3lora_serve.fleet.slots import slot_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from s3lora_serve.control.audit import AuditFinding
    from s3lora_serve.control.journal.journal import Entry, Journal
    from s3lora_serve.control.operations import Operations
    from s3lora_serve.control.steps import SwapSteps
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.planner import Alias, DesiredPlanner
    from s3lora_serve.serving.loading import Loading

log = logging.getLogger(__name__)

_QUICK = (DeploymentState.STANDBY, DeploymentState.DRAINING)


P = ParamSpec("P")


def _whole(
    order: Callable[Concatenate[Orders, P], Coroutine[Any, Any, Operation]],
) -> Callable[Concatenate[Orders, P], Coroutine[Any, Any, Operation]]:
    """An order that is begun to the end, see ``Orders.whole``."""

    @functools.wraps(order)
    async def begun(control: Orders, /, *args: P.args, **kwargs: P.kwargs) -> Operation:
        given = next((a for a in (*args, *kwargs.values()) if isinstance(a, Order)), None)
        return await control.whole(given, order(control, *args, **kwargs))

    return begun


class Orders:
    """Orders from the command line, the admin routes and the rules. Every method may raise UnknownPlanner,
    Conflict and StateError; whatever fails later is in the operation, and what served before still serves.
    """

    def __init__(
        self,
        fleet: Fleet,
        residency: Loading,
        swap: SwapSteps,
        operations: Operations,
        journal: Journal,
        read: Callable[[], Mapping[str, DesiredPlanner]] | None = None,
        check: Callable[[], Awaitable[list[AuditFinding]]] | None = None,
        base_model: str = "",
    ) -> None:
        """``read`` reads planners.yaml again, ``check`` compares journal, store and engine.

        No planner may have the name ``base_model``.
        """
        self._fleet = fleet
        self._residency = residency
        self._steps = swap
        self._course = Procedures(fleet, residency, swap, operations)
        self._operations = operations
        self._journal = journal
        self._read = read
        self._check = check
        self._base_model = base_model
        self._keyed = asyncio.Lock()
        self._begun = Background()

    # Orders

    @_whole
    async def swap(
        self, name: str, wanted: Wanted, order: Order, *, dry_run: bool = False, force: bool = False
    ) -> Operation:
        """Serve another revision. A dry run admits it and says what would change.

        While a candidate is on trial only with ``force``, which gives it up.
        """
        asked = fingerprint(Kind.SWAP, name, order, wanted, dry_run=dry_run, force=force)
        if (known := await self._operations.known(order, asked)) is not None:
            return known
        alias = alias_as_expected(self._fleet, name, order)
        if alias.candidate is not None and not (dry_run or force):
            raise Conflict(
                f"planner {name!r} has a candidate on trial", hint="promote it or roll it back first"
            )
        details = {"wanted": shown_wanted(wanted), "dry_run": dry_run}
        op = await self._begin(Kind.SWAP, alias, order, asked, details=details, decides=not dry_run)
        return self._go(op, self._course.swap(op, name, wanted, dry_run))

    @_whole
    async def rollback(self, name: str, order: Order, *, to: str | None = None) -> Operation:
        """Serve the revision before, or ``to``; with a candidate on trial and no ``to``, give that up.

        When the revision is still loaded, the planner answers from it before this returns.
        """
        asked = fingerprint(Kind.ROLLBACK, name, order, to=to)
        if (known := await self._operations.known(order, asked)) is not None:
            return known
        alias = alias_as_expected(self._fleet, name, order)
        if alias.candidate is not None:
            if to is not None:
                raise Conflict(
                    f"planner {name!r} has a candidate on trial", hint="roll it back without a goal first"
                )
            op = await self._begin(Kind.ROLLBACK, alias, order, asked, details={"gives_up": alias.candidate})
            await self._decide(op, self._course.give_up(op, alias))
            return self._go(op, self._course.finish(op, str(alias.candidate), keep=False))
        goal = rollback_goal(self._fleet, alias, to)
        key = slot_name(name, goal)
        op = await self._begin(
            Kind.ROLLBACK, alias, order, asked, to_digest=goal if len(goal) == 64 else None
        )
        live = self._fleet.find(key)
        if live is not None and live.state in _QUICK:
            async with self._residency.held(key):
                await self._decide(
                    op, self._course.serve(op, alias, live.revision, "rollback.flipped", judge=False)
                )
            return self._go(op, self._course.finish(op, alias.active))
        return self._go(op, self._course.roll_back(op, alias, goal))

    @_whole
    async def canary(
        self,
        name: str,
        wanted: Wanted | None,
        order: Order,
        *,
        share: float | None = None,
        shadow: bool | None = None,
        promote_after: int | None = None,
    ) -> Operation:
        """Try another revision on a share of the requests; with ``wanted`` None change how the one that is on
        trial is tried: what is None stays as it is. Raises ConfigError for terms that mean nothing.
        """
        terms = RolloutOrder(share, shadow, promote_after)
        asked = fingerprint(Kind.CANARY, name, order, wanted, **terms.to_json())
        if (known := await self._operations.known(order, asked)) is not None:
            return known
        alias = alias_as_expected(self._fleet, name, order)
        try:
            rollout = terms.applied(alias.rollout if wanted is None else None, time.time())
        except ValueError as error:
            raise ConfigError(str(error)) from error
        kind = Kind.SHADOW if rollout.shadow else Kind.CANARY
        details = {name: value for name, value in rollout.to_json().items() if name != "since"}
        if wanted is None:
            if alias.candidate is None:
                raise Conflict(
                    f"planner {name!r} has no candidate", hint="name an adapter or a revision to try"
                )
            candidate = self._fleet[alias.candidate].revision
            op = await self._begin(kind, alias, order, asked, to_digest=candidate.digest, details=details)
            await self._decide(op, self._course.try_(op, alias, candidate, rollout, f"{kind}.changed"))
            return await self._operations.end(op.id, Step.DONE, f"{kind}.done")
        if alias.candidate is not None:
            raise Conflict(
                f"planner {name!r} has a candidate on trial", hint="promote it or roll it back first"
            )
        op = await self._begin(kind, alias, order, asked, details={**details, "wanted": shown_wanted(wanted)})
        return self._go(op, self._course.canary(op, name, wanted, rollout))

    @_whole
    async def promote(self, name: str, order: Order) -> Operation:
        """Serve the candidate's revision to all requests."""
        asked = fingerprint(Kind.PROMOTE, name, order)
        if (known := await self._operations.known(order, asked)) is not None:
            return known
        alias = alias_as_expected(self._fleet, name, order)
        if alias.candidate is None:
            raise Conflict(f"planner {name!r} has no candidate", hint="start one: s3lora canary")
        revision = self._fleet[alias.candidate].revision
        op = await self._begin(Kind.PROMOTE, alias, order, asked, to_digest=revision.digest)
        await self._decide(op, self._course.serve(op, alias, revision, "promote.flipped"))
        return self._go(op, self._course.finish(op, alias.active))

    @_whole
    async def apply(
        self, desired: Mapping[str, DesiredPlanner], order: Order, *, dry_run: bool = False
    ) -> Operation:
        """Bring the fleet to what ``desired`` declares: all of it, or nothing when one part fails."""
        asked = fingerprint(Kind.APPLY, None, order, desired=shown(desired), dry_run=dry_run)
        if (known := await self._operations.known(order, asked)) is not None:
            return known
        if self._base_model in desired:
            raise ConfigError(
                f"planner {self._base_model!r} has the name of the base model",
                hint="give one of them another name",
            )
        changes = diff(self._fleet, desired)
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
            return await self._operations.end(op.id, Step.DONE, "apply.checked" if dry_run else "apply.done")
        apply = Apply(self._fleet, self._residency, self._steps, self._operations)
        return self._go(op, apply.run(op, changes, desired))

    async def reload(self, order: Order, *, dry_run: bool = False) -> Operation:
        """Apply planners.yaml as it is now. Raises ConfigError, naming every problem of it."""
        if self._read is None:
            raise ConfigError("this server was started without a planners.yaml to read again")
        return await self.apply(await asyncio.to_thread(self._read), order, dry_run=dry_run)

    # Questions

    async def verify(self) -> list[AuditFinding]:
        """Whether journal, store and engine agree with each other and with what was written once."""
        return await self._check() if self._check else []

    def operation(self, id_: str) -> Operation:
        """Raises UnknownOperation."""
        return self._operations.get(id_)

    def operations(self, limit: int = 50) -> list[Operation]:
        """The newest first."""
        return self._operations.list(limit)

    async def wait(self, id_: str, seconds: float, seen: str | None = None) -> Operation:
        """The operation once it changes, or after ``seconds``; at once if its step is not ``seen``.

        Raises UnknownOperation.
        """
        return await self._operations.wait(id_, seconds, seen)

    def history(self, planner: str | None = None, after: int = 0, limit: int = 100) -> list[Entry]:
        """Journal entries, the newest first; ``after`` is a sequence number that they exceed."""
        return list(self._journal.entries(planner=planner, after=after, limit=limit, newest_first=True))

    # Common to all

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
            await work
        except Exception as error:
            await self._operations.fail(op.id, error)
            raise

    async def whole(self, order: Order | None, work: Coroutine[Any, Any, Operation]) -> Operation:
        """Begin an order to the end although the caller may leave; orders with one key one after the other.

        Else a client that hangs up in mid-order would leave an operation that begins and never ends, and a
        retry that overtakes its first try would run twice.
        """

        async def one() -> Operation:
            if order is None or order.key is None:
                return await work
            async with self._keyed:
                return await work

        return await self._begun.run(one())

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

        self._begun.go(guarded())
        return self._operations.get(op.id)

    async def close(self) -> None:
        """Leave running operations to the next start."""
        await self._begun.close()
        await self._steps.close()
