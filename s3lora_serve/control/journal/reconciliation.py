"""At a start: the tables against what the journal proves, and what becomes of planners that differ."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s3lora_serve.control.journal.agreement import operation_mismatches, planner_mismatches
from s3lora_serve.control.journal.derived import ACCEPTED
from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal_proof import proved
from s3lora_serve.errors import StateError
from s3lora_serve.fleet.planner_record import PlannerRecord
from s3lora_serve.storage.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3lora_serve.control.journal.agreement import Mismatch
    from s3lora_serve.control.journal.journal import Journal

log = logging.getLogger(__name__)

_ACTOR = "s3lora-serve"


@dataclass(frozen=True)
class Withheld:
    """A planner that is not served: why, and what the journal proved last of it."""

    reason: str
    written: PlannerRecord | None = None
    proved: PlannerRecord | None = None

    @property
    def digests(self) -> tuple[str, ...]:
        """Revisions that it may be meant to serve, the proved one first."""
        records = (self.proved, self.written)
        return tuple(dict.fromkeys(str(record.active) for record in records if record is not None))


@dataclass(frozen=True)
class Reconciled:
    """Who is withheld, and which operations are not what was written down (id → why; empty: one of many)."""

    withheld: Mapping[str, Withheld] = field(default_factory=dict)
    operations: dict[str, str] = field(default_factory=dict)

    def records(self, rows: Mapping[str, PlannerRecord | str]) -> dict[str, PlannerRecord]:
        """What each planner shall serve: its row, or what was proved last of one that is withheld."""
        found = {name: row for name, row in rows.items() if isinstance(row, PlannerRecord)}
        for name, withheld in self.withheld.items():
            found.pop(name, None)
            if withheld.proved is not None:
                found[name] = withheld.proved
        return found


def reconcile(
    journal: Journal, planners: Iterable[str], *, last_proved: bool = False, accept: bool = False
) -> Reconciled:
    """Compare, say what differs, and write down what is done about it. Raises StateError.

    Of ``planners``, those that are to be served, the ones that differ are withheld; with ``last_proved`` they
    get back the record that the journal yields, where it yields one. ``accept``: the tables are right.
    """
    found, tables = proved(journal)
    if found.broken is not None:
        log.error("the journal's chain is broken: %s; the audit says what is affected", found.broken.reason)
    operations = operation_mismatches(found, tables.operations)
    mismatches = planner_mismatches(found, tables.planners)
    if accept:
        _accept(journal, mismatches.values(), operations)
        return Reconciled()
    for id_, why in operations.items():
        log.error("operation %s: %s; the audit says more", printable(id_) or "of an earlier time", why)
    withheld = {}
    wanted = set(planners)
    for name, mismatch in mismatches.items():
        if name not in wanted:
            # What stands in a table need be no text.
            log.warning(
                "planner %s, which planners.yaml does not name: %s", printable(name), mismatch.message
            )
        elif last_proved and mismatch.proved is not None:
            _restore(journal, mismatch, mismatch.proved)
        else:
            withheld[name] = Withheld(mismatch.message, mismatch.written, mismatch.proved)
            log.error("planner %s is not served: %s; %s", name, mismatch.message, way_back(name, mismatch))
    return Reconciled(withheld, operations)


def way_back(name: str, mismatch: Mismatch) -> str:
    """What an operator can do about a planner that is withheld."""
    record = mismatch.proved or mismatch.written
    goal = str(record.active)[:12] if record is not None else "DIGEST"
    return (
        f"order what it shall serve (s3lora swap {name} --revision {goal}), restore a backup, or, if its row"
        " is right, start with --accept-state"
    )


def _restore(journal: Journal, mismatch: Mismatch, last: PlannerRecord) -> None:
    entry = NewEntry(
        _ACTOR,
        "planner.serves",
        mismatch.planner,
        from_digest=mismatch.written.active if mismatch.written else None,
        to_digest=last.active,
        reason=f"state.on_mismatch is serve_last_proved: {mismatch.message}",
    )
    journal.write(entry, planner=last)
    log.error("planner %s serves what the journal proved last: %s", mismatch.planner, mismatch.message)


def _accept(journal: Journal, mismatches: Iterable[Mismatch], operations: Mapping[str, str]) -> None:
    for mismatch in mismatches:
        if not mismatch.planner.isprintable():
            raise StateError(
                f"a row has the planner's name {mismatch.planner!r}, and cannot be accepted",
                hint="keep a copy of the file, and restore a backup",
            )
        written, last = mismatch.written, mismatch.proved
        entry = NewEntry(
            _ACTOR,
            ACCEPTED,
            mismatch.planner,
            from_digest=last.active if last else None,
            to_digest=written.active if written else None,
            reason=f"--accept-state: {mismatch.message}",
        )
        journal.write(entry, planner=written, remove=None if written else mismatch.planner)
        log.warning("planner %s: accepted as it stands: %s", mismatch.planner, mismatch.message)
    for id_, why in operations.items():
        log.warning("operation %s: accepted as it stands: %s", printable(id_) or "of an earlier time", why)
        if not id_:  # which row it was is not known; the start's own entry says what all come to
            continue
        operation = journal.operation(id_)
        planner = operation.planner if operation else None
        entry = NewEntry(_ACTOR, ACCEPTED, planner, id_, reason=f"--accept-state: {why}")
        journal.write(entry, operation=operation)
