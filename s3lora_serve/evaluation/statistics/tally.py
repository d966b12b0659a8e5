"""The rows of one group of adapters: every figure in every draw, as matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from s3lora_serve.evaluation.measuring.cells import NONE
from s3lora_serve.evaluation.statistics.figures import UTILITIES, CostMeans, Figures, Row, Shares

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from s3lora_serve.evaluation.measuring.record import CellRecord
    from s3lora_serve.evaluation.statistics.intervals import Bootstrap, Interval
    from s3lora_serve.judging.outcomes import PromptOutcome

    Floats = NDArray[np.float64]

VERDICTS = {"complied": "c", "refused": "r", "broken": "b"}

ByAdapter = dict[str, list[int]]  # positions of an adapter's records; several: seeds of the random scorer


@dataclass(frozen=True)
class _Line:
    """One figure to take: the mean over adapters, minus that of ``minus`` over the same adapters."""

    of: ByAdapter
    minus: ByAdapter | None = None

    def draws(self, figures: Floats, bootstrap: Bootstrap) -> Floats:
        """From the figure of each record in each draw, [records, 1 + draws], the line's, [1 + draws]."""
        names = [name for name in self.of if self.minus is None or name in self.minus]
        found = np.stack([figures[self.of[name]].mean(axis=0) for name in names])
        if self.minus is not None:
            found -= np.stack([figures[self.minus[name]].mean(axis=0) for name in names])
        line: Floats = np.einsum("du,ud->d", bootstrap.weights(len(names), "units"), found)
        return line


def group_rows(name: str, records: Sequence[CellRecord], bootstrap: Bootstrap) -> list[Row]:
    """A row for each label of one group's records, in the order of the records."""
    rows: dict[str, ByAdapter] = {}
    for position, record in enumerate(records):
        by_adapter = rows.setdefault(_row_label(record), {})
        by_adapter.setdefault(record.cell.adapter, []).append(position)
    if not rows:
        return []
    randoms = _differences(rows, {label: _random_for(label, rows, records) for label in rows})
    nones = _differences(rows, {label: NONE for label in rows if label != NONE and NONE in rows})
    lines = [*(_Line(of) for of in rows.values()), *randoms.values(), *nones.values()]
    figures = iter(_figures(records, lines, bootstrap))
    values = {label: next(figures) for label in rows}
    against_random = {label: next(figures) for label in randoms}
    against_none = {label: next(figures) for label in nones}
    found = []
    for label, by_adapter in rows.items():
        own = [records[n] for positions in by_adapter.values() for n in positions]
        cell = own[0].cell
        found.append(
            Row(
                name=name,
                adapters=tuple(by_adapter),
                label=label,
                scorer=cell.scorer,
                tau=cell.tau,
                cells=len(own),
                pruned=fmean(len(record.cell.pruned) for record in own),
                figures=values[label],
                against_random=against_random.get(label),
                against_unpruned=against_none.get(label),
                cost=_cost(own),
            )
        )
    return found


def _row_label(record: CellRecord) -> str:
    cell = record.cell
    return cell.label.rsplit(" #", 1)[0] if cell.scorer == "random" else cell.label


def _random_for(label: str, rows: Mapping[str, ByAdapter], records: Sequence[CellRecord]) -> str | None:
    """The label of random pruning of the same tau or, for rules without one, of as many modules."""
    by_adapter = rows[label]
    cell = records[next(iter(by_adapter.values()))[0]].cell
    if cell.scorer is None or cell.scorer == "random":
        return None
    for other, theirs in rows.items():
        random = records[next(iter(theirs.values()))[0]].cell
        common = by_adapter.keys() & theirs.keys()
        if random.scorer != "random" or not common:
            continue
        if cell.tau is not None and random.tau == cell.tau:
            return other
        counts = [
            {len(records[n].cell.pruned) for n in (*by_adapter[name], *theirs[name])} for name in common
        ]
        if cell.tau is None and all(len(found) == 1 for found in counts):
            return other
    return None


def _differences(rows: Mapping[str, ByAdapter], others: Mapping[str, str | None]) -> dict[str, _Line]:
    return {
        label: _Line(rows[label], rows[other])
        for label, other in others.items()
        if other is not None and rows[label].keys() & rows[other].keys()
    }


