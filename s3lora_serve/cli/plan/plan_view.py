"""A plan on the terminal, a step at a time, and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from planners.step import REFERENCE
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import out, say

if TYPE_CHECKING:
    from planners import PlanMeta, PlanStep


def show_step(step: PlanStep) -> None:
    """The step's id and thought, and under them its call; ids stand out wherever they are used."""
    what = printable(step.tool_input)
    call = what if what.startswith("{") else f"[{what}]"
    thought, use = Text(printable(step.thought)), Text.assemble((step.tool, "bold"), call)
    for text in (thought, use):
        text.highlight_regex(REFERENCE, "cyan")
    if not out.is_terminal:  # a line stays a line for the reader of the pipe
        out.print(Text(f"{step.id:<4} ") + thought, soft_wrap=True)
        out.print(Text(" " * 5) + use, soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, min_width=4, style="bold cyan")
    grid.add_column(overflow="fold")
    grid.add_row(step.id, thought)
    grid.add_row("", use)
    out.print(grid)


def show_meta(meta: PlanMeta) -> None:
    """One dim line on stderr: who planned, tokens, seconds and repairs; then what was repaired."""
    say(" · ".join(_facts(meta)), "dim")
    for note in meta.repair_notes:
        say(f"repaired: {note}", "yellow")


def _facts(meta: PlanMeta) -> list[str]:
    role = "" if meta.role == "active" else f" ({meta.role})"
    facts = [f"{meta.planner} {meta.revision[:12]}{role}"]
    if meta.usage is not None:
        tokens = _count(meta.usage.prompt_tokens, "prompt token")
        facts.append(f"{tokens}, {meta.usage.output_tokens} written")
    if meta.timings is not None:
        facts.append(f"{meta.timings.total_seconds:.2f} s")
    facts.append(_count(meta.repairs, "repair"))
    if meta.constraint == "none":
        facts.append("no grammar")
    if meta.engine not in (None, "vllm"):
        facts.append(f"engine: {meta.engine}")
    return facts


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
