"""A plan as a picture: a column for what can run together, arrows from a result to the steps that use it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path

from s3lora_serve.cli.plan.plan_graph import LINE, edges, wrap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from planners import Plan

    Node = tuple[str, int]  # a step in its column, or its result where it passes another one

# In inches. Every character of a fixed-width font is 0.602 of its size wide: lines of LINE cells fit a box.
WIDTH, BOX, SPACE, LANE, GAP, MARGIN, TOP = 2.1, 0.84, 0.6, 0.06, 0.2, 0.25, 1.2
CELL = 0.602 / 72
_TEXT, _TITLE = 8, 11  # points
# Okabe and Ito's palette, told apart in every common form of colour blindness; tools beyond it share colours.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_EDGE, _SHADE, _FAINT, _INK = "#5f6b7a", "#f3f5f8", "#6b7785", "#1d232b"
# matplotlib's own font lacks the scripts of East Asia; whichever of these is installed is used for them.
_WIDE = ("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Hiragino Sans", "Microsoft YaHei")


def plan_figure(plan: Plan, title: str = "") -> Figure:
    """The plan's steps, left to right in the order in which they can run, and what each uses.

    Belongs to no GUI and to no global state; save it with ``savefig``. Raises ValueError for a plan that
    cannot run: a reference to a later step, or a repeated id.
    """
    columns, y = place(plan)
    levels = len(plan.levels())
    width = max(2 * MARGIN + len(columns) * (WIDTH + SPACE) - SPACE, 2 * WIDTH)
    height = TOP + max((value + BOX / 2 for value in y.values()), default=0.0) + MARGIN
    figure = Figure(figsize=(width, height), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))  # one unit is one inch
    axes.axis("off")
    room = int((width - 2 * MARGIN) / (_TITLE * CELL))
    _write(axes, MARGIN, 0.3, *wrap(title, room, 1), size=_TITLE, weight="bold")
    facts = f"{len(plan.steps)} step{'s' * (len(plan.steps) != 1)} in {levels} level{'s' * (levels != 1)}"
    if plan.meta is not None:
        engine = "" if plan.meta.engine in (None, "vllm") else f", engine: {plan.meta.engine}"
        facts += f", {plan.meta.planner} {plan.meta.revision[:12]}{engine}"
    _write(axes, MARGIN, 0.56, *wrap(facts, int((width - 2 * MARGIN) / (_TEXT * CELL)), 1), color=_FAINT)
    for level in range(levels):
        x = _left(len(columns) - levels + level)
        shade = Rectangle((x - 0.12, TOP - 0.42), WIDTH + 0.24, height - TOP + 0.3, fc=_SHADE, zorder=0)
        axes.add_patch(shade)
        _write(axes, x, TOP - 0.24, f"level {level + 1}", color=_FAINT)
    _draw_edges(axes, plan, columns, y)
    tools = list(dict.fromkeys(step.tool for step in plan.steps))
    steps = {step.id: step for step in plan.steps}
    for node in _ends(columns).values():
        x, middle = _left(node[1]), TOP + y[node]
        if (step := steps.get(node[0])) is None:
            _write(axes, x + WIDTH, middle, node[0], color=_FAINT, ha="right")
            continue
        colour, top = COLOURS[tools.index(step.tool) % len(COLOURS)], middle - BOX / 2
        style = "round,pad=0,rounding_size=0.06"
        axes.add_patch(FancyBboxPatch((x, top), WIDTH, BOX, style, fc="white", ec=colour, lw=1.2, zorder=3))
        name = wrap(f"{step.id} {step.tool}", LINE, 1)
        _write(axes, x + 0.1, top + 0.17, *name, color=colour, weight="bold", zorder=4)
        _write(axes, x + 0.1, top + 0.36, *wrap(step.tool_input, LINE, 3), color=_INK, zorder=4)
    return figure


def place(plan: Plan) -> tuple[list[list[Node]], dict[Node, float]]:
    """The columns, each from the top, and each node's height. A result that passes a column has a lane there.

    What is known before the plan is in a column before the first level. Raises ValueError as ``levels`` does.
    """
    levels = [[step.id for step in level] for level in plan.levels()]
    known = sorted({needed for needed, _ in edges(plan)} - {id_ for level in levels for id_ in level})
    ids = [known, *levels] if known else levels
    at = {id_: column for column, names in enumerate(ids) for id_ in names}
    columns: list[list[Node]] = [[(id_, column) for id_ in names] for column, names in enumerate(ids)]
    before: dict[Node, list[Node]] = {}
    for source, target in edges(plan):
        for here, there in pairwise(_way(source, target, at)):
            if there not in before and there[0] == source:
                columns[there[1]].append(there)
            before.setdefault(there, []).append(here)
    y: dict[Node, float] = {}
    for column in columns:
        near = {node: [y[one] for one in before.get(node, ())] for node in column}
        column.sort(key=lambda node: sum(near[node]) / len(near[node]) if near[node] else 0.0)
        low = 0.0
        for node in column:
            high = BOX if at[node[0]] == node[1] else LANE
            y[node], low = low + high / 2, low + high + GAP
        for node in column:  # columns share their middle
            y[node] -= (low - GAP) / 2
    top = min(y.values(), default=0.0) - BOX / 2
    return columns, {node: value - top for node, value in y.items()}


def _way(source: str, target: str, at: Mapping[str, int]) -> list[Node]:
    return [*((source, column) for column in range(at[source], at[target])), (target, at[target])]


def _ends(columns: list[list[Node]]) -> dict[str, Node]:
    """Where each step is: in the first column that has its id, since lanes come after it."""
    return {id_: (id_, column) for column, nodes in reversed([*enumerate(columns)]) for id_, _ in nodes}


def _draw_edges(axes: Axes, plan: Plan, columns: list[list[Node]], y: Mapping[Node, float]) -> None:
    """Curves between columns, straight along lanes, under the boxes."""
    at = {id_: column for id_, (_, column) in _ends(columns).items()}
    for source, target in edges(plan):
        vertices, codes = [(_left(at[source]) + WIDTH, TOP + y[source, at[source]])], [Path.MOVETO]
        for (_, column), there in pairwise(_way(source, target, at)):
            x, here, height = _left(column) + WIDTH, vertices[-1][1], TOP + y[there]
            vertices += [(x, here), (x + SPACE / 2, here), (x + SPACE / 2, height), (x + SPACE, height)]
            codes += [Path.LINETO, *[Path.CURVE4] * 3]
        axes.add_patch(FancyArrowPatch(path=Path(vertices, codes), arrowstyle="-", color=_EDGE, lw=0.9))
        x, height = vertices[-1]
        axes.fill([x, x - 0.1, x - 0.1], [height, height - 0.045, height + 0.045], color=_EDGE, lw=0)


def _left(column: int) -> float:
    return MARGIN + column * (WIDTH + SPACE)


def _write(axes: Axes, x: float, y: float, *lines: str, size: int = _TEXT, **style: Any) -> None:
    families = ["DejaVu Sans Mono", *(name for name in _WIDE if name in fontManager.get_font_names())]
    for n, line in enumerate(lines):
        axes.text(x, y + n * 0.165, line, size=size, family=families, va="center", parse_math=False, **style)
