"""Pictures of plans: every step in its place, no text over another, no line through a box."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.text import Text
from plan_shapes import every_plan, make

from planners import Plan, PlanStep
from s3lora_serve.cli.plan.plan_picture import LANE, place, plan_figure


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
def test_every_use_has_a_way_and_every_step_a_place(plan):
    """Each step is in a column of its level, right of what it uses; nothing in a column overlaps."""
    columns, y = place(plan)
    before = len(columns) - len(plan.levels())
    at = {step.id: before + n for n, level in enumerate(plan.levels()) for step in level}
    assert set(at.items()) <= y.keys()
    assert all(at.get(needed, 0) < at[step.id] for step in plan.steps for needed in step.depends_on)
    for column in columns:
        for above, below in pairwise(column):
            assert y[below] - y[above] > LANE


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
