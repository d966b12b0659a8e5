"""``s3lora apply``: a running fleet becomes what planners.yaml declares, or stays as it is."""

from __future__ import annotations

from typing import Annotated

import typer

from s3lora_serve.cli.fleet.fleet_options import OrderOptions, Reason, ServerOptions, begin, finish
from s3lora_serve.cli.option_groups import grouped


@grouped
def apply(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the difference and change nothing.")
    ] = False,
    reason: Reason = "",
    order: OrderOptions,
    at: ServerOptions,
) -> None:
    """Bring a running fleet to what planners.yaml declares: planners and their policies, all or nothing.

    The server reads its own planners.yaml again, checks it and applies it; the difference is shown. A planner
    whose lines did not change stays as it is, even if it was swapped since. Other sections (engine, ...) need
    a restart.
    """
    with at.connect() as client:
        operation = begin(client, "apply", {"reason": reason, "dry_run": dry_run}, order.key)
        changes = (operation.get("details") or {}).get("changes")
        if changes and not order.as_json:
            from s3lora_serve.cli.fleet.operation_view import show_changes

            show_changes(changes)
        finish(client, operation, order)
