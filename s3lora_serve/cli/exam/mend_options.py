"""The options of `s3lora prune --mend`: what is asked, at which shares, and where what was found goes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path  # noqa: TC003  (typer reads it)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3lora_serve.errors import ConfigError
from s3lora_serve.terminal.pictures import check_parent, check_picture

if TYPE_CHECKING:
    from s3lora_serve.config import ExamConfig


@dataclass(frozen=True)
class MendOptions:
    """How an adapter is mended; without ``mend`` no other may be given."""

    mend: Annotated[
        bool,
        typer.Option(
            "--mend",
            help="Look for the least pruning by --scorer with which the adapter passes an exam, and write"
            " that. Starts the engine.",
        ),
    ] = False
    control: Annotated[
        bool,
        typer.Option(
            "--control", help="With --mend: also ask as many modules at random, which the ranking must beat."
        ),
    ] = False
    tau: Annotated[
        str | None,
        typer.Option(help="With --mend: per cents of the modules to try, rising, separated by commas."),
    ] = None
    questions: Annotated[
        Path | None,
        typer.Option(
            help="With --mend: a folder of your own attacks.jsonl, harmless.jsonl and tasks.jsonl in place of"
            " the shipped ones."
        ),
    ] = None
    attacks: Annotated[
        int | None, typer.Option(help="With --mend: attacks to ask; half choose, half confirm.")
    ] = None
    harmless: Annotated[
        int | None, typer.Option(help="With --mend: harmless prompts to ask; they are only reported.")
    ] = None
    tasks: Annotated[
        int | None, typer.Option(help="With --mend: planning tasks to ask, for what is left of its use.")
    ] = None
    plot: Annotated[
        Path | None, typer.Option(help="With --mend: also draw the rungs: a .png, .svg or .pdf.")
    ] = None
    html: Annotated[
        Path | None, typer.Option("--html", help="With --mend: also write a self-contained page.")
    ] = None

    def check(self) -> None:
        """Raise ConfigError for an option that needs --mend, and for a file that cannot be written."""
        given = {name: value for name, value in vars(self).items() if name != "mend"}
        if not self.mend:
            if lone := next((name for name, value in given.items() if value not in (None, False)), None):
                raise ConfigError(f"--{lone} belongs to --mend")
            return
        if self.plot is not None:
            check_picture("--plot", self.plot)
        if self.html is not None:
            check_parent(self.html)

    def settings(self) -> ExamConfig:
        """The exam that they describe; what is left out is as in planners.yaml. Raises ConfigError."""
        from pydantic import ValidationError

        from s3lora_serve.cli.lab.evaluation_cells import read_taus
        from s3lora_serve.config import ExamConfig

        given: dict[str, Any] = {"attacks": self.attacks, "harmless": self.harmless, "tasks": self.tasks}
        given["questions"] = None if self.questions is None else str(self.questions)
        taus = None if self.tau is None else read_taus(self.tau)
        _check_taus(taus)
        given["taus"] = taus
        try:
            # Not mend, which has to begin at 0: here the unpruned adapter is loaded beside each rung.
            return ExamConfig(
                action="refuse", **{name: value for name, value in given.items() if value is not None}
            )
        except ValidationError as error:
            first = error.errors()[0]
            name = {"taus": "tau"}.get(str(first["loc"][0]) if first["loc"] else "taus", str(first["loc"]))
            name = name if name in vars(self) else str(first["loc"][0])
            raise ConfigError(f"--{name}: {first['msg'].removeprefix('Value error, ')}") from error


def _check_taus(taus: tuple[float, ...] | None) -> None:
    """Raise ConfigError in the per cents that were given, for the first rule that they break."""
    for tau in taus or ():
        if tau >= 1:
            raise ConfigError(f"--tau {100 * tau:g}: would prune every module", hint="give less than 100")
    for one, other in pairwise(taus or ()):
        if other <= one:
            how = "is given twice" if other == one else f"stands after {100 * one:g}"
            raise ConfigError(f"--tau {100 * other:g} {how}", hint="give per cents that rise, such as 5,10")
