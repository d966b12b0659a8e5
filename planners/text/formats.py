"""A plan in the forms that others run: ReWOO text, LLMCompiler text, an agent's to-do list."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from planners.step import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from planners.step import PlanStep

# LLMCompiler's executors take a dollar sign and digits, in braces or not, for a result.
_MONEY = re.compile(r"\$(?=\{?\d)")


def rewoo(steps: Sequence[PlanStep]) -> str:
    """Two lines a step, without a final newline."""
    return "\n".join(f"Plan: {step.thought}\n{call(step)}" for step in steps)


def call(step: PlanStep) -> str:
    """``#E1 = Tool[text]``, or ``#E1 = Tool{"key": value}`` for JSON arguments."""
    text = step.tool_input if step.arguments is not None else f"[{step.tool_input}]"
    return f"{step.id} = {step.tool}{text}"


def todos(steps: Sequence[PlanStep], done: Collection[str]) -> list[dict[str, str]]:
    """One ``{"content", "status"}`` a step: "completed" for ids in ``done``, else "pending"."""
    return [
        {"content": _todo(step), "status": "completed" if step.id in done else "pending"} for step in steps
    ]


def _todo(step: PlanStep) -> str:
    after = f" after {', '.join(step.depends_on)}" if step.depends_on else ""
    return f"{step.thought} ({call(step)}{after})"


def llmcompiler(steps: Sequence[PlanStep], text_arguments: Mapping[str, str]) -> str:
    """``Thought: ...`` and ``2. tool("$1 text")`` or ``2. tool(key="value")`` a step, then ``join()``.

    A reference becomes ``$1``, or ``${1}`` where a digit or "}" follows. What is no reference and looks like
    one, such as the price "$100", gets a space after the dollar sign: the executors look for references in
    the values, after quotes and escapes are gone, so there is no way to write one that they leave alone.
    They look for names of letters, digits and "_": any other character becomes "_", which is an error for two
    tools that are then called the same.
    """
    lines = list(_llmcompiler_lines(steps, text_arguments, _plain_names({step.tool for step in steps})))
    last = max((_number(step.id) for step in steps), default=0)
    return "\n".join([*lines, f"{last + 1}. join()"])


def _plain_names(tools: Collection[str]) -> dict[str, str]:
    """What executors of LLMCompiler plans call each tool. Raises ValueError for one name of two."""
    plain: dict[str, str] = {}
    for tool in sorted(tools):
        name = re.sub(r"^(?=\d)|\W", "_", tool, flags=re.ASCII)
        if (other := plain.setdefault(name, tool)) != tool:
            raise ValueError(f"tools {other!r} and {tool!r} are both {name!r} to LLMCompiler; rename one")
    return {tool: name for name, tool in plain.items()}


def _llmcompiler_lines(
    steps: Sequence[PlanStep], text_arguments: Mapping[str, str], names: Mapping[str, str]
) -> Iterator[str]:
    before = 0
    for step in steps:
        number = _number(step.id)
        # Executors look for what a task waits for among lower numbers, and keep one task a number.
        if number <= before:
            raise ValueError(
                f"step {step.id} stands after #E{before}: LLMCompiler needs rising numbers; see repair()"
            )
        if late := [ref for ref in step.depends_on if _number(ref) >= number]:
            raise ValueError(
                f"step {step.id} refers to {late[0]}, which is not done before it; see problems()"
            )
        if step.tool == "join":
            raise ValueError(f"step {step.id} uses a tool 'join', which ends an LLMCompiler plan; rename it")
        before = number
        name = text_arguments.get(step.tool)
        if step.arguments is not None:
            given = ", ".join(f"{key}={_literal(value)}" for key, value in step.arguments.items())
        elif name is not None:
            given = f"{name}={_literal(step.tool_input)}"
        else:
            given = _quoted(step.tool_input)
        yield f"Thought: {step.thought}"
        yield f"{number}. {names[step.tool]}({given})"


def _literal(value: JsonValue) -> str:
    """A Python literal without "=": LangGraph's example finds an argument by looking for ``name=``."""
    if isinstance(value, str):
        return _quoted(value).replace("=", r"\x3d")
    if isinstance(value, list):
        return f"[{', '.join(_literal(item) for item in value)}]"
    if isinstance(value, dict):
        # A property's name is no text: it stays as it is.
        return f"{{{', '.join(f'{key!r}: {_literal(item)}' for key, item in value.items())}}}"
    return repr(value)


def _quoted(text: str) -> str:
    # JSON's escapes are Python's too, once nothing is written as a pair of surrogates.
    return json.dumps(REFERENCE.sub(_dollar, _MONEY.sub("$ ", text)), ensure_ascii=False)


def _dollar(found: re.Match[str]) -> str:
    number = int(found.group(1))
    # \d+ of the executors also takes digits of other scripts, which may stand right behind a reference.
    follows = found.string[found.end() : found.end() + 1]
    return f"${{{number}}}" if follows == "}" or follows.isdecimal() else f"${number}"


def _number(step_id: str) -> int:
    return int(step_id.removeprefix("#E"))
