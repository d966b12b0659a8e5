"""Which modules to prune: a pure function of scores and policy."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.spectral.report import SpectralReport

RESOLUTION = 2e-5  # scores that differ by less count as ties: mas_svd promises no more
MAD_TO_SIGMA = 1.4826  # median absolute deviation → standard deviation, for normally distributed scores


@dataclass(frozen=True)
class Top:
    """Prune the ``tau`` modules of highest score (the paper: 10)."""

    tau: int = 10

    def __post_init__(self) -> None:
        if self.tau < 0:
            raise ValueError(f"top {self.tau} is negative")


@dataclass(frozen=True)
class Threshold:
    """Prune every module that scores above ``value``."""

    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"threshold {self.value} is not finite")


@dataclass(frozen=True)
class Adaptive:
    """Prune modules whose robust z-score in the adapter exceeds ``z``, at most ``max_share`` of the scored.

    Abstains when scores do not separate: uniform sharpness is where the paper reports that pruning fails.
    """

    z: float = 3.5
    max_share: float = 0.25

    def __post_init__(self) -> None:
        if not self.z > 0:
            raise ValueError(f"adaptive z {self.z} is not positive")
        if not 0 < self.max_share <= 1:
            raise ValueError(f"adaptive max_share {self.max_share} is not in (0, 1]")


Rule = Top | Threshold | Adaptive
Action = Literal["prune", "observe", "reject"]


@dataclass(frozen=True)
class PrunePolicy:
    """How modules are scored, which are selected, and what admission does with the selection."""

    scorer: str = "mas-svd"
    rule: Rule = field(default_factory=Top)
    action: Action = "prune"
    seed: int = 0  # of the random scorer

    def to_json(self) -> dict[str, Any]:
        """Canonical form, with the keys of ``policy:`` in planners.yaml; part of a revision's identity."""
        match self.rule:
            case Top(tau):
                rule: dict[str, Any] = {"top": tau}
            case Threshold(value):
                rule = {"threshold": value}
            case Adaptive():
                rule = {"adaptive": asdict(self.rule)}
        return {"scorer": self.scorer, **rule, "action": self.action, "seed": self.seed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PrunePolicy:
        """The policy that ``to_json`` described. Raises ``ValueError`` unless it has exactly one rule."""
        rules: dict[str, Any] = {
            "top": Top,
            "threshold": Threshold,
            "adaptive": lambda given: Adaptive(**given),
        }
        given = [key for key in rules if data.get(key) is not None]
        if len(given) != 1:
            raise ValueError(f"a policy has one of {', '.join(rules)}, not {given}")
        rule = rules[given[0]](data[given[0]])
        return cls(data["scorer"], rule, data["action"], data["seed"])


@dataclass(frozen=True)
class PrunePlan:
    """What the rule selects, whatever the policy's action."""

    pruned: tuple[str, ...]  # by score, highest first; ties by name
    reason: str
    abstained: bool = False  # the rule declined: the scores gave no ground to choose

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives back an equal plan."""
        return {"pruned": list(self.pruned), "reason": self.reason, "abstained": self.abstained}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PrunePlan:
        """The plan that ``to_json`` described."""
        return cls(tuple(data["pruned"]), data["reason"], data["abstained"])


def plan(report: SpectralReport, policy: PrunePolicy) -> PrunePlan:
    """Select the modules to prune; modules without a score are never selected.

    Raises ``ValueError`` when the report was made by another scorer than the policy asks for.
    """
    if report.scorer != policy.scorer:
        raise ValueError(f"the report's scorer is {report.scorer!r}, the policy's {policy.scorer!r}")
    scores = {name: row.score for name, row in report.rows.items() if row.score is not None}
    ranked = sorted(scores, key=lambda name: (-round(scores[name] / RESOLUTION), name))
    match policy.rule:
        case Top(tau):
            return PrunePlan(
                tuple(ranked[:tau]), f"top {tau}: {min(tau, len(ranked))} of {len(ranked)} scored modules"
            )
        case Threshold(value):
            above = tuple(name for name in ranked if scores[name] > value)
            return PrunePlan(above, f"{len(above)} of {len(ranked)} scored modules above {value:g}")
        case Adaptive() as rule:
            return _adaptive(scores, ranked, rule)


def _adaptive(scores: Mapping[str, float], ranked: list[str], rule: Adaptive) -> PrunePlan:
    if not scores:
        return PrunePlan((), "abstained: no module has a score", abstained=True)
    median = statistics.median(scores.values())
    mad = statistics.median(abs(s - median) for s in scores.values())
    if mad <= RESOLUTION:
        return PrunePlan((), f"abstained: scores are uniform around {median:.3f}", abstained=True)
    bar = median + rule.z * MAD_TO_SIGMA * mad
    outliers = [name for name in ranked if scores[name] > bar]
    if not outliers:
        return PrunePlan((), f"abstained: no score beyond {bar:.3f} (z {rule.z:g})", abstained=True)
    limit = int(rule.max_share * len(ranked))
    kept = outliers[:limit]
    capped = f", capped at {limit} ({rule.max_share:.0%})" if len(kept) < len(outliers) else ""
    return PrunePlan(
        tuple(kept), f"{len(outliers)} of {len(ranked)} scores beyond {bar:.3f} (z {rule.z:g}){capped}"
    )
