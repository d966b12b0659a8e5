"""Attack success against utility: a marker a policy, those on the Pareto front joined and named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from s3lora_serve.evaluation.report.chart_axes import (
    SMALL,
    blank,
    cut,
    grid,
    legend,
    other_scripts,
    percent,
    title,
)
from s3lora_serve.evaluation.report.palette import BASE, INK, PAPER, looks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from s3lora_serve.evaluation.statistics.intervals import Interval

# Where a label may stand beside its marker, in points, the first that is free is taken.
_PLACES = [
    (dx * far, dy * far)
    for far in (1.0, 2.0, 3.2)
    for dx, dy in ((8, 0), (6, 7), (6, -7), (-8, 0), (-6, 7), (-6, -7), (0, 10), (0, -10))
]


@dataclass(frozen=True)
class Point:
    """One policy's place; ``scorer`` is None for the controls."""

    label: str
    scorer: str | None
    attack: Interval
    utility: Interval


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats by its means, from the safest on: none is as good in both and better
    in one. Points in the same place are all in it or all not."""
    return sorted(
        (p for p in points if not any(_beats(q, p) for q in points)),
        key=lambda p: (p.attack.mean, p.utility.mean, p.label),
    )


def pareto_chart(points: Sequence[Point], heading: str, utility: str, marked: Collection[str] = ()) -> Figure:
    """Markers at the means with their intervals as thin bars; controls large, the front joined and named.

    Policies labelled as in ``marked`` are named, too. A label that would lie on another one, or outside, is
    left out: name the front in the text, too.
    """
    figure, (axes,) = blank(5.2)
    on_front = front(points)
    named = [
        *(p for p in points if p.scorer is None),
        *on_front,
        *(p for p in points if p.label in marked and p not in on_front),
    ]
    for point in points:
        _draw(axes, point, strong=point in named)
    axes.plot(
        [p.attack.mean for p in on_front],
        [p.utility.mean for p in on_front],
        drawstyle="steps-post",
        color=INK,
        lw=1,
        ls=(0, (4, 3)),
        zorder=1,
    )
    grid(axes)
    percent(
        axes,
        x=[x for p in points for x in (p.attack.mean, p.attack.low, p.attack.high)],
        y=[y for p in points for y in (p.utility.mean, p.utility.low, p.utility.high)],
    )
    axes.set_xlabel("attack success  ←  lower is better")
    axes.set_ylabel(f"{cut(utility)}  →  higher is better", parse_math=False)
    title(axes, heading)
    _legend(figure, points)
    _name(figure, axes, points, named)
    return figure


def _beats(one: Point, other: Point) -> bool:
    a, b = (one.attack.mean, -one.utility.mean), (other.attack.mean, -other.utility.mean)
    return a != b and a[0] <= b[0] and a[1] <= b[1]


def _look(point: Point) -> tuple[str, str]:
    if point.scorer is None:
        return (BASE, "p") if point.label == "base" else (INK, "*")
    return looks(point.scorer)[:2]


def _draw(axes: Axes, point: Point, *, strong: bool) -> None:
    colour, marker = _look(point)
    x, y = point.attack, point.utility
    axes.plot([x.low, x.high], [y.mean] * 2, color=colour, lw=0.8, alpha=0.8 if strong else 0.25, zorder=2)
    axes.plot([x.mean] * 2, [y.low, y.high], color=colour, lw=0.8, alpha=0.8 if strong else 0.25, zorder=2)
    axes.plot(
        x.mean,
        y.mean,
        marker,
        color=colour,
        markersize=13 if marker == "*" else 10 if point.scorer is None else 8 if strong else 5.5,
        markeredgecolor=PAPER,
        markeredgewidth=0.8,
        alpha=1.0 if strong else 0.6,
        zorder=4 if strong else 3,
    )


def _legend(figure: Figure, points: Sequence[Point]) -> None:
    handles = []
    for scorer in dict.fromkeys(p.scorer for p in points if p.scorer is not None):
        colour, marker, _ = looks(scorer)
        handles.append(Line2D([], [], color=colour, marker=marker, ls="", markersize=7, label=cut(scorer)))
    handles.append(Line2D([], [], color=INK, lw=1, ls=(0, (4, 3)), label="Pareto front"))
    legend(figure, handles)


def _name(figure: Figure, axes: Axes, points: Sequence[Point], named: Iterable[Point]) -> None:
    """Write labels where they cover no marker and no other label; points in one place share one."""
    shared: dict[tuple[float, float], list[str]] = {}
    for point in named:
        names = shared.setdefault((point.attack.mean, point.utility.mean), [])
        if point.label not in names:
            names.append(point.label)
    with other_scripts():
        figure.draw_without_rendering()
        size = 5 * figure.dpi / 72
        dots = axes.transData.transform([(p.attack.mean, p.utility.mean) for p in points])
        _place(axes, shared, [Bbox.from_extents(x - size, y - size, x + size, y + size) for x, y in dots])


def _place(axes: Axes, shared: Mapping[tuple[float, float], Sequence[str]], taken: list[Bbox]) -> None:
    """Each label in the first place that is inside and free of the boxes ``taken``, to which it is added."""
    for (x, y), names in shared.items():
        wording = cut(", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else ""))
        text = axes.annotate(
            wording,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            size=SMALL,
            color=INK,
            zorder=6,
            parse_math=False,
            bbox={"facecolor": PAPER, "alpha": 0.75, "lw": 0, "pad": 0.5},
        )
        text.set_in_layout(False)
        for dx, dy in _PLACES:
            text.set_position((dx, dy))
            text.set_horizontalalignment("left" if dx > 0 else "right" if dx < 0 else "center")
            text.set_verticalalignment(
                "bottom" if dy > 0 and not dx else "top" if dy < 0 and not dx else "center"
            )
            box = text.get_window_extent().padded(1)
            if (
                axes.bbox.contains(*box.min)
                and axes.bbox.contains(*box.max)
                and not box.count_overlaps(taken)
            ):
                taken.append(box)
                break
        else:
            text.remove()
