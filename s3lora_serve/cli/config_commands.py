"""``s3lora config``: check a planners.yaml, print its schema. Neither starts anything."""

from __future__ import annotations

import json
import os
from pathlib import Path  # noqa: TC003  (typer reads the annotation)
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from s3lora_serve.errors import ConfigError, SourceError
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import EXIT_CODES, out, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3lora_serve.config import Config, PolicyConfig

app = typer.Typer(help="Check a planners.yaml, or print its JSON Schema.", no_args_is_help=True)


@app.command(epilog=EXIT_CODES)
def check(file: Annotated[Path, typer.Argument(help="A planners.yaml.")]) -> None:
    """Check a configuration and show what it resolves to, what ranks cost in memory, and what will go wrong
    with its guards and exams.

    All mistakes are listed at once, those in engine.extra_args as this vLLM sees them. Opens no adapter:
    `s3lora-serve --check` does.
    """
    from s3lora_serve.adapters.fetch.address import redacted
    from s3lora_serve.cli.exam_remarks import exam_lines, exam_remarks
    from s3lora_serve.cli.guard_remarks import guard_lines, guard_remarks, key_remarks
    from s3lora_serve.cli.rank_lines import rank_lines
    from s3lora_serve.config import load_config

    config = load_config(file, _problems)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("planner", "source", "policy"):
        table.add_column(column, overflow="fold")
    for name, planner in config.planners.items():
        table.add_row(name, Text(printable(redacted(planner.source))), _in_words(config.policy_of(name)))
    out.print(table)
    revision = f" at {config.base_model_revision}" if config.base_model_revision else ""
    for line in (
        f"base model {config.base_model}{revision}",
        f"store      {config.store.path}",
        f"state      {config.state.path}",
        f"listens on {config.server.host}:{config.server.port}, API key from {config.server.api_key_env}",
        f"stops      within {config.grace_seconds:g} s of a signal; requests are cut then{_short(config)}",
        f"orders on  {config.admin.host}:{config.admin.port}, token from {config.admin.token_env}",
        *(f"ranks      {line}" for line in rank_lines(config)),
        *(f"guard      {line}" for line in guard_lines(config)),
        *(f"exam       {line}" for line in exam_lines(config)),
    ):
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    remarks = *key_remarks(config, os.environ), *guard_remarks(config, os.environ), *exam_remarks(config)
    for remark in remarks:
        out.print(Text(printable(f"note       {remark}"), style="yellow"), soft_wrap=True)
    out.print(Text(printable(f"{file} is valid"), style="green"), soft_wrap=True)


def _short(config: Config) -> str:
    """A remark if a plan may take longer than a stop does."""
    left = config.grace_seconds - config.server.notice_seconds
    if left >= config.plans.seconds:
        return ""
    return f" (plans that began last have {left:g} s, less than plans.seconds, {config.plans.seconds:g})"


@app.command(epilog=EXIT_CODES)
def schema() -> None:
    """Print the JSON Schema of planners.yaml (committed as configs/planners.schema.json)."""
    from s3lora_serve.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


def _problems(config: Config) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """What the settings cannot know of: tools that no plan can use, demo adapters that the package lacks."""
    from s3lora_serve.launch.resolve import to_source
    from s3lora_serve.launch.source_rules import file_problems

    yield from file_problems(config)
    yield from _extra_problems(config.engine.extra_args)
    for name, planner in config.planners.items():
        try:
            to_source(planner.source)
        except SourceError:
            continue  # told already
        except ConfigError as error:
            yield ("planners", name, "source"), str(error)


def _extra_problems(given: Mapping[str, Any]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """What vLLM would say of its further arguments at the start, where it is installed."""
    from importlib.util import find_spec

    if not given:
        return
    if find_spec("vllm") is None:
        say("note: engine.extra_args are not checked, as vLLM is not installed here", "yellow")
        return
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # importing it says things of its own
    from s3lora_serve.engine.vllm.vllm_settings import extra_problems

    yield from ((("engine", "extra_args", name), why) for name, why in extra_problems(given))


def _in_words(policy: PolicyConfig) -> str:
    if policy.threshold is not None:
        rule = f"above {policy.threshold:g}"
    elif policy.adaptive is not None:
        rule = f"adaptive z {policy.adaptive.z:g}, at most {policy.adaptive.max_share:.0%}"
    elif policy.validated is not None:
        rule = f"at a floor of {policy.validated.floor:.0%} {policy.validated.utility} by its sweep"
    else:
        rule = f"top {policy.top}"
    words = f"{policy.action} {rule} by {policy.scorer}"
    if policy.anomaly is not None:
        words += f"; {policy.anomaly.action} anomalies above {policy.anomaly.max:g}"
    return words
