"""ROC curves of several scores as one picture, in the look of the report's charts."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from roc import auc_interval, roc

from s3lora_serve.evaluation.report.chart_axes import SMALL, blank, cut, grid, percent, title
from s3lora_serve.evaluation.report.palette import INK, RANDOM, looks
from s3lora_serve.spectral.scorers import SCORERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.figure import Figure

    from s3lora_serve.evaluation.report.palette import Dashes


def roc_chart(curves: Mapping[str, tuple[Sequence[float], Sequence[bool]]], heading: str) -> Figure:
    """ROC curves by name from (scores, labels), each with the area under it and that area's interval."""
    figure, (axes,) = blank(4.8, width=7.2)
    axes.plot([0, 1], [0, 1], color=RANDOM, lw=1, ls=(0, (1, 1)), label="chance: 0.50", zorder=1)
    styles = _in_turn(curves)
    for name, (scores, labels) in curves.items():
        fpr, tpr, _ = roc(scores, labels)
        area = auc_interval(scores, labels)
        colour, dashes = styles[name]
        wording = f"{cut(name)}: {area.mean:.2f} [{area.low:.2f}, {area.high:.2f}]"
        axes.plot(fpr, tpr, color=colour, ls=dashes, lw=1.8, label=wording, zorder=3)
    axes.set_aspect("equal")
    grid(axes)
    percent(axes, x=[0, 1], y=[0, 1])
    axes.set_xlabel("good ones flagged (false positive rate)")
    axes.set_ylabel("bad ones flagged (true positive rate)")
    title(axes, heading)
    figure.legend(
        loc="outside right upper",
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        title="area under the curve [interval]",
        title_fontsize=SMALL,
    ).get_title().set_color(INK)
    return figure


def _in_turn(names: Iterable[str]) -> dict[str, tuple[str, Dashes]]:
    """Colour and dashes of each of several things that are no scorers, told apart in one chart."""
    every = [looks(scorer) for scorer in (*SCORERS, "another") if scorer != "random"]
    return dict(zip(names, cycle((colour, dashes) for colour, _, dashes in every), strict=False))
