"""An operation that has not ended: what it is now, and whether it is to stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.errors import Conflict, OperationCancelled

if TYPE_CHECKING:
    from s3lora_serve.control.operation import Operation


@dataclass(frozen=True)
class StopReason:
    """Why an operation ends before it has decided anything."""

    code: str  # cancelled, preempted
    actor: str  # who cancels it
    reason: str  # as they say
    message: str
    by: str | None = None  # the operation that pre-empts it


def preempted_by(by: Operation) -> StopReason:
    """Why what is in the way of this operation ends."""
    message = f"pre-empted by operation {by.id}, a {by.kind} ordered by {by.order.actor}"
    return StopReason("preempted", by.order.actor, by.order.reason, message, by.id)


class Running:
    """One operation in memory. Its writes come one after the other; the one that ends it is the last."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.writing = asyncio.Lock()
        self.ending = False  # its end is being written down
        self.over = asyncio.Event()
        self._stop: StopReason | None = None
        self.stopping = asyncio.Event()  # set: it is to end

    def stop(self, why: StopReason) -> None:
        """Let it end without a decision. Raises Conflict once one is being made."""
        now = self.operation
        if now.step.flipped:
            about = "the fleet" if now.planner is None else f"planner {now.planner!r}"
            raise Conflict(
                f"operation {now.id} ({now.kind}, {now.step}) has decided what {about} serves and cannot be"
                " cancelled",
                hint="roll the planner back"
                if now.planner
                else "roll its planners back, or apply what was declared before",
            )
        self._stop = why
        self.stopping.set()

    @property
    def stopped(self) -> StopReason | None:
        """Why it is to end, if it is."""
        return self._stop

    def cancelled(self) -> OperationCancelled:
        """What whoever carries it out is told once it is to end."""
        return OperationCancelled(self._stop.message if self._stop is not None else "it goes on")

    def check(self) -> None:
        """Raise OperationCancelled if it is to end."""
        if self._stop is not None:
            raise self.cancelled()
