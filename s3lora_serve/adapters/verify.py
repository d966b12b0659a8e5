"""What is let in: ranks, values, and shapes that fit the base model; vLLM serves misfits silently."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import torch

from s3lora_serve.adapters.served.fit import Fit
from s3lora_serve.config import MaxLoraRank
from s3lora_serve.errors import FormatError, LimitError, UnsupportedError
from s3lora_serve.spectral.threads import spread
from s3lora_serve.storage.canonical_json import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.adapters.peft.peft_format import PeftAdapter
    from s3lora_serve.spectral.lowrank import LowRank

RANKS = get_args(MaxLoraRank)
LARGEST = float(torch.finfo(torch.float32).max)  # what any dtype that an engine computes in can hold


@dataclass(frozen=True)
class VerifyLimits:
    """What the engine can serve; an adapter beyond it is refused."""

    max_rank: int
    per_module_scaling: bool  # whether the engine reads rank_pattern and alpha_pattern
    to_raise: str = ""  # what else raising max_rank takes


def check_adapter(adapter: PeftAdapter, base: BaseModelSpec | None, limits: VerifyLimits) -> PeftAdapter:
    """Check ranks, values and the fit to ``base`` (skipped if None); reads every weight once.

    Returns it with what was found out: warnings, and which modules come together. Raises LimitError,
    BaseModelMismatch, UnsupportedError or FormatError, naming the module.
    """
    check_ranks({name: module.rank for name, module in adapter.modules.items()}, limits)
    if base is not None:
        fit = Fit(adapter, base)
        notes = (*fit.notes, *other_base(adapter, base))
        adapter = replace(adapter, together=fit.together, warnings=(*adapter.warnings, *notes))
    if not (limits.per_module_scaling or adapter.uniform_scaling):
        scalings = sorted({module.scaling for module in adapter.modules.values()})
        raise UnsupportedError(
            f"its modules have {len(scalings)} different scalings, {scalings[0]:g} to {scalings[-1]:g}, "
            "and this engine applies one to all",
            hint="use an engine that reads rank_pattern and alpha_pattern (vLLM 0.32)",
        )
    if not any(flag for flags in spread(_live_flags, list(adapter.modules.items())) for flag in flags):
        raise FormatError(
            f"every update of its {len(adapter.modules)} modules is zero: it would serve the base model",
            hint="was it saved before training?",
        )
    return adapter


def check_ranks(ranks: Mapping[str, int], limits: VerifyLimits) -> None:
    """Raise LimitError for the first of these modules whose rank the engine does not take."""
    for name, rank in ranks.items():
        if rank <= limits.max_rank:
            continue
        over = f"{name} has rank {rank} > max_lora_rank {limits.max_rank}"
        needed = allowed_rank(max(ranks.values()))
        if needed is None:
            raise LimitError(f"{over}; no engine takes a higher rank", hint="train it with a lower rank")
        raise LimitError(
            f"{over}; raise engine.max_lora_rank to {needed}",
            hint=limits.to_raise or "set it in the configuration, and restart the server",
        )


def allowed_rank(rank: int, least: int = 0) -> int | None:
    """The smallest max_lora_rank that takes this rank; None if there is none."""
    return min((allowed for allowed in RANKS if allowed >= max(rank, least)), default=None)


def other_base(adapter: PeftAdapter, base: BaseModelSpec) -> tuple[str, ...]:
    """A differing name is worth a line, not a refusal: shapes were checked, and a local path is usual."""
    declared = adapter.config.base_model_name_or_path
    if (
        not declared
        or declared.rstrip("/").rpartition("/")[2].lower() == base.name.rpartition("/")[2].lower()
    ):
        return ()
    return (f"it names {excerpt(declared)} as its base model; every module fits {base.name!r}",)


def _live_flags(modules: Sequence[tuple[str, LowRank]]) -> list[bool]:
    """Whether each module changes anything; raises FormatError for what is not finite or too large."""
    return [_is_live(name, module) for name, module in modules]


def _is_live(name: str, module: LowRank) -> bool:
    """Whether the update differs from zero; what it needs on its way through an engine fits float32."""
    a, b = (_largest(f"{name}.lora_{x}", factor) for x, factor in (("A", module.a), ("B", module.b)))
    scaling = abs(module.scaling)
    # Engines multiply B by the scaling when they load it. The norm is computed only if a bound leaves doubt.
    needed = {"scaling": scaling, "scaling·B": scaling * b}
    if max(needed.values()) <= LARGEST:
        bound = scaling * b * a * math.sqrt(module.a.numel()) * math.sqrt(module.b.numel())
        needed["update's norm"] = bound if bound <= LARGEST else _norm(module, a, b)
    for what, value in needed.items():
        if not value <= LARGEST:
            raise FormatError(
                f"{name}: its {what} is {value:.3g} > {LARGEST:.3g}, the largest float32",
                hint="training diverged, or lora_alpha is wrong",
            )
    return min(a, b, scaling) != 0


def _largest(name: str, factor: Tensor) -> float:
    """The largest magnitude in a factor. aminmax needs one pass and no temporaries, unlike isfinite."""
    low, high = (float(bound) for bound in torch.aminmax(factor))
    if not (low > float("-inf") and high < float("inf")):  # NaN fails both comparisons
        raise FormatError(f"{name} holds NaN or infinity", hint="training diverged, or the file is damaged")
    if (largest := max(-low, high)) > LARGEST:
        raise FormatError(
            f"{name} holds {largest:.3g} > {LARGEST:.3g}, the largest float32",
            hint="engines compute in 16 or 32 bits",
        )
    return largest


def _norm(module: LowRank, a: float, b: float) -> float:
    """‖ΔW‖ of factors whose largest magnitudes are ``a`` and ``b``; nothing overflows on the way."""
    return abs(module.scaling) * b * a * float(torch.linalg.vector_norm(module.unit().row_norms()))
