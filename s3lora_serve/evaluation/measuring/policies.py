"""The cells of an evaluation: what policies, or scorers at shares, leave out of an adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.evaluation.measuring.cells import BASE, NONE, Cell
from s3lora_serve.spectral.prune_policy import Adaptive, PrunePolicy, Threshold, Top, plan
from s3lora_serve.spectral.scorers import score
from s3lora_serve.spectral.validated import Validated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from s3lora_serve.spectral.lowrank import LowRank
    from s3lora_serve.spectral.report import SpectralReport

RANDOM = "random"


def cells(
    adapter_name: str,
    modules: Mapping[str, LowRank],
    policies: Sequence[PrunePolicy],
    alignment: Mapping[str, Tensor] | None = None,
    *,
    random_seeds: Iterable[int] = (),
) -> list[Cell]:
    """The two controls and a cell for each policy, whatever its action: what it selects is left out.

    ``random_seeds``: a random control with each, for each number of modules that a policy selects, so that
    every row has what it must beat. Raises ValueError for two policies with one label, and what ``score`` and
    ``plan`` raise.
    """
    scores, seeds = _Scores(modules, alignment), tuple(random_seeds)
    found = _controls(adapter_name, modules)
    for policy in policies:
        chosen = plan(scores.of(policy.scorer, policy.seed), policy)
        label = policy_label(policy)
        found.append(
            Cell(adapter_name, label, policy.scorer, None, policy.seed, chosen.pruned, chosen.reason)
        )
    counts = {len(cell.pruned) for cell in found if cell.scorer not in (None, RANDOM) and cell.pruned}
    for count in sorted(counts):
        for seed in seeds:
            policy = PrunePolicy(RANDOM, _exactly(count, len(modules)), seed=seed)
            chosen = plan(scores.of(RANDOM, seed), policy)
            cell = Cell(adapter_name, policy_label(policy), RANDOM, None, seed, chosen.pruned, chosen.reason)
            if cell not in found:
                found.append(cell)
    return _distinct(found)


def grid(
    adapter_name: str,
    modules: Mapping[str, LowRank],
    scorers: Sequence[str],
    taus: Iterable[float],
    random_seeds: Iterable[int],
    alignment: Mapping[str, Tensor] | None = None,
) -> list[Cell]:
    """The two controls and, for each scorer and tau, the share tau of its scored modules, in whole ones.

    ``taus``: 0..1; 0 is the control "none". ``random`` is measured with each of ``random_seeds``; the others
    are scored once. Raises ValueError for a tau outside, and what ``score`` raises.
    """
    asked = sorted(set(taus))
    if odd := next((tau for tau in asked if not 0 <= tau <= 1), None):
        raise ValueError(f"tau {odd:g} is not a share, 0 to 1")
    scores, seeds = _Scores(modules, alignment), tuple(random_seeds)
    found = _controls(adapter_name, modules)
    for scorer in dict.fromkeys(scorers):
        for seed in seeds if scorer == RANDOM else (0,):
            report = scores.of(scorer, seed)
            scored = scored_modules(report)
            for tau in asked:
                if tau == 0:
                    continue
                policy = PrunePolicy(scorer, Top(round(tau * scored), max_share=1), seed=seed)
                chosen = plan(report, policy)
                label = f"{scorer} {100 * tau:g}%" + (f" #{seed}" if scorer == RANDOM else "")
                found.append(Cell(adapter_name, label, scorer, tau, seed, chosen.pruned, chosen.reason))
    return _distinct(found)


def _exactly(count: int, modules: int) -> Top:
    """As many as the policy that it is the control of, whatever their share."""
    return Top(count) if count <= Top.max_share * modules else Top(count, max_share=1)


def policy_label(policy: PrunePolicy) -> str:
    """``mas-svd top=10``, ``svd adaptive z=3.5 max_share=0.25``, ``random top=10 #3``."""
    match policy.rule:
        case Top(tau, max_share):
            rule = f"top={tau}" + ("" if max_share == Top.max_share else f" top_share={max_share:g}")
        case Threshold(value):
            rule = f"threshold={value:g}"
        case Adaptive(z, share):
            rule = f"adaptive z={z:g} max_share={share:g}"
        case Validated() as given:
            rule = f"validated {given.utility}>={given.floor:g} on {given.task}"
    return f"{policy.scorer} {rule} #{policy.seed}" if policy.scorer == RANDOM else f"{policy.scorer} {rule}"


def scored_modules(report: SpectralReport) -> int:
    """How many modules have a score: what tau is a share of."""
    return sum(row.score is not None for row in report.rows.values())


class _Scores:
    """Each scorer's report, made once; only the random one depends on the seed."""

    def __init__(self, modules: Mapping[str, LowRank], alignment: Mapping[str, Tensor] | None) -> None:
        self._modules, self._alignment = modules, alignment
        self._reports: dict[tuple[str, int], SpectralReport] = {}

    def of(self, scorer: str, seed: int) -> SpectralReport:
        key = scorer, seed if scorer == RANDOM else 0
        if key not in self._reports:
            self._reports[key] = score(self._modules, scorer, seed=key[1], alignment=self._alignment)
        return self._reports[key]


def _controls(adapter_name: str, modules: Mapping[str, LowRank]) -> list[Cell]:
    return [
        Cell(adapter_name, NONE, None, None, 0, (), "control: the adapter as it is"),
        Cell(adapter_name, BASE, None, None, 0, tuple(sorted(modules)), "control: the base model alone"),
    ]


def _distinct(found: list[Cell]) -> list[Cell]:
    labels = [cell.label for cell in found]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise ValueError(f"two policies are {twice!r}; give one of them")
    return found
