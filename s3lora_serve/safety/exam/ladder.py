"""The ladder that mending walks: how many modules of the scorer's ranking each rung prunes, least first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.spectral.prune_policy import PrunePolicy, Top, plan
from s3lora_serve.spectral.ranking import rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.spectral.report import SpectralReport

RANDOM = "random"  # the control: its ranking is drawn, not found


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
    left_out: tuple[float, ...] = ()  # taus at which the policy ``top`` prunes less than their share

    def level(self, confidence: float) -> float:
        """The level at which one rung is confirmed, so that all of them together keep the confidence.

        Each rung is another chance that a bad revision passes: the chances add up to ``1 - confidence``.
        """
        return (1 - confidence) / len(self.rungs)


def ladder(report: SpectralReport, taus: Sequence[float]) -> Ladder:
    """The rungs at shares ``taus`` of the modules that have a score; equal ones once. A pure function.

    It abstains where an order of the modules would be made up: the random scorer; fewer scored modules than
    shares; modules of rank 1, which all have the same score by spectrum; and equal scores at the cut of every
    rung. A rung that the policy ``top`` would not prune to is left out.
    """
    ranked = rank(report)
    if report.scorer == RANDOM:
        return Ladder(abstained="the policy's scorer is random, which ranks nothing")
    if ranked.names and ranked.nothing:
        return Ladder(abstained=ranked.nothing)
    if len(ranked.judged) < len(taus):
        few = f"{len(ranked.judged)} modules have a score, fewer than exam.taus has rungs ({len(taus)})"
        return Ladder(abstained=few)
    rungs: dict[int, Rung] = {}
    left_out = []
    for tau in taus:
        top = round(tau * len(ranked.judged))
        pruned = plan(report, PrunePolicy(report.scorer, Top(top))).pruned
        if len(pruned) != top:
            left_out.append(tau)
        elif top not in rungs:
            rungs[top] = Rung(tau, top, pruned)
    if not any(rungs):
        return Ladder(abstained="no rung prunes a module, or the scores at each cut are equal")
    return Ladder(tuple(rungs[top] for top in sorted(rungs)), left_out=tuple(left_out))
