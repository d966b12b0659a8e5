"""Where the boxes of a plan's picture go: columns by level, in bands, and no line through a box."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from planners import Plan

MOST_ROWS = 8  # boxes in a column; a level with more gets several columns beside each other
MOST_COLUMNS = 6  # columns in a band; more go on in the next band, as text does in the next line
BOX, TAG, LANE = 0.92, 0.3, 0.12  # heights, in inches
GAP = 0.2  # between two nodes of a column, in inches
_SWEEPS = 12


@dataclass(frozen=True)
class Node:
    """Something with a place in a column: a step, a tag for a result from elsewhere, or a line passing by."""

    id: str  # of the step that it is, or whose result it carries
    column: int  # tags are in column 0, steps from 1 on
    height: float
    is_step: bool = False


@dataclass(frozen=True)
class Band:
    """One row of columns. ``y`` is each node's centre in inches, downwards from the band's top."""

    levels: tuple[int, ...]  # of each column, the first column first; counted from 0
    y: Mapping[Node, float]
    lines: tuple[tuple[Node, ...], ...]  # from a result to a step that uses it, column by column
    height: float

    @property
    def has_tags(self) -> bool:
        """Whether a step uses a result from an earlier band or from before the plan."""
        return any(node.column == 0 for node in self.y)


def layout(plan: Plan) -> tuple[Band, ...]:
    """Every step's place. Raises ValueError for a plan with a cycle or a repeated id, see Plan.levels."""
    columns: list[tuple[int, tuple[str, ...]]] = []
    for level, steps in enumerate(plan.levels()):
        parts = -(-len(steps) // MOST_ROWS)
        columns += [(level, tuple(s.id for s in steps[part::parts])) for part in range(parts)]
    needs = {step.id: step.depends_on for step in plan.steps}
    count = -(-len(columns) // MOST_COLUMNS)
    size = -(-len(columns) // max(count, 1))
    return tuple(_band(columns[at : at + size], needs) for at in range(0, len(columns), max(size, 1)))


def _band(columns: Sequence[tuple[int, tuple[str, ...]]], needs: Mapping[str, Sequence[str]]) -> Band:
    at = {id_: column for column, (_, ids) in enumerate(columns, start=1) for id_ in ids}
    users: dict[str, list[str]] = defaultdict(list)
    for id_ in at:
        for source in needs[id_]:
            users[source].append(id_)
    nodes = {id_: Node(id_, column, BOX, is_step=True) for id_, column in at.items()}
    grid: list[list[Node]] = [[] for _ in range(len(columns) + 1)]
    lines = []
    for source, targets in users.items():
        start = nodes.get(source) or Node(source, 0, TAG)
        if start.column == 0:
            grid[0].append(start)
        # One lane for each result, shared by all steps that use it: fewer lines cross.
        last = max(at[target] for target in targets)
        lanes = {column: Node(source, column, LANE) for column in range(start.column + 1, last)}
        for column, lane in lanes.items():
            grid[column].append(lane)
        for target in targets:
            between = tuple(lanes[column] for column in range(start.column + 1, at[target]))
            lines.append((start, *between, nodes[target]))
    for node in nodes.values():
        grid[node.column].append(node)
    links = {pair for line in lines for pair in pairwise(line)}
    y = _places(grid, links)
    top = min(y[node] - node.height / 2 for node in y)
    y = {node: value - top for node, value in y.items()}
    height = max(y[node] + node.height / 2 for node in y)
    return Band(tuple(level for level, _ in columns), y, tuple(lines), height)


def _places(grid: list[list[Node]], links: set[tuple[Node, Node]]) -> dict[Node, float]:
    """Heights at which linked nodes are close to each other (barycentres, swept both ways)."""
    before, after = defaultdict(list), defaultdict(list)
    for left, right in sorted(links, key=lambda link: (link[0].id, link[1].id, link[0].column)):
        before[right].append(left)
        after[left].append(right)
    y: dict[Node, float] = {}
    for column in grid:
        _stack(column, dict.fromkeys(column, 0.0), y)
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        near = before if forth else after
        for column in grid if forth else reversed(grid):
            wish = {node: _mean(near[node], y.__getitem__, y[node]) for node in column}
            column.sort(key=wish.__getitem__)
            _stack(column, wish, y)
    return y


def _stack(column: Sequence[Node], wish: Mapping[Node, float], y: dict[Node, float]) -> None:
    """Place each node at its wish, or as near below it as those above leave room; all share the rest."""
    low = float("-inf")
    for node in column:
        y[node] = max(wish[node], low + node.height / 2)
        low = y[node] + node.height / 2 + GAP
    if column:
        shift = sum(wish[node] - y[node] for node in column) / len(column)
        for node in column:
            y[node] += shift


def _mean(nodes: Sequence[Node], value: Callable[[Node], float], default: float) -> float:
    return sum(map(value, nodes)) / len(nodes) if nodes else default
