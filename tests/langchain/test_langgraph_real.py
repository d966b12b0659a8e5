"""The LangGraph example with a model behind it: the demo's planner plans, its tools run, a model answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from planners.langchain import ChatS3LoRA, S3LoRAPlanner

QUESTION = "Who was born first, Lana or Lilly Wachowski?"


@pytest.mark.engine
async def test_the_example_runs_on_a_model(live, monkeypatch):
    """A plan that runs with these tools, a result of every step, an answer; what these say is the model's."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs" / "examples"))
    from langgraph_rewoo import TOOLS, asking, build_graph
    from local_tools import local_tools

    planner = S3LoRAPlanner(
        planner=live.planner, base_url=live.url, api_key=live.key, tools=TOOLS, max_steps=2, max_text=60
    )
    llm = ChatS3LoRA(model=live.planner, base_url=live.url, api_key=live.key, temperature=0, max_tokens=40)
    tools = local_tools(asking(llm))
    state = await build_graph(planner, tools, tools["LLM"]).ainvoke({"task": QUESTION})
    await planner.aclose()
    plan, evidence = state["plan"], state["evidence"]
    assert plan.problems(TOOLS, max_steps=2) == ()
    assert sorted(evidence) == sorted(step.id for step in plan.steps)
    assert {type(said) for said in (*evidence.values(), state["answer"])} == {str}
