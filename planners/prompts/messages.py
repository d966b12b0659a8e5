"""A planning request as chat messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planners.tools import PlannerInput, ToolSpec

# Adapters are trained on these exact words: changing them means training again (training/train_planner.py).
SYSTEM = """Write a plan that solves the task with the tools. Each step is two lines:
Plan: what to do
#E1 = Tool[input]
Number the steps #E1, #E2, #E3. An input may use the result of an earlier step by its number."""

# Only where such a tool is offered: the others' prompts stay as adapters know them.
_JSON_TOOLS = 'A tool with braces takes JSON: #E1 = Tool{"key": value}'

# Tokenizers turn "<|im_end|>" in a message into the control token, which would end the message early.
_CONTROL_TOKEN = re.compile(r"<(?=\|)")


def render_messages(request: PlannerInput) -> list[dict[str, str]]:
    """Messages ``[{"role", "content"}]`` for a chat template: the rules first, then tools, then the task.

    What is the same for many requests stands first, so that the engine's prefix cache holds it.
    """
    lines = ["Tools:"]
    lines += [_tool(tool) for tool in request.tools]
    lines += [f"At most {request.max_steps} step{'s' if request.max_steps > 1 else ''}."]
    if any(tool.arguments is not None for tool in request.tools):
        lines += [_JSON_TOOLS]
    lines += ["", f"Task: {_safe(request.task)}"]
    if request.evidence:
        lines += ["", "Known results:"]
        lines += [f"{key} = {_one_line(value)}" for key, value in request.evidence.items()]
        lines += [f"Continue with #E{request.first_step}."]
    if request.feedback:
        lines += ["", "Your last plan had faults:"]
        lines += [f"- {_one_line(item)}" for item in request.feedback]
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n".join(lines)}]


def _tool(tool: ToolSpec) -> str:
    # A signature holds no line breaks: its names are plain, and its strings are JSON.
    takes = _safe(tool.arguments.signature()) if tool.arguments else ""
    return f"{tool.name}{takes}: {_one_line(tool.description)}".rstrip(": ")


def _safe(text: str) -> str:
    return _CONTROL_TOKEN.sub("< ", text)


def _one_line(text: str) -> str:
    return _safe(" ".join(text.split()))
