"""``s3lora swap``, ``rollback``, ``canary``, ``promote``, ``wait``, ``cancel``: orders about a planner."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3lora_serve.cli.fleet.fleet_options import (
    AsJson,
    EndOptions,
    Expect,
    OrderOptions,
    Planner,
    Reason,
    ServerOptions,
    begin,
    finish,
    revision_digest,
    show_cancelled,
    weights_digest,
)
from s3lora_serve.cli.option_groups import grouped
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

SourceArgument = Annotated[
    str | None,
    typer.Argument(help="Adapter to serve: folder on the server, demo://, hf://org/name@v, folder's URL."),
]
Revision = Annotated[
    str | None,
    typer.Option(
        help="Instead of a source: a revision in the store, by its digest.", callback=revision_digest
    ),
]
Sha256 = Annotated[
    str | None, typer.Option(help="Expected SHA-256 of the source's weights file.", callback=weights_digest)
]


@grouped
def swap(
    planner: Planner,
    *,
    source: SourceArgument = None,
    revision: Revision = None,
    sha256: Sha256 = None,
    expect: Expect = None,
    reason: Reason = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Admit and compare only; what serves does not change.")
    ] = False,
    order: OrderOptions,
    at: ServerOptions,
) -> None:
    """Serve another revision under a planner's name. No request is dropped, and a failure changes nothing.

    The new one is admitted, loaded and proved before it answers; running requests end on the old one.
    """
    wanted = wanted_adapter(source, revision, sha256)
    if source is None and revision is None:
        raise ConfigError("name what to serve: SOURCE or --revision")
    body = {**wanted, "expected_revision": expect, "reason": reason, "dry_run": dry_run}
    _order(planner, "swap", body, order, at)


@grouped
def rollback(
    planner: Planner,
    *,
    to: Annotated[
        str | None,
        typer.Option(help="Revision to go back to; without it the one before.", callback=revision_digest),
    ] = None,
    expect: Expect = None,
    reason: Reason = "",
    order: OrderOptions,
    at: ServerOptions,
) -> None:
    """Serve the revision before, at once if it is still loaded; with a candidate, give the candidate up."""
    body = {"to": to, "expected_revision": expect, "reason": reason}
    _order(planner, "rollback", body, order, at)


@grouped
def canary(
    planner: Planner,
    *,
    source: SourceArgument = None,
    share: Annotated[
        float | None,
        typer.Option(help="Share of the sessions, above 0 and up to 1; 0.1 for a new candidate."),
    ] = None,
    revision: Revision = None,
    sha256: Sha256 = None,
    shadow: Annotated[
        bool | None,
        typer.Option("--shadow/--no-shadow", help="Run the share a second time on it; answers are not sent."),
    ] = None,
    promote_after: Annotated[
        int | None,
        typer.Option(min=1, help="Promote automatically after this many requests without a broken rule."),
    ] = None,
    expect: Expect = None,
    reason: Reason = "",
    order: OrderOptions,
    at: ServerOptions,
) -> None:
    """Try another revision on a share of the sessions, then `s3lora promote` or `s3lora rollback` it.

    Without SOURCE and --revision, the options change how the present candidate is tried; what is not given
    stays as it is.
    """
    if share is not None and not 0 < share <= 1:
        raise ConfigError(
            f"--share {share:g} is not above 0 and up to 1", hint="0.1 is a tenth of the sessions"
        )
    body = {
        **wanted_adapter(source, revision, sha256),
        "share": share,
        "shadow": shadow,
        "promote_after": promote_after,
        "expected_revision": expect,
        "reason": reason,
    }
    _order(planner, "canary", body, order, at)


@grouped
def promote(
    planner: Planner,
    *,
    expect: Expect = None,
    reason: Reason = "",
    order: OrderOptions,
    at: ServerOptions,
) -> None:
    """Serve the candidate's revision to all requests."""
    body = {"expected_revision": expect, "reason": reason}
    _order(planner, "promote", body, order, at)


@grouped
def wait(
    operation: Annotated[str, typer.Argument(help="An operation's id, as `s3lora status` shows it.")],
    end: EndOptions,
    at: ServerOptions,
) -> None:
    """Wait for an operation to end and exit with its code; with --no-wait show its state."""
    with at.connect() as client:
        finish(client, client.operation(operation), end)


@grouped
def cancel(
    operation: Annotated[str, typer.Argument(help="An operation's id, as `s3lora status` shows it.")],
    *,
    reason: Reason = "",
    as_json: AsJson = False,
    at: ServerOptions,
) -> None:
    """End an operation before it decides what serves: what it began is taken back, and nothing changes.

    After its flip it is refused; `s3lora rollback` is the way back then.
    """
    with at.connect() as client:
        show_cancelled(client.cancel(operation, reason), as_json)


def _order(planner: str, what: str, body: Mapping[str, Any], order: OrderOptions, at: ServerOptions) -> None:
    with at.connect() as client:
        finish(client, begin(client, f"planners/{planner_name(planner)}/{what}", body, order.key), order)


def wanted_adapter(source: str | None, revision: str | None, sha256: str | None) -> dict[str, Any]:
    """What an order names. Raises ConfigError when that is contradictory, or a folder that is not there;
    SourceError for one that is refused by its text.
    """
    if source is not None and revision is not None:
        raise ConfigError("give SOURCE or --revision, not both")
    if sha256 is not None and source is None:
        raise ConfigError("--sha256 belongs to a SOURCE")
    place = None if source is None else _absolute(source)
    return {"source": place, "revision": revision, "sha256": sha256}


def _absolute(source: str) -> str:
    """A relative folder as the server can find it: seen from here, since it may run elsewhere."""
    if not source.strip():  # as an unset variable of a shell script
        raise ConfigError("SOURCE is empty")
    if "://" in source:
        from s3lora_serve.adapters.fetch.address import Source

        return Source.parse(source).text  # a password does not even leave this machine
    path = Path(source).expanduser()
    if path.is_absolute():
        return str(path)
    if not path.is_dir():
        raise ConfigError(
            f"there is no folder {source}",
            hint="a relative SOURCE is looked for here; one that only the server sees must begin with '/'",
        )
    return str(path.resolve())


def planner_name(planner: str) -> str:
    """The name itself. Raises ConfigError for what cannot be one."""
    from s3lora_serve.config import PLANNER_NAME

    if not PLANNER_NAME.fullmatch(planner):
        raise ConfigError(
            f"{planner[:80]!r} is not a planner's name", hint="s3lora status lists the planners"
        )
    return planner
