"""The options that make a prune policy, for commands that read no configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from s3lora_serve.spectral.prune_policy import PrunePolicy

AlignmentBase = Annotated[
    str | None,
    typer.Option(help="For e-diem and safelora: the model before alignment, a folder or a Hugging Face id."),
]
Aligned = Annotated[
    str | None, typer.Option(help="For e-diem and safelora: the model after it; --base if left out.")
]

# Settings of a policy that have an option of another name.
_OPTION_OF = {
    ("validated", "sweep"): "--sweep",
    ("validated", "task"): "--task",
    ("validated", "utility"): "--utility",
    ("validated", "floor"): "--floor",
    ("alignment", "base"): "--alignment-base",
    ("alignment", "aligned"): "--aligned",
    ("anomaly", "reference"): "--reference",
    ("anomaly", "max"): "--max-anomaly",
}
_LEADERS = {"validated": "--sweep", "alignment": "--alignment-base", "anomaly": "--reference"}


@dataclass(frozen=True)
class PolicyOptions:
    """A prune policy, an option for each of its parts."""

    scorer: Annotated[
        str, typer.Option(help="mas-svd, svd, spsvd, reference, e-diem, safelora or random.", metavar="NAME")
    ] = "mas-svd"
    top: Annotated[
        int | None, typer.Option(help="Prune this many of the highest scores (the default: 10).")
    ] = None
    top_share: Annotated[
        float | None,
        typer.Option(help="Largest share (0 to 1) of the scored modules that --top may prune (0.5)."),
    ] = None
    threshold: Annotated[float | None, typer.Option(help="Prune every module that scores above this.")] = None
    adaptive: Annotated[
        bool,
        typer.Option("--adaptive", help="Prune outliers among the adapter's own scores; may prune nothing."),
    ] = False
    sweep: Annotated[
        str | None,
        typer.Option(
            help="Let what `s3lora sweep` measured of this adapter decide: its folder, or the sweep.json in"
            " it. Needs --task and --floor."
        ),
    ] = None
    task: Annotated[
        str | None, typer.Option(help="With --sweep: the plan set that utility is taken from.")
    ] = None
    utility: Annotated[
        str | None,
        typer.Option("--utility", help="With --sweep: valid (the default), tool_choice, rouge_l or meteor."),
    ] = None
    floor: Annotated[
        float | None,
        typer.Option(help="With --sweep: least utility, as a share (0 to 1) of the unpruned adapter's."),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of the random scorer.")] = 0
    alignment_base: AlignmentBase = None
    aligned: Aligned = None
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", help="Compare the adapter with known-good ones: a file of `s3lora reference`."
        ),
    ] = None
    max_anomaly: Annotated[
        float | None, typer.Option(help="With --reference: score above which it counts as unlike them (3).")
    ] = None

    @property
    def names_rule(self) -> bool:
        """Whether they say how much to prune; without that it is the default."""
        return self.adaptive or not (self.top is None and self.threshold is None and self.sweep is None)

    def policy(self) -> PrunePolicy:
        """The policy that these options describe. Raises ConfigError, naming the option."""
        from pydantic import ValidationError

        from s3lora_serve.config import AdaptiveRule, PolicyConfig
        from s3lora_serve.launch.resolve import to_checkpoint, to_policy

        given: dict[str, Any] = {
            "scorer": self.scorer,
            "top": self.top,
            "threshold": self.threshold,
            "seed": self.seed,
        }
        if self.top_share is not None:
            given["top_share"] = self.top_share
        if self.adaptive:
            given["adaptive"] = AdaptiveRule()
        for (section, name), option in _OPTION_OF.items():
            value = getattr(self, option.removeprefix("--").replace("-", "_"))
            if value is None:
                continue
            if isinstance(value, str) and not value.strip():  # as an unset variable of a shell script
                raise ConfigError(f"{option} is empty")
            model = section == "alignment" and isinstance(value, str)
            given.setdefault(section, {})[name] = to_checkpoint(str(value)) if model else value
        for section, leader in _LEADERS.items():
            if section in given and not any(_OPTION_OF[section, name] == leader for name in given[section]):
                first = next(iter(given[section]))
                raise ConfigError(f"{_OPTION_OF[section, first]} needs {leader}")
        try:
            return to_policy(PolicyConfig(**given))
        except ValidationError as error:
            problem = error.errors()[0]
            section, name = ((*(str(part) for part in problem["loc"]), "", ""))[:2]
            option = _OPTION_OF.get((section, name), f"--{section}" if section else "")
            if problem["type"] == "missing":
                raise ConfigError(f"{_LEADERS[section]} needs {option}") from error
            reason = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
            reason = reason.replace("alignment.base", "--alignment-base")
            raise ConfigError(f"{option} {reason}".strip()) from error
