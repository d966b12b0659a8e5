"""Hypothesis strategies for LoRA modules, in the two families that scoring treats differently."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from s3lora_serve.spectral.lowrank import LowRank


@dataclass(frozen=True)
class Family:
    """Modules of one dtype, with the accuracy promised for their SSI."""

    dtype: torch.dtype
    sizes: tuple[int, ...]
    tolerance: float


EXACT = Family(torch.float64, (1, 2, 3, 5, 8, 13, 33), 1e-9)
FAST = Family(torch.float32, (64, 128, 192, 320), 2e-5)  # multiples of 64: products in float32

families = st.sampled_from([EXACT, FAST])
seeds = st.integers(0, 2**31)


@dataclass(frozen=True)
class Case:
    """A module with what the test needs to judge it."""

    module: LowRank
    tolerance: float
    generator: torch.Generator


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Random factors whose B decays over up to two decades, as trained ones do."""
    family = draw(families)
    out, inp = draw(st.sampled_from(family.sizes)), draw(st.sampled_from(family.sizes))
    r = draw(st.sampled_from((1, 2, 4, 8)))
    generator = torch.Generator().manual_seed(draw(seeds))
    decay = draw(st.sampled_from((1.0, 0.3, 0.01)))
    a = torch.randn(r, inp, generator=generator, dtype=torch.float64)
    b = torch.randn(out, r, generator=generator, dtype=torch.float64) * torch.logspace(0, 1, r, base=decay)
    mix = torch.linalg.qr(torch.randn(r, r, generator=generator, dtype=torch.float64)).Q
    scaling = draw(st.sampled_from((0.5, 2.0, -16.0)))
    module = LowRank((mix.mT @ a).to(family.dtype), (b @ mix).to(family.dtype), scaling)
    return Case(module, family.tolerance, generator)
