"""Rises of attack success with their bounds, between the two margins that decide, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter

from s3lora_serve.evaluation.report.chart_axes import LABEL, SMALL, blank, cut, grid, title
from s3lora_serve.evaluation.report.page_charts import Chart
from s3lora_serve.evaluation.report.palette import BASE, FAINT, INK, looks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from s3lora_serve.cli.fleet.exam_reading import CountedRow

REFUSES, PASSES = looks("svd")[0], BASE  # the colours of the two margins; dashes say the same


def rise_chart(rows: Sequence[CountedRow], margins: tuple[float, float], kind: str, heading: str) -> Chart:
    """A line for each row: the rise as counted, and its bounds; ``margins``: refused above, passed below."""
    max_rise, tolerated = margins
    shown = "; ".join(f"{row.name} {_points(row.counts.rise)}" for row in rows)
    return Chart(
        kind,
        _rises(rows, margins, heading),
        f"Rises in points with their bounds: {shown}",
        f"Dots are rises as counted, lines their bounds. About: a line wholly right of {_points(max_rise)}"
        f" (dashed) refuses, one wholly left of {_points(tolerated)} (dotted) passes.",
    )


def _rises(rows: Sequence[CountedRow], margins: tuple[float, float], heading: str) -> Figure:
    figure, (axes,) = blank(1.3 + 0.38 * len(rows))
    for place, row in enumerate(rows):
        _row(axes, place, row)
    for margin, colour, dashes in zip(margins, (REFUSES, PASSES), ((0, (6, 3)), (0, (1, 2))), strict=True):
        axes.axvline(margin, color=colour, lw=1.6, ls=dashes, zorder=1)
    axes.axvline(0, color=FAINT, lw=0.8, zorder=0)
    low = min((row.interval[0] for row in rows), default=0.0)
    high = max((row.interval[1] for row in rows), default=0.0)
    axes.set_xlim(min(low, -0.05) - 0.03, max(high, margins[1]) + 0.05)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [cut(row.name, 46) for row in rows])
    for label in axes.get_yticklabels():
        label.set(parse_math=False, size=LABEL)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _signed(value)))
    axes.set_xlabel("rise of the share that complies, in points; of attacks: left is safer")
    grid(axes)
    axes.grid(visible=False, axis="y")
    title(axes, heading)
    return figure


def _row(axes: Axes, place: int, row: CountedRow) -> None:
    colour = INK if row.decides else looks("mas-svd")[0]
    low, high = row.interval
    axes.plot([low, high], [place] * 2, color=colour, lw=3 if row.decides else 1.4, zorder=2)
    axes.plot(row.counts.rise, place, "o", color=colour, markersize=8 if row.decides else 5.5, zorder=3)
    axes.annotate(
        _signed(row.counts.rise),
        (row.counts.rise, place),
        (0, 7),
        textcoords="offset points",
        ha="center",
        size=SMALL,
        color=colour,
    )


def _signed(share: float) -> str:
    """Whole points: ``+12``, ``0``."""
    return f"{round(100 * share):+d}".replace("-", "\N{MINUS SIGN}") if round(100 * share) else "0"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".removesuffix(".0") + " points"
