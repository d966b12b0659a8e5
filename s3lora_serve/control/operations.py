"""Every operation: begun once, written down at each decision, ended once."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.operation import Kind, Operation, Order, Step
from s3lora_serve.errors import Conflict, S3LoRAError, UnknownOperation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3lora_serve.control.journal.entry import Entry
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.fleet.notify import Notifier
    from s3lora_serve.fleet.planner_record import PlannerRecord


log = logging.getLogger(__name__)

RECENT = 50  # operations that have ended and are still told of to those who follow


class Operations:
    """Running operations in memory, all of them in the journal. One at a time may decide about a planner.

    What changes only for the eye (progress) stays in memory; what is decided goes to the journal first.
    """

    def __init__(
        self, journal: Journal, notifier: Notifier, ended: Callable[[Operation], None] = lambda _: None
    ) -> None:
        """``ended`` is told of each operation that has ended."""
        self._journal = journal
        self._notifier = notifier
        self._ended = ended
        self._running: dict[str, Operation] = {}
        self._over: deque[Operation] = deque(maxlen=RECENT)
        self._unwritten: dict[str, Operation] = {}  # they ended, and the journal could not take it
        self._deciding: dict[str, str] = {}  # planner → the operation that decides about it

    async def known(self, order: Order, fingerprint: str) -> Operation | None:
        """The operation that this idempotency key began before. Raises Conflict if it was another order's."""
        if order.key is None:
            return None
        found = await asyncio.to_thread(self._journal.operation_by_key, order.key)
        if found is None:
            return None
        operation, before = found
        if before != fingerprint:
            raise Conflict(
                f"idempotency key {order.key[:80]!r} was used for another order ({operation.kind}"
                f" {operation.planner or ''}, {operation.id})",
                hint="use a new key for a new order",
            )
        return self._now(operation)

    async def begin(
        self,
        kind: Kind,
        planners: tuple[str, ...],
        order: Order,
        *,
        step: Step,
        fingerprint: str = "",
        from_digest: str | None = None,
        to_digest: str | None = None,
        details: Mapping[str, Any] | None = None,
        decides: bool = True,
    ) -> Operation:
        """Write a new operation down and give it its planners. Raises Conflict, StateError.

        ``decides`` False is for dry runs, which change nothing and wait for no other operation.
        """
        for planner in planners if decides else ():
            if (other := self._deciding.get(planner)) is not None:
                raise Conflict(
                    f"operation {other} ({self._running[other].kind}, {self._running[other].step}) is"
                    f" deciding about planner {planner!r}",
                    hint="wait until it has decided, then order again",
                )
        operation = Operation(
            id=f"op-{uuid.uuid4().hex[:16]}",
            kind=kind,
            planner=planners[0] if len(planners) == 1 else None,
            order=order,
            step=step,
            started_at=time.time(),
            from_digest=from_digest,
            to_digest=to_digest,
            details=dict(details or {}),
        )
        self._running[operation.id] = operation
        for planner in planners if decides else ():
            self._deciding[planner] = operation.id
        try:
            await self._write(operation, (self._entry(operation, f"{kind}.begun"),), fingerprint=fingerprint)
        except BaseException:
            self.decided(operation.id)
            self._running.pop(operation.id, None)
            raise
        self._notifier.ring()
        return operation

    def decided(self, id_: str) -> None:
        """The operation decides nothing more: others may begin on its planners."""
        self._deciding = {planner: op for planner, op in self._deciding.items() if op != id_}
        self._notifier.ring()

    def deciding(self, planner: str) -> bool:
        """Whether an operation decides about this planner now."""
        return planner in self._deciding

    def update(self, id_: str, **changes: Any) -> Operation:
        """Note progress, in memory only. ``seconds`` are added to those that are there."""
        operation = self._running[id_]
        if "seconds" in changes:
            changes["seconds"] = {**operation.seconds, **changes["seconds"]}
        operation = self._running[id_] = dataclasses.replace(operation, **changes)
        self._notifier.ring()
        return operation

    async def write(
        self,
        id_: str,
        action: str,
        *,
        name: str | None = None,
        moved: tuple[str | None, str | None] | None = None,
        planner: PlannerRecord | None = None,
        remove: str | None = None,
        about: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Operation:
        """Write a decision down, with the desired state that follows from it, in one transaction.

        Memory follows once it is written. Into the entry go the planner's ``name``, digests from and to
        (``moved``) where they are not those of the operation, which may be about several planners, and what
        is said ``about`` it. Raises StateError; then nothing was decided.
        """
        before = self._running[id_]
        after = dataclasses.replace(before, **changes)
        entry = self._entry(after, action, about, name or (planner.name if planner else remove), moved)
        await self._write(after, (entry,), planner=planner, remove=remove)
        # Progress that was noted meanwhile stays.
        return self.update(id_, **changes)

    async def end(self, id_: str, step: Step, action: str, **changes: Any) -> Operation:
        """Note how it ended, and write it down. Its planners are free from then on.

        It ended all the same if writing fails: that is logged, remembered while the server runs, and the
        next start ends it in the journal.
        """
        operation = dataclasses.replace(
            self._running[id_], step=step, ended_at=time.time(), progress="", fraction=None, **changes
        )
        about = {"seconds": dict(operation.seconds)} | (
            {"error": dict(operation.error)} if operation.error else {}
        )
        try:
            await self._write(operation, (self._entry(operation, action, about),))
        except S3LoRAError as error:
            log.error("the end of operation %s (%s) could not be written down: %s", id_, step, error)
            self._unwritten[id_] = operation
        finally:
            self.decided(id_)
            self._running.pop(id_, None)
            self._over.append(operation)
            self._ended(operation)
            self._notifier.ring()
        return operation

    async def fail(self, id_: str, error: BaseException) -> Operation:
        """End it as failed."""
        if isinstance(error, S3LoRAError):
            how, code, message, hint = "failed", error.code, error.message, error.hint
        else:
            how, code, message = "crashed", "internal_error", f"{type(error).__name__}: {error}"
            hint = "this is a defect; see the server's log"
        shown = {"code": code, "message": message, "hint": hint}
        return await self.end(id_, Step.FAILED, f"{self._running[id_].kind}.{how}", error=shown)

    @property
    def recent(self) -> tuple[Operation, ...]:
        """Those that run, and the last ones that ended while this process ran; asks no disk."""
        return (*self._over, *self._running.values())

    def get(self, id_: str) -> Operation:
        """The operation, running or ended. Raises UnknownOperation."""
        found = self._running.get(id_) or self._unwritten.get(id_) or self._journal.operation(id_)
        if found is None:
            raise UnknownOperation(f"there is no operation {id_[:80]!r}", hint="list the operations")
        return found

    def list(self, limit: int) -> list[Operation]:
        """The newest ones first."""
        return [self._now(op) for op in self._journal.operations(limit)]

    def _now(self, written: Operation) -> Operation:
        return self._running.get(written.id) or self._unwritten.get(written.id) or written

    async def wait(self, id_: str, seconds: float, seen: str | None = None) -> Operation:
        """The operation as soon as it is not what it was at the call, or after ``seconds``.

        With ``seen``, the step that the caller knows of, at once if it is at another one by now.
        """
        before = self.get(id_)
        if before.step.ended or (seen is not None and before.step != seen):
            return before
        await self._notifier.until(lambda: self._running.get(id_) is not before, seconds)
        return self.get(id_)

    async def note(self, *entries: NewEntry, planner: PlannerRecord | None = None) -> None:
        """Write entries that belong to no operation."""
        await asyncio.to_thread(self._journal.write, *entries, planner=planner)

    async def _write(
        self,
        operation: Operation,
        entries: tuple[NewEntry, ...],
        *,
        fingerprint: str = "",
        planner: PlannerRecord | None = None,
        remove: str | None = None,
    ) -> tuple[Entry, ...]:
        # Shielded: when the caller is cancelled, the transaction must still be known to be over.
        writing = asyncio.to_thread(
            self._journal.write,
            *entries,
            operation=operation,
            planner=planner,
            remove=remove,
            fingerprint=fingerprint,
        )
        return await asyncio.shield(asyncio.ensure_future(writing))

    def _entry(
        self,
        operation: Operation,
        action: str,
        about: Mapping[str, Any] | None = None,
        planner: str | None = None,
        moved: tuple[str | None, str | None] | None = None,
    ) -> NewEntry:
        from_digest, to_digest = moved or (operation.from_digest, operation.to_digest)
        return NewEntry(
            actor=operation.order.actor,
            action=action,
            planner=planner or operation.planner,
            operation=operation.id,
            from_digest=from_digest,
            to_digest=to_digest,
            reason=operation.order.reason,
            details={**operation.details, **(about or {})}
            if action.endswith(".begun")
            else dict(about or {}),
        )
