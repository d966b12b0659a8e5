"""The OpenAI Agents SDK example: a valid plan from an agent, levels at once, and it runs as it says."""

from __future__ import annotations

from openai import AsyncOpenAI

from planners import parse

NILE, DANUBE = "<Search of length of the Nile>", "<Search of length of the Danube>"
QUESTION = "How much longer is the Nile than the Danube?"


async def test_an_agent_plans_and_its_levels_run_at_once(server, writer, together):
    """The agent's answer is the plan; tools that wait for the others of their level all return."""
    from agents import OpenAIChatCompletionsModel, Runner
    from openai_agents import execute, planning_agent

    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        model = OpenAIChatCompletionsModel(model="hotpot-planner", openai_client=client)
        planned = await Runner.run(planning_agent(model), QUESTION)
    assert tuple(sorted(writer.asked[-1].tools)) == ("Calculator", "LLM", "Search")
    assert (writer.asked[-1].constrained, writer.asked[-1].steps) == (True, 6)
    evidence = await execute(parse(planned.final_output), together)
    difference, place = f"{NILE} - {DANUBE}", f"where does it flow? Given {NILE}"
    assert sorted(together.calls[2:4]) == [("Calculator", difference), ("LLM", place)]
    assert evidence["#E5"] == f"<LLM of <Calculator of {difference}> and <LLM of {place}>>"
    assert list(evidence) == ["#E1", "#E2", "#E3", "#E4", "#E5"]


def test_it_runs_from_the_command_line(example):
    """It prints a plan, each result, and an answer."""
    plan, results, answer = example("openai_agents.py", QUESTION).strip().split("\n\n")
    assert len(parse(plan).steps) == 5
    assert "#E1: The Nile is a river in Africa, about 6650 kilometres long." in results
    assert answer.startswith("This is answer ")
