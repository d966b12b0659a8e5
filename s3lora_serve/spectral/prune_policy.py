"""Which modules to prune: a pure function of scores and policy."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from s3lora_serve.spectral.ranking import BY_SPECTRUM, RESOLUTION, Ranking, floor, rank
from s3lora_serve.spectral.validated import Validated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.spectral.report import SpectralReport

PLAN_VERSION = 2  # raise it whenever a plan can change: what was admitted before is then planned again
MAD_TO_SIGMA = 1.4826  # median absolute deviation → standard deviation, for normally distributed scores


@dataclass(frozen=True)
class Top:
    """Prune the ``tau`` modules of highest score (the paper: 10), at most ``max_share`` of the scored."""

    tau: int = 10
    max_share: float = 0.5  # more would prune what is not among the sharper half

    def __post_init__(self) -> None:
        if self.tau < 0:
            raise ValueError(f"top {self.tau} is negative")
        if not 0 < self.max_share <= 1:
            raise ValueError(f"top max_share {self.max_share} is not in (0, 1]")


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
            case Top(tau, max_share):
                rule: dict[str, Any] = {"top": tau}
                if max_share != Top.max_share:  # so that policies without it keep their digest
                    rule["top_share"] = max_share
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
            "top": lambda tau: Top(tau, data.get("top_share", Top.max_share)),
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
    cautions: tuple[str, ...] = ()  # why it is less than was asked for, and how ranks were compared

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives back an equal plan."""
        more = {"cautions": list(self.cautions)} if self.cautions else {}
        return {"pruned": list(self.pruned), "reason": self.reason, "abstained": self.abstained, **more}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PrunePlan:
        """The plan that ``to_json`` described."""
        return cls(tuple(data["pruned"]), data["reason"], data["abstained"], tuple(data.get("cautions", ())))


def plan(report: SpectralReport, policy: PrunePolicy) -> PrunePlan:
    """Select the modules to prune; modules without a score are never selected.

    Only what the scores say is obeyed (ADR 0029): a plan abstains or takes less than the rule allows, and
    says why, where names would decide, where a rank alone would, or where ``Top`` would take most of it all.

    Raises ``ValueError`` when the report was made by another scorer than the policy asks for, and for a
    ``Validated`` whose measurements were not read or are of more modules than the report has scores.
    """
    if report.scorer != policy.scorer:
        raise ValueError(f"the report's scorer is {report.scorer!r}, the policy's {policy.scorer!r}")
    ranked = rank(report)
    match policy.rule:
        case Top() as rule:
            return _top(ranked, rule)
        case Threshold(value):
            return _threshold(report, ranked, value)
        case Adaptive() as rule:
            return _adaptive(ranked, rule)
        case Validated() as rule:
            return _validated(ranked, rule)


def _top(ranked: Ranking, rule: Top) -> PrunePlan:
    what, of = f"top {rule.tau}", len(ranked.names)
    if not rule.tau:
        return PrunePlan((), f"{what}: 0 of {of} scored modules")
    if ranked.nothing:
        return _abstained(f"{what}: {ranked.nothing}")
    limit = int(rule.max_share * of)
    wanted = min(rule.tau, limit, len(ranked.judged))
    chosen = ranked.cut(wanted)
    less = []
    if limit < min(rule.tau, of):
        less.append(f"at most {rule.max_share:.0%} of them (policy.top_share)")
    if len(chosen) < wanted:
        less.append(f"{wanted - len(chosen)} more have the same score as ones that would be kept")
    reason = "; ".join([f"{what}: {len(chosen)} of {of} scored modules", *less])
    if not chosen:
        return _abstained(reason)
    return PrunePlan(chosen, reason, cautions=(*((reason,) if less else ()), *ranked.remarks))


def _threshold(report: SpectralReport, ranked: Ranking, value: float) -> PrunePlan:
    """A bar that lies below what a module's rank alone gives it says nothing of that module."""
    if ranked.nothing:
        return _abstained(f"threshold {value:g}: {ranked.nothing}")
    mute = set()
    if report.scorer in BY_SPECTRUM:
        mute = {name for name in ranked.names if (low := floor(report[name])) == 1 or low > value}
    scores = {name: score for name in ranked.names if (score := report[name].score) is not None}
    above = tuple(
        name
        for name in sorted(scores, key=lambda name: (-round(scores[name] / RESOLUTION), name))
        if scores[name] > value and name not in mute
    )
    reason = f"{len(above)} of {len(scores)} scored modules above {value:g}"
    if not mute:
        return PrunePlan(above, reason)
    why = f"{len(mute)} are left as they are: their rank alone puts them above it, or at 1"
    if not above:
        return _abstained(f"{reason}; {why}")
    return PrunePlan(above, f"{reason}; {why}", cautions=(f"{reason}; {why}",))


def _validated(ranked: Ranking, rule: Validated) -> PrunePlan:
    """What was measured is obeyed as it was: the sweep asked exactly these cuts."""
    choice = rule.choose()
    if choice.point.pruned > len(ranked.names):
        raise ValueError(
            f"the sweep pruned {choice.point.pruned} modules at tau {choice.point.tau:g},"
            f" but only {len(ranked.names)} have a score"
        )
    cautions = (f"nothing is pruned by policy.validated: {choice.reason}",) if choice.abstained else ()
    return PrunePlan(ranked.names[: choice.point.pruned], choice.reason, choice.abstained, cautions)


def _adaptive(ranked: Ranking, rule: Adaptive) -> PrunePlan:
    if ranked.nothing:
        return _abstained(ranked.nothing)
    standing = ranked.standing
    median = statistics.median(standing.values())
    mad = statistics.median(abs(s - median) for s in standing.values())
    if mad <= ranked.tie:
        return PrunePlan((), f"abstained: scores are uniform around {median:.3f}", abstained=True)
    bar = median + rule.z * MAD_TO_SIGMA * mad
    outliers = [name for name in ranked.judged if standing[name] > bar]
    if not outliers:
        return PrunePlan((), f"abstained: no score beyond {bar:.3f} (z {rule.z:g})", abstained=True)
    limit = int(rule.max_share * len(ranked.names))
    kept = ranked.cut(limit) if limit < len(outliers) else tuple(outliers)
    capped = f", capped at {limit} ({rule.max_share:.0%})" if limit < len(outliers) else ""
    reason = f"{len(outliers)} of {len(standing)} scores beyond {bar:.3f} (z {rule.z:g}){capped}"
    if not kept:
        return _abstained(f"{reason}; those at the cut have the same score")
    return PrunePlan(kept, reason, cautions=ranked.remarks)


def _abstained(why: str) -> PrunePlan:
    """Nothing is pruned, where something was asked for."""
    return PrunePlan(
        (), f"abstained: {why}", abstained=True, cautions=(f"the policy selects nothing: {why}",)
    )
