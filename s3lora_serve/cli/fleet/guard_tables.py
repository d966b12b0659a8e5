"""What guards found, as tables."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from s3lora_serve.cli.fleet.operation_view import took
from s3lora_serve.safety.guard.guard_facts import guard_line
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.tables import cells, fitted, plain_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.table import Table


def guard_report(state: Mapping[str, Any]) -> Group:
    """Each planner's guard, how much was asked, what was not allowed in groups, and the latest of it."""
    lines = [f"{each['id']}: {guard_line(each['guard'])}" for each in state.get("planners", ())]
    if state.get("lost"):
        lines.append(f"{state['lost']} requests could not be written down, and are missing below")
    parts: list[Any] = [Text(printable(line)) for line in lines]
    if not state["counts"] and not state["groups"]:
        return Group(*parts, Text("nothing was judged in this time", "dim"))
    parts += [Text(), _counts(state["counts"])]
    if state["groups"]:
        parts += [Text(), _groups(state["groups"])]
    if state["records"]:
        parts += [Text(), _records(state["records"])]
    return Group(*parts)


def _counts(counts: Iterable[Mapping[str, Any]]) -> Table:
    table = plain_table(
        "planner", "caller", "by", "asked", "allowed", "refused", "undecided", "failed", "exempt"
    )
    for each in counts:
        names = ("planner", "caller", "by", "asked", "allowed", "refused", "undecided", "failed", "exempt")
        table.add_row(*cells(*(each[name] for name in names)))
    return fitted(table, "allowed", "caller")


def _groups(groups: Iterable[Mapping[str, Any]]) -> Table:
    table = plain_table(
        "planner", "part", "caller", "by", "found", "answer", "requests", "distinct", "latest"
    )
    now = time.time()
    for each in groups:
        table.add_row(
            *cells(
                each["planner"],
                each["part"] or "-",
                each["caller"],
                each["by"],
                each["finding"],
                each["done"],
                each["requests"],
                each["distinct"],
                f"{took(max(0.0, now - each['latest']))} ago",
            )
        )
    return fitted(table, "latest", "distinct", "caller")


def _records(records: Iterable[Mapping[str, Any]]) -> Table:
    table = plain_table("at (UTC)", "planner", "by", "found", "answer", "request", "digest", "words, or why")
    for each in records:
        at = datetime.fromtimestamp(each["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        found = f"{each['finding']} {each['part']}".strip()
        about = each["words"] or each["why"]
        digest = each["digest"][:12]
        row = (at, each["planner"], each["by"], found, each["done"], each["request_id"], digest, about)
        table.add_row(*cells(*row))
    return fitted(table, "request", "words, or why", "digest")
