"""Whether a file holds a part of each factor alone, as one process of several may have saved it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from s3lora_serve.spectral.lowrank import LowRank

LEAST = 0.5  # share of zero rows in each factor from which it is said: two processes, the fewest
_SAMPLE = 16  # rows of a factor that are looked at first; one that trained has no zero row


def part_notes(modules: Mapping[str, LowRank]) -> Iterator[str]:
    """What is said if most rows of every lora_B, or columns of every lora_A, are zero.

    A whole adapter costs a look at a few rows of its first module.
    """
    for what, factors in (
        ("rows of every lora_B", [module.b for module in modules.values()]),
        ("columns of every lora_A", [module.a.mT for module in modules.values()]),
    ):
        if share := _zero_in_all(factors):
            yield (
                f"at least {share:.1%} of the {what} are zero, as if one of {round(1 / (1 - share))}"
                " processes had saved its part: was the adapter gathered before saving (FSDP, ZeRO, tensor"
                " parallel)? It is served as it is"
            )


def _zero_in_all(factors: list[Tensor]) -> float:
    """The least share of zero rows of the factors that are not all zero; 0 if one has fewer than LEAST."""
    if not all(_looks_so(factor) for factor in factors):
        return 0.0
    shares = [share for factor in factors if (share := _zero_share(factor)) < 1]
    least = min(shares, default=0.0)
    return least if least >= LEAST else 0.0


def _looks_so(factor: Tensor) -> bool:
    rows = torch.linspace(0, factor.shape[0] - 1, min(_SAMPLE, factor.shape[0])).round().long()
    return _zero_share(factor[rows]) >= LEAST / 2


def _zero_share(factor: Tensor) -> float:
    return float((factor == 0).all(dim=1).double().mean())
