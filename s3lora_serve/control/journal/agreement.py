"""Whether the tables say what the chained entries yield."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.control.journal.derived import FIELDS
from s3lora_serve.fleet.planner_record import PlannerRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3lora_serve.control.journal.chain import Head
    from s3lora_serve.control.journal.derived import Derived


@dataclass(frozen=True)
class Mismatch:
    """A planner whose row is not what the entries yield. ``written`` is its row, ``proved`` what they yield.

    Of ``proved`` the fields that no entry tells are those of the row; None if entries yield no record.
    """

    planner: str
    message: str
    written: PlannerRecord | None
    proved: PlannerRecord | None


@dataclass(frozen=True)
class OperationRow:
    """An operation's identity and the digest of its row. ``problem``: what in the row contradicts itself."""

    id: str
    step: str
    digest: str
    problem: str = ""


@dataclass(frozen=True)
class Tables:
    """The state file at one moment. A row of a planner that cannot be read is the reason why."""

    last: int  # number of the last entry that is there
    kept: Head | None
    planners: Mapping[str, PlannerRecord | str]
    operations: tuple[OperationRow, ...]


def planner_mismatches(derived: Derived, rows: Mapping[str, PlannerRecord | str]) -> dict[str, Mismatch]:
    """Planners whose rows differ, by name. A row that cannot be read is given as the reason why."""
    found = {}
    for name in sorted(derived.planners.keys() | derived.doubtful.keys() | rows.keys()):
        if (mismatch := _planner(derived, name, rows.get(name))) is not None:
            found[name] = mismatch
    return found


def _planner(derived: Derived, name: str, row: PlannerRecord | str | None) -> Mismatch | None:
    decided = derived.planners.get(name)
    written = row if isinstance(row, PlannerRecord) else None
    known = decided.fields if decided is not None else None
    proved = None
    if known is not None:
        rest = {field: getattr(written, field) for field in FIELDS} if written else {}
        values = rest | dict(known)
        proved = PlannerRecord(name=name, **values) if set(values) == set(FIELDS) else None
    doubtful = derived.doubtful.get(name)
    if derived.broken is not None and doubtful is not None and (written is None or written != proved):
        why = f"the chain breaks at entry {derived.broken.seq}, and entry {doubtful} decided about it"
        if derived.broken.rewritten:
            why = f"the chain breaks at entry {derived.broken.seq}, and what decided about it is rewritten"
        return Mismatch(name, f"{why} ({derived.broken.reason})", written, proved)
    if isinstance(row, str):
        return Mismatch(name, row, None, proved)
    where = f"entry {decided.seq} ({decided.action})" if decided is not None else ""
    if known is None:
        if written is None:
            return None
        what = f"{where} says that it is not served" if decided is not None else "no entry says so"
        return Mismatch(name, f"its row says active {_short(written.active)}, and {what}", written, None)
    if written is None:
        active = _short(known.get("active"))
        return Mismatch(name, f"its row is gone, and {where} says active {active}", None, proved)
    for field, value in known.items():
        if (has := getattr(written, field)) != value:
            told = f"its row says {field} {_short(has)}, {where} says {_short(value)}"
            return Mismatch(name, told, written, proved)
    return None


def operation_mismatches(derived: Derived, rows: Iterable[OperationRow]) -> dict[str, str]:
    """Operations whose rows differ, with what differs; an empty id for one that cannot be named."""
    found: dict[str, str] = {}
    ids, older = set(), []
    for row in rows:
        ids.add(row.id)
        told = derived.operations.get(row.id)
        if row.problem:
            found[row.id] = row.problem
        elif told is not None and told != row.digest:
            found[row.id] = "its row is not what was written with its last entry"
        elif told is None and (ended := derived.steps.get(row.id, row.step)) != row.step:
            found[row.id] = f"its row says {row.step[:80]}, its last entry {ended}"
        if row.id not in derived.since:
            older.append(row)
    found |= dict.fromkeys(sorted(derived.operations.keys() - ids), "its row is gone")
    if derived.anchor is not None and not found and rows_digest(older) != derived.anchor.digest:
        found[""] = f"one from before entry {derived.anchor.seq} was changed, added or removed since"
    return found


def rows_digest(rows: Iterable[OperationRow]) -> str:
    """One digest for many rows, in whatever order they come."""
    lines = sorted(f"{row.id}\0{row.digest}\n" for row in rows)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _short(value: object) -> str:
    if isinstance(value, str):
        return value[:12]
    return "none" if value is None else repr(value)[:80]
