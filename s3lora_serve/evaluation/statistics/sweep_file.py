"""sweep.json: what was measured of each adapter and share pruned, for choosing the share by it."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from s3lora_serve.evaluation.statistics.figures import UTILITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3lora_serve.evaluation.measuring.header import Header
    from s3lora_serve.evaluation.measuring.record import CellRecord
    from s3lora_serve.judging.outcomes import PromptOutcome


def sweep_json(records: Iterable[CellRecord], header: Header) -> dict[str, Any]:
    """Plain JSON values: the header and a row of plain means for each cell, without intervals.

    Attack success and over-refusal are means over their sets, or None without a set.
    """
    return {**header.to_json(), "rows": [_row(record) for record in records]}


def _row(record: CellRecord) -> dict[str, Any]:
    cell = record.cell
    return {
        "adapter": cell.adapter,
        "label": cell.label,
        "scorer": cell.scorer,
        "tau": cell.tau,
        "seed": cell.seed,
        "modules_pruned": len(cell.pruned),
        "attack_success": _mean(record.attacks, "c"),
        "over_refusal": _mean(record.harmless, "r"),
        "utility": {
            name: {measure: fmean(getattr(outcome, measure)) for measure in UTILITIES}
            for name, outcome in record.plans.items()
        },
    }


def _mean(outcomes: Mapping[str, PromptOutcome], letter: str) -> float | None:
    return fmean(outcome.share(letter) for outcome in outcomes.values()) if outcomes else None
