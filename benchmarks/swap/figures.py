"""From what a column showed to the figures of the table."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from column import Swap
    from record import Record

STAGES = ("admit", "load", "probe", "trial", "commit", "flip", "drain", "unload")
TO_THE_FLIP = ("admit", "load", "probe", "trial", "commit", "flip")
COUNTED = ("first", "quiet", "swaps", "rollbacks")  # phases whose answers must all be right
VERDICTS = ("ok", "failed", "stale", "mixed", "foreign")


def figures(record: Record) -> dict[str, Any]:
    """All figures of a column; seconds and MiB. What was not seen is absent or None."""
    verdicts: Counter[str] = Counter()
    for phase in COUNTED:
        verdicts.update(record.verdicts.get(phase, {}))
    return {
        "name": record.name,
        "title": record.title,
        "start_seconds": record.start_seconds,
        "answers": {name: verdicts.get(name, 0) for name in VERDICTS},
        "answers_by_phase": {phase: dict(counts) for phase, counts in record.verdicts.items()},
        "errors": dict(record.errors),
        "swaps": _swaps(record.swaps),
        "gaps": {phase: spread(gaps) for phase, gaps in record.gaps.items()},
        "tokens_per_second": {
            phase: count / record.phase_seconds[phase]
            for phase, count in record.tokens.items()
            if record.phase_seconds.get(phase)
        },
        "memory": record.memory,
        "crashes": record.crashes,
        "recovery": {what: spread(seconds) for what, seconds in record.recovery.items()},
        "orphans": record.orphans,
        "notes": record.notes,
    }


def spread(values: Iterable[float]) -> dict[str, float] | None:
    """Count, median, p99 (nearest rank) and largest; None for nothing."""
    ordered = sorted(value for value in values if not math.isnan(value))
    if not ordered:
        return None
    return {
        "count": len(ordered),
        "p50": statistics.median(ordered),
        "p99": ordered[math.ceil(0.99 * len(ordered)) - 1],
        "max": ordered[-1],
    }


def _swaps(swaps: Sequence[Swap]) -> dict[str, Any]:
    """By phase and way: how many, how many refused, seconds as the caller saw them and by stage."""
    groups: dict[str, list[Swap]] = {}
    for swap in swaps:
        groups.setdefault(f"{swap.phase}, {swap.way}", []).append(swap)
    return {
        name: {
            "count": len(group),
            "failed": sum(bool(swap.error) for swap in group),
            "wall": spread(swap.wall for swap in group if not swap.error),
            "own": spread(
                sum(swap.seconds.get(stage, 0.0) for stage in TO_THE_FLIP)
                for swap in group
                if "flip" in swap.seconds and not swap.error
            ),
            "stages": {
                stage: spread(
                    swap.seconds[stage] for swap in group if stage in swap.seconds and not swap.error
                )
                for stage in STAGES
                if any(stage in swap.seconds for swap in group)
            },
        }
        for name, group in groups.items()
    }
