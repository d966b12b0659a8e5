"""What all orders share: begun once, checked against the fleet, decided, and run in the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from s3lora_serve.control.operation import Kind, Operation, Order, Step
from s3lora_serve.control.orders.mending import Candidate, Mending
from s3lora_serve.control.orders.order_hands import OrderHands
from s3lora_serve.errors import Conflict, OperationCancelled, S3LoRAError
from s3lora_serve.fleet.background import Background

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping
    from contextlib import AsyncExitStack

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.operation import Wanted
    from s3lora_serve.control.operations import Operations
    from s3lora_serve.control.replica_port import Replica
    from s3lora_serve.control.steps import SwapSteps
    from s3lora_serve.fleet.planner import Alias
    from s3lora_serve.fleet.rollout import Rollout

log = logging.getLogger(__name__)

SHORTEST_PREFIX = 8  # hex digits; fewer could name several revisions


class Execution:
    """One for all orders. An operation holds the decision about its planner until ``Operations.decided``."""

    def __init__(
        self,
        replica: Replica,
        steps: SwapSteps,
        operations: Operations,
        mending: Mending | None = None,
    ) -> None:
        """``mending`` loads what orders want to serve; without one nothing is mended."""
        self._mending = mending or Mending(replica)
        self.replica = replica
        self.steps = steps
        self.operations = operations
        self._keyed: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._begun = Background()

    async def whole(self, order: Order, work: Callable[[], Coroutine[Any, Any, Operation]]) -> Operation:
        """Begin an order to the end although the caller may leave; orders with one key one after the other.

        Else a client that hangs up in mid-order would leave an operation that begins and never ends, and a
        retry that overtakes its first try would run twice.
        """

        async def one() -> Operation:
            if order.key is None:
                return await work()
            # By key: looking for what one order names may take seconds, and others need not wait for that.
            async with self._keyed.setdefault(order.key, asyncio.Lock()):
                return await work()

        return await self._begun.run(one())

    def expected(self, name: str, order: Order) -> Alias:
        """What the name means now. Raises UnknownPlanner; Conflict if the order expects another revision."""
        alias = self.replica.alias(name)
        serving = self.replica.revision(alias.active).digest
        expected = order.expected
        if expected is not None and (len(expected) < SHORTEST_PREFIX or not serving.startswith(expected)):
            short = len(expected) < SHORTEST_PREFIX
            raise Conflict(
                f"planner {name!r} serves revision {serving}, not the expected {expected[:64]!r}",
                hint="give at least 8 digits" if short else "look at what it serves, and order again",
            )
        return alias

    async def begin(
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
        """Write down that an operation about the planner begins. Raises Conflict, StateError."""
        return await self.operations.begin(
            kind,
            (alias.name,),
            order,
            step=Step.ADMITTING,
            fingerprint=asked,
            from_digest=self.replica.revision(alias.active).digest,
            to_digest=to_digest,
            details=details,
            decides=decides,
        )

    async def decide(self, op: Operation, work: Awaitable[object]) -> None:
        """Do what is decided while the caller waits. An operation that fails here has failed as a whole."""
        try:
            await work
        except OperationCancelled:
            raise  # it has ended
        except Exception as error:
            await self._fail(op, error)
            raise

    def go(self, op: Operation, work: Coroutine[Any, Any, None]) -> Operation:
        """Let the rest happen in the background; its failure ends the operation."""

        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise  # the server stops; the next start finishes or undoes it
            except OperationCancelled as error:
                log.info("%s of %s: %s", op.kind, op.planner or "the fleet", error)  # it has ended
            except S3LoRAError as error:
                log.warning("%s of %s failed: %s", op.kind, op.planner or "the fleet", error)
                await self._fail(op, error)
            except Exception as error:
                log.exception("%s of %s failed", op.kind, op.planner or "the fleet")
                await self._fail(op, error)

        self._begun.go(guarded())
        return self.operations.get(op.id)

    async def _fail(self, op: Operation, error: Exception) -> None:
        with contextlib.suppress(OperationCancelled):  # it was cancelled at that very moment, and ended so
            await self.operations.fail(op.id, error)

    async def load(
        self, held: AsyncExitStack, op: Operation, planner: str, revision: Revision, wanted: Wanted
    ) -> Revision:
        """What is to serve, loaded, proved and kept by ``held``: the revision, or what mending made of it.

        ``wanted`` has the policy that the revision was admitted by. Raises what ``Mending.load`` does.
        """
        hands = OrderHands(op, self.steps, self.operations)
        return await self._mending.load(held, hands, Candidate(planner, revision, wanted))

    async def serve(
        self, op: Operation, alias: Alias, revision: Revision, action: str, *, judge: bool = True
    ) -> None:
        """Flip to ``revision``; from then on others may decide about the planner.

        Raises StoreError if its files went from the store: it would serve only until the engine restarts.
        """
        await self.steps.present(revision)
        before = self.replica.revision(alias.active).digest
        await self.steps.flip(op, alias.name, action, active=revision, previous=before, judge=judge)
        self.operations.decided(op.id)

    async def try_(
        self, op: Operation, alias: Alias, candidate: Revision | None, rollout: Rollout | None, action: str
    ) -> None:
        """Flip to the active revision with ``candidate`` beside it, or alone."""
        active = self.replica.revision(alias.active)
        await self.steps.flip(
            op,
            alias.name,
            action,
            active=active,
            previous=alias.previous,
            candidate=candidate,
            rollout=rollout,
        )

    async def finish(self, op: Operation, old: str, *, keep: bool = True) -> None:
        """Let the deployment that lost its role drain, and end the operation."""
        self.operations.decided(op.id)
        await self.steps.retire(op, old, keep=keep)
        await self.operations.end(op.id, Step.DONE, f"{op.kind}.done")

    async def close(self) -> None:
        """Leave running operations to the next start."""
        await self._begun.close()
