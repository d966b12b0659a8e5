"""What a client put into a request for a plan is asked; what the operator did is not."""

from __future__ import annotations

import pytest

from planners import PlannerInput, ToolSpec
from s3lora_serve.safety.guard.guard_question import GuardQuestion, Part, Passage
from s3lora_serve.safety.guard.plan_question import plan_question

OWN = ToolSpec(name="Search", description="the web")
SCHEMA = {"type": "object", "properties": {"place": {"type": "string", "description": "where"}}}


def test_every_text_of_the_client_is_there():
    """Task, tools with their schemas, results and feedback, each with its part."""
    weather = ToolSpec(name="Weather", description="of a place", parameters=SCHEMA)
    request = PlannerInput(
        task="How cold is it?",
        tools=(OWN, weather, ToolSpec(name="LLM")),
        evidence={"#E1": "in Ghent"},
        feedback=("step #E2 uses Oven",),
    )
    schema = '{"type": "object", "properties": {"place": {"type": "string", "description": "where"}}}'
    assert plan_question(request, (OWN,)) == GuardQuestion(
        "How cold is it?",
        (
            Passage(Part.TOOLS, "tool Weather", f"Weather: of a place\n{schema}"),
            Passage(Part.TOOLS, "tool LLM", "LLM"),
            Passage(Part.EVIDENCE, "result #E1", "in Ghent"),
            Passage(Part.FEEDBACK, "feedback 1", "step #E2 uses Oven"),
        ),
    )


@pytest.mark.parametrize("change", [{"description": "bombs"}, {"parameters": SCHEMA}, {"name": "search"}])
def test_a_tool_that_only_looks_like_the_operators_is_the_clients(change):
    """The name alone makes no tool trusted."""
    tool = ToolSpec(**{**OWN.model_dump(exclude_none=True), **change})
    (passage,) = plan_question(PlannerInput(task="t", tools=(tool,)), (OWN,)).passages
    assert passage.part is Part.TOOLS