def _figures(records: Sequence[CellRecord], lines: Sequence[_Line], bootstrap: Bootstrap) -> list[Figures]:
    """The figures of each line."""
    attack, attack_sets = _shares([r.attacks for r in records], lines, bootstrap)
    harmless, harmless_sets = _shares([r.harmless for r in records], lines, bootstrap)
    utility = {
        name: {
            measure: _intervals(
                _drawn([getattr(r.plans[name], measure) for r in records], name, lines, bootstrap),
                lines,
                bootstrap,
                share_of=len(first.valid) if measure == "valid" else 0,
            )
            for measure in UTILITIES
        }
        for name, first in records[0].plans.items()
    }
    return [
        Figures(
            attack[n] if attack else None,
            harmless[n] if harmless else None,
            {name: shares[n] for name, shares in attack_sets.items()},
            {name: shares[n] for name, shares in harmless_sets.items()},
            {name: {m: found[n] for m, found in measures.items()} for name, measures in utility.items()},
        )
        for n in range(len(lines))
    ]


def _shares(
    outcomes: Sequence[Mapping[str, PromptOutcome]], lines: Sequence[_Line], bootstrap: Bootstrap
) -> tuple[list[Shares], dict[str, list[Shares]]]:
    """Of each line: the shares of verdicts as means over the sets, and by set.

    Sets of as many prompts share their draws: mostly they are one file in two forms, and two forms of a
    prompt are not two prompts. So the exact bounds of the mean count the largest set's prompts alone.
    """
    sizes = {name: len(outcome.verdicts) for name, outcome in outcomes[0].items()}
    if not sizes:
        return [], {}
    total: dict[str, list[Interval]] = {}
    by_set: dict[str, dict[str, list[Interval]]] = {name: {} for name in sizes}
    for verdict, letter in VERDICTS.items():
        drawn = []
        for name, size in sizes.items():
            values = [[v == letter for v in by_name[name].verdicts] for by_name in outcomes]
            drawn.append(_drawn(values, "prompts", lines, bootstrap))
            by_set[name][verdict] = _intervals(drawn[-1], lines, bootstrap, share_of=size)
        mean = sum(drawn[1:], drawn[0]) / len(drawn)
        total[verdict] = _intervals(mean, lines, bootstrap, share_of=max(sizes.values()))
    return _zipped(total), {name: _zipped(found) for name, found in by_set.items()}


def _zipped(found: Mapping[str, list[Interval]]) -> list[Shares]:
    return [Shares(*three) for three in zip(*(found[verdict] for verdict in VERDICTS), strict=True)]


def _drawn(
    values: Sequence[Sequence[float]], name: str, lines: Sequence[_Line], bootstrap: Bootstrap
) -> Floats:
    """A figure of every line in every draw, [lines, 1 + draws]; ``values`` [records, prompts] of the set."""
    asked = np.array(values, dtype=np.float64)
    by_record = asked @ bootstrap.weights(asked.shape[1], name).T  # [records, 1 + draws]
    return np.stack([line.draws(by_record, bootstrap) for line in lines])


def _intervals(
    drawn: Floats, lines: Sequence[_Line], bootstrap: Bootstrap, share_of: int = 0
) -> list[Interval]:
    """Of each line; ``share_of`` prompts, unless the figure is not a share."""
    return [
        found if line.minus is not None else bootstrap.of_share(found, share_of)
        for line, found in zip(lines, bootstrap.intervals(drawn), strict=True)
    ]


def _cost(records: Sequence[CellRecord]) -> CostMeans:
    costs = [record.cost for record in records]
    seconds = [cost.engine_seconds for cost in costs if cost.engine_seconds is not None]
    return CostMeans(
        fmean(cost.modules for cost in costs),
        fmean(cost.parameters for cost in costs),
        fmean(cost.bytes for cost in costs),
        fmean(cost.base_parameters for cost in costs),
        fmean(seconds) if len(seconds) == len(costs) else None,
        fmean(cost.output_tokens for cost in costs),
    )
