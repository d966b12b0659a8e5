"""Which modules to prune: a pure function of scores and policy."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from s3lora_serve.spectral.validated import Validated

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


@dataclass(frozen=True)
class Alignment:
    """The two models whose difference e-diem and safelora compare ΔW with.

    Folders or Hugging Face ids; what reads them puts ``sha256:<digest>`` in their place.
    """

    base: str  # before alignment
    aligned: str | None = None  # None: the base model that is served
    base_revision: str | None = None
    aligned_revision: str | None = None


@dataclass(frozen=True)
class AnomalyBar:
    """How unlike known-good adapters an adapter may be as a whole."""

    reference: str  # file of their statistics; what reads it puts ``sha256:<digest>`` in its place
    max: float = 3.0  # in standard deviations, averaged over the statistics
    action: Literal["observe", "reject"] = "observe"

    def __post_init__(self) -> None:
        if not 0 < self.max < math.inf:
            raise ValueError(f"anomaly max {self.max} is not positive and finite")


Rule = Top | Threshold | Adaptive | Validated
Action = Literal["prune", "observe", "reject"]


@dataclass(frozen=True)
class PrunePolicy:
    """How modules are scored, which are selected, and what admission does with the selection."""

    scorer: str = "mas-svd"
    rule: Rule = field(default_factory=Top)
    action: Action = "prune"
    seed: int = 0  # of the random scorer
    alignment: Alignment | None = None  # for the scorers that need one
    anomaly: AnomalyBar | None = None  # of the adapter as a whole, beside any scorer

    def to_json(self) -> dict[str, Any]:
        """Canonical form, with the keys of ``policy:`` in planners.yaml; part of a revision's identity."""
        match self.rule:
            case Top(tau):
                rule: dict[str, Any] = {"top": tau}
            case Threshold(value):
                rule = {"threshold": value}
            case Adaptive():
                rule = {"adaptive": asdict(self.rule)}
            case Validated():
                rule = {"validated": self.rule.to_json()}
        # Only where they are used: the identity of a policy without them must stay what it was.
        more: dict[str, Any] = {}
        if self.alignment is not None:
            more["alignment"] = {k: v for k, v in asdict(self.alignment).items() if v is not None}
        if self.anomaly is not None:
            more["anomaly"] = asdict(self.anomaly)
        return {"scorer": self.scorer, **rule, "action": self.action, "seed": self.seed, **more}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PrunePolicy:
        """The policy that ``to_json`` described. Raises ``ValueError`` unless it has exactly one rule."""
        rules: dict[str, Any] = {
            "top": Top,
            "threshold": Threshold,
            "adaptive": lambda given: Adaptive(**given),
            "validated": Validated.from_json,
        }
        given = [key for key in rules if data.get(key) is not None]
        if len(given) != 1:
            raise ValueError(f"a policy has one of {', '.join(rules)}, not {given}")
        rule = rules[given[0]](data[given[0]])
        alignment, anomaly = data.get("alignment"), data.get("anomaly")
        return cls(
            data["scorer"],
            rule,
            data["action"],
            data["seed"],
            Alignment(**alignment) if alignment is not None else None,
            AnomalyBar(**anomaly) if anomaly is not None else None,
        )


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

    Raises ``ValueError`` when the report was made by another scorer than the policy asks for, and for a
    ``Validated`` whose measurements were not read or are of more modules than the report has scores.
    """
    if report.scorer != policy.scorer:
        raise ValueError(f"the report's scorer is {report.scorer!r}, the policy's {policy.scorer!r}")
    scores = {name: row.score for name, row in report.rows.items() if row.score is not None}
    ranked = ranking(report)
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
        case Validated() as rule:
            return _validated(ranked, rule)


def ranking(report: SpectralReport) -> list[str]:
    """The modules that have a score, highest first; ties by name."""
    scores = {name: row.score for name, row in report.rows.items() if row.score is not None}
    return sorted(scores, key=lambda name: (-round(scores[name] / RESOLUTION), name))


def _validated(ranked: list[str], rule: Validated) -> PrunePlan:
    choice = rule.choose()
    if choice.point.pruned > len(ranked):
        raise ValueError(
            f"the sweep pruned {choice.point.pruned} modules at tau {choice.point.tau:g},"
            f" but only {len(ranked)} have a score"
        )
    return PrunePlan(tuple(ranked[: choice.point.pruned]), choice.reason, choice.abstained)


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
