"""``s3lora exam``: a running server asks what serves, or what might, the exam's questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3lora_serve.cli.fleet.exam_reading import UNDECIDED, ExamReading
from s3lora_serve.cli.fleet.fleet_options import (
    Expect,
    OrderOptions,
    Reason,
    ServerOptions,
    begin,
    finish,
    revision_digest,
)
from s3lora_serve.cli.fleet.order_commands import Sha256, planner_name, wanted_adapter
from s3lora_serve.cli.option_groups import grouped
from s3lora_serve.errors import ConfigError, UnknownPlanner
from s3lora_serve.terminal.console import OK, out, say
from s3lora_serve.terminal.pictures import check_parent, write_text

if TYPE_CHECKING:
    from s3lora_serve.cli.fleet.admin_client import AdminClient


@grouped
def exam(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PLANNER|SOURCE",
            help="A planner's name: what it serves now. Or an adapter: folder (./here or on the server),"
            " demo://, hf://org/name@v, folder's URL.",
        ),
    ],
    *,
    planner: Annotated[
        str | None,
        typer.Option(
            "--planner",
            "-p",
            help="With a SOURCE: the planner that it is for, whose policy and exam settings hold; needed"
            " where the server has several.",
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(
            help="With a PLANNER: examine this revision in the store, not the one that serves.",
            callback=revision_digest,
        ),
    ] = None,
    sha256: Sha256 = None,
    kept: Annotated[
        bool, typer.Option("--kept", help="Show the verdict that is kept of what serves; ask nothing.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Also write a self-contained page of what was found."),
    ] = None,
    expect: Expect = None,
    reason: Reason = "",
    order: OrderOptions,
    at: ServerOptions,
) -> None:
    """Examine what a planner serves, or an adapter before it serves; nothing that serves changes.

    The revision and its base model answer the same attacks, and their answers are compared. A SOURCE is
    admitted, loaded, examined and taken out again. A revision keeps its verdict: asking again asks nothing
    unless other questions, settings, guard or base have made it stale, or time ended the exam (exam.seconds).
    """
    source = None if is_planner(target) else target
    _check(source, planner, revision, kept=kept, html=html, wait=order.wait)
    wanted = wanted_adapter(source, revision, sha256)
    with at.connect() as client:
        name = planner_name(target) if source is None else planner or _only_planner(client)
        try:
            if kept:
                _show_kept(client, name, html, as_json=order.as_json)
                return
            body = {**wanted, "expected_revision": expect, "reason": reason}
            operation = begin(client, f"planners/{planner_name(name)}/exam", body, order.key)
        except UnknownPlanner as error:
            if source is None and Path(target).is_dir():
                error.hint = f"for the folder write ./{target}"
            raise
        if html is not None:
            operation = _written(client, operation, order.timeout, html)
        finish(client, operation, order)


def is_planner(target: str) -> bool:
    """Whether this reads as a planner's name; folders have a slash or begin with a dot or ``~``."""
    return "/" not in target and not target.startswith((".", "~")) and bool(target.strip())


def _check(
    source: str | None,
    planner: str | None,
    revision: str | None,
    *,
    kept: bool,
    html: Path | None,
    wait: bool,
) -> None:
    """Raise ConfigError for options that contradict each other, and for a page that cannot be written."""
    if source is None and planner is not None:
        raise ConfigError("--planner belongs to a SOURCE", hint="the name of a planner says which planner")
    if kept and (source is not None or revision is not None):
        raise ConfigError("--kept shows what is kept of what a planner serves", hint="name the planner alone")
    if kept and not wait:
        raise ConfigError("--kept asks nothing that could be waited for", hint="leave --no-wait out")
    if html is not None:
        if not wait:
            raise ConfigError("--html needs the end of the exam", hint="leave --no-wait out")
        check_parent(html)


def _only_planner(client: AdminClient) -> str:
    names = [str(each["id"]) for each in client.planners()]
    if len(names) == 1:
        return names[0]
    raise ConfigError(
        "the server has several planners, and each may have its policy and exam"
        if names
        else "the server has no planner",
        hint=f"name the one that it is for: --planner {' or '.join(names[:5])}" if names else "",
    )


def _show_kept(client: AdminClient, planner: str, html: Path | None, *, as_json: bool) -> None:
    """Show it, and leave with the code of its verdict."""
    (entry,) = (each for each in client.exams(planner_name(planner)) if each["role"] == "active")
    found = entry["exam"]
    reading = None if found is None else ExamReading.of(found, planner, entry["revision"], kept=True)
    if as_json:
        typer.echo(json.dumps(entry, indent=2))
    elif reading is None:
        say(f"{planner}: nothing is kept of an exam of what it serves; s3lora exam {planner} asks", "yellow")
    else:
        from s3lora_serve.cli.fleet.exam_table import exam_table

        out.print(exam_table(reading))
    if html is not None and reading is not None:
        _write(reading, html)
    elif html is not None:
        say(f"{html} is not written: nothing is kept", "yellow")
    if (code := UNDECIDED if reading is None else reading.exit_code) != OK:
        raise typer.Exit(code)


def _written(
    client: AdminClient, operation: dict[str, Any], timeout: float | None, html: Path
) -> dict[str, Any]:
    """The operation, ended or timed out, with the page of what it found."""
    from s3lora_serve.cli.fleet.operation_view import exam_of
    from s3lora_serve.cli.fleet.waiting import follow

    if not operation["ended"]:
        operation = dict(follow(client, operation, timeout))
    if (reading := exam_of(operation)) is not None:
        _write(reading, html)
    return operation


def _write(reading: ExamReading, html: Path) -> None:
    from s3lora_serve.cli.exam.exam_page import exam_page  # jinja2 and matplotlib take a second to import

    write_text(exam_page(reading), html)
    say(f"wrote {html}")
