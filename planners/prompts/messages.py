"""A planning request as chat messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planners.prompts.control_tokens import control_tokens_of

if TYPE_CHECKING:
    from planners.prompts.control_tokens import ControlTokens
    from planners.tools import PlannerInput, ToolSpec

# Adapters are trained on these exact words: changing them means training again (training/train_planner.py).
SYSTEM = """Write a plan that solves the task with the tools. Each step is two lines:
Plan: what to do
#E1 = Tool[input]
Number the steps #E1, #E2, #E3. An input may use the result of an earlier step by its number."""

# Only where such a tool is offered: the others' prompts stay as adapters know them.
_JSON_TOOLS = 'A tool with braces takes JSON: #E1 = Tool{"key": value}'


def render_messages(request: PlannerInput, control: ControlTokens | None = None) -> list[dict[str, str]]:
    """Messages ``[{"role", "content"}]`` for a chat template: the rules first, then tools, then the task.

    What is the same for many requests stands first, so that the engine's prefix cache holds it. What the
    request brings is broken up where ``control`` finds control tokens of the model.
    """
    control = control or control_tokens_of()
    lines = ["Tools:"]
    lines += [_tool(tool, control) for tool in request.tools]
    lines += [f"At most {request.max_steps} step{'s' if request.max_steps > 1 else ''}."]
    if any(tool.arguments is not None for tool in request.tools):
        lines += [_JSON_TOOLS]
    lines += ["", f"Task: {control.broken(request.task)}"]
    if request.evidence:
        lines += ["", "Known results:"]
        lines += [f"{key} = {_one_line(value, control)}" for key, value in request.evidence.items()]
        lines += [f"Continue with #E{request.first_step}."]
    if request.feedback:
        lines += ["", "Your last plan had faults:"]
        lines += [f"- {_one_line(item, control)}" for item in request.feedback]
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join(lines)}]


def _tool(tool: ToolSpec, control: ControlTokens) -> str:
    # A signature holds no line breaks: its names are plain, and its strings are JSON.
    takes = control.broken(tool.arguments.signature()) if tool.arguments else ""
    return f"{tool.name}{takes}: {_one_line(tool.description, control)}".rstrip(": ")


def _one_line(text: str, control: ControlTokens) -> str:
    return control.broken(" ".join(text.split()))
