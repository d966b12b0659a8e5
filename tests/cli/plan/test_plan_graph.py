"""Pictures of plans: every step in its place, no text over another, no line through a box."""

from __future__ import annotations

import random
from itertools import combinations, pairwise

import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.text import Text

from planners import Plan, PlanStep
from s3lora_serve.cli.plan.plan_graph import plan_figure
from s3lora_serve.cli.plan.plan_layout import MOST_COLUMNS, MOST_ROWS, layout

TOOLS = ("Search", "LLM", "Calculator")


def make(count: int, uses, text: str = "where the director of that film was born, and in which year") -> Plan:
    """A plan of so many steps; ``uses(n)`` are the numbers of those that step n uses."""
    steps = []
    for n in range(1, count + 1):
        given = "".join(f" #E{m}" for m in uses(n))
        steps.append(PlanStep(id=f"#E{n}", thought="Go on.", tool=TOOLS[n % 3], tool_input=text + given))
    return Plan(steps=tuple(steps))


def at_random(seed: int) -> Plan:
    """32 steps, each of which uses up to three earlier ones."""
    rng = random.Random(seed)
    return make(32, lambda n: rng.sample(range(1, n), min(n - 1, rng.choice((0, 1, 1, 2, 3)))))


PLANS = {
    "one": make(1, lambda n: ()),
    "four": make(4, lambda n: {3: (1, 2), 4: (1, 3)}.get(n, ())),
    "side by side": make(32, lambda n: ()),
    "one after the other": make(32, lambda n: range(max(n - 1, 1), n)),
    "each uses all": make(32, lambda n: range(1, n)),
    "known before": make(3, lambda n: (90, 91)),
    "long words": make(3, lambda n: range(1, n), "W" * 240),
    "formulas and brackets": make(2, lambda n: range(1, n), r"$x^2$ costs $5 \frac {a} % & _ {b: 'c'}"),
    **{f"at random {seed}": at_random(seed) for seed in range(3)},
}
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)


@every_plan
def test_texts_keep_apart_and_in_their_boxes(plan):
    """No text touches another one, and none leaves the picture or the box that it begins in."""
    figure = plan_figure(plan, "Who was born first, and how many years before the other one? " * 3)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    texts = {text: text.get_window_extent() for text in axes.findobj(Text) if text.get_text()}
    touching = [pair for pair in combinations(texts, 2) if texts[pair[0]].overlaps(texts[pair[1]])]
    assert [(above.get_text(), below.get_text()) for above, below in touching] == []
    boxes = [box.get_window_extent() for box in axes.patches if isinstance(box, FancyBboxPatch)]
    assert len(boxes) == len(plan.steps)
    for text, extent in texts.items():
        inside = [box for box in boxes if box.contains(extent.x0, extent.y0 + extent.height / 2)]
        around = inside[0] if inside else figure.bbox
        assert around.x0 <= extent.x0 < extent.x1 <= around.x1, text.get_text()
        assert around.y0 <= extent.y0 < extent.y1 <= around.y1, text.get_text()


@every_plan
def test_every_use_has_a_line_and_every_step_a_place(plan):
    """Each step is in a column of its level, right of what it uses; nothing in a column overlaps."""
    bands = layout(plan)
    level = {step.id: n for n, steps in enumerate(plan.levels()) for step in steps}
    placed = {node.id: band.levels[node.column - 1] for band in bands for node in band.y if node.is_step}
    assert placed == level
    drawn = [(line[0].id, line[-1].id) for band in bands for line in band.lines]
    assert sorted(drawn) == sorted((ref, step.id) for step in plan.steps for ref in step.depends_on)
    for band in bands:
        assert len(band.levels) <= MOST_COLUMNS
        for line in band.lines:
            assert [there.column - here.column for here, there in pairwise(line)] == [1] * (len(line) - 1)
        for column in range(len(band.levels) + 1):
            nodes = sorted((node for node in band.y if node.column == column), key=band.y.__getitem__)
            assert sum(node.is_step for node in nodes) <= MOST_ROWS
            for above, below in pairwise(nodes):
                assert band.y[below] - band.y[above] > (above.height + below.height) / 2


@every_plan
def test_lines_pass_no_box(plan):
    """A line ends at the boxes that it connects, and meets no other one."""
    figure = plan_figure(plan)
    (axes,) = figure.axes
    boxes = [box.get_path().get_extents() for box in axes.patches if isinstance(box, FancyBboxPatch)]
    lines = [line.get_path() for line in axes.patches if isinstance(line, FancyArrowPatch)]
    assert len(lines) == sum(len(step.depends_on) for step in plan.steps)
    for line in lines:
        (curve,) = line.to_polygons(closed_only=False)
        points = Path(curve).interpolated(8).vertices
        for box in boxes:
            inner = [box.x0 + 0.02 < x < box.x1 - 0.02 and box.y0 < y < box.y1 for x, y in points]
            assert not any(inner)


def test_a_picture_stays_within_what_a_page_shows():
    """32 steps, however they depend, are at most three times as high as wide, or the other way round."""
    for name in ("side by side", "one after the other", "at random 1"):
        width, height = plan_figure(PLANS[name]).get_size_inches()
        assert max(width / height, height / width) < 3, name


def test_a_cut_input_never_names_another_step():
    """What is cut off before the end of #E12 would read as #E1."""
    for blanks in range(14):
        plan = make(1, lambda n: (), "x" * blanks + " #E12345678" * 30)
        shown = {text.get_text() for text in plan_figure(plan).axes[0].texts}
        words = {word for line in shown for word in line.replace("…", " ").split() if word.startswith("#")}
        assert words <= {"#E1", "#E12345678"}
        assert sum(line.count("#E1…") for line in shown) == 0


def test_a_plan_that_cannot_run_is_refused():
    """With a reference to a later step there is no order to draw."""
    steps = (
        PlanStep(id="#E1", thought="Go.", tool="LLM", tool_input="#E2"),
        PlanStep(id="#E2", thought="On.", tool="LLM", tool_input="x"),
    )
    with pytest.raises(ValueError, match="#E1 refers to #E2"):
        plan_figure(Plan(steps=steps))
