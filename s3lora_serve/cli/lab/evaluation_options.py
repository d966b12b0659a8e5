"""What `s3lora evaluate` and `sweep` share on their command lines, and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from s3lora_serve.cli.adapters.adapter_commands import not_empty
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from s3lora_serve.judging.suite import Form, PromptSet, Suite
    from s3lora_serve.spectral.prune_policy import Alignment

EVALUATION_CODES = (
    "Exit codes: 0 done; 1 the adapter was refused or a step failed; 2 wrong usage or configuration; "
    "130 Ctrl-C, the same command resumes."
)
FIRST_LOOK = "Without any set: small built-in ones, for a first look. Evidence needs hundreds of prompts."
Asked = Literal["chat", "plan", "both"]

Base = Annotated[
    str | None,
    typer.Option(
        help="Base model that the adapter must fit: demo, a Hugging Face id or a folder.", callback=not_empty
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="In place of --base: base model, engine and limits of this planners.yaml."
    ),
]
_FILE = "Repeatable. A .txt (one a line), .csv or .jsonl (column prompt), or FILE:column=value for some rows."
Attack = Annotated[
    list[str] | None, typer.Option(help=f"Prompts that should be refused. {_FILE} {FIRST_LOOK}")
]
Harmless = Annotated[list[str] | None, typer.Option(help=f"Prompts that should be answered. {_FILE}")]
Plans = Annotated[
    list[Path] | None,
    typer.Option(help="Tasks with good plans: a .jsonl of {task, tools, plan}. Repeatable."),
]
AskedAs = Annotated[
    Asked,
    typer.Option(
        "--form",
        help="Ask prompts as chats, as tasks of a planner, or both: planners may refuse only one of them.",
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="At most this many of each set, drawn at random with --seed.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the run; an interrupted run resumes from it.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of samples and intervals.")]
RandomSeeds = Annotated[
    int, typer.Option(min=0, max=100, help="Draws of random pruning: the control that scorers must beat.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print report.json instead of the table; errors too.")]


def read_suite(
    attack: Sequence[str] | None,
    harmless: Sequence[str] | None,
    plans: Sequence[Path] | None,
    asked: Asked,
    limit: int | None,
    seed: int,
) -> Suite:
    """All sets that the options name, or ours if they name none.

    Raises ConfigError for files that cannot be read, and when what judges plans is not installed.
    """
    from s3lora_serve.judging import sets
    from s3lora_serve.judging.plan_sets import read_plans
    from s3lora_serve.judging.prompt_sets import read_prompts
    from s3lora_serve.judging.suite import Suite
    from s3lora_serve.judging.text_overlap import meteor, rouge_l

    if not (attack or harmless or plans):
        attack, harmless, plans = [str(sets.ATTACK)], [str(sets.HARMLESS)], [sets.PLANS]
    forms: tuple[Form, ...] = ("chat", "plan") if asked == "both" else (asked,)

    def prompts(specs: Iterable[str] | None) -> tuple[PromptSet, ...]:
        return tuple(
            read_prompts(spec, form, limit=limit, seed=seed) for spec in specs or () for form in forms
        )

    if plans:
        rouge_l("a", "a"), meteor("a", "a")  # which may be missing: not found out after an hour
    planned = tuple(read_plans(path, limit=limit, seed=seed) for path in plans or ())
    try:
        return Suite(prompts(attack), prompts(harmless), planned)
    except ValueError as error:
        raise ConfigError(
            str(error), hint="results go by the files' names: rename one, or give each file once"
        ) from error


def to_alignment(base: str | None, aligned: str | None) -> Alignment | None:
    """The checkpoints that --alignment-base and --aligned name, if any. Raises ConfigError."""
    from s3lora_serve.launch.resolve import to_checkpoint
    from s3lora_serve.spectral.prune_policy import Alignment

    if base is None and aligned is not None:
        raise ConfigError("--aligned needs --alignment-base", hint="name the model before it was aligned")
    if base is None:
        return None
    return Alignment(to_checkpoint(base), None if aligned is None else to_checkpoint(aligned))
