"""``s3lora-serve``: a planners.yaml in, a server out; the data path from the first line to the last."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path  # noqa: TC003  (typer reads the annotation)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3lora_serve import __version__
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.launch.engine_choice import for_engine
from s3lora_serve.launch.log_levels import set_logging
from s3lora_serve.terminal.console import EXIT_CODES, OK, REFUSED, say, show_version

if TYPE_CHECKING:
    from pydantic import BaseModel

    from s3lora_serve.config import Config

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog=EXIT_CODES)
def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="The planners.yaml to serve.")],
    host: Annotated[str | None, typer.Option(help="Listen here instead of server.host.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Listen here instead of server.port; 0: any free port.")
    ] = None,
    admin_port: Annotated[
        int | None, typer.Option(help="Take orders here instead of at admin.port; 0: any free port.")
    ] = None,
    engine: Annotated[
        EngineKind,
        typer.Option(
            help="fake: made-up answers without a model, to try routes, pages and clients; "
            "this machine only, with a separate store and state."
        ),
    ] = EngineKind.VLLM,
    check: Annotated[
        bool,
        typer.Option("--check", help="Admit every planner, show the result, and stop before the engine."),
    ] = False,
    new_state: Annotated[
        bool,
        typer.Option(
            "--new-state",
            help="Serve from a store whose fleet's state file is not here: begin anew from planners.yaml.",
        ),
    ] = False,
    accept_state: Annotated[
        bool,
        typer.Option(
            "--accept-state",
            help="Where the state file's tables and its journal differ, the tables are right: "
            "write that down and serve.",
        ),
    ] = False,
    log_level: Annotated[
        str,
        typer.Option(help="debug, info, warning or error; others for parts: info,serving=debug,vllm=info."),
    ] = "info",
    log_format: Annotated[str, typer.Option(help="text, or json: one object a line.")] = "text",
    _: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Serve the planners of a configuration on vLLM.

    Each adapter is fetched, verified, scored, pruned and published, then loaded and proved to change the
    model's answers. Startup fails if any planner cannot be served; the message names every one that failed.
    One that its exam keeps from serving is withheld, and the others serve.
    """
    set_logging(log_level, log_format)
    from s3lora_serve.config import load_config
    from s3lora_serve.launch.source_rules import file_problems

    declared = load_config(config, file_problems)
    settings = for_engine(_with_address(declared, host, port, admin_port), engine)
    say(f"s3lora-serve {__version__}, {config}", "bold")
    if engine is EngineKind.FAKE:
        from s3lora_serve.launch.banner import MADE_UP

        say(MADE_UP, "bold yellow")
    if check:
        from s3lora_serve.launch.admit_all import admit_fleet
        from s3lora_serve.launch.banner import show_exam_settings, show_guards, show_revisions

        fleet = admit_fleet(settings, engine=engine)
        show_revisions(fleet.revisions)
        show_guards({name: settings.guard_of(name) for name in fleet.revisions})
        show_exam_settings({name: settings.exam_of(name) for name in fleet.revisions})
    else:
        from s3lora_serve.launch.launch import launch

        serving = launch(
            settings,
            config,
            dict(os.environ),
            engine=engine,
            declared=declared,
            new_state=new_state,
            accept_state=accept_state,
        )
        asyncio.run(serving)
        # All is closed. Libraries below vLLM print a screenful of leaks when the interpreter is taken down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(OK)


def main() -> None:
    """The entry point ``s3lora-serve``."""
    from s3lora_serve.storage.daemon_threads import abandoned
    from s3lora_serve.terminal.console import run

    try:
        run(app)
    except SystemExit as left:
        if not abandoned():
            raise
        # All is closed and told. What was left behind in a source may hold threads that Python would join.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(left.code if isinstance(left.code, int) else OK if left.code is None else REFUSED)


def _with_address(config: Config, host: str | None, port: int | None, admin_port: int | None) -> Config:
    given = {("server", "host"): host, ("server", "port"): port, ("admin", "port"): admin_port}
    for (section, name), value in given.items():
        if value is not None:
            option = "--admin-port" if section == "admin" else f"--{name}"
            config = config.model_copy(
                update={section: _changed(getattr(config, section), name, value, option)}
            )
    return config


def _changed(section: BaseModel, name: str, value: Any, option: str) -> BaseModel:
    from pydantic import ValidationError

    from s3lora_serve.errors import ConfigError

    try:
        return type(section)(**{**section.model_dump(), name: value})
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Input ")
        raise ConfigError(f"{option} {value}: {reason}") from error
