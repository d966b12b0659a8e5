"""The index of the code that the S3LoRA authors released, for comparison only: it is not the method.

What the released ``massvd.py`` computes differs from the paper (arXiv 2508.15068) in ways that matter:

* ΔW is ``B·A``; the adapter's scaling (alpha/r) is left out.
* After row and column normalisation it takes *rows* of U as left singular vectors, where columns would be.
  Beyond ΔW's rank their entries belong to an arbitrary basis of the null space, so the index depends on the
  LAPACK build and even on its threads: one 512×512 update scored 0.06 on one thread and 0.11 on two.
* It reduces ΔW to the best **rank-1** matrix ``d·u·vᵀ`` (smallest L1 error among five u and five v), scales
  its rows and takes the SVD of that. With one singular value left, the index is ``σ₁ / (σ₁ + noise + 1e-6)``:
  a threshold on magnitude. Scaling ΔW moves it from 0 to 1, which a sharpness index must not do.
* Whenever ΔW has more rows than columns, u does not fit and the module fails. The released code then leaves
  it out of its list, which shifts all later flat indices and zeroes the wrong modules. Here it has no score.

It needs three dense float32 SVDs a module: seconds to minutes each at 4096×4096.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from s3lora_serve.spectral.lowrank import LowRank

CANDIDATES = 5  # singular vectors tried on either side
EPSILON_NORM = 1e-8
EPSILON_INDEX = 1e-6


def reference_index(module: LowRank) -> float | None:
    """The released code's index of one module in [0, 1]; None where that code fails or yields NaN."""
    out, inp = module.shape
    if out > inp:
        return None
    delta = module.b.float() @ module.a.float()  # [out, in]
    row_norms = torch.linalg.vector_norm(delta, dim=1, keepdim=True) + EPSILON_NORM
    col_norms = torch.linalg.vector_norm(delta, dim=0, keepdim=True) + EPSILON_NORM
    v_rows = torch.linalg.svd(delta / row_norms, full_matrices=False).Vh[:CANDIDATES]
    u_rows = torch.linalg.svd(delta / col_norms, full_matrices=False).U[:CANDIDATES]
    best = _best_rank_one(delta, u_rows, v_rows)
    if best is None:
        return None
    sigma = torch.linalg.svd(row_norms * best, full_matrices=False).S  # svdvals would differ in the noise
    total = float(sigma.sum())
    return float(sigma[0]) / (total + EPSILON_INDEX) if total > 0 else None


def _best_rank_one(delta: Tensor, u_rows: Tensor, v_rows: Tensor) -> Tensor | None:
    """The d·u·vᵀ nearest to delta in the entrywise L1 norm, d being the median of (delta·v)∘u."""
    best, least = None, float("inf")
    for u in u_rows:
        for v in v_rows:
            candidate = torch.median((delta @ v) * u) * torch.outer(u, v)
            error = float(torch.linalg.vector_norm(delta - candidate, ord=1))
            if error < least:
                best, least = candidate, error
    return best
