"""The ladder that mending walks: how many modules of the scorer's ranking each rung prunes, least first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.spectral.prune_policy import RESOLUTION, ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.spectral.report import SpectralReport

RANDOM = "random"  # the control: its ranking is drawn, not found
BY_SPECTRUM = ("mas-svd", "svd", "spsvd", "reference")  # a share of a module's rank: at rank 1 always 1


@dataclass(frozen=True)
class Rung:
    """One rung: the share that was asked for, and what the policy ``top`` leaves out at it."""

    tau: float
    top: int
    pruned: tuple[str, ...]  # modules, highest score first


@dataclass(frozen=True)
class Ladder:
    """The rungs, least pruning first. None if the ranking carries nothing; ``abstained`` says why then."""

    rungs: tuple[Rung, ...] = ()
    abstained: str = ""
    left_out: tuple[float, ...] = ()  # taus at which equal scores would have to be parted

    def level(self, confidence: float) -> float:
        """The level at which one rung is confirmed, so that all of them together keep the confidence.

        Each rung is another chance that a bad revision passes: the chances add up to ``1 - confidence``.
        """
        return (1 - confidence) / len(self.rungs)


def ladder(report: SpectralReport, taus: Sequence[float]) -> Ladder:
    """The rungs at shares ``taus`` of the modules that have a score; equal ones once. A pure function.

    It abstains where an order of the modules would be made up: the random scorer; fewer scored modules than
    shares; for scores by spectrum modules of rank 1, which all have the same one, or of several ranks, whose
    scores measure those; and equal scores at the cut of every rung.
    """
    ranked = ranking(report)
    if why := _carries_nothing(report, ranked, len(taus)):
        return Ladder(abstained=why)
    rungs: dict[int, Rung] = {}
    left_out = []
    for tau in taus:
        top = round(tau * len(ranked))
        if _tied(report, ranked, top):
            left_out.append(tau)
        elif top not in rungs:
            rungs[top] = Rung(tau, top, tuple(ranked[:top]))
    if not any(rungs):
        return Ladder(abstained="no rung prunes a module, or the scores at each cut are equal")
    return Ladder(tuple(rungs[top] for top in sorted(rungs)), left_out=tuple(left_out))


def _carries_nothing(report: SpectralReport, ranked: Sequence[str], rungs: int) -> str:
    """Why the ranking says nothing about its modules; empty if it may."""
    if report.scorer == RANDOM:
        return "the policy's scorer is random, which ranks nothing"
    if len(ranked) < rungs:
        return f"{len(ranked)} modules have a score, fewer than exam.taus has rungs ({rungs})"
    if report.scorer not in BY_SPECTRUM:
        return ""
    ranks = sorted({report[name].rank for name in ranked})
    if ranks == [1]:
        return "every module has rank 1, so that every one has the same score"
    if len(ranks) > 1:
        shown = ", ".join(map(str, ranks[:4])) + (", …" if len(ranks) > 4 else "")
        return f"its modules have several ranks ({shown}), and their scores tell these apart first"
    return ""


def _tied(report: SpectralReport, ranked: Sequence[str], top: int) -> bool:
    """Whether the last module that is pruned and the first that is kept have the same score."""
    if not 0 < top < len(ranked):
        return False
    last, first = report[ranked[top - 1]].score, report[ranked[top]].score
    return last is not None and first is not None and abs(last - first) < RESOLUTION
