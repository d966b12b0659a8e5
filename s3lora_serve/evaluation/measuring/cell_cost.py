"""What a cell's adapter costs: what remains of it, and what its answers took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from s3lora_serve.judging.outcomes import Answer
    from s3lora_serve.spectral.lowrank import LowRank


@dataclass(frozen=True)
class CellCost:
    """What the pruned adapter adds to each token, and what the answers took."""

    modules: int  # kept
    parameters: int  # of kept modules: also their multiply-adds a token
    bytes: int  # of the kept factors as published
    base_parameters: int  # of the base model's linear layers, for a share
    engine_seconds: float | None = None  # for all answers; None where it was not measured
    output_tokens: int = 0


def cost_of(
    modules: Mapping[str, LowRank], dropped: Collection[str], base_parameters: int, answers: Iterable[Answer]
) -> CellCost:
    """What remains of the adapter, and what the answers took. ValueError for a module it does not have."""
    if unknown := sorted(set(dropped) - modules.keys()):
        raise ValueError(f"the adapter has no module {unknown[0]!r} to leave out")
    kept = [module for name, module in modules.items() if name not in dropped]
    factors = [factor for module in kept for factor in (module.a, module.b)]
    given = list(answers)
    seconds = [answer.engine_seconds for answer in given if answer.engine_seconds is not None]
    return CellCost(
        modules=len(kept),
        parameters=sum(factor.numel() for factor in factors),
        bytes=sum(factor.numel() * factor.element_size() for factor in factors),
        base_parameters=base_parameters,
        engine_seconds=sum(seconds) if given and len(seconds) == len(given) else None,
        output_tokens=sum(answer.tokens for answer in given),
    )
