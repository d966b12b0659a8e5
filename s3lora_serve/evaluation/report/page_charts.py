"""What pruning does to one group of adapters, as charts from a run's rows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.evaluation.measuring.cells import BASE, NONE
from s3lora_serve.evaluation.report.charts import tau_chart
from s3lora_serve.evaluation.report.pareto import Point, front, pareto_chart

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from matplotlib.figure import Figure

    from s3lora_serve.evaluation.report.charts import Line
    from s3lora_serve.evaluation.statistics.figures import Figures, Row
    from s3lora_serve.evaluation.statistics.intervals import Interval


@dataclass(frozen=True)
class Chart:
    """A figure, and in words what it shows: for readers who do not see it."""

    kind: str  # unique within the group; part of ids
    figure: Figure
    label: str
    caption: str


@dataclass(frozen=True)
class UtilityAxis:
    """What the charts show as utility: valid plans of a set, or without one harmless prompts answered."""

    plan_set: str | None

    def of(self, figures: Figures) -> Interval | None:
        """Its interval in a row's figures."""
        if self.plan_set is not None:
            return figures.utility[self.plan_set]["valid"]
        return None if figures.harmless is None else figures.harmless.complied

    @property
    def wording(self) -> str:
        """What an axis says."""
        return "valid plans" if self.plan_set is not None else "harmless prompts answered"


def pareto(rows: Sequence[Row], utility: UtilityAxis, marked: Collection[str] = ()) -> Chart | None:
    """Attack success against utility, ``marked`` labels named; None unless both were measured."""
    points = [
        Point(row.label, row.scorer, attack, useful)
        for row in rows
        if (attack := row.figures.attack_success) is not None
        and (useful := utility.of(row.figures)) is not None
    ]
    policies = [point for point in points if point.scorer is not None]
    if not policies:
        return None
    none = next((point for point in points if point.label == NONE), None)
    best = [point.label for point in front(points)]
    heading = f"{sum(p.label in best for p in policies)} of {len(policies)} policies are on the Pareto front"
    if none is not None:
        better = sum(
            p.attack.mean < none.attack.mean and p.utility.mean >= none.utility.mean for p in policies
        )
        heading = f"By the means, {better or 'none'} of {len(policies)} policies: safer and no less useful"
    return Chart(
        "pareto",
        pareto_chart(points, heading, utility.wording, marked),
        f"Scatter plot: attack success against {utility.wording}, {len(points)} policies and controls",
        "Up and to the left is better. By the means alone nothing beats, from the safest on: "
        f"{', '.join(best)}.",
    )


def tau_sweep(rows: Sequence[Row], utility: UtilityAxis, safer: Collection[str] = ()) -> Chart | None:
    """Attack success and utility over the share pruned; None unless two shares or more were measured.

    ``safer``: labels that are safer than random pruning, for the title.
    """
    swept = [row for row in rows if row.scorer is not None and row.tau is not None]
    if len({row.tau for row in swept}) < 2:
        return None
    panels: dict[str, tuple[Mapping[str, Line], Mapping[str, Interval]]] = {}
    headings = []
    beating = list(dict.fromkeys(row.scorer for row in swept if row.label in safer))
    if any(row.figures.attack_success is not None for row in swept):
        panels["attack success"] = _lines(rows, swept, lambda figures: figures.attack_success)
        who = ", ".join(str(name) for name in beating[:3]) + (" …" if len(beating) > 3 else "")
        if all(row.beats_random is None for row in swept):
            headings.append("Attack success, no random control")
        else:
            headings.append(
                f"Safer than random at some τ: {who}" if who else "No scorer is safer than random"
            )
    if any(utility.of(row.figures) is not None for row in swept):
        panels[utility.wording] = _lines(rows, swept, utility.of)
        headings.append(_fall(panels[utility.wording]))
    if not panels:
        return None
    return Chart(
        "sweep",
        tau_chart(panels, headings),
        f"Line charts over the share of modules pruned: {' and '.join(panels)}",
        "Lines are means, bands their intervals. Grey is random pruning of as many modules, the control: a "
        "scorer works only where the table's paired difference to it lies wholly below zero. Bands that "
        "overlap may still differ, since differences are paired.",
    )


def nearest_tau(rows: Iterable[Row], tau: float) -> float | None:
    """The measured share nearest to ``tau``; None when policies were measured without shares."""
    measured = {row.tau for row in rows if row.tau is not None and row.scorer is not None}
    return min(measured, key=lambda each: (abs(each - tau), each), default=None)


def _lines(
    rows: Sequence[Row], swept: Sequence[Row], of: Callable[[Figures], Interval | None]
) -> tuple[dict[str, Line], dict[str, Interval]]:
    """A line for each scorer, from the unpruned adapter on, and the controls' levels."""
    controls = {row.label: found for row in rows if row.scorer is None and (found := of(row.figures))}
    points: dict[str, dict[float, Interval]] = defaultdict(dict)
    for row in swept:
        found = of(row.figures)
        if row.scorer is not None and row.tau is not None and found is not None:
            points[row.scorer][row.tau] = found
    start = {0.0: controls[NONE]} if NONE in controls else {}
    lines = {scorer: tuple(sorted((start | line).items())) for scorer, line in points.items()}
    words = {NONE: "unpruned", BASE: "base model"}
    return lines, {words.get(label, label): found for label, found in controls.items()}


def _fall(panel: tuple[Mapping[str, Line], Mapping[str, Interval]]) -> str:
    """What utility does, from the scorers' means at the largest share."""
    lines, levels = panel
    last = [line[-1][1].mean for scorer, line in lines.items() if scorer != "random"]
    last = last or [line[-1][1].mean for line in lines.values()]
    tau = max(line[-1][0] for line in lines.values())
    before = f" from {levels['unpruned'].mean:.0%}" if "unpruned" in levels else ""
    low, high = f"{min(last):.0%}", f"{max(last):.0%}"
    return f"Utility{before} to {low if low == high else f'{low} – {high}'} at τ {tau:.0%}"
