"""Plans as the text of graphs: every step and every use, and no text that acts as markup."""

from __future__ import annotations

import re

import pytest
from plan_shapes import every_plan, make

from planners import Plan, PlanStep
from s3lora_serve.cli.plan.plan_graph import dot, edges, markdown, mermaid

FORMS = {mermaid: ("-->", r'^  (E\d+)\["'), dot: ("->", r"^  (E\d+) \[label=")}
HOSTILE = """`</script>` "] --> E9 $$x$$ \\" end; {#quot;} <b>\u202e"""


@every_plan
@pytest.mark.parametrize("form", FORMS)
def test_every_step_is_a_box_and_every_use_an_arrow(plan, form):
    """Boxes in the order of the steps, named by their ids; arrows from a result to its users."""
    arrow, box = FORMS[form]
    text = form(plan, "a task")
    assert re.findall(box, text, re.M) == [step.id[1:] for step in plan.steps]
    arrows = re.findall(rf"^  (E\d+) {arrow} (E\d+);?$", text, re.M)
    assert arrows == [(a[1:], b[1:]) for a, b in edges(plan)]
    assert len(arrows) == sum(len(step.depends_on) for step in plan.steps)


def test_no_text_is_markup():
    """What a model or a user wrote stays a label: nothing closes it, and nothing invisible is left."""
    plan = Plan(steps=(PlanStep(id="#E1", thought="Go.", tool="LLM", tool_input=HOSTILE.replace("]", ")")),))
    flow, graph = mermaid(plan, HOSTILE), dot(plan, HOSTILE)
    (label,) = re.findall(r'^  E1\["(.*)"\]$', flow, re.M)
    assert not set(label.replace("<br>", "")) & set('"<>`${}[]\\\x1b')
    assert "#60;#47;script#62;" in label
    assert all(line.isprintable() for line in (flow + graph).splitlines())
    quoted = re.findall(r'label=("(?:[^"\\]|\\.)*")', graph)
    assert len(quoted) == 2
    left = re.sub(r'"(?:[^"\\]|\\.)*"', "", graph)
    assert left.split("[shape=box];")[1].split() == ["E1", "[label=];", "}"]


def test_a_markdown_page_shows_the_flowchart():
    """One block, which nothing in the plan can close."""
    text = markdown(make(2, lambda n: range(1, n), "``` ends"), "```")
    assert text.startswith("```mermaid\n---\n")
    assert [line for line in text.splitlines() if line.startswith("```")] == ["```mermaid", "```"]


@pytest.mark.parametrize("form", FORMS)
def test_a_plan_without_an_order_has_no_graph(form):
    """A reference to a later step is an error here as in pictures."""
    steps = (
        PlanStep(id="#E1", thought="Go.", tool="LLM", tool_input="#E2"),
        PlanStep(id="#E2", thought="On.", tool="LLM", tool_input="x"),
    )
    with pytest.raises(ValueError, match="#E1 refers to #E2"):
        form(Plan(steps=steps), "t")
