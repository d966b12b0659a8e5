"""Axes as all charts of the report have them: wide as its page, quiet, shares in per cent."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from s3lora_serve.evaluation.report.palette import FAINT, GRID, INK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

WIDTH = 9.6  # inches of a chart as wide as the page
LABEL, SMALL = 9, 8  # points
MAX_NAME = 40
_MAX_TITLE = 110
_IN_LINE = 9  # entries of a legend


def blank(height: float, columns: int = 1, *, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure of ``columns`` axes side by side; belongs to no GUI and to no global state."""
    figure = Figure(figsize=(width, height), dpi=150)
    figure.set_layout_engine("constrained")
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for each in axes:
        each.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color(FAINT)
        each.set_axisbelow(True)
        each.xaxis.label.set(color=INK, size=LABEL)
        each.yaxis.label.set(color=INK, size=LABEL)
    return figure, axes


def grid(axes: Axes) -> None:
    """Faint lines at the ticks."""
    axes.grid(color=GRID, lw=0.7)


def title(axes: Axes, text: str) -> None:
    """What one sees, in bold over the left edge."""
    wording = cut(text, _MAX_TITLE)
    axes.set_title(wording, loc="left", fontsize=LABEL + 1, weight="bold", color=INK, parse_math=False)


def percent(axes: Axes, *, x: Iterable[float] | None = None, y: Iterable[float] | None = None) -> None:
    """Shares as per cent, over the range of the given values with some room, at most from 0 to 1."""
    if x is not None:
        axes.set_xlim(*_room(x))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
    if y is not None:
        axes.set_ylim(*_room(y))
        axes.yaxis.set_major_formatter(PercentFormatter(1))


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Below the axes, in as few lines as fit."""
    lines = -(-len(handles) // _IN_LINE)
    drawn = figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=-(-len(handles) // max(lines, 1)) or 1,
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
    )
    for text in drawn.get_texts():
        text.set_parse_math(False)


@contextmanager
def other_scripts() -> Iterator[None]:
    """No warning for names in scripts that matplotlib's font lacks: the reader's browser has others."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def cut(name: str, most: int = MAX_NAME) -> str:
    """A name short enough for a label."""
    return name if len(name) <= most else name[: most - 1] + "…"


def _room(values: Iterable[float]) -> tuple[float, float]:
    shown = list(values) or [0.0, 1.0]
    low, high = min(shown), max(shown)
    room = max(0.08 * (high - low), 0.02)
    return max(low - room, -0.03), min(high + room, 1.03)
