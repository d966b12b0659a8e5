"""What the fake engine answers: a plan where one is asked for, else a sentence."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

_TOOL_RULE = re.compile(r"^tool ::= (.+)$", re.M)
_STEP_RULE = re.compile(r"^s(\d+) ::=", re.M)
_TOOL_LIST = re.compile(r"^Tools:\n((?:(?!At most )\w+.*\n)+)", re.M)
_MOST_STEPS = re.compile(r"^At most (\d+) steps?\.$", re.M)
_CONTINUE = re.compile(r"^Continue with #E(\d+)\.$", re.M)


@dataclass(frozen=True)
class PlanRequest:
    """What a canned plan may depend on. ``tag``, 8 hex digits, tells revisions and prompts apart."""

    tools: tuple[str, ...]
    first: int  # number of the first step, 1 unless a plan is continued
    steps: int  # at most this many
    tag: str


PlanWriter = Callable[[PlanRequest], str]


def write_plan(request: PlanRequest) -> str:
    """A ReWOO plan of up to two steps, the second using the first's result."""
    lines = []
    for n in range(request.first, request.first + min(2, request.steps)):
        tool = request.tools[(n - request.first) % len(request.tools)]
        tool_input = f"#E{n - 1}" if n > 1 else "the task"
        lines += [f"Plan: Use {tool} ({request.tag}).", f"#E{n} = {tool}[{tool_input}]"]
    return "\n".join(lines)


def answer(prompt: str, grammar: str | None, revision: str, plan: PlanWriter) -> str:
    """The fake model's whole output. ``revision`` names the weights in use, empty for the base model.

    Understands the grammar and the prompt of the ``planners`` package; any other grammar is not obeyed.
    """
    tag = hashlib.sha256(f"{revision}\n{prompt}".encode()).hexdigest()[:8]
    request = _from_grammar(grammar, tag) if grammar else _from_prompt(prompt, tag)
    if request is not None:
        return plan(request)
    return f"This is answer {tag} of {revision[:8] or 'the base model'} to {len(prompt.split())} words."


def _from_grammar(grammar: str, tag: str) -> PlanRequest | None:
    rule = _TOOL_RULE.search(grammar)
    steps = [int(n) for n in _STEP_RULE.findall(grammar)]
    if rule is None or not steps:
        return None
    return PlanRequest(tuple(re.findall(r'"([^"]+)"', rule[1])), min(steps), len(steps), tag)


def _from_prompt(prompt: str, tag: str) -> PlanRequest | None:
    listed = _TOOL_LIST.search(prompt)
    if listed is None:
        return None
    steps, first = _MOST_STEPS.search(prompt), _CONTINUE.search(prompt)
    tools = tuple(re.findall(r"^\w+", listed[1], re.M))
    return PlanRequest(tools, int(first[1]) if first else 1, int(steps[1]) if steps else 8, tag)


def words(text: str) -> list[str]:
    """The fake's tokens: words with the space before them; joined, they are the text."""
    return re.findall(r"\s*\S+|\s+$", text)
