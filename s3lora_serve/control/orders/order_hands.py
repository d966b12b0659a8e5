"""An order's hands, for mending: its operation's steps, progress and journal entries."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.journal.entry import NewEntry
    from s3lora_serve.control.operation import Operation, Wanted
    from s3lora_serve.control.operations import Operations
    from s3lora_serve.control.steps import SwapSteps


class OrderHands:
    """Admits and loads for an operation. What it begins ends with the operation."""

    def __init__(self, op: Operation, steps: SwapSteps, operations: Operations) -> None:
        self._op = op
        self._steps = steps
        self._operations = operations

    async def admit(self, planner: str, wanted: Wanted) -> Revision:
        """As ``SwapSteps.admit``."""
        return await self._steps.admit(self._op, planner, wanted)

    async def load(self, planner: str, revision: Revision) -> None:
        """As ``SwapSteps.deploy``."""
        await self._steps.deploy(self._op, planner, revision)

    def tell(self, stage: str) -> None:
        """Note how far it is. Raises OperationCancelled."""
        self._operations.update(self._op.id, progress=stage, fraction=None)

    async def note(self, entry: NewEntry) -> None:
        """Write the decision down, and keep it with the operation. Raises StateError, OperationCancelled."""
        now = self._operations.get(self._op.id)
        mending = {**now.details.get("mending", {}), str(entry.planner): dict(entry.details)}
        serves = {"to_digest": entry.to_digest or entry.from_digest} if now.planner else {}
        self._operations.update(now.id, details={**now.details, "mending": mending}, **serves)
        order = now.order
        await self._operations.note(
            replace(entry, actor=order.actor, reason=order.reason, operation=self._op.id)
        )
