"""What the fake engine answers: a plan where one is asked for, else a sentence."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s3lora_serve.engine.fake.fake_arguments import least_arguments, signature_end

_TOOLS = re.compile(r"^Tools:\n((?:.+\n)+?)At most (\d+) steps?\.$", re.M)
_TOOL = re.compile(r"^([\w.-]+)(.*)$", re.M)
_CONTINUE = re.compile(r"^Continue with #E(\d+)\.$", re.M)


@dataclass(frozen=True)
class PlanPrompt:
    """What a canned plan may depend on: the prompt of the ``planners`` package, as a planner reads it."""

    tools: tuple[str, ...]
    signatures: tuple[str, ...]  # of the tools' JSON arguments; empty for a tool that takes text
    first: int  # number of the first step, 1 unless a plan is continued
    steps: int  # at most this many
    constrained: bool  # whether a grammar was set
    text: str
    tag: str  # 8 hex digits that tell revisions and prompts apart


PlanWriter = Callable[[PlanPrompt], str]


def write_plan(prompt: PlanPrompt) -> str:
    """A ReWOO plan of up to two steps, the second using the first's result."""
    lines = []
    for n in range(prompt.first, prompt.first + min(2, prompt.steps)):
        at = (n - prompt.first) % len(prompt.tools)
        tool, signature = prompt.tools[at], prompt.signatures[at]
        if signature:
            arguments = least_arguments(signature, f"#E{n - 1}" if n > 1 else "x")
            tool_input = json.dumps(arguments, ensure_ascii=False)
        else:
            tool_input = f"[#E{n - 1}]" if n > 1 else "[the task]"
        lines += [f"Plan: Use {tool} ({prompt.tag}).", f"#E{n} = {tool}{tool_input}"]
    return "\n".join(lines)


def answer(prompt: str, grammar: str | None, revision: str, plan: PlanWriter) -> str:
    """The fake model's whole output. ``revision`` names the weights in use, empty for the base model.

    A prompt of the ``planners`` package is answered with a plan. A grammar is not read: it is taken to be
    that of the plans that the prompt asks for, and is not obeyed for any other prompt.
    """
    tag = hashlib.sha256(f"{revision}\n{prompt}".encode()).hexdigest()[:8]
    asked = _read(prompt, grammar is not None, tag)
    if asked is not None:
        return plan(asked)
    return f"This is answer {tag} of {revision[:8] or 'the base model'} to {len(prompt.split())} words."


def _read(prompt: str, constrained: bool, tag: str) -> PlanPrompt | None:
    listed = _TOOLS.search(prompt)
    if listed is None:
        return None
    tools = _TOOL.findall(listed[1])
    first = _CONTINUE.findall(prompt, listed.end())  # the last: a task may say the same
    return PlanPrompt(
        tools=tuple(name for name, _ in tools),
        signatures=tuple(rest[: signature_end(rest)] for _, rest in tools),
        first=int(first[-1]) if first else 1,
        steps=int(listed[2]),
        constrained=constrained,
        text=prompt,
        tag=tag,
    )


def words(text: str) -> list[str]:
    """What the fake generates step by step: words with the space before them; joined, they are the text."""
    return re.findall(r"\s*\S+|\s+$", text)


def token_ids(text: str) -> tuple[int, ...]:
    """The text as the fake reads it token by token: the bytes of its UTF-8, so that ``text_of`` undoes it."""
    return tuple(text.encode("utf-8", "surrogatepass"))


def text_of(token_ids: Sequence[int]) -> str:
    """The text of tokens, whatever they are."""
    return bytes(token for token in token_ids if token < 256).decode("utf-8", "replace")
