"""Every operation: begun once, written down at each decision, ended once."""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from s3lora_serve.control.operation import RULE, Kind, Operation, Order, Step
from s3lora_serve.control.operation_writer import OperationWriter, entry_of
from s3lora_serve.control.running import Running, StopReason, preempted_by
from s3lora_serve.errors import Conflict, OperationCancelled, S3LoRAError, UnknownOperation
from s3lora_serve.fleet.log_context import OPERATION
from s3lora_serve.fleet.unless import unless

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.fleet.notify import Notifier
    from s3lora_serve.fleet.planner_record import PlannerRecord
    from s3lora_serve.storage.daemon_threads import DaemonThreads

T = TypeVar("T")

log = logging.getLogger(__name__)

PREEMPTS = (Kind.ROLLBACK, Kind.PROMOTE)  # they wait for nothing that has not flipped
RECENT = 50  # operations that have ended and are still told of to those who follow


class Operations:
    """Running operations in memory, all of them in the journal. One at a time may decide about a planner.

    What changes only for the eye (progress) stays in memory; what is decided goes to the journal first.
    """

    def __init__(
        self,
        journal: Journal,
        threads: DaemonThreads,
        notifier: Notifier,
        ended: Callable[[Operation], None] = lambda _: None,
    ) -> None:
        """``threads`` are the journal's; ``ended`` is told of each operation that has ended."""
        self._journal = journal
        self._threads = threads
        self._writer = OperationWriter(journal, threads)
        self.note = self._writer.note
        self._notifier = notifier
        self._ended = ended
        self._running: dict[str, Running] = {}
        self._over: deque[Operation] = deque(maxlen=RECENT)
        self._unwritten: dict[str, Operation] = {}  # they ended, and the journal could not take it
        self._deciding: dict[str, str] = {}  # planner → the operation that decides about it

    async def known(self, order: Order, fingerprint: str) -> Operation | None:
        """The operation that this idempotency key began before. Raises Conflict if it was another order's."""
        if order.key is None:
            return None
        found = await self._threads.run(self._journal.operation_by_key, order.key)
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

        A rollback and a promotion pre-empt what has not flipped and decides about the planner: that ends as
        cancelled. ``decides`` False is for dry runs, which change nothing and wait for no other operation.
        """
        others = self._in_the_way(kind, planners if decides else (), order)
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
        OPERATION.set(operation.id)  # for the log, in all that this task begins
        # No turn of the event loop passes between these: what is pre-empted cannot flip meanwhile.
        for other in others:
            other.stop(preempted_by(operation))
            self.decided(other.operation.id)
        running = self._running[operation.id] = Running(operation)
        for planner in planners if decides else ():
            self._deciding[planner] = operation.id
        try:
            async with running.writing:
                entry = entry_of(operation, f"{kind}.begun")
                await self._writer.write(operation, (entry,), fingerprint=fingerprint)
        except BaseException:
            self.decided(operation.id)
            self._running.pop(operation.id, None)
            running.over.set()
            raise
        finally:
            for other in others:
                await self._end_stopped(other)
        self._notifier.ring()
        return operation

    def _in_the_way(self, kind: Kind, planners: tuple[str, ...], order: Order) -> list[Running]:
        """What is to be pre-empted. Raises Conflict for what cannot be."""
        found: dict[str, Running] = {}
        for planner in planners:
            if (id_ := self._deciding.get(planner)) is None:
                continue
            other = self._running[id_].operation
            # What an operator goes back to is better than what a rule would.
            yields = order.actor.startswith(RULE) and other.kind is Kind.ROLLBACK
            if kind not in PREEMPTS or other.step.flipped or yields:
                told = f"operation {id_} ({other.kind}, {other.step}) is deciding about planner {planner!r}"
                if other.step.flipped:
                    raise Conflict(told, hint="wait until it has ended, then order again")
                raise Conflict(
                    told,
                    hint="wait until it has decided or cancel it, then order again",
                    command=f"s3lora cancel {id_}",
                    operation=id_,
                )
            found[id_] = self._running[id_]
        return list(found.values())

    async def cancel(self, id_: str, order: Order) -> Operation:
        """End an operation that has not flipped: what served still serves, and what it began is taken back.

        One that was cancelled already is returned as it ended. Raises UnknownOperation, and Conflict for one
        that has flipped, or ended otherwise.
        """
        running = self._running.get(id_)
        if running is not None and not running.ending and running.stopped is None:
            why = f": {order.reason}" if order.reason else ""
            running.stop(
                StopReason("cancelled", order.actor, order.reason, f"cancelled by {order.actor}{why}")
            )
            self.decided(id_)
            return await self._end_stopped(running)
        if running is not None:
            await running.over.wait()
        ended = await self._threads.run(self.get, id_)
        if ended.step is not Step.CANCELLED:
            raise Conflict(f"operation {id_} has ended ({ended.step}): there is nothing to cancel")
        return ended

    async def unless_stopped(self, id_: str, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, cancelled when the operation is. Raises OperationCancelled then."""
        running = self._current(id_, work.close)
        try:
            result = await unless(running.stopping, work, running.cancelled)
        except Exception:
            running.check()  # once stopped, what else failed is the operation's no more
            raise
        running.check()
        return result

    def decided(self, id_: str) -> None:
        """The operation decides nothing more: others may begin on its planners."""
        self._deciding = {planner: op for planner, op in self._deciding.items() if op != id_}
        self._notifier.ring()

    def deciding(self, planner: str) -> bool:
        """Whether an operation decides about this planner now."""
        return planner in self._deciding

    def update(self, id_: str, **changes: Any) -> Operation:
        """Note progress, in memory only. ``seconds`` are added to those that are there.

        Raises OperationCancelled if it was cancelled: whoever carries it out ends then.
        """
        running = self._current(id_)
        if "seconds" in changes:
            changes["seconds"] = {**running.operation.seconds, **changes["seconds"]}
        running.operation = dataclasses.replace(running.operation, **changes)
        self._notifier.ring()
        return running.operation

    def _current(self, id_: str, otherwise: Callable[[], object] = lambda: None) -> Running:
        """What runs under this id. Raises OperationCancelled if it was cancelled, after ``otherwise``."""
        running = self._running.get(id_)
        if running is not None and running.stopped is None:
            return running
        otherwise()
        if running is not None:
            running.check()
        raise OperationCancelled(f"operation {id_} has ended")

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
        is said ``about`` it. Raises StateError; then nothing was decided. Raises OperationCancelled.
        """
        running = self._current(id_)
        async with running.writing:
            running = self._current(id_)
            after = dataclasses.replace(running.operation, **changes)
            entry = entry_of(after, action, about, name or (planner.name if planner else remove), moved)
            await self._writer.write(after, (entry,), planner=planner, remove=remove)
        # Progress that was noted meanwhile stays.
        return self.update(id_, **changes)

    async def end(self, id_: str, step: Step, action: str, **changes: Any) -> Operation:
        """Note how it ended, and write it down. Its planners are free from then on.

        It ended all the same if writing fails: that is logged, remembered while the server runs, and the
        next start ends it in the journal. Raises OperationCancelled if that ended it already.
        """
        return await self._end(self._current(id_), step, action, **changes)

    async def _end_stopped(self, running: Running) -> Operation:
        """End what was stopped; what is left of its work notices."""
        why = running.stopped
        assert why is not None
        error = {"code": why.code, "message": why.message, "hint": ""}
        about = {"by": why.by} if why.by else {}
        action = f"{running.operation.kind}.cancelled"
        log.warning("operation %s of %s: %s", running.operation.id, running.operation.planner, why.message)
        by = {"actor": why.actor, "reason": why.reason}
        return await self._end(running, Step.CANCELLED, action, by=by, about=about, error=error)

    async def _end(
        self,
        running: Running,
        step: Step,
        action: str,
        *,
        by: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Operation:
        running.ending = True
        self.decided(running.operation.id)
        async with running.writing:  # a write that is under way must not come after this one
            operation = dataclasses.replace(
                running.operation, step=step, ended_at=time.time(), progress="", fraction=None, **changes
            )
            told = {"seconds": dict(operation.seconds), **(about or {})}
            if operation.error:
                told["error"] = dict(operation.error)
            try:
                entry = dataclasses.replace(entry_of(operation, action, told), **(by or {}))
                await self._writer.write(operation, (entry,))
            except S3LoRAError as error:
                log.error(
                    "the end of operation %s (%s) could not be written down: %s", operation.id, step, error
                )
                self._unwritten[operation.id] = operation
            finally:
                self._running.pop(operation.id, None)
                self._over.append(operation)
                self._ended(operation)
                running.over.set()
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
        return await self.end(id_, Step.FAILED, f"{self._current(id_).operation.kind}.{how}", error=shown)

    @property
    def recent(self) -> tuple[Operation, ...]:
        """Those that run, and the last ones that ended while this process ran; asks no disk."""
        return (*self._over, *(running.operation for running in self._running.values()))

    def get(self, id_: str) -> Operation:
        """The operation, running or ended. Raises UnknownOperation."""
        found = self._here(id_) or self._journal.operation(id_)
        if found is None:
            raise UnknownOperation(f"there is no operation {id_[:80]!r}", hint="list the operations")
        return found

    def list(self, limit: int) -> list[Operation]:
        """The newest ones first."""
        return [self._now(op) for op in self._journal.operations(limit)]

    def _now(self, written: Operation) -> Operation:
        return self._here(written.id) or written

    def _here(self, id_: str) -> Operation | None:
        """The operation as memory has it, which is ahead of the journal, if it has it."""
        running = self._running.get(id_)
        return running.operation if running is not None else self._unwritten.get(id_)

    async def wait(self, id_: str, seconds: float, seen: str | None = None) -> Operation:
        """The operation as soon as it is not what it was at the call, or after ``seconds``.

        With ``seen``, the step that the caller knows of, at once if it is at another one by now.
        """
        before = await self._find(id_)
        if before.step.ended or (seen is not None and before.step != seen):
            return before
        await self._notifier.until(lambda: self._here(id_) is not before, seconds)
        return await self._find(id_)

    async def _find(self, id_: str) -> Operation:
        if (here := self._here(id_)) is not None:
            return here
        return await self._threads.run(self.get, id_)
