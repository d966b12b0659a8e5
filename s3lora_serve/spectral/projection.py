"""ΔW against the directions in which alignment moved a module: SafeLoRA's projection (arXiv 2405.16833).

``V = W_aligned − W_base`` and ``C = V Vᵀ/‖V‖_F`` [out, out]. C is positive semi-definite but no orthogonal
projector: its eigenvalues are σ²(V)/‖V‖_F, in the units of weights. Neither C nor ΔW is formed. With
``A Aᵀ = L Lᵀ``, ``M = s·B·L`` [out, r] has the inner products of ΔW's rows, and ``C·M`` is two thin products
with V. The cost is O(out·in·r), and a block of V's rows is held in float64 at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s3lora_serve.spectral.lowrank import LowRank, core
from s3lora_serve.spectral.threads import in_turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BLOCK = 1 << 21  # elements of V in float64 at a time: 16 MiB


@dataclass(frozen=True)
class Projection:
    """Where C sends one ΔW."""

    distance: float  # ‖C·ΔW − ΔW‖_F
    cosine: float  # between C·ΔW and ΔW, in [0, 1]; 0 where C·ΔW = 0


def projections(modules: Mapping[str, LowRank], alignment: Mapping[str, Tensor]) -> dict[str, Projection]:
    """The projection of every module, in the order given; reads each V once and holds one at a time.

    A module with V = 0 is left out: alignment did not touch it, so there is no direction to compare with.
    Modules must not be inert. Raises ``ValueError``, naming the module, for a V that is missing, has another
    shape than ΔW, or is not finite.
    """
    return in_turn(partial(_projections, modules, alignment), list(modules))


def _projections(
    modules: Mapping[str, LowRank], alignment: Mapping[str, Tensor], names: Sequence[str]
) -> dict[str, Projection]:
    found = {name: project(name, modules[name], _difference(name, alignment)) for name in names}
    return {name: projection for name, projection in found.items() if projection is not None}


@torch.no_grad()
def project(name: str, module: LowRank, v: Tensor) -> Projection | None:
    """The projection of one ΔW ≠ 0 by V [out, in]; None for V = 0. Inputs stay as they are.

    Computed in float64. ``name`` is for the message of ``ValueError``, as ``projections`` raises it.
    """
    if tuple(v.shape) != module.shape:
        given, wanted = "x".join(map(str, v.shape)), "x".join(map(str, module.shape))
        raise ValueError(f"{name}: the alignment difference is {given}, ΔW is {wanted}")
    unit = module.unit()
    m = unit.b @ core(unit.a.mT).mT  # [out, r]: ‖M‖_F = ‖ΔW‖_F and ‖X·M‖_F = ‖X·ΔW‖_F, up to ΔW's scale
    inner = torch.zeros(v.shape[1], m.shape[1], dtype=torch.float64)
    square = 0.0
    for rows, block in _blocks(v):
        inner += block.mT @ m[rows]  # VᵀM [in, r]
        square += float(block.square().sum())
    if not square < float("inf"):
        raise ValueError(f"{name}: the alignment difference holds NaN, infinite or too large values")
    if square == 0:
        return None
    moved = torch.cat([block @ inner for _, block in _blocks(v)]) / square**0.5  # C·M [out, r]
    scale = abs(module.scaling) * float(module.a.abs().max()) * float(module.b.abs().max())
    sizes = float(torch.linalg.vector_norm(moved)) * float(torch.linalg.vector_norm(m))
    # ⟨C·M, M⟩ = ‖VᵀM‖²/‖V‖_F: a sum of squares, which cannot cancel.
    cosine = float(inner.square().sum()) / square**0.5 / sizes if sizes > 0 else 0.0
    return Projection(scale * float(torch.linalg.vector_norm(moved - m)), min(cosine, 1.0))


def _difference(name: str, alignment: Mapping[str, Tensor]) -> Tensor:
    try:
        return alignment[name]
    except KeyError:
        raise ValueError(f"{name}: the alignment difference lacks this module") from None


def _blocks(v: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """V's rows in float64, a block at a time, with where they stand."""
    step = max(1, BLOCK // max(1, v.shape[1]))
    for start in range(0, v.shape[0], step):
        yield slice(start, start + step), v[start : start + step].double()
