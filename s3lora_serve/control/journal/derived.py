"""What the journal's entries yield: what each planner shall serve, and every operation's row."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.journal.chain import Broken
from s3lora_serve.fleet.planner_record import PlannerRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3lora_serve.control.journal.entry import Entry

# Key in an entry's details: what its transaction put into the tables. Entries of earlier releases lack it.
WRITTEN = "written"
STARTED = "server.started"
ACCEPTED = "state.accepted"
FIELDS = tuple(each.name for each in fields(PlannerRecord) if each.name != "name")

_REMOVED = ("planner.removed", "apply.removed")
_SERVED = ("swap.flipped", "promote.flipped", "apply.flipped")
_TRIED = ("canary.flipped", "shadow.flipped", "canary.changed", "shadow.changed")
_ENDS = {
    **dict.fromkeys(("done", "checked", "finished"), "done"),
    **dict.fromkeys(("failed", "crashed"), "failed"),
    "undone": "undone",
}
_ALONE = {"candidate": None, "rollout": None}


@dataclass(frozen=True)
class Decided:
    """What the last entry about a planner says of its record.

    ``fields`` are those that it tells; None: there is no record, or none that can be proved.
    Entries of earlier releases tell a part, those of this one the whole record.
    """

    seq: int
    action: str
    fields: Mapping[str, Any] | None

    def record(self, name: str) -> PlannerRecord | None:
        """The whole record, if the entry tells all of it."""
        if self.fields is None or set(self.fields) != set(FIELDS):
            return None
        return PlannerRecord(name=name, **self.fields)


@dataclass(frozen=True)
class Anchor:
    """An entry that says what all rows of ended operations came to: ``digest`` is of those before ``seq``."""

    seq: int
    digest: str


@dataclass(frozen=True)
class ClockSteps:
    """How often the clock that entries are written by went back, and the last time: entry and seconds."""

    count: int = 0
    seq: int = 0
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Derived:
    """What entries yield up to the end, or up to where their chain breaks."""

    planners: Mapping[str, Decided]
    operations: Mapping[str, str]  # id → digest of its row, of those that entries tell
    steps: Mapping[str, str]  # id → step in which it ended, of those that entries of earlier releases tell
    anchor: Anchor | None
    since: frozenset[str]  # operations that were written after the anchor
    broken: Broken | None  # where the chain breaks
    doubtful: Mapping[str, int]  # planner → first entry, at the break or after it, that decides about it
    clock: ClockSteps
    last_at: str  # when the last entry was written


def told(
    record: PlannerRecord | None = None, remove: str | None = None, row: str | None = None
) -> dict[str, Any]:
    """What an entry says of the rows that are written with it; ``row`` is the digest of an operation's."""
    about: dict[str, Any] = {}
    if record is not None:
        about |= {"planner": record.name, "record": shown(record)}
    elif remove is not None:
        about |= {"planner": remove, "record": None}
    if row is not None:
        about["operation"] = row
    return {WRITTEN: about} if about else {}


def shown(record: PlannerRecord) -> dict[str, Any]:
    """A record without its name, as entries hold it."""
    values = asdict(record)
    del values["name"]
    return values


def derived(entries: Iterable[Entry | Broken]) -> Derived:
    """Fold entries, oldest first, into what they yield. A pure function.

    At the first ``Broken`` what holds ends; later entries only show which planners can no longer be proved.
    """
    planners: dict[str, Decided] = {}
    operations: dict[str, str] = {}
    steps: dict[str, str] = {}
    since: set[str] = set()
    doubtful: dict[str, int] = {}
    anchor, broken, clock, last_at = None, None, ClockSteps(), ""
    for entry in entries:
        if isinstance(entry, Broken):
            broken = broken or entry
            if entry.rewritten:  # from wherever on: none before it can be told from a forged one
                doubtful = dict.fromkeys(planners, entry.seq) | doubtful
                planners, anchor = {}, None
            continue
        decided = _decided(entry, planners)
        if broken is not None:
            for name in decided:
                doubtful.setdefault(name, entry.seq)
            continue
        if entry.at < last_at:
            clock = ClockSteps(clock.count + 1, entry.seq, last_at, entry.at)
        last_at = entry.at
        planners |= decided
        if is_anchor(entry):
            anchor = Anchor(entry.seq, entry.details["operations"])
            since.clear()
        if entry.operation is None:
            continue
        about = entry.details.get(WRITTEN)
        if isinstance(about, dict):
            if isinstance(row := about.get("operation"), str):
                operations[entry.operation] = row
                since.add(entry.operation)
        elif entry.action == ACCEPTED:  # without a row: that it is gone was accepted
            operations.pop(entry.operation, None)
        elif (step := _ENDS.get(entry.action.rpartition(".")[2])) and not entry.action.startswith("deploy"):
            steps[entry.operation] = step
    return Derived(planners, operations, steps, anchor, frozenset(since), broken, doubtful, clock, last_at)


def names_all(entry: Entry) -> bool:
    """Whether an entry says all that is to be served."""
    return entry.action == STARTED and isinstance(entry.details.get("serves"), dict)


def is_anchor(entry: Entry) -> bool:
    """Whether it also says what all rows of operations came to."""
    return names_all(entry) and isinstance(entry.details.get("operations"), str)


def _decided(entry: Entry, before: Mapping[str, Decided]) -> dict[str, Decided]:
    """The planners that an entry decides about."""
    about = entry.details.get(WRITTEN)
    if isinstance(about, dict) and "record" in about:
        return {str(about.get("planner")): _of(entry, about["record"])}
    if entry.action == STARTED:
        return _started(entry, before)
    if entry.planner is None:
        return {}
    if entry.action in _REMOVED:
        return {entry.planner: Decided(entry.seq, entry.action, None)}
    part = _of_earlier_releases(entry)
    return {entry.planner: Decided(entry.seq, entry.action, part)} if part.get("active") else {}


def _of(entry: Entry, record: object) -> Decided:
    return Decided(entry.seq, entry.action, record if isinstance(record, dict) else None)


def _started(entry: Entry, before: Mapping[str, Decided]) -> dict[str, Decided]:
    serves = entry.details.get("serves")
    if isinstance(serves, dict):  # all that there is: what it does not name is not served
        gone = {name: None for name, last in before.items() if last.fields is not None}
        return {name: _of(entry, record) for name, record in (gone | serves).items()}
    found = {}
    for name, digest in entry.details.items():  # of earlier releases: planner → active digest
        last = before.get(name)
        if isinstance(digest, str) and (last is None or (last.fields or {}).get("active") != digest):
            found[name] = Decided(entry.seq, entry.action, {"active": digest})
    return found


def _of_earlier_releases(entry: Entry) -> dict[str, Any]:
    """What an entry without its record tells of it; nothing if it decides nothing."""
    old, new = entry.from_digest, entry.to_digest
    if entry.action == "rollback.flipped" and new is None:  # a candidate was given up
        return {"active": old, **_ALONE}
    if entry.action in (*_SERVED, "rollback.flipped"):
        return {"active": new, "previous": old, **_ALONE}
    if entry.action in _TRIED:
        return {"active": old, "candidate": new}
    if entry.action in ("planner.serves", "apply.declared", "apply.taken_back"):
        return {"active": new}
    return {}
