"""What the commands about a running fleet share: options, the way to the server, how an order ends."""

from __future__ import annotations

import json
import os
import re
import shlex
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import ConfigError
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import OK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.cli.fleet.admin_client import AdminClient

ORDER_CODES = (
    "Exit codes: 0 done (with --no-wait: begun); 1 refused, failed, undone, cancelled, or not ended within "
    "--timeout; "
    "2 wrong usage or configuration; 130 Ctrl-C, the operation continues."
)
EXAM_CODES = (
    "Exit codes: 0 passed (with --no-wait: begun); 1 refused, or the exam failed, was cancelled, or has not "
    "ended within --timeout; 2 wrong usage or configuration; 3 undecided, or what is kept is stale or "
    "nothing; 130 Ctrl-C, the operation continues."
)
WAIT_CODES = ORDER_CODES.replace("; 130", "; 3 an exam is undecided; 130")
CANCEL_CODES = (
    "Exit codes: 0 cancelled, now or before; 1 refused: it has decided or ended, or there is none; "
    "2 wrong usage or configuration."
)
_DIGEST = re.compile("[0-9a-fA-F]{8,64}")


def revision_digest(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Let a revision's digest or the beginning of one through, in lower case. Raises ConfigError."""
    if value is not None and not _DIGEST.fullmatch(value):
        raise ConfigError(
            f"{parameter.opts[0]} {value[:80]!r} is not a revision", hint="it has 8 to 64 hexadecimal digits"
        )
    return value and value.lower()


def weights_digest(value: str | None) -> str | None:
    """Let a whole SHA-256 through, in lower case. Raises ConfigError."""
    if value is not None and not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise ConfigError(f"--sha256 {value!r} is not a SHA-256", hint="it has 64 hexadecimal digits")
    return value and value.lower()


Planner = Annotated[str, typer.Argument(help="A planner's name, as in planners.yaml.")]
OptionalPlanner = Annotated[str | None, typer.Argument(help="Only this planner.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Find the server by this planners.yaml; without it by ./.s3lora/admin.json."
    ),
]
Engine = Annotated[
    EngineKind,
    typer.Option(
        "--engine",
        help="fake: the server that was started with --engine fake.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the server says, as JSON; errors too.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
Expect = Annotated[
    str | None,
    typer.Option(help="Refuse unless this revision serves now (8 digits or more).", callback=revision_digest),
]


@dataclass(frozen=True)
class ServerOptions:
    """Which server a command asks."""

    server: Annotated[
        str | None,
        typer.Option(
            help="The admin listener's address. The token then comes from S3LORA_ADMIN_TOKEN.",
            envvar="S3LORA_ADMIN_URL",
        ),
    ] = None
    config: ConfigFile = None
    engine: Engine = EngineKind.VLLM

    def connect(self) -> AdminClient:
        """A client of that server, which is looked for anew before each request."""
        from s3lora_serve.cli.fleet.access import find_access
        from s3lora_serve.cli.fleet.admin_client import AdminClient

        environ = dict(os.environ)
        find = partial(find_access, self.server, self.config, environ, self.engine)
        return AdminClient(find, same=self._words())

    def _words(self) -> str:
        """What a command that is suggested needs to ask the same server, with a space before; or nothing."""
        words = []
        if self.server is not None and self.server != os.environ.get("S3LORA_ADMIN_URL"):
            words += ["--server", self.server]
        if self.config is not None:
            words += ["--config", str(self.config)]
        if self.engine is not EngineKind.VLLM:
            words += ["--engine", self.engine.value]
        return f" {shlex.join(words)}" if words else ""


@dataclass(frozen=True)
class EndOptions:
    """Whether an operation's end is awaited, and how it is shown."""

    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the end, or leave once it has begun.")
    ] = True
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Wait at most this many seconds; the operation continues.")
    ] = None
    as_json: AsJson = False


@dataclass(frozen=True)
class OrderOptions(EndOptions):
    """The same of an order, and its idempotency key."""

    key: Annotated[
        str | None,
        typer.Option(
            help="Idempotency key: an order repeated under the same key is carried out once. "
            "By default each call has a new one."
        ),
    ] = None


def begin(client: AdminClient, path: str, body: Mapping[str, Any], key: str | None) -> dict[str, Any]:
    """Give the order; the operation that it began, or had begun under the same key."""
    if key is not None and not re.fullmatch("[ -~]{1,128}", key):
        raise ConfigError("--key must have 1 to 128 printable ASCII characters")
    given = {name: value for name, value in body.items() if value is not None}
    # One key for all attempts of this call, so that an order whose answer was lost is not carried out twice.
    return client.order(path, given, key or str(uuid.uuid4()))


def finish(client: AdminClient, operation: Mapping[str, Any], end: EndOptions) -> None:
    """Wait for the end of the operation if wanted, show it, and leave with its exit code."""
    from s3lora_serve.cli.fleet.operation_view import outcome, show_operation
    from s3lora_serve.cli.fleet.waiting import follow

    if end.wait and not operation["ended"]:
        operation = follow(client, operation, end.timeout)
    if end.as_json:
        typer.echo(json.dumps(operation, indent=2))
    else:
        show_operation(operation, waited=end.wait, same=client.same)
    if (code := outcome(operation, waited=end.wait)) != OK:
        raise typer.Exit(code)


def show_cancelled(operation: Mapping[str, Any], as_json: bool) -> None:
    """Say that the operation is cancelled; any other outcome was refused by the server."""
    from s3lora_serve.terminal.console import out

    if as_json:
        typer.echo(json.dumps(operation, indent=2))
        return
    subject = f"{operation['kind']} {operation['planner'] or ''}".strip()
    out.print(printable(f"{subject}: {operation['summary']}"), markup=False, soft_wrap=True, highlight=False)
