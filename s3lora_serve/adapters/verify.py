"""What is let in: ranks, values, and shapes that fit the base model; vLLM serves misfits silently."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from s3lora_serve.errors import BaseModelMismatch, FormatError, LimitError, UnsupportedError
from s3lora_serve.spectral.threads import spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.adapters.peft.peft_format import PeftAdapter
    from s3lora_serve.spectral.lowrank import LowRank

LARGEST = float(torch.finfo(torch.float32).max)  # what any dtype that an engine computes in can hold
_HEADS = ("lm_head", "embed_tokens", "embed_out", "wte", "wpe", "score", "classifier")


@dataclass(frozen=True)
class VerifyLimits:
    """What the engine can serve; an adapter beyond it is refused."""

    max_rank: int
    per_module_scaling: bool  # whether the engine reads rank_pattern and alpha_pattern


def check_adapter(adapter: PeftAdapter, base: BaseModelSpec | None, limits: VerifyLimits) -> None:
    """Check ranks, values and the fit to ``base`` (skipped if None); reads every weight once.

    Raises LimitError, BaseModelMismatch, UnsupportedError or FormatError, naming the module.
    """
    for name, module in adapter.modules.items():
        if module.rank > limits.max_rank:
            raise LimitError(
                f"{name} has rank {module.rank} > max_lora_rank {limits.max_rank}; raise engine.max_lora_rank"
            )
        if base is not None:
            _check_fit(name, module, base)
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


def _check_fit(name: str, module: LowRank, base: BaseModelSpec) -> None:
    expected = base.shapes.get(name)
    if expected is None:
        if name.rpartition(".")[2] in _HEADS:
            raise UnsupportedError(
                f"{name} is an output head or an embedding; only linear layers inside the model are served",
                hint="train it without an update of heads and embeddings",
            )
        near = difflib.get_close_matches(name, base.shapes, n=1)
        raise BaseModelMismatch(
            f"{base.name} has no linear layer {name}",
            hint=f"nearest: {near[0]}" if near else "is it an adapter of another model?",
        )
    if module.shape != expected:
        raise BaseModelMismatch(
            f"{name} updates a {module.shape[0]}×{module.shape[1]} layer, "
            f"but in {base.name} it is {expected[0]}×{expected[1]}",
            hint="it was trained on another base model",
        )


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
