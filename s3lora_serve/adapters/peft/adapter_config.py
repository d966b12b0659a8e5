"""adapter_config.json as typed, frozen settings: what changes the update is understood or refused."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from s3lora_serve.adapters.peft.config_keys import UNDERSTOOD, label_notes, refuse_unsupported
from s3lora_serve.adapters.peft.patterns import PatternTable, check_pattern
from s3lora_serve.adapters.peft.wrapper_names import without_wrappers
from s3lora_serve.errors import FormatError
from s3lora_serve.storage.canonical_json import strict_loads

if TYPE_CHECKING:
    from collections.abc import Iterable

CONFIG_NAME = "adapter_config.json"
MAX_PATTERNS = 10_000
_AS_SAVED = "take the file as PEFT's save_pretrained wrote it beside the weights"

_Rank = Annotated[int, Field(strict=True, gt=0)]
_Flag = Annotated[bool, Field(strict=True)]
_Alpha = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class AdapterConfig(BaseModel):
    """The part of a PEFT LoraConfig that decides ΔW.

    ``parse`` reads any PEFT release's file; ``canonical`` writes ours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: _Rank
    lora_alpha: _Alpha
    use_rslora: _Flag = False
    rank_pattern: dict[str, _Rank] = Field(default_factory=dict, max_length=MAX_PATTERNS)
    alpha_pattern: dict[str, _Alpha] = Field(default_factory=dict, max_length=MAX_PATTERNS)
    fan_in_fan_out: _Flag = False
    target_modules: tuple[str, ...] | str | None = None
    base_model_name_or_path: str | None = None
    notes: tuple[str, ...] = Field(default=(), exclude=True)  # what of it is served otherwise than it says

    @field_validator("rank_pattern", "alpha_pattern", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("use_rslora", "fan_in_fan_out", mode="before")
    @classmethod
    def _none_is_false(cls, value: Any) -> Any:
        return False if value is None else value

    @field_validator("rank_pattern", "alpha_pattern", mode="after")
    @classmethod
    def _keys_without_wrappers(cls, value: dict[str, Any]) -> dict[str, Any]:
        bare = {without_wrappers(key): number for key, number in value.items()}
        if len(bare) < len(value):
            raise ValueError("two keys are one without the names of training wrappers")
        return bare

    @field_validator("target_modules", mode="after")
    @classmethod
    def _targets_without_wrappers(cls, value: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        if isinstance(value, tuple):
            return tuple(map(without_wrappers, value))
        return value if value is None else without_wrappers(value)

    @classmethod
    def parse(cls, raw: bytes) -> AdapterConfig:
        """Read adapter_config.json as PEFT 0.4 or later writes it.

        Raises UnsupportedError for a setting whose update is not served, FormatError for anything unreadable.
        """
        try:
            data = strict_loads(raw)
        except ValueError as error:
            raise FormatError(f"{CONFIG_NAME} is not JSON: {error}", hint=_AS_SAVED) from error
        if not isinstance(data, dict):
            raise FormatError(f"{CONFIG_NAME} holds {type(data).__name__}, not an object", hint=_AS_SAVED)
        refuse_unsupported(data)
        try:
            config = cls.model_validate({key: data[key] for key in UNDERSTOOD if key in data})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(f"{part!s:.80}" for part in first["loc"])
            got = "" if first["type"] == "missing" else f", got {first['input']!r:.80}"
            raise FormatError(f"{CONFIG_NAME}: {where}: {first['msg']}{got}", hint=_AS_SAVED) from error
        for pattern in (*config.rank_pattern, *config.alpha_pattern):
            check_pattern(pattern)
        return config.model_copy(update={"notes": label_notes(data)})

    def resolve(self, modules: Iterable[str]) -> dict[str, tuple[int, float]]:
        """(rank, alpha) of each of ``modules`` (dotted base-model paths), by PEFT's rule for patterns.

        Raises FormatError if two patterns give one module different alphas, or take too long to match. The
        first would win, but PEFT sorts the keys when it saves, so the order that was trained with is lost. A
        wrong rank shows in the tensors; a wrong alpha would show nowhere.
        """
        ranks, alphas = PatternTable(self.rank_pattern), PatternTable(self.alpha_pattern)
        resolved = {}
        for module in modules:
            rank = next((self.rank_pattern[key] for key in ranks.matches(module)), self.r)
            given = {self.alpha_pattern[key]: key for key in alphas.matches(module)}
            if len(given) > 1:
                both = " and ".join(f"{alpha:g} ({key!r})" for alpha, key in given.items())
                raise FormatError(
                    f"{module}: alpha_pattern gives it {both}",
                    hint="PEFT sorts these keys, so the order that was trained with is lost: spell names out",
                )
            resolved[module] = rank, next(iter(given), self.lora_alpha)
        return resolved

    def scaling(self, rank: int, alpha: float) -> float:
        """s in ``ΔW = s·B·A``: alpha/r, or alpha/sqrt(r) with rsLoRA."""
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def targets(self, module: str) -> bool | None:
        """Whether ``target_modules`` selects ``module``; None where it is a pattern or absent."""
        if not isinstance(self.target_modules, tuple) or "all-linear" in self.target_modules:
            return None
        return any(module == name or module.endswith(f".{name}") for name in self.target_modules)

    def narrowed(self, modules: Iterable[str]) -> AdapterConfig:
        """The same update for exactly ``modules``, by literal names instead of patterns.

        The commonest (rank, alpha) becomes the default, so an adapter without real differences has no
        patterns: vLLM 0.26 reads none. Full names are written unescaped, because PEFT before 0.15 falls back
        to comparing them as text.
        """
        pairs = self.resolve(sorted(modules))
        counts = Counter(pairs.values())
        rank, alpha = max(counts, key=lambda pair: (counts[pair], *pair), default=(self.r, self.lora_alpha))
        narrowed = self.model_copy(
            update={
                "r": rank,
                "lora_alpha": alpha,
                "rank_pattern": {name: pair[0] for name, pair in pairs.items() if pair[0] != rank},
                "alpha_pattern": {name: pair[1] for name, pair in pairs.items() if pair[1] != alpha},
                "target_modules": tuple(pairs),
            }
        )
        for name, pair in narrowed.resolve(pairs).items():
            if pair != pairs[name]:
                raise FormatError(
                    f"{name} cannot be told from another module when its name is read as a pattern",
                    hint="give these modules one rank and one alpha",
                )
        return narrowed

    def canonical(self) -> dict[str, Any]:
        """What is published: only keys that PEFT and vLLM read, each with one spelling."""
        return {
            "alpha_pattern": {name: _number(alpha) for name, alpha in sorted(self.alpha_pattern.items())},
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "fan_in_fan_out": self.fan_in_fan_out,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": _number(self.lora_alpha),
            "lora_dropout": 0.0,
            "modules_to_save": None,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": dict(sorted(self.rank_pattern.items())),
            "target_modules": list(self.target_modules)
            if isinstance(self.target_modules, tuple)
            else self.target_modules,
            "task_type": "CAUSAL_LM",
            "use_rslora": self.use_rslora,
        }


def _number(value: float) -> int | float:
    """16 rather than 16.0, as PEFT writes it."""
    return int(value) if value == int(value) else value
