"""What `s3lora evaluate` and `sweep` share on their command lines, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from s3lora_serve.cli.adapters.adapter_options import not_empty
from s3lora_serve.cli.adapters.policy_options import Aligned, AlignmentBase  # noqa: TC001  (typer reads them)
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

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
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the run; an interrupted run resumes from it.")
]


@dataclass(frozen=True)
class RunOptions:
    """What is asked, how random pruning is drawn, and how the report is printed."""

    attack: Annotated[
        list[str] | None, typer.Option(help=f"Prompts that should be refused. {_FILE} {FIRST_LOOK}")
    ] = None
    harmless: Annotated[list[str] | None, typer.Option(help=f"Prompts that should be answered. {_FILE}")] = (
        None
    )
    plans: Annotated[
        list[Path] | None,
        typer.Option(help="Tasks with good plans: a .jsonl of {task, tools, plan}. Repeatable."),
    ] = None
    form: Annotated[
        Asked,
        typer.Option(
            "--form",
            help="Ask prompts as chats, as tasks of a planner, or both: planners may refuse only one of"
            " them.",
        ),
    ] = "both"
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most this many of each set, drawn at random with --seed.")
    ] = None
    random_seeds: Annotated[
        int, typer.Option(min=0, max=100, help="Draws of random pruning: the control that scorers must beat.")
    ] = 3
    seed: Annotated[int, typer.Option(min=0, help="Seed of samples and intervals.")] = 0
    alignment_base: AlignmentBase = None
    aligned: Aligned = None
    as_json: Annotated[
        bool, typer.Option("--json", help="Print report.json instead of the table; errors too.")
    ] = False

    @property
    def first_look(self) -> bool:
        """Whether no set is named: the built-in ones are asked then."""
        return not (self.attack or self.harmless or self.plans)

    def suite(self) -> Suite:
        """All sets that the options name, or ours if they name none.

        Raises ConfigError for files that cannot be read, and when what judges plans is not installed.
        """
        from s3lora_serve.judging import sets
        from s3lora_serve.judging.plan_sets import read_plans
        from s3lora_serve.judging.prompt_sets import read_prompts
        from s3lora_serve.judging.suite import Suite
        from s3lora_serve.judging.text_overlap import meteor, rouge_l

        attack, harmless, plans = self.attack, self.harmless, self.plans
        if self.first_look:
            attack, harmless, plans = [str(sets.ATTACK)], [str(sets.HARMLESS)], [sets.PLANS]
        forms: tuple[Form, ...] = ("chat", "plan") if self.form == "both" else (self.form,)

        def prompts(specs: Iterable[str] | None) -> tuple[PromptSet, ...]:
            return tuple(
                read_prompts(spec, form, limit=self.limit, seed=self.seed)
                for spec in specs or ()
                for form in forms
            )

        if plans:
            rouge_l("a", "a"), meteor("a", "a")  # which may be missing: not found out after an hour
        planned = tuple(read_plans(path, limit=self.limit, seed=self.seed) for path in plans or ())
        try:
            return Suite(prompts(attack), prompts(harmless), planned)
        except ValueError as error:
            raise ConfigError(
                str(error), hint="results go by the files' names: rename one, or give each file once"
            ) from error

    def alignment(self) -> Alignment | None:
        """The checkpoints that --alignment-base and --aligned name, if any. Raises ConfigError."""
        from s3lora_serve.launch.resolve import to_checkpoint
        from s3lora_serve.spectral.prune_policy import Alignment

        if self.alignment_base is None and self.aligned is not None:
            raise ConfigError("--aligned needs --alignment-base", hint="name the model before it was aligned")
        if self.alignment_base is None:
            return None
        aligned = None if self.aligned is None else to_checkpoint(self.aligned)
        return Alignment(to_checkpoint(self.alignment_base), aligned)
