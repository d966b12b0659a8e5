"""``s3lora guard report``: what guards refused, or would have refused. It only reads."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from s3lora_serve.cli.fleet.fleet_options import AsJson, ServerOptions
from s3lora_serve.cli.option_groups import grouped
from s3lora_serve.errors import ConfigError
from s3lora_serve.terminal.console import EXIT_CODES, out

app = typer.Typer(
    help="What guards refused or would have refused.", no_args_is_help=True, pretty_exceptions_enable=False
)

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def moment(option: str, value: str | None) -> float | None:
    """Unix seconds of ``30m``, ``24h``, ``7d``, ``4w`` ago, or of an ISO date or time, in UTC without a zone.

    Raises ConfigError.
    """
    if value is None:
        return None
    if ago := _AGO.fullmatch(value.strip()):
        return max(0.0, time.time() - int(ago[1]) * _SECONDS[ago[2]])
    try:
        at = datetime.fromisoformat(value.strip())
        return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{option} {value[:80]!r} is not a time", hint="such as 24h, 7d, or 2026-11-30T12:00"
        ) from error


@app.callback()
def _guard() -> None:
    pass


@app.command(epilog=EXIT_CODES)
@grouped
def report(
    *,
    planner: Annotated[str | None, typer.Option(help="Only this planner.")] = None,
    since: Annotated[
        str | None, typer.Option(help="From then on: 24h or 7d for so long ago, or an ISO time.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Before then; as --since.")] = None,
    limit: Annotated[int, typer.Option(min=0, max=1000, help="Single requests to show, the latest.")] = 20,
    as_json: AsJson = False,
    records: Annotated[
        Path | None,
        typer.Option(help="Read this guard.db instead of asking a server, which may be down."),
    ] = None,
    at: ServerOptions,
) -> None:
    """Show what guards refused, or would have refused: by planner, part and caller, and the latest of it.

    Of a request there are a digest and, if it was refused, at most six words of its task. Counts are of whole
    hours.
    """
    begin, end = moment("--since", since), moment("--until", until)
    if records is not None:
        from s3lora_serve.safety.guard.verdicts.verdict_report import verdict_report

        found = verdict_report(records, planner=planner, since=begin, until=end, limit=limit)
        state: dict[str, Any] = found.to_json()
    else:
        with at.connect() as client:
            state = client.guard(planner, begin, end, limit)
    if as_json:
        typer.echo(json.dumps(state, indent=2))
        return
    from s3lora_serve.cli.fleet.guard_tables import guard_report

    out.print(guard_report(state))
