"""``s3lora apply``: a running fleet becomes what planners.yaml declares, or stays as it is."""

from __future__ import annotations

from typing import Annotated

import typer

from s3lora_serve.cli.fleet.fleet_options import (
    AsJson,
    ConfigFile,
    Engine,
    Key,
    Manner,
    Reason,
    Server,
    Timeout,
    Wait,
    begin,
    finish,
)
from s3lora_serve.engine.port import EngineKind


def apply(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the difference and change nothing.")
    ] = False,
    reason: Reason = "",
    wait: Wait = True,
    timeout: Timeout = None,
    as_json: AsJson = False,
    key: Key = None,
    server: Server = None,
    config: ConfigFile = None,
    engine: Engine = EngineKind.VLLM,
) -> None:
    """Bring a running fleet to what planners.yaml declares: planners and their policies, all or nothing.

    The server reads its own planners.yaml again, checks it and applies it; the difference is shown. A planner
    whose lines did not change stays as it is, even if it was swapped since. Other sections (engine, ...) need
    a restart.
    """
    manner = Manner(server, config, engine, wait, timeout, as_json, key)
    with manner.connect() as client:
        operation = begin(client, "apply", {"reason": reason, "dry_run": dry_run}, manner)
        changes = (operation.get("details") or {}).get("changes")
        if changes and not as_json:
            from s3lora_serve.cli.fleet.operation_view import show_changes

            show_changes(changes)
        finish(client, operation, manner)
