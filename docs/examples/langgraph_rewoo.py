"""A ReWOO agent in LangGraph: plan once, run at the same time what can run at the same time, then answer.

    make serve                                                    # in another terminal
    .venv/bin/python docs/examples/langgraph_rewoo.py "Who was born first, Lana or Lilly Wachowski?"

        START → plan → level ⇉ tool (one for each step of the level) → level → … → solve → END

Needs ``pip install langgraph "s3lora-planners[langchain]"``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import operator
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from local_tools import Tool, local_tools

from planners import Plan, PlanStep, ToolSpec
from planners.client.errors import PlanRefused
from planners.langchain import ChatS3LoRA, S3LoRAPlanner
from planners.step import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TOOLS = (
    ToolSpec(name="Search", description="finds facts about films, people, rivers, planets and mountains"),
    ToolSpec(name="Calculator", description="works out an arithmetic expression"),
    ToolSpec(name="LLM", description="answers a question from the text it is given"),
)


class State(TypedDict, total=False):
    """What the graph's nodes share."""

    task: str
    plan: Plan
    evidence: Annotated[dict[str, str], operator.or_]  # results by step; those of one level join here
    answer: str


class Call(TypedDict):
    """What one tool node is sent: its step, and the evidence so far."""

    step: PlanStep
    evidence: dict[str, str]


def build_graph(planner: Any, tools: dict[str, Tool], solve: Callable[[str], Awaitable[str]]) -> Any:
    """The compiled graph. ``planner`` is a Runnable from a task to a Plan; ``tools`` go by their names."""

    async def plan(state: State) -> State:
        return {"plan": await planner.ainvoke(state["task"]), "evidence": {}}

    def level(state: State) -> State:
        return {}  # where the steps of a level meet; what comes next is decided below

    def next_level(state: State) -> list[Send] | str:
        for steps in state["plan"].levels():
            if left := [step for step in steps if step.id not in state["evidence"]]:
                return [Send("tool", Call(step=step, evidence=state["evidence"])) for step in left]
        return "solve"

    async def tool(call: Call) -> State:
        step = call["step"]
        return {"evidence": {step.id: await tools[step.tool](with_evidence(step, call["evidence"]))}}

    async def answer(state: State) -> State:
        found = "\n".join(f"{step.thought} {state['evidence'][step.id]}" for step in state["plan"].steps)
        return {"answer": await solve(f"{found}\n\nAnswer in one short sentence: {state['task']}")}

    graph = StateGraph(State)
    graph.add_node("plan", plan)
    graph.add_node("level", level)
    graph.add_node("tool", tool)
    graph.add_node("solve", answer)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "level")
    graph.add_conditional_edges("level", next_level, ["tool", "solve"])
    graph.add_edge("tool", "level")
    graph.add_edge("solve", END)
    return graph.compile()


def with_evidence(step: PlanStep, evidence: dict[str, str]) -> str:
    """The step's input with each reference replaced by the result that it names."""
    # Not str.replace: "#E1" is also the beginning of "#E12".
    if step.arguments is None:
        return REFERENCE.sub(lambda found: evidence[found.group()], step.tool_input)
    # In JSON a result stands inside quotes, so it is escaped as JSON wants it.
    return REFERENCE.sub(lambda found: json.dumps(evidence[found.group()])[1:-1], step.tool_input)


def asking(llm: ChatS3LoRA) -> Tool:
    """The model as a tool: a question in, its answer out, or why a guard withheld it."""

    async def ask(question: str) -> str:
        message = await llm.ainvoke(question)
        return str(message.additional_kwargs.get("refusal") or message.content).strip()

    return ask


async def main() -> None:
    """Answer the question of the command line, and show each step as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("question")
    parser.add_argument("--planner", default="hotpot-planner")
    parser.add_argument("--url", default=os.environ.get("S3LORA_BASE_URL", "http://127.0.0.1:8000"))
    given = parser.parse_args()
    base_url = f"{given.url.rstrip('/').removesuffix('/v1')}/v1"

    planner = S3LoRAPlanner(planner=given.planner, base_url=base_url, tools=TOOLS, max_steps=6)
    llm = ChatS3LoRA(model=given.planner, base_url=base_url, temperature=0, max_tokens=60)
    tools = local_tools(asking(llm))
    graph = build_graph(planner, tools, tools["LLM"])
    try:
        async for update in graph.astream({"task": given.question}, stream_mode="updates"):
            for node, changed in update.items():
                if node == "plan":
                    print(changed["plan"].to_rewoo(), end="\n\n")
                elif node == "tool":
                    print(*(f"{id_}: {result}" for id_, result in changed["evidence"].items()))
                elif node == "solve":
                    print(f"\n{changed['answer']}")
    except PlanRefused as error:  # there is no plan, and asking again changes nothing
        sys.exit(str(error))
    finally:
        await planner.aclose()


if __name__ == "__main__":
    asyncio.run(main())
