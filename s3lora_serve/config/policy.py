"""What happens to an adapter before it is served: scoring, pruning, and comparison with known-good ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from s3lora_serve.config.section import Section

if TYPE_CHECKING:
    from collections.abc import Callable

_RULES = ("top", "threshold", "adaptive", "validated")
_ALIGNED_SCORERS = ("e-diem", "safelora")
_REVISION = "^[A-Za-z0-9][A-Za-z0-9._/-]*$"


class AdaptiveRule(Section):
    """Prune modules whose robust z-score within the adapter exceeds ``z``, at most ``max_share`` of them."""

    z: float = Field(3.5, gt=0, description="robust z-score (median, MAD) above which a module is pruned")
    max_share: float = Field(0.25, gt=0, le=1, description="largest share of the modules that may be pruned")


class ValidatedRule(Section):
    """Prune what was measured as safest: least attack success among what keeps the utility."""

    sweep: str = Field(
        min_length=1,
        description="what `s3lora sweep` wrote of exactly these weights, this base model (its weights too),"
        " this scorer in this version and these alignment checkpoints: its folder, or the sweep.json in it",
    )
    task: str = Field(min_length=1, description="name of the plan set in it that utility is taken from")
    utility: Literal["valid", "tool_choice", "rouge_l", "meteor"] = Field(
        "valid", description="valid plans, F1 of the tools, or overlap with the reference plan"
    )
    floor: float = Field(ge=0, le=1, description="least utility, as a share of the unpruned adapter's")


class AlignmentConfig(Section):
    """The two models that e-diem and safelora compare with, as safetensors checkpoints."""

    base: str = Field(
        min_length=1,
        description="the model before alignment: a Hugging Face id or a folder (starting with '.', '/', '~')",
    )
    aligned: str | None = Field(
        None, min_length=1, description="the model after alignment, likewise; unset: the served base_model"
    )
    base_revision: str | None = Field(None, pattern=_REVISION, description="commit or tag of base")
    aligned_revision: str | None = Field(None, pattern=_REVISION, description="commit or tag of aligned")

    @model_validator(mode="after")
    def _revision_of_something(self) -> AlignmentConfig:
        if self.aligned_revision is not None and self.aligned is None:
            raise ValueError("aligned_revision belongs to aligned; the served model has base_model_revision")
        return self


class AnomalyConfig(Section):
    """How far an adapter as a whole may differ from known-good ones."""

    reference: str = Field(min_length=1, description="file that `s3lora reference` wrote")
    max: float = Field(
        3.0,
        gt=0,
        description="largest score: how many standard deviations its statistics are off, in the mean",
    )
    action: Literal["observe", "reject"] = Field(
        "observe", description="above max: observe (record it and warn) or reject (refuse the adapter)"
    )


class PolicyConfig(Section):
    """How modules are scored and what happens to the sharp ones. The default is the paper's."""

    scorer: Literal["mas-svd", "svd", "spsvd", "reference", "e-diem", "safelora", "random"] = Field(
        "mas-svd", description="how a module is scored; higher is riskier"
    )
    top: int | None = Field(None, ge=0, description="prune this many of the highest scores (default 10)")
    top_share: float = Field(
        0.5, gt=0, le=1, description="largest share of the scored modules that top may prune; 1 allows all"
    )
    threshold: float | None = Field(None, description="prune every module that scores above this")
    adaptive: AdaptiveRule | None = Field(None, description="let the adapter's own score distribution decide")
    validated: ValidatedRule | None = Field(None, description="let a sweep on a validation set decide")
    action: Literal["prune", "observe", "reject"] = Field(
        "prune",
        description="prune, observe (only score and report) or reject (refuse what would have been pruned)",
    )
    seed: int = Field(0, ge=0, description="seed of the random scorer")
    alignment: AlignmentConfig | None = Field(
        None,
        description="checkpoints that e-diem and safelora compare with; needed by them alone",
    )
    anomaly: AnomalyConfig | None = Field(
        None, description="compare the adapter as a whole with known-good ones; works with any scorer"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_rule(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            given = [k for k in _RULES if data.get(k) is not None]
            if len(given) > 1:
                raise ValueError(f"give one of {', '.join(_RULES)}, not {' and '.join(given)}")
            if not given:
                return {**data, "top": 10}
        return data

    @model_validator(mode="after")
    def _reject_needs_a_bar(self) -> PolicyConfig:
        if self.action == "reject" and self.top:
            raise ValueError("action reject with top would refuse every adapter; use threshold or adaptive")
        return self

    @model_validator(mode="after")
    def _alignment_where_needed(self) -> PolicyConfig:
        if self.scorer in _ALIGNED_SCORERS and self.alignment is None:
            raise ValueError(
                f"scorer {self.scorer} compares with what alignment changed; set alignment.base to the model"
                " before it was aligned"
            )
        if self.scorer not in _ALIGNED_SCORERS and self.alignment is not None:
            raise ValueError(
                f"alignment is for the scorers {' and '.join(_ALIGNED_SCORERS)}; {self.scorer} reads none"
            )
        return self

    def files(self) -> Mapping[tuple[str, str], str]:
        """Files and folders of this machine that it names, by their setting; models by id are none."""
        found = {}
        if self.validated is not None:
            found["validated", "sweep"] = self.validated.sweep
        if self.anomaly is not None:
            found["anomaly", "reference"] = self.anomaly.reference
        if self.alignment is not None:
            for name in ("base", "aligned"):
                value = getattr(self.alignment, name)
                if value is not None and value.startswith((".", "/", "~")):
                    found["alignment", name] = value
        return found

    def with_files(self, change: Callable[[str], str]) -> PolicyConfig:
        """The same policy with each of ``files`` changed."""
        update: dict[str, Section] = {}
        for (section, name), value in self.files().items():
            before = update.get(section, getattr(self, section))
            update[section] = before.model_copy(update={name: change(value)})
        return self.model_copy(update=update)
