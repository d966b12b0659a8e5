"""``s3lora``: what an operator does with adapters and configurations, without starting a server."""

from __future__ import annotations

from typing import Annotated

import typer

from s3lora_serve import __version__
from s3lora_serve.cli import adapter_commands, config_commands
from s3lora_serve.cli.console import EXIT_CODES, run

app = typer.Typer(
    name="s3lora",
    help="Look at, prune and verify LoRA planner adapters, and check configurations.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local values, which may hold keys
)
app.command("inspect", epilog=EXIT_CODES)(adapter_commands.inspect)
app.command("prune", epilog=EXIT_CODES)(adapter_commands.prune)
app.command("verify", epilog=EXIT_CODES)(adapter_commands.verify)
app.add_typer(config_commands.app, name="config")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"s3lora-serve {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point ``s3lora``."""
    run(app)
