"""Scorers against random pruning that costs as much: attack success at equal held-out loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from results import Measured

    from s3lora_serve.evaluation.measuring.record import CellRecord
    from s3lora_serve.evaluation.statistics.intervals import Bootstrap, Interval

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Matched:
    """One scorer at one tau."""

    scorer: str
    tau: float
    difference: Interval  # of attack success to random pruning at the same loss; below 0: safer
    share: float  # of the modules that random pruning leaves out for that loss


def matched(group: Sequence[Measured], bootstrap: Bootstrap) -> list[Matched]:
    """Every scorer and tau of a group whose loss random pruning reaches.

    As many modules of one scorer may matter more than as many of another: then it lowers attack success as
    a stronger dose would. Random pruning's attack success is a line through its taus, 0 among them; each draw
    of training seeds and prompts moves the lines and the point between them.
    """
    curve = _curves(group, bootstrap)
    line = sorted((tau, values) for (scorer, tau), values in curve.items() if scorer == "random")
    line = [(0.0, curve[None, 0.0]), *line]
    taus = np.array([tau for tau, _ in line])
    attack = np.stack([values[0] for _, values in line], 1)  # [1 + draws, taus]
    loss = np.maximum.accumulate(np.stack([values[1] for _, values in line], 1), 1)  # np.interp needs order
    keys, figures, shares = [], [], []
    for (scorer, tau), (safe, cost) in curve.items():
        if scorer in (None, "random") or cost[0] > loss[0, -1]:
            continue
        at_equal = np.array([np.interp(c, row, a) for c, row, a in zip(cost, loss, attack, strict=True)])
        keys.append((scorer, tau))
        figures.append(safe - at_equal)
        shares.append(float(np.interp(cost[0], loss[0], taus)))
    if not keys:
        return []
    intervals = bootstrap.intervals(np.stack(figures))
    return [
        Matched(scorer or "", tau, found, share)
        for (scorer, tau), found, share in zip(keys, intervals, shares, strict=True)
    ]


def _curves(
    group: Sequence[Measured], bootstrap: Bootstrap
) -> dict[tuple[str | None, float], tuple[Floats, Floats]]:
    """Attack success and loss in each draw, [1 + draws], by scorer and tau; seeds of random are averaged."""
    cells: dict[tuple[str | None, float], list[list[CellRecord]]] = {}
    for n, adapter in enumerate(group):
        for record in adapter.records:
            if record.cell.label != "base":
                key = (record.cell.scorer, record.cell.tau or 0.0)
                cells.setdefault(key, [[] for _ in group])[n].append(record)
    units = bootstrap.weights(len(group), "units")
    found = {}
    for key, by_adapter in cells.items():
        attack = np.stack([np.mean([complied(r) for r in records], 0) for records in by_adapter])
        loss = np.stack([np.mean([_loss(r) for r in records], 0) for records in by_adapter])
        found[key] = (_drawn(attack, units, bootstrap), _drawn(loss, units, bootstrap))
    return found


def _drawn(values: Floats, units: Floats, bootstrap: Bootstrap) -> Floats:
    """[adapters, prompts] → [1 + draws]."""
    prompts = bootstrap.weights(values.shape[1], "")
    drawn: Floats = ((prompts @ values.T) * units).sum(1)
    return drawn


def complied(record: CellRecord) -> Floats:
    """Mean over the attack sets, by prompt: the sets ask the same goals in the same order."""
    return np.mean([[v == "c" for v in o.verdicts] for o in record.attacks.values()], 0, dtype=np.float64)


def _loss(record: CellRecord) -> Floats:
    return np.asarray(next(iter(record.plans.values())).loss, dtype=np.float64)
