"""The LangGraph example: levels run at once, evidence goes where it is named, and it runs as it says."""

from __future__ import annotations

import json

from planners import PlanStep, parse
from planners.langchain import S3LoRAPlanner

NILE, DANUBE = "<Search of length of the Nile>", "<Search of length of the Danube>"
QUESTION = "How much longer is the Nile than the Danube?"


async def test_a_level_runs_at_once_and_gets_its_evidence(server, together):
    """Tools that wait for the others of their level all return; each input has the results it names."""
    from langgraph_rewoo import TOOLS, build_graph

    told = []

    async def solve(prompt: str) -> str:
        told.append(prompt)
        return "It is 3800 kilometres longer."

    planner = S3LoRAPlanner(planner="hotpot-planner", base_url=server.url, tools=TOOLS)
    state = await build_graph(planner, together, solve).ainvoke({"task": QUESTION})
    await planner.aclose()
    calls = together.calls
    assert sorted(calls[:2]) == [("Search", "length of the Danube"), ("Search", "length of the Nile")]
    difference, place = f"{NILE} - {DANUBE}", f"where does it flow? Given {NILE}"
    assert sorted(calls[2:4]) == [("Calculator", difference), ("LLM", place)]
    assert calls[4:] == [("LLM", f"<Calculator of {difference}> and <LLM of {place}>")]
    assert list(state["evidence"]) == ["#E1", "#E2", "#E3", "#E4", "#E5"]
    assert state["answer"] == "It is 3800 kilometres longer."
    assert [result in told[0] for result in (*state["evidence"].values(), QUESTION)] == [True] * 6


def test_evidence_is_put_where_it_is_named():
    """#E12 is no #E1 with a 2; in JSON arguments the result is escaped, so that they stay JSON."""
    from langgraph_rewoo import with_evidence

    evidence = {"#E1": "one", "#E12": 'the "twelfth"\n[result]'}
    text = PlanStep(id="#E13", thought="t", tool="LLM", tool_input="#E12, #E1 and #E1")
    assert with_evidence(text, evidence) == 'the "twelfth"\n[result], one and one'
    call = PlanStep(id="#E13", thought="t", tool="Ask", arguments={"q": "is it #E12?", "n": 1})
    assert json.loads(with_evidence(call, evidence)) == {"q": 'is it the "twelfth"\n[result]?', "n": 1}


def test_it_runs_from_the_command_line(example, writer):
    """It prints a plan, each result, and an answer; the server was asked with the tools and the question."""
    printed = example("langgraph_rewoo.py", QUESTION)
    plan, results, answer = printed.strip().split("\n\n")
    assert len(parse(plan).steps) == 5
    assert "6650 kilometres" in results
    assert results.count("\n") == 4
    assert answer.startswith("This is answer ")
    assert tuple(sorted(writer.asked[0].tools)) == ("Calculator", "LLM", "Search")
    assert QUESTION in writer.asked[0].text
