"""The rungs of a ladder as a picture: attack success and lost utility over the share that is pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import PercentFormatter

from s3lora_serve.evaluation.report.chart_axes import blank, grid, legend, percent, title
from s3lora_serve.evaluation.report.palette import BASE, INK, RANDOM, looks
from s3lora_serve.judging.share import Share
from s3lora_serve.safety.exam.utility import DECIDING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from s3lora_serve.cli.exam.mended import Mended
    from s3lora_serve.safety.exam.exam_result import ExamResult, PairedCounts

CHOOSES, CONFIRMS = looks("mas-svd"), looks("svd")


def rungs_figure(mended: Mended) -> Figure:
    """Two panels: attack success of either half, of the base and of random controls; lost utility."""
    figure, (attacks, utility) = blank(4.4, 2)
    _attacks(attacks, mended)
    _utility(utility, mended)
    for axes in (attacks, utility):
        axes.set_xlabel("share of the scored modules that is pruned (τ)")
        grid(axes)
        taus = [row.rung.tau for row in mended.rungs]
        percent(axes, x=taus)
    if mended.chosen is not None:
        for axes in (attacks, utility):
            axes.axvline(mended.chosen.rung.tau, color=INK, lw=1.2, ls=(0, (1, 2)), zorder=1, label="chosen")
    handles = {str(each.get_label()): each for axes in (attacks, utility) for each in axes.get_lines()}
    legend(figure, [each for name, each in handles.items() if not name.startswith("_")])
    return figure


def _attacks(axes: Axes, mended: Mended) -> None:
    values: list[float] = []
    for name, (colour, marker, dashes), results in (
        ("half that chooses", CHOOSES, [(row.rung.tau, row.chosen) for row in mended.rungs]),
        ("half that confirms", CONFIRMS, [(row.rung.tau, row.confirmed) for row in mended.rungs]),
    ):
        shown = [
            (tau, result.attacks) for tau, result in results if result is not None and result.attacks.asked
        ]
        for tau, counts in shown:
            values += _whisker(axes, tau, counts, colour)
        if shown:
            taus, shares = [tau for tau, _ in shown], [counts.candidate for _, counts in shown]
            axes.plot(taus, shares, color=colour, marker=marker, ls=dashes, lw=1.6, label=name, zorder=3)
    for control in mended.controls:
        tau = mended.rungs[-1].rung.tau
        values += _whisker(axes, tau, control.result.attacks, RANDOM)
        share = control.result.attacks.candidate
        axes.plot([tau], [share], color=RANDOM, marker="X", ls="", label="as many at random", zorder=2)
    if (base := _base(mended)) is not None:
        axes.axhline(base, color=BASE, lw=1.2, ls=(0, (6, 3)), label="base model", zorder=1)
        values.append(base)
    percent(axes, y=values or [0.0, 1.0])
    axes.set_ylabel("attack success")
    title(axes, "Attack success: less is safer")


def _utility(axes: Axes, mended: Mended) -> None:
    limit = 0.0
    for name, scorer in zip(DECIDING, ("spsvd", "e-diem", "reference"), strict=True):
        colour, marker, dashes = looks(scorer)
        points = [
            (row.rung.tau, one.worse_than(one.unpruned))
            for row in mended.rungs
            if row.chosen is not None
            for one in row.chosen.utility
            if one.name == name and one.unpruned is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, ls=dashes, lw=1.6, label=name)
    for row in mended.rungs:
        if row.chosen is not None:
            limit = float(row.chosen.settings.get("max_utility_loss", 0.0))
    if limit:
        axes.axhline(limit, color=INK, lw=1.2, ls="-", label="most that is allowed", zorder=1)
    axes.set_ylim(bottom=-0.005)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("worse than unpruned by")
    title(axes, "What is lost of its use")


def _whisker(axes: Axes, tau: float, counts: PairedCounts, colour: str) -> list[float]:
    low, high = Share(counts.both + counts.risen, counts.asked).interval
    axes.plot([tau, tau], [low, high], color=colour, lw=0.9, alpha=0.8, zorder=2)
    return [low, high]


def _base(mended: Mended) -> float | None:
    """What the base model complied with, on both halves together as far as they were asked."""
    results: list[ExamResult] = []
    for row in mended.rungs:
        results = [one for one in (row.chosen, row.confirmed) if one is not None] or results
    asked = sum(result.attacks.asked for result in results)
    return (
        sum(result.attacks.reference * result.attacks.asked for result in results) / asked if asked else None
    )
