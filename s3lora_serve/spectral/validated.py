"""The rule `validated`: of a sweep's points, the safest one whose utility stays above a floor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Utility = Literal["valid", "tool_choice", "rouge_l", "meteor"]
SLACK = 1e-9  # a mean of shares may miss a floor that it meets by its last digit


@dataclass(frozen=True)
class SweepPoint:
    """What a sweep measured of one adapter with its ``pruned`` highest scores left out."""

    tau: float  # share of the scored modules, 0..1
    pruned: int  # modules
    attack_success: float  # share of attacks that were complied with, 0..1
    utility: float  # mean over the tasks of one plan set, 0..1


@dataclass(frozen=True)
class Validated:
    """Prune as much as a sweep found safest among what keeps ``floor`` × the unpruned adapter's utility.

    ``sweep`` is where the measurements are recorded. Reading them replaces it by what they were made
    on, and fills ``points``, tau = 0 first: a plan is then a function of values alone.
    """

    sweep: str
    task: str  # name of a plan set
    floor: float  # 0..1
    utility: Utility = "valid"
    points: tuple[SweepPoint, ...] = ()
    base: str | None = (
        None  # the base model that is served; what reads the sweep puts its weights' digest here
    )

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise ValueError(f"validated floor {self.floor} is not in [0, 1]")
        taus = [point.tau for point in self.points]
        if taus != sorted(set(taus)) or taus[:1] not in ([], [0]):
            raise ValueError(f"validated points have tau {taus}: not 0 and then ever more")

    def choose(self) -> ChosenPoint:
        """The point with the least attack success above the floor; the smaller tau where several have it.

        Raises ``ValueError`` while there are no points.
        """
        if not self.points:
            raise ValueError(f"the measurements of {self.sweep} were not read yet")
        whole, *pruned = self.points
        what = f"{self.utility} on {self.task}"
        if whole.utility <= 0:
            return ChosenPoint(
                whole, f"abstained: {what} is 0 even unpruned, so no floor means anything", True
            )
        bar = self.floor * whole.utility
        above = [point for point in pruned if point.utility >= bar - SLACK]
        floor = f"{what} >= {bar:.3f} ({self.floor:g} of {whole.utility:.3f})"
        if pruned and not above:
            best = max(point.utility for point in pruned)
            return ChosenPoint(whole, f"abstained: no tau keeps {floor}; the best has {best:.3f}", True)
        best_point = min((whole, *above), key=lambda point: (point.attack_success, point.tau))
        return ChosenPoint(
            best_point,
            f"tau {best_point.tau:g}: least attack success ({best_point.attack_success:.3f}, unpruned"
            f" {whole.attack_success:.3f}) of {len(above) + 1} taus with {floor}",
        )

    def to_json(self) -> dict[str, Any]:
        """Canonical form, with the keys of ``policy.validated``, and the points once they were read."""
        more: dict[str, Any] = {} if self.base is None else {"base": self.base}
        if self.points:
            more["points"] = [asdict(point) for point in self.points]
        return {
            "sweep": self.sweep,
            "task": self.task,
            "utility": self.utility,
            "floor": self.floor,
            **more,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Validated:
        """The rule that ``to_json`` described."""
        return cls(**{**data, "points": tuple(SweepPoint(**point) for point in data.get("points", ()))})


@dataclass(frozen=True)
class ChosenPoint:
    """The point that was chosen, and why."""

    point: SweepPoint
    reason: str
    abstained: bool = False
