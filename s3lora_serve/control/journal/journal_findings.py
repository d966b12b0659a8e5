"""What an audit finds in the state file alone: its pages, its chain, its tables, its clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from s3lora_serve.control.journal.agreement import operation_mismatches, planner_mismatches
from s3lora_serve.control.journal.journal_proof import examined, proved
from s3lora_serve.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3lora_serve.control.journal.agreement import Tables
    from s3lora_serve.control.journal.chain import Head
    from s3lora_serve.control.journal.derived import Derived
    from s3lora_serve.control.journal.journal import Journal

_TOLERATED = 5.0  # seconds that an entry may be ahead of the clock: other threads write while it is read
_RESTORE = "keep a copy of the file, and restore a backup"


@dataclass(frozen=True)
class AuditFinding:
    """One thing that was checked. ``hint`` is the next step where something is wrong."""

    ok: bool
    subject: str  # file, journal, clock, a planner, an operation, a revision, the store, the engine
    message: str
    hint: str = ""


def journal_findings(
    journal: Journal, noted: Head | None = None, now: datetime | None = None
) -> list[AuditFinding]:
    """Check the file, every entry, and every row against them; whatever is wrong is a finding, no error.

    ``noted`` is a head that was kept elsewhere.
    """
    found = []
    if journal.replaced():
        told = "it was removed, or another one was put in its place: what the server writes down now is lost"
        found.append(AuditFinding(False, "file", told, "stop the server, and restore a backup"))
    try:
        if (damage := journal.damage()) is not None:
            found.append(AuditFinding(False, "file", f"SQLite finds damage: {damage}", _RESTORE))
        derived, tables = whole = examined(journal, noted)
        if derived.broken is not None:  # what was decided since the last start may still be proved
            whole = proved(journal)
    except StateError as error:
        return [*found, AuditFinding(False, "journal", error.message, error.hint or _RESTORE)]
    return [*found, *_chain(derived, tables), *_rows(*whole), *_clock(derived, now)]


def _chain(derived: Derived, tables: Tables) -> Iterator[AuditFinding]:
    head = tables.kept
    if derived.broken is not None:
        hint = "compare it with a backup; what serves is checked against the entries since the last start"
        yield AuditFinding(False, "journal", derived.broken.reason, hint)
    elif head is not None:
        told = f"{head.seq} entries, an unbroken chain; its head is {head.seq}:{head.hash}"
        yield AuditFinding(True, "journal", told)


def _rows(derived: Derived, tables: Tables) -> Iterator[AuditFinding]:
    for name, mismatch in planner_mismatches(derived, tables.planners).items():
        hint = "order a swap to what it shall serve, restore a backup, or accept the state file at a start"
        yield AuditFinding(False, f"planner {name}", mismatch.message, hint)
    for id_, why in operation_mismatches(derived, tables.operations).items():
        hint = "compare it with a backup, or accept the state file at a start"
        yield AuditFinding(False, f"operation {id_}" if id_ else "operations", why, hint)


def _clock(derived: Derived, now: datetime | None) -> Iterator[AuditFinding]:
    steps = derived.clock
    try:
        last = datetime.fromisoformat(derived.last_at) if derived.last_at else None
        ahead = (last - (now or datetime.now(UTC))).total_seconds() if last is not None else 0.0
    except (TypeError, ValueError):
        yield AuditFinding(False, "clock", f"the last entry has no time: {derived.last_at[:80]!r}", _RESTORE)
        return
    if ahead > _TOLERATED:
        yield AuditFinding(
            False,
            "clock",
            f"it is {ahead:.0f} s behind the last entry ({derived.last_at}): it went back",
            "set the machine's clock; entries keep their order, which is that of their numbers",
        )
    elif steps.count:
        yield AuditFinding(
            True,
            "clock",
            f"it went back {steps.count} times, last at entry {steps.seq}: {steps.before} to {steps.after};"
            " entries are in the order of their numbers",
        )
