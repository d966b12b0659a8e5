"""The order of an adapter's modules by score, as far as the scores say anything of them (ADR 0029)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.spectral.report import ModuleRow, SpectralReport

RESOLUTION = 2e-5  # scores that differ by less count as ties: mas_svd promises no more
BY_SPECTRUM = frozenset({"mas-svd", "svd", "spsvd"})  # σ₁/Σσ: 1/rank at least, and at rank 1 always 1
_SHOWN = 4  # ranks in a sentence


@dataclass(frozen=True)
class Ranking:
    """Modules with a score: highest standing first, ties by name, and last those whose score says nothing."""

    names: tuple[str, ...]
    standing: Mapping[str, float]  # what they are compared by; without those whose score says nothing
    tie: float = RESOLUTION  # standings that differ by less are the same
    ranks: tuple[int, ...] = ()  # of the modules, where scores had to be set against them

    @property
    def judged(self) -> tuple[str, ...]:
        """The modules whose score says something."""
        return self.names[: len(self.standing)]

    @property
    def nothing(self) -> str:
        """Why it says nothing of any module; empty if it does of some."""
        if not self.names:
            return "no module has a score"
        return "" if self.standing else "every module has rank 1, where the score is 1 whatever it does"

    @property
    def remarks(self) -> tuple[str, ...]:
        """How scores of several ranks were compared."""
        if len(self.ranks) < 2 or not self.standing:
            return ()
        shown = ", ".join(map(str, self.ranks[:_SHOWN])) + (", …" if len(self.ranks) > _SHOWN else "")
        told = [f"its modules have ranks {shown}: scores are compared by their share above 1/rank"]
        if left := len(self.names) - len(self.standing):
            told.append(f"{left} modules of rank 1 are in no order: their score is 1 whatever they do")
        return tuple(told)

    def cut(self, count: int) -> tuple[str, ...]:
        """The first ``count``, without those that tie with the first that is left: names decide nothing."""
        if count >= len(self.standing):
            return self.judged
        bar = self.standing[self.names[count]] + self.tie
        return tuple(name for name in self.names[:count] if self.standing[name] >= bar)


def rank(report: SpectralReport) -> Ranking:
    """The ranking of a report; a pure function of its rows, in whatever order they stand.

    A score by spectrum is σ₁/Σσ, so its least value is 1/rank: between modules of several ranks it measures
    those first. There it is compared by ``(score - 1/rank) / (1 - 1/rank)``, its share above that floor.
    """
    rows = {name: row for name, row in report.rows.items() if row.score is not None}
    if report.scorer not in BY_SPECTRUM:
        return _in_order(rows, {name: _score(row) for name, row in rows.items()}, RESOLUTION, ())
    floors = {name: floor(row) for name, row in rows.items()}
    judged = {name: row for name, row in rows.items() if floors[name] < 1}
    ranks = tuple(sorted({round(1 / value) for value in floors.values()}))
    if len(ranks) < 2:
        return _in_order(rows, {name: _score(row) for name, row in judged.items()}, RESOLUTION, ranks)
    standing = {name: (_score(row) - floors[name]) / (1 - floors[name]) for name, row in judged.items()}
    tie = RESOLUTION / (1 - max((floors[name] for name in judged), default=0.0))
    return _in_order(rows, standing, tie, ranks)


def floor(row: ModuleRow) -> float:
    """The least score by spectrum that a module of this rank and shape can have."""
    return 1 / min(row.rank, *row.shape)


def _in_order(
    rows: Mapping[str, ModuleRow], standing: Mapping[str, float], tie: float, ranks: tuple[int, ...]
) -> Ranking:
    first = sorted(standing, key=lambda name: (-round(standing[name] / tie), name))
    return Ranking((*first, *sorted(rows.keys() - standing.keys())), standing, tie, ranks)


def _score(row: ModuleRow) -> float:
    return row.score if row.score is not None else 0.0  # which no caller's row is without
