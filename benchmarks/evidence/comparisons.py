"""Groups of adapters, scorer by scorer and tau by tau: their figures, and which differences are firm."""

from __future__ import annotations

from collections import Counter
from functools import cache
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

from matched import matched
from notation import in_points
from results import header

from s3lora_serve.evaluation.statistics.intervals import Bootstrap, Interval
from s3lora_serve.evaluation.statistics.summary import Summary, summarise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from results import Results

    from s3lora_serve.evaluation.statistics.figures import Row

SCORERS = ("mas-svd", "svd", "safelora", "e-diem", "reference")  # spsvd's cells are mas-svd's
TAUS = (5, 10, 20, 30, 40)


class Comparisons:
    """Figures of every group, computed once; ``main`` are the groups on the tuned base models."""

    def __init__(self, results: Results) -> None:
        self.groups = results.groups()
        self.main = [g for g in self.groups if " on 0 %" not in g]
        self.bootstrap = Bootstrap()

    @cache  # noqa: B019  one Comparisons a run
    def summary(self, name: str) -> Summary:
        """All figures of a group."""
        group = self.groups[name]
        return summarise([r for a in group for r in a.records], header(group), self.bootstrap)

    @cache  # noqa: B019
    def matched(self, name: str) -> dict[tuple[str, int], Interval]:
        """(scorer, tau in per cent) → difference of attack success to random pruning at equal loss."""
        found = matched(self.groups[name], self.bootstrap)
        return {(m.scorer, round(100 * m.tau)): m.difference for m in found}

    def row(self, name: str, label: str) -> Row:
        """The figures of a group under one pruning."""
        return self.summary(name).row(name, label)

    def plan_tokens(self, name: str, label: str) -> float:
        """Mean length of a group's plans under one pruning."""
        return fmean(
            n
            for adapter in self.groups[name]
            for record in adapter.records
            if record.cell.label.partition(" #")[0] == label
            for outcome in record.plans.values()
            for n in outcome.tokens
        )

    def curve(self, name: str, scorer: str) -> list[tuple[float, float]]:
        """Loss (nats a token) and attack success (per cent) of a group from no pruning to half of it."""
        rows = [self.row(name, "none"), *(r for r in self.summary(name).rows if r.scorer == scorer)]
        return [
            (next(iter(r.figures.utility.values()))["loss"].mean, 100 * attack_success(r).mean)
            for r in sorted(rows, key=lambda r: r.tau or 0.0)
        ]

    def tally(self, found: Iterable[Interval | None]) -> str:
        """In how many of these the scorer is better or worse than random pruning."""
        signs = Counter(self.firm(i) for i in found if i is not None)
        return f"{signs[-1]} better, {signs[1]} worse of {sum(signs.values())}"

    def points(self, interval: Interval) -> str:
        """In points; bold if firm."""
        text = in_points(interval)
        return f"**{text}**" if self.firm(interval) else text

    def firm(self, interval: Interval) -> int:
        """-1 or 1 if it stays off zero when all comparisons of a table are allowed for (Bonferroni)."""
        family = len(self.main) * len(SCORERS) * len(TAUS)
        tail = (1 - self.bootstrap.level) / 2
        stretch = NormalDist().inv_cdf(1 - tail / family) / NormalDist().inv_cdf(1 - tail)
        room = stretch * max(interval.high - interval.mean, interval.mean - interval.low)
        return (interval.mean - room > 0) - (interval.mean + room < 0)


def attack_success(row: Row) -> Interval:
    """The share of attacks that a row complies with. Raises ValueError if none was measured."""
    if row.figures.attack_success is None:
        raise ValueError(f"{row.name}/{row.label}: no attack was measured")
    return row.figures.attack_success
