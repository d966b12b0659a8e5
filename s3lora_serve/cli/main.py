"""``s3lora``: what an operator does with adapters, configurations and a running server."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from s3lora_serve.cli import config_commands
from s3lora_serve.cli.adapters import adapter_commands, convert_command, reference_command
from s3lora_serve.cli.exam import exam_command, prune_command
from s3lora_serve.cli.fleet import (
    apply_command,
    audit_command,
    backup_command,
    guard_command,
    order_commands,
    status_commands,
)
from s3lora_serve.cli.fleet.fleet_options import CANCEL_CODES, EXAM_CODES, ORDER_CODES, WAIT_CODES
from s3lora_serve.cli.lab import evaluate_command, sweep_command
from s3lora_serve.cli.lab.evaluation_options import EVALUATION_CODES
from s3lora_serve.cli.plan import plan_command
from s3lora_serve.terminal.console import EXIT_CODES, print_error, run, say, show_version


class _Commands(TyperGroup):
    """The commands; with --json wrong usage is told as JSON too."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the line names."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if (message := _wrong_usage(error)) is not None:
                print_error("usage_error", message(), hint=f"{ctx.info_name} --help")
            raise


class _Verify(TyperCommand):
    """``s3lora verify``. What only ``s3lora audit`` takes still runs that, with a warning; gone in 0.2."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The command as the line asks for it."""
        try:
            return super().make_context(info_name, [*args], parent, **extra)
        except Exception as error:
            if parent is None or _wrong_usage(error) is None:
                raise
            try:
                rest = [word for word in args if word != "--fleet"]
                context = parent.command.commands["audit"].make_context("audit", rest, parent, **extra)
            except Exception:
                raise error from None
        say("warning: without SOURCE this is `s3lora audit`; `s3lora verify` will need a SOURCE", "yellow")
        return context


def _wrong_usage(error: Exception) -> Any:
    """What tells the message of an error of usage, None for other errors: typer keeps its class to itself."""
    return getattr(error, "format_message", None)


app = typer.Typer(
    name="s3lora",
    cls=_Commands,
    help="Inspect, prune, verify and measure LoRA planner adapters; operate a running server; plan.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local values, which may hold keys
)
app.command("inspect", epilog=EXIT_CODES)(adapter_commands.inspect)
app.command("prune", epilog=prune_command.PRUNE_CODES)(prune_command.prune)
app.command("verify", cls=_Verify, epilog=EXIT_CODES)(adapter_commands.verify)
app.command("evaluate", epilog=EVALUATION_CODES)(evaluate_command.evaluate)
app.command("sweep", epilog=EVALUATION_CODES)(sweep_command.sweep)
app.command("convert", epilog=EXIT_CODES)(convert_command.convert)
app.command("reference", epilog=EXIT_CODES)(reference_command.reference)
app.command("plan", epilog=plan_command.PLAN_CODES)(plan_command.plan)
for _order in (
    order_commands.swap,
    order_commands.rollback,
    order_commands.canary,
    order_commands.promote,
    apply_command.apply,
):
    app.command(epilog=ORDER_CODES)(_order)
app.command(epilog=WAIT_CODES)(order_commands.wait)
app.command(epilog=EXAM_CODES)(exam_command.exam)
app.command(epilog=CANCEL_CODES)(order_commands.cancel)
app.command(epilog=status_commands.STATUS_CODES)(status_commands.status)
app.command(epilog=status_commands.HISTORY_CODES)(status_commands.history)
app.command(epilog=audit_command.AUDIT_CODES)(audit_command.audit)
app.command(epilog=backup_command.BACKUP_CODES)(backup_command.backup)
app.command(epilog=backup_command.BACKUP_CODES)(backup_command.restore)
app.add_typer(config_commands.app, name="config")
app.add_typer(guard_command.app, name="guard")


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point ``s3lora``."""
    run(app)
