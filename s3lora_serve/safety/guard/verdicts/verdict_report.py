"""What guards refused, or would have refused: by planner, part and caller, and the latest of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import StateError
from s3lora_serve.safety.guard.ruling import Found
from s3lora_serve.safety.guard.verdicts.verdict_file import VerdictFile
from s3lora_serve.safety.guard.verdicts.verdict_record import EXEMPT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from s3lora_serve.safety.guard.verdicts.verdict_record import VerdictRecord


@dataclass(frozen=True)
class JudgedCount:
    """How many requests of one caller to one planner a judge was asked about, and what it found.

    ``exempt`` are those that ``allow`` kept from every judge; ``by`` is empty then.
    """

    planner: str
    caller: str
    by: str
    asked: int
    allowed: int
    refused: int
    undecided: int
    failed: int
    exempt: int = 0


@dataclass(frozen=True)
class VerdictGroup:
    """Requests that were not plainly allowed and have all this in common; ``distinct`` by their digests."""

    planner: str
    caller: str
    by: str
    part: str
    finding: str
    done: str
    requests: int
    distinct: int
    latest: float  # Unix seconds


@dataclass(frozen=True)
class VerdictReport:
    """Counts of a time, by the hour; groups, the largest first; single requests, the latest first."""

    counts: tuple[JudgedCount, ...] = ()
    groups: tuple[VerdictGroup, ...] = ()
    records: tuple[VerdictRecord, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: [asdict(each) for each in values] for name, values in vars(self).items()}


def verdict_report(
    path: Path,
    *,
    planner: str | None = None,
    since: float | None = None,
    until: float | None = None,
    limit: int = 100,
    missing: bool = False,
) -> VerdictReport:
    """Read it from the file, also beside a server that writes. At most ``limit`` single requests.

    ``missing``: no file is an empty report. Raises StateError.
    """
    if missing and not path.exists():
        return VerdictReport()
    begin, end = since or 0.0, float(2**40) if until is None else until
    if begin >= end:
        raise StateError(f"nothing lies between {begin:.0f} and {end:.0f}", hint="since is before until")
    with VerdictFile(path, read_only=True) as file:
        counts = file.counts(begin, end, planner)
        records = file.records(begin, end, planner)
    latest = tuple(reversed(records[-limit:])) if limit else ()
    return VerdictReport(tuple(_counted(counts)), tuple(_groups(records)), latest)


def _counted(rows: Iterable[tuple[str, str, str, str, int]]) -> Iterable[JudgedCount]:
    found: dict[tuple[str, str, str], dict[str, int]] = defaultdict(
        lambda: dict.fromkeys((*Found, EXEMPT), 0)
    )
    for planner, caller, by, finding, requests in rows:
        found[planner, caller, by][finding] = requests
    for (planner, caller, by), each in found.items():
        yield JudgedCount(
            planner=planner,
            caller=caller,
            by=by,
            asked=sum(each[finding] for finding in Found),
            allowed=each[Found.ALLOWED],
            refused=each[Found.REFUSED],
            undecided=each[Found.UNDECIDED],
            failed=each[Found.FAILED],
            exempt=each[EXEMPT],
        )


def _groups(records: Iterable[VerdictRecord]) -> list[VerdictGroup]:
    found: dict[tuple[str, str, str, str, str, str], list[VerdictRecord]] = defaultdict(list)
    for each in records:
        found[each.planner, each.caller, each.by, each.part, each.finding, each.done].append(each)
    groups = [
        VerdictGroup(
            planner=planner,
            caller=caller,
            by=by,
            part=part,
            finding=finding,
            done=done,
            requests=len(same),
            distinct=len({each.digest for each in same}),
            latest=max(each.at for each in same),
        )
        for (planner, caller, by, part, finding, done), same in found.items()
    ]
    return sorted(groups, key=lambda group: (-group.requests, group.planner, group.caller))
