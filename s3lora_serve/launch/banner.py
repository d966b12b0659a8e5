"""What is shown once planners are admitted, and once they answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from s3lora_serve.engine.port import EngineKind
from s3lora_serve.safety.exam.exam_facts import exam_line, exam_settings_line
from s3lora_serve.safety.guard.guard_facts import guard_facts, guard_line
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.config import ExamConfig, GuardConfig
    from s3lora_serve.fleet.planner import Planner

MADE_UP = "engine: fake (no model; every answer is made up and says so)"
_TASK = "Which of the two directors of The Matrix was born first?"
_TOOLS = [
    {"name": "Wikipedia", "description": "look up a page by its title"},
    {"name": "LLM", "description": "answer from what was found"},
]


def show_revisions(revisions: Mapping[str, Revision]) -> None:
    """A table of what admission made of each planner."""
    table = _table("planner", "revision", "SSI max", "SSI median", "pruned", "action")
    for name, revision in revisions.items():
        table.add_row(*_facts(name, revision), revision.lineage.action)
    out.print(table)
    _notes(revisions)


def show_planners(
    planners: Iterable[Planner],
    url: str,
    key_env: Callable[[str], str | None],
    admin_url: str = "",
    engine: EngineKind = EngineKind.VLLM,
    guard: Callable[[str], GuardConfig | None] = lambda planner: None,
    exam: Callable[[Planner], Mapping[str, Any] | None] = lambda planner: None,
) -> None:
    """The table of what answers now, where it listens, and a command to try it with.

    ``key_env`` is the variable whose key the command sends to a planner.
    """
    planners = list(planners)
    table = _table("planner", "revision", "SSI max", "SSI median", "pruned", "state")
    for planner in planners:
        state = str(planner.state) + (" by the base model" if planner.active.served_by == "base" else "")
        table.add_row(*_facts(planner.name, planner.revision), state)
    out.print(table)
    _notes({planner.name: planner.revision for planner in planners})
    show_guards({planner.name: guard(planner.name) for planner in planners})
    show_exams({planner.name: exam(planner) for planner in planners})
    if engine is EngineKind.FAKE:
        out.print(Text(f"\n{MADE_UP}", "bold yellow"))
    out.print(
        Text.assemble("\nListening on ", (url, "bold"), "  (Ctrl-C stops). Ask for a plan:\n"), soft_wrap=True
    )
    first = planners[0]
    sample = curl(url, first.name, key_env(first.name), own_tools=bool(first.tools))
    out.print(Text(sample), soft_wrap=True)
    if admin_url:
        option = "" if engine is EngineKind.VLLM else f", each with --engine {engine}"
        orders = f"\nOrders (s3lora status, swap, rollback, …{option}) are taken at "
        out.print(Text.assemble(orders, (admin_url, "bold")), soft_wrap=True)


def show_guards(guards: Mapping[str, GuardConfig | None]) -> None:
    """Who judges requests to which planners, and plainly where every task is sent."""
    lines: dict[str, list[str]] = {}
    for name, settings in guards.items():
        lines.setdefault(guard_line(guard_facts(settings)), []).append(name)
    for line, names in lines.items():
        style = "yellow" if any(word in line for word in ("sends every task", "fails open")) else ""
        out.print(Text(printable(f"{', '.join(names)}: {line}"), style), soft_wrap=True)


def show_exam_settings(exams: Mapping[str, ExamConfig]) -> None:
    """Which planners' revisions will be examined, and how."""
    lines: dict[str, list[str]] = {}
    for name, settings in exams.items():
        if settings.asks:
            lines.setdefault(exam_settings_line(settings), []).append(name)
    for line, names in lines.items():
        out.print(Text(printable(f"{', '.join(names)}: {line}")), soft_wrap=True)


def show_exams(exams: Mapping[str, Mapping[str, Any] | None]) -> None:
    """What was found of each planner that was examined."""
    for name, facts in exams.items():
        if facts is not None:
            style = "" if facts["verdict"] == "passed" and not facts["stale"] else "yellow"
            out.print(Text(printable(f"{name}: {exam_line(facts)}"), style), soft_wrap=True)


def curl(url: str, planner: str, api_key_env: str | None, *, own_tools: bool = False) -> str:
    """A command for ``POST /v1/plans`` that works when pasted into a POSIX shell."""
    body = json.dumps({"planner": planner, "task": _TASK, **({} if own_tools else {"tools": _TOOLS})})
    key = f' -H "Authorization: Bearer ${api_key_env}"' if api_key_env else ""
    content = "-H 'Content-Type: application/json'"
    return f"curl -s {url}/v1/plans {content}{key} \\\n  -d '{body}' | python3 -m json.tool"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column.startswith("SSI") else "left", overflow="fold")
    return table


def _facts(name: str, revision: Revision) -> tuple[str, ...]:
    lineage = revision.lineage
    ssi = lineage.report.summary()
    return (
        name,
        revision.short,
        _number(ssi.max),
        _number(ssi.median),
        f"{len(lineage.pruned)} of {ssi.modules}",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _notes(revisions: Mapping[str, Revision]) -> None:
    for name, revision in revisions.items():
        if revision.fully_pruned:
            out.print(Text(f"{name}: every module was pruned; the base model answers for it", style="yellow"))
        for warning in revision.lineage.warnings:
            out.print(Text(printable(f"{name}: {warning}"), style="yellow"), soft_wrap=True)
