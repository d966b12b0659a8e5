"""``s3lora plan``: ask a running server for a plan, and show it as it is written."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path  # noqa: TC003  (typer reads the annotation)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3lora_serve.cli.fleet.access import find_clients_url
from s3lora_serve.cli.fleet.fleet_options import ConfigFile, Engine, revision_digest
from s3lora_serve.cli.fleet.waiting import INTERRUPTED
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import ConfigError, S3LoRAError
from s3lora_serve.terminal.console import REFUSED, print_error, say, say_error
from s3lora_serve.terminal.pictures import check_picture, write_picture, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planners import Plan
    from planners.client import PlannerClient
    from planners.client.errors import PlannerAPIError

PLAN_CODES = (
    "Exit codes: 0 done; 1 refused, also by a guard, or failed; 2 wrong usage or configuration; "
    "130 Ctrl-C, the server stops planning."
)
URL_ENV, KEY_ENV = "S3LORA_BASE_URL", "S3LORA_API_KEY"
_TEXTS = {".mmd": "mermaid", ".md": "markdown", ".dot": "dot"}  # functions of plan_graph.py


def plan(
    task: Annotated[str, typer.Argument(help="The task to plan; - reads it from stdin.")],
    planner: Annotated[str, typer.Option("--planner", "-p", help="Name of a planner that is served.")],
    tools: Annotated[
        list[str] | None,
        typer.Option(
            "--tools",
            "-t",
            help="Name, Name=description, or Name,Name,...; repeatable. Without it, the planner's own.",
        ),
    ] = None,
    tools_file: Annotated[
        Path | None, typer.Option(help="A .json or .yaml list of {name, description, parameters}.")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(min=1, max=32, help="Maximum number of steps; 8 by default.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0, the default, is greedy.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Makes sampling repeatable.")] = None,
    no_grammar: Annotated[
        bool, typer.Option("--no-grammar", help="Decode without the grammar; the plan may be invalid.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair a plan that is not valid or was cut, or ask again.")
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(help="Only from this revision (8 digits or more).", callback=revision_digest),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON; errors too.")] = False,
    rewoo: Annotated[bool, typer.Option("--rewoo", help="Print the plan as ReWOO text.")] = False,
    graph: Annotated[
        Path | None,
        typer.Option(help="Also draw the plan: a .png, .svg or .pdf, or a graph's text, .mmd, .md or .dot."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="The server's address; by default from ./.s3lora/admin.json, else http://127.0.0.1:8000.",
            envvar=URL_ENV,
        ),
    ] = None,
    config: ConfigFile = None,
    engine: Engine = EngineKind.VLLM,
) -> None:
    """Plan a task with a planner of a running server, and print each step as soon as it is written.

    The server's API key, if it has one, is read from S3LORA_API_KEY.
    """
    if as_json and rewoo:
        raise ConfigError("--json and --rewoo are two forms of one answer", hint="choose one")
    if graph is not None:
        check_picture("--graph", graph, texts=_TEXTS)
    asked = {
        "tools": _offered(tools or (), tools_file),
        "max_steps": max_steps,
        "temperature": temperature,
        "seed": seed,
        "constraint": "none" if no_grammar else None,
        "repair": repair or None,
        "revision": revision,
    }
    question = _task(task)
    with _client(url or find_clients_url(config, engine), planner) as client:
        made = _ask(client, question, asked, "json" if as_json else "rewoo" if rewoo else "steps")
    if graph is not None:
        _draw(made, question, graph)


def _client(url: str | None, planner: str) -> PlannerClient:
    from planners.client import PlannerClient

    try:
        # One more attempt: a user at a terminal wants to know soon that nothing runs there.
        return PlannerClient(url, planner=planner, retries=1)
    except ValueError as error:
        raise ConfigError(str(error), hint=f"see --url and {KEY_ENV}") from error


def _ask(client: PlannerClient, task: str, asked: dict[str, Any], form: str) -> Plan:
    """Ask, print the answer in this form, and return it; leave with an exit code if there is none."""
    from planners import Plan, render
    from planners.client.errors import PlannerAPIError
    from s3lora_serve.cli.plan import plan_view

    made = Plan(steps=())
    try:
        if form == "json":
            made = client.plan(task, **asked)
            typer.echo(made.model_dump_json(indent=2, exclude_none=True))
            return made
        for chunk in client.stream(task, **asked):
            for step in chunk.steps:
                if form == "rewoo":
                    typer.echo(render(Plan(steps=(step,))))
                    sys.stdout.flush()
                else:
                    plan_view.show_step(step)
            if chunk.meta is not None:
                plan_view.show_meta(chunk.meta)
            made += chunk
    except PlannerAPIError as error:
        _say_refused(error)
        raise typer.Exit(REFUSED) from error
    except ValueError as error:
        raise ConfigError(_problems(error), hint="s3lora plan --help") from error
    except KeyboardInterrupt:
        say("stopped", "dim")
        raise typer.Exit(INTERRUPTED) from None
    return made


def _say_refused(error: PlannerAPIError) -> None:
    hint = {
        401: f"set {KEY_ENV} to the key that the server was started with",
        409: "leave --revision out, or ask s3lora status which one serves",
        429: f"try again in {error.retry_after or 1:.0f} s",
    }.get(error.status or 0, "")
    if error.code == "guard_undecided" and error.retry_after:
        hint = f"try again in {error.retry_after:.0f} s"
    if error.status == 422 and error.param == "tools":
        hint = "name them: --tools Name=description, or --tools-file FILE"
    if error.code == "connection_failed":
        hint = f"start s3lora-serve, or name the server: --url or {URL_ENV}"
    lines = [error.message, *(f"  {problem.message}" for problem in error.problems)]
    say_error(S3LoRAError("\n".join(lines), hint=hint))
    print_error(error.code, error.message, hint, part=getattr(error, "part", None) or "")


def _task(given: str) -> str:
    text = sys.stdin.read() if given == "-" else given
    if not text.strip():
        raise ConfigError("the task is empty", hint='s3lora plan "the task to plan" --planner NAME')
    return text.strip()


def _offered(given: Sequence[str], file: Path | None) -> list[dict[str, Any]] | None:
    """Tools as the options name them, then those of the file; None for those that the server has."""
    offered: list[dict[str, Any]] = []
    for each in given:
        names, described, description = each.partition("=")
        *others, last = (name.strip() for name in names.split(","))
        offered += [{"name": name} for name in others]
        offered.append({"name": last, "description": description} if described else {"name": last})
    if file is not None:
        offered += _listed(file)
    return offered if given or file is not None else None


def _listed(file: Path) -> list[dict[str, Any]]:
    import yaml

    from s3lora_serve.config.bounded_yaml import MAX_BYTES, read_yaml

    try:
        with file.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read --tools-file {file}: {error.strerror or error}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"--tools-file {file} has more than {MAX_BYTES} bytes")
    try:
        listed = json.loads(raw) if file.suffix.lower() == ".json" else read_yaml(raw.decode())
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"--tools-file {file} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise ConfigError(
            f"--tools-file {file} is not a list of tools",
            hint='write [{"name": "Search", "description": "finds facts"}, ...]',
        )
    return listed


def _problems(error: ValueError) -> str:
    """What the contract does not allow, all of it on one line."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    told = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        message = one["msg"].removeprefix("Value error, ")
        told.append(f"{'.'.join(map(str, one['loc']))}: {message}")
    return "; ".join(told)


def _draw(plan: Plan, task: str, path: Path) -> None:
    from s3lora_serve.cli.plan import plan_graph

    title, ending = " ".join(task.split()), path.suffix.lower()
    try:
        if ending in _TEXTS:
            write_text(getattr(plan_graph, _TEXTS[ending])(plan, title), path)
            missing = False
        else:
            missing = _draw_picture(plan, title, path)
    except ValueError as error:  # without a grammar a step may refer to a later one
        raise ConfigError(f"the plan cannot be drawn: {error}", hint="leave --no-grammar out") from error
    say(f"wrote {path}")
    if missing:
        say("no font of this machine has some of its characters; Noto Sans CJK has", "dim")


def _draw_picture(plan: Plan, title: str, path: Path) -> bool:
    """Whether some characters have no font."""
    from s3lora_serve.cli.plan.plan_picture import plan_figure

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_picture(plan_figure(plan, title), path)
    return any("missing from font" in str(each.message) for each in told)
