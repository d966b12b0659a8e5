"""A plan as a picture: steps as boxes, a column for what can run together, arrows from result to use."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

from planners.step import REFERENCE
from s3lora_serve.cli.plan.plan_layout import BOX, Band, Node, layout
from s3lora_serve.storage.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from planners import Plan, PlanStep

WIDTH, SPACE = 2.15, 0.62  # of a box, and between two columns, in inches
TAG_WIDTH = 0.5
MARGIN, HEAD, BETWEEN = 0.25, 0.42, 0.3  # at the sides, above a band for its levels, and below a band
TITLE, NARROWEST = 0.75, 4.2
_INPUT_LINES = 3
_MOST_IN_LINE = 400  # characters, more than fit even of the narrowest
# Okabe and Ito's palette, told apart in every common form of colour blindness; tools beyond it share colours.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_LINE, _SHADE, _FAINT, _INK = "#5f6b7a", "#f3f5f8", "#6b7785", "#1d232b"
# matplotlib's own font lacks the scripts of East Asia; whichever of these is installed is used for them.
_WIDE = ("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Hiragino Sans", "Microsoft YaHei")
_FAMILY = ["DejaVu Sans", *(name for name in _WIDE if name in fontManager.get_font_names())]
_TITLE = FontProperties(family=_FAMILY, size=11, weight="bold")
_HEADING = FontProperties(family=_FAMILY, size=9, weight="bold")
_SMALL = FontProperties(family=_FAMILY, size=8)


def plan_figure(plan: Plan, title: str = "") -> Figure:
    """The plan's steps, left to right in the order in which they can run, and what each uses.

    Steps of one level share a column; many columns go on in a second band, where a tag such as ``#E3`` stands
    for a result from further up. Belongs to no GUI and to no global state; save it with ``savefig``. Raises
    ValueError for a plan that cannot run: a reference to a later step, or a repeated id.
    """
    bands = layout(plan)
    tags = TAG_WIDTH + SPACE if any(band.has_tags for band in bands) else 0.0
    columns = max((len(band.levels) for band in bands), default=1)
    whole = max(2 * MARGIN + tags + columns * (WIDTH + SPACE) - SPACE, NARROWEST)
    height = TITLE + sum(HEAD + band.height + BETWEEN for band in bands)
    figure = Figure(figsize=(whole, height), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, whole), ylim=(height, 0))  # one unit is one inch
    axes.axis("off")
    write = partial(axes.text, MARGIN, va="center", parse_math=False)
    write(0.3, _fit(printable(title), _TITLE, whole - 2 * MARGIN, 1)[0], fontproperties=_TITLE)
    write(0.56, _summary(plan), fontproperties=_SMALL, color=_FAINT)

    tools = dict.fromkeys(step.tool for step in plan.steps)
    colours = {tool: COLOURS[n % len(COLOURS)] for n, tool in enumerate(tools)}
    steps = {step.id: step for step in plan.steps}
    top = TITLE
    for band in bands:
        _draw_band(axes, band, (MARGIN + tags, top), steps, colours)
        top += HEAD + band.height + BETWEEN
    return figure


def _draw_band(
    axes: Axes,
    band: Band,
    corner: tuple[float, float],
    steps: dict[str, PlanStep],
    colours: dict[str, str],
) -> None:
    first = corner[1] + HEAD

    def left(column: int) -> float:
        return corner[0] + (column - 1) * (WIDTH + SPACE) if column else MARGIN

    _draw_levels(axes, band, corner[1], left)
    ends = {
        node: (left(node.column), left(node.column) + _width(node), first + y) for node, y in band.y.items()
    }
    entries = _entries(band, ends)
    for line in band.lines:
        _draw_line(axes, line, ends, entries[line[-2:]])
    for node, (x, _, y) in ends.items():
        if node.is_step:
            _draw_step(axes, steps[node.id], x, y, colours[steps[node.id].tool])
        elif node.column == 0:
            axes.text(
                x + TAG_WIDTH, y, node.id, size=8, color=_FAINT, ha="right", va="center", parse_math=False
            )


def _draw_levels(axes: Axes, band: Band, top: float, left: Callable[[int], float]) -> None:
    """A shade under the columns of each level, and above it which one it is."""
    columns: dict[int, list[int]] = defaultdict(list)
    for column, level in enumerate(band.levels, start=1):
        columns[level].append(column)
    for level, own in columns.items():
        x, end = left(own[0]) - 0.14, left(own[-1]) + WIDTH + 0.14
        axes.add_patch(
            Rectangle(
                (x, top), end - x, HEAD + band.height + 0.14, facecolor=_SHADE, edgecolor="none", zorder=0
            )
        )
        axes.text(x + 0.14, top + 0.2, f"level {level + 1}", size=7.5, color=_FAINT, va="center")


def _draw_step(axes: Axes, step: PlanStep, x: float, y: float, colour: str) -> None:
    top = y - BOX / 2
    axes.add_patch(
        FancyBboxPatch(
            (x, top),
            WIDTH,
            BOX,
            boxstyle="round,pad=0,rounding_size=0.06",
            fc="white",
            ec=colour,
            lw=1.2,
            zorder=3,
        )
    )
    axes.add_patch(Rectangle((x + 0.02, top + 0.07), 0.06, BOX - 0.14, fc=colour, ec="none", zorder=4))
    write = partial(axes.text, va="center", zorder=5, parse_math=False)
    room = WIDTH - 0.3
    name = _fit(f"{step.id}  {step.tool}", _HEADING, room, 1)[0]
    write(x + 0.18, top + 0.17, name, fontproperties=_HEADING, color=colour)
    for n, line in enumerate(_fit(printable(step.tool_input), _SMALL, room, _INPUT_LINES)):
        write(x + 0.18, top + 0.39 + 0.175 * n, line, fontproperties=_SMALL, color=_INK)


def _draw_line(
    axes: Axes, line: tuple[Node, ...], ends: dict[Node, tuple[float, float, float]], entry: float
) -> None:
    """From right side to left side, level through the lanes between; drawn under the boxes."""
    vertices, codes = [(ends[line[0]][1], ends[line[0]][2])], [Path.MOVETO]
    for here, there in pairwise(line):
        x0, y0 = ends[here][1], ends[here][2]
        x1, y1 = ends[there][0], entry if there is line[-1] else ends[there][2]
        middle = (x0 + x1) / 2
        vertices += [(middle, y0), (middle, y1), (x1, y1)]
        codes += [Path.CURVE4] * 3
        if there is not line[-1]:
            vertices.append((ends[there][1], y1))
            codes.append(Path.LINETO)
    # The head is drawn by itself, since matplotlib shortens a path of curves at the wrong place.
    axes.add_patch(FancyArrowPatch(path=Path(vertices, codes), arrowstyle="-", color=_LINE, lw=0.9, zorder=1))
    x, y = vertices[-1]
    axes.fill([x, x - 0.1, x - 0.1], [y, y - 0.045, y + 0.045], color=_LINE, lw=0, zorder=2)


def _entries(band: Band, ends: dict[Node, tuple[float, float, float]]) -> dict[tuple[Node, ...], float]:
    """Where each line meets its step: spread over the left side in the order in which they come."""
    coming: dict[Node, list[tuple[Node, ...]]] = defaultdict(list)
    for line in band.lines:
        coming[line[-1]].append(line[-2:])
    found = {}
    for node, pairs in coming.items():
        step = min(0.16, 0.8 * BOX / len(pairs))
        for n, pair in enumerate(sorted(pairs, key=lambda pair: ends[pair[0]][2])):
            found[pair] = ends[node][2] + step * (n - (len(pairs) - 1) / 2)
    return found


def _summary(plan: Plan) -> str:
    levels = len(plan.levels())
    steps = f"{len(plan.steps)} step{'s' * (len(plan.steps) != 1)} in {levels} level{'s' * (levels != 1)}"
    meta = plan.meta
    if meta is None:
        return steps
    engine = "" if meta.engine in (None, "vllm") else f", engine: {printable(meta.engine)}"
    return f"{steps}, {printable(meta.planner)} {meta.revision[:12]}{engine}"


def _width(node: Node) -> float:
    return WIDTH if node.column else TAG_WIDTH + 0.04


def _fit(text: str, font: FontProperties, room: float, most: int) -> list[str]:
    """The text in at most ``most`` lines that fit ``room`` inches, broken at blanks if possible, else cut."""
    lines: list[str] = []
    rest = text[: most * _MOST_IN_LINE]  # measuring takes longer the longer it is
    while rest and len(lines) < most:
        last = len(lines) == most - 1
        if _inches(rest, font) <= room:
            lines.append(rest)
            break
        # Widths grow with the text, so the longest beginning that fits is found by halving.
        low, high = 1, len(rest)
        while low + 1 < high:
            half = (low + high) // 2
            fits = _inches(rest[:half] + "…" * last, font) <= room
            low, high = (half, high) if fits else (low, half)
        # "#E1…" would name another step than "#E12".
        cut = next(
            (found.start() for found in REFERENCE.finditer(rest) if 0 < found.start() < low < found.end()),
            low,
        )
        if last:
            lines.append(rest[:cut].rstrip() + "…")
            break
        blank = rest.rfind(" ", 1, cut + 1)
        cut = blank if blank > cut // 2 else cut
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return lines or [""]


def _inches(text: str, font: FontProperties) -> float:
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72
