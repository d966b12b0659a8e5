"""Planners in the OpenAI Agents SDK: one agent plans, the tools run level by level, another agent answers.

    make serve                                                    # in another terminal
    .venv/bin/python docs/examples/openai_agents.py "Who was born first, Lana or Lilly Wachowski?"

The planner is an agent like any other; ``extra_body`` asks the server for a plan instead of a chat, so that
what it writes is valid by construction. Needs ``pip install openai-agents s3lora-planners``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

from agents import (
    Agent,
    ModelRefusalError,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    set_tracing_disabled,
)
from local_tools import Tool, local_tools
from openai import AsyncOpenAI

from planners import Plan, PlanStep, parse
from planners.step import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Mapping

OFFERED = [
    {"name": "Search", "description": "finds facts about films, people, rivers, planets and mountains"},
    {"name": "Calculator", "description": "works out an arithmetic expression"},
    {"name": "LLM", "description": "answers a question from the text it is given"},
]

set_tracing_disabled(True)  # traces would go to OpenAI


def planning_agent(model: OpenAIChatCompletionsModel, max_steps: int = 6) -> Agent[None]:
    """An agent whose answer is a plan as ReWOO text. It has no instructions: the task is all that is sent."""
    asked = {"plan": {"tools": OFFERED, "max_steps": max_steps}}
    return Agent(name="Planner", model=model, model_settings=ModelSettings(extra_body={"s3lora": asked}))


def answering_agent(model: OpenAIChatCompletionsModel) -> Agent[None]:
    """An agent that answers from what it is told."""
    settings = ModelSettings(temperature=0, max_tokens=60)
    return Agent(
        name="Solver",
        instructions="Answer in one short sentence, from the text that you are given.",
        model=model,
        model_settings=settings,
    )


async def execute(plan: Plan, tools: Mapping[str, Tool]) -> dict[str, str]:
    """Every step's result by its id; the steps of one level run at the same time."""
    evidence: dict[str, str] = {}

    async def run(step: PlanStep) -> tuple[str, str]:
        given = REFERENCE.sub(lambda found: evidence[found.group()], step.tool_input)
        return step.id, await tools[step.tool](given)

    for level in plan.levels():
        evidence |= dict(await asyncio.gather(*(run(step) for step in level)))
    return evidence


async def answer(question: str, model: OpenAIChatCompletionsModel, tools: Mapping[str, Tool]) -> str:
    """Plan, run the plan, and answer from its results."""
    planned = await Runner.run(planning_agent(model), question)
    plan = parse(planned.final_output)
    print(planned.final_output, end="\n\n")
    evidence = await execute(plan, tools)
    found = "\n".join(f"{step.thought} {evidence[step.id]}" for step in plan.steps)
    print(*(f"{id_}: {result}" for id_, result in evidence.items()), sep="\n", end="\n\n")
    solved = await Runner.run(answering_agent(model), f"{found}\n\n{question}")
    return str(solved.final_output).strip()


def asking(model: OpenAIChatCompletionsModel) -> Tool:
    """The model as a tool: a question in, its answer out."""

    async def ask(question: str) -> str:
        return str((await Runner.run(answering_agent(model), question)).final_output).strip()

    return ask


async def main() -> None:
    """Answer the question of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("question")
    parser.add_argument("--planner", default="hotpot-planner")
    parser.add_argument("--url", default=os.environ.get("S3LORA_BASE_URL", "http://127.0.0.1:8000"))
    given = parser.parse_args()
    base_url = f"{given.url.rstrip('/').removesuffix('/v1')}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key=os.environ.get("S3LORA_API_KEY", "none")) as client:
        model = OpenAIChatCompletionsModel(model=given.planner, openai_client=client)
        try:
            print(await answer(given.question, model, local_tools(asking(model))))
        except ModelRefusalError as error:  # of a guard: there is no plan, and asking again changes nothing
            sys.exit(error.refusal)


if __name__ == "__main__":
    asyncio.run(main())
