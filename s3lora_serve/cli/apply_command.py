"""``s3lora apply``: a running fleet becomes what planners.yaml declares, or stays as it is."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotation)
from typing import Annotated, Any

import typer

from s3lora_serve.cli.fleet_options import AsJson, Key, Manner, Reason, Server, Timeout, Wait, begin, finish


def apply(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="The planners.yaml to apply; its state section says where the server is. "
            "Without it, the server reads its own file again.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the difference and change nothing.")
    ] = False,
    reason: Reason = "",
    wait: Wait = True,
    timeout: Timeout = None,
    as_json: AsJson = False,
    key: Key = None,
    server: Server = None,
) -> None:
    """Bring a running fleet to what planners.yaml declares: planners and their policies, all or nothing.

    The file is checked, the difference shown, then it is applied. A planner whose lines did not change stays
    as it is, even if it was swapped since. Other sections (engine, server, ...) need a restart.
    """
    declared = {} if config is None else _declared(config)
    manner = Manner(server, config, wait, timeout, as_json, key)
    with manner.connect() as client:
        operation = begin(client, "apply", {**declared, "reason": reason, "dry_run": dry_run}, manner)
        changes = (operation.get("details") or {}).get("changes")
        if changes and not as_json:
            from s3lora_serve.cli.operation_view import show_changes

            show_changes(changes)
        finish(client, operation, manner)


def _declared(file: Path) -> dict[str, Any]:
    """Planners and policy as the admin routes take them; folders are absolute. Raises ConfigError."""
    from s3lora_serve.cli.config_commands import check_demo_sources
    from s3lora_serve.config import load_config

    config = load_config(file)
    check_demo_sources(file, config)
    return {
        "planners": {
            name: planner.model_dump(mode="json", exclude_none=True)
            for name, planner in config.planners.items()
        },
        "policy": config.policy.model_dump(mode="json", exclude_none=True),
    }
