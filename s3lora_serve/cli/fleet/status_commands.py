"""``s3lora status`` and ``history``: what a fleet serves now, and who ordered what. Both only read."""

from __future__ import annotations

import dataclasses
import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from s3lora_serve.cli.fleet.fleet_options import AsJson, OptionalPlanner, ServerOptions
from s3lora_serve.cli.option_groups import grouped
from s3lora_serve.terminal.console import OK, REFUSED, out, say

if TYPE_CHECKING:
    from s3lora_serve.cli.fleet.admin_client import AdminClient

STATUS_CODES = (
    "Exit codes: 0 every planner shown answers; 1 one does not, or no server was found; "
    "2 wrong usage or configuration."
)
HISTORY_CODES = (
    "Exit codes: 0 done; 1 no server was found, or it could not be read; 2 wrong usage or configuration."
)
_OPERATIONS = 5  # ended ones that are shown; those that run always are
_LOOK = 50  # operations to look at for those


@grouped
def status(
    *,
    planner: OptionalPlanner = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Update the display at each change, until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="With --watch: seconds between two updates.")] = 1.0,
    as_json: AsJson = False,
    at: ServerOptions,
) -> None:
    """Show every planner with its revisions, what runs on each, and the latest operations."""
    with at.connect() as client:
        if watch:
            _watch(client, planner, every, as_json)
            return
        facts = _facts(client, planner)
    _print(facts, as_json)
    if not all(each["up"] for each in facts["planners"]):
        raise typer.Exit(REFUSED)


@grouped
def history(
    *,
    planner: OptionalPlanner = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of entries, the latest ones.")] = 20,
    after: Annotated[int, typer.Option(min=0, help="Only entries with higher numbers than this.")] = 0,
    as_json: AsJson = False,
    state: Annotated[
        Path | None, typer.Option(help="Read this state file instead of asking a server, which may be down.")
    ] = None,
    at: ServerOptions,
) -> None:
    """Show who did what, when and why, with which revisions: the latest entries, the newest last."""
    if state is not None:
        from s3lora_serve.control.journal.journal import Journal

        with Journal(state, read_only=True) as journal:
            found = journal.entries(planner=planner, after=after, limit=limit, newest_first=True)
        entries = [dataclasses.asdict(entry) for entry in found]
    else:
        with at.connect() as client:
            entries = client.history(planner, after, limit)
    entries = sorted(entries, key=lambda entry: entry["seq"])
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
        return
    from s3lora_serve.cli.fleet import fleet_tables

    out.print(fleet_tables.history(entries))
    if not entries:
        say("no entries", "dim")


def _facts(client: AdminClient, planner: str | None) -> dict[str, Any]:
    planners = client.planners() if planner is None else [client.planner(planner)]
    operations = client.operations(_LOOK)
    if planner is not None:
        operations = [op for op in operations if op["planner"] in (planner, None)]
    ended = [op for op in operations if op["ended"]][:_OPERATIONS]
    shown = [op for op in operations if not op["ended"] or op in ended]
    return {"engine": client.engine(), "planners": planners, "operations": shown}


def _print(facts: dict[str, Any], as_json: bool, indent: int | None = 2) -> None:
    if as_json:
        typer.echo(json.dumps(facts, indent=indent))
        return
    from s3lora_serve.cli.fleet import fleet_tables

    out.print(fleet_tables.fleet(facts["planners"], facts["operations"], facts["engine"]))


def _watch(client: AdminClient, planner: str | None, every: float, as_json: bool) -> None:
    from s3lora_serve.cli.fleet import fleet_tables

    live = None if as_json or not out.is_terminal else Live(console=out, auto_refresh=False)
    shown = None
    try:
        with live or nullcontext():
            while True:
                facts = _facts(client, planner)
                if live is not None:
                    live.update(
                        fleet_tables.fleet(facts["planners"], facts["operations"], facts["engine"]),
                        refresh=True,
                    )
                elif facts != shown:  # a log holds changes, not repetitions
                    _print(facts, as_json, indent=None)
                shown = facts
                time.sleep(every)
    except KeyboardInterrupt:
        raise typer.Exit(OK) from None
