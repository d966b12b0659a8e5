"""Operations into the journal: the entry for each step, and the transaction that it is part of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.journal.entry import NewEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.control.journal.entry import Entry
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.control.operation import Operation
    from s3lora_serve.fleet.planner_record import PlannerRecord
    from s3lora_serve.storage.daemon_threads import DaemonThreads


class OperationWriter:
    """Writes on the journal's own threads."""

    def __init__(self, journal: Journal, threads: DaemonThreads) -> None:
        self._journal = journal
        self._threads = threads

    async def note(self, *entries: NewEntry, planner: PlannerRecord | None = None) -> None:
        """Write entries that belong to no operation."""
        await self._threads.run(self._journal.write, *entries, planner=planner)

    async def write(
        self,
        operation: Operation,
        entries: tuple[NewEntry, ...],
        *,
        fingerprint: str = "",
        planner: PlannerRecord | None = None,
        remove: str | None = None,
    ) -> tuple[Entry, ...]:
        """One transaction with the operation as it is now. Raises StateError; then nothing was written."""
        # Shielded: when the caller is cancelled, the transaction must still be known to be over.
        writing = self._threads.run(
            self._journal.write,
            *entries,
            operation=operation,
            planner=planner,
            remove=remove,
            fingerprint=fingerprint,
        )
        return await asyncio.shield(asyncio.ensure_future(writing))


def entry_of(
    operation: Operation,
    action: str,
    about: Mapping[str, Any] | None = None,
    planner: str | None = None,
    moved: tuple[str | None, str | None] | None = None,
) -> NewEntry:
    """What is written of it: at its begin all that it is about, later what is said ``about`` the step."""
    from_digest, to_digest = moved or (operation.from_digest, operation.to_digest)
    return NewEntry(
        actor=operation.order.actor,
        action=action,
        planner=planner or operation.planner,
        operation=operation.id,
        from_digest=from_digest,
        to_digest=to_digest,
        reason=operation.order.reason,
        details={**operation.details, **(about or {})} if action.endswith(".begun") else dict(about or {}),
    )
