"""What a run found: a row for each adapter or group and way of pruning, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3lora_serve.evaluation.statistics.intervals import Bootstrap
from s3lora_serve.evaluation.statistics.sweep_file import sweep_json
from s3lora_serve.evaluation.statistics.tally import group_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3lora_serve.evaluation.measuring.header import Header
    from s3lora_serve.evaluation.measuring.record import CellRecord
    from s3lora_serve.evaluation.statistics.figures import Row


@dataclass(frozen=True)
class Summary:
    """Rows by group in the header's order, then by label in the order in which cells were measured."""

    header: Header
    rows: tuple[Row, ...]
    attacks: Mapping[str, int]  # prompts by attack set
    harmless: Mapping[str, int]  # prompts by harmless set
    plans: Mapping[str, int]  # tasks by plan set
    records: tuple[CellRecord, ...]
    bootstrap: Bootstrap

    def row(self, name: str, label: str) -> Row:
        """The row of a group or adapter under a label. Raises KeyError."""
        found = next((row for row in self.rows if (row.name, row.label) == (name, label)), None)
        if found is None:
            raise KeyError(f"{name}/{label}")
        return found

    @property
    def scorers(self) -> tuple[str, ...]:
        """The scorers that chose something, in the order of the rows."""
        return tuple(dict.fromkeys(row.scorer for row in self.rows if row.scorer is not None))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the header, the sets' sizes and all rows."""
        return {
            **self.header.to_json(),
            "sets": {
                "attacks": dict(self.attacks),
                "harmless": dict(self.harmless),
                "plans": dict(self.plans),
            },
            "bootstrap": vars(self.bootstrap),
            "rows": [row.to_json() for row in self.rows],
        }

    def sweep_json(self) -> dict[str, Any]:
        """What ``policy.validated`` chooses tau from: plain means of every adapter and cell."""
        return sweep_json(self.records, self.header)


def summarise(records: Iterable[CellRecord], header: Header, bootstrap: Bootstrap | None = None) -> Summary:
    """Rows with intervals from all records of one run; cells that are not yet measured are left out.

    Resampling is the same in every row, so differences are paired. Raises ValueError for a record of an
    adapter that the header does not name, and for records that were not asked the same sets.
    """
    bootstrap = bootstrap or Bootstrap()
    kept = tuple(records)
    if stranger := next((r.cell.key for r in kept if r.cell.adapter not in header.adapters), None):
        raise ValueError(f"record {stranger!r} is of an adapter that the header does not name")
    sizes = [
        (
            {name: len(o.verdicts) for name, o in r.attacks.items()},
            {name: len(o.verdicts) for name, o in r.harmless.items()},
            {name: len(o.valid) for name, o in r.plans.items()},
        )
        for r in kept
    ]
    if odd := next((r.cell.key for r, s in zip(kept, sizes, strict=True) if s != sizes[0]), None):
        raise ValueError(f"record {odd!r} was asked other sets than {kept[0].cell.key!r}")
    attacks, harmless, plans = sizes[0] if sizes else ({}, {}, {})
    rows = tuple(
        row
        for group, names in header.groups().items()
        for row in group_rows(group, [r for r in kept if r.cell.adapter in names], bootstrap)
    )
    return Summary(header, rows, attacks, harmless, plans, kept, bootstrap)
