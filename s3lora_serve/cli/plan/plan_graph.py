"""A plan as the text of a graph: steps as boxes, arrows from a result to the steps that use it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from rich.text import Text

from planners.step import REFERENCE
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import out

if TYPE_CHECKING:
    from planners import Plan, PlanStep

LINE = 29  # cells of a label's line; a wide character takes two
_MARKUP = re.compile(r"[^\w\s.,?!:()-]", re.ASCII)


def edges(plan: Plan) -> list[tuple[str, str]]:
    """From each result to each step that uses it."""
    return [(needed, step.id) for step in plan.steps for needed in step.depends_on]


def mermaid(plan: Plan, title: str) -> str:
    """A Mermaid flowchart, as Markdown pages show it. Raises ValueError for a plan that cannot run."""
    head = f"---\ntitle: {json.dumps(printable(title), ensure_ascii=False)}\n---\nflowchart LR\n"
    boxes = (f'  {_name(step.id)}["{"<br>".join(map(_entities, _label(step)))}"]' for step in _steps(plan))
    return head + "\n".join([*boxes, *(f"  {_name(a)} --> {_name(b)}" for a, b in edges(plan))]) + "\n"


def markdown(plan: Plan, title: str) -> str:
    """The Mermaid flowchart as a block of a Markdown page."""
    return f"```mermaid\n{mermaid(plan, title)}```\n"


def dot(plan: Plan, title: str) -> str:
    """A graph in Graphviz' language. Raises ValueError for a plan that cannot run."""
    head = f"digraph plan {{\n  rankdir=LR; labelloc=t; label={_quoted(title)};\n  node [shape=box];\n"
    boxes = (f"  {_name(step.id)} [label={_quoted(*_label(step))}];" for step in _steps(plan))
    return head + "\n".join([*boxes, *(f"  {_name(a)} -> {_name(b)};" for a, b in edges(plan))]) + "\n}\n"


def wrap(text: str, width: int, most: int | None = None) -> list[str]:
    """Its lines of ``width`` cells, at most so many; invisible characters are written out."""
    lines = [line.plain.rstrip() for line in Text(printable(text, one_line=True)).wrap(out, width)]
    if most is None or len(lines) <= most:
        return lines
    # "#E1…" would name another step than "#E12".
    last = re.sub(rf"\s*({REFERENCE.pattern})?$", "", lines[most - 1][: width - 1])
    return [*lines[: most - 1], f"{last}…"]


def _steps(plan: Plan) -> tuple[PlanStep, ...]:
    plan.levels()  # raises ValueError
    return plan.steps


def _label(step: PlanStep) -> list[str]:
    return [f"{step.id} {step.tool}", *wrap(step.tool_input, LINE)]


def _name(step_id: str) -> str:
    return step_id.removeprefix("#")


def _entities(text: str) -> str:
    """With all that could be markup as Mermaid's entities."""
    return _MARKUP.sub(lambda found: f"#{ord(found[0])};" if found[0].isascii() else found[0], text)


def _quoted(*lines: str) -> str:
    return json.dumps("\n".join(map(printable, lines)), ensure_ascii=False)
