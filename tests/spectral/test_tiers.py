"""Which arithmetic scores a module, and what that costs in accuracy: never more than is promised."""

from __future__ import annotations

import pytest
import torch
from dense_svd import dense_ssi
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_strategies import seeds

from s3lora_serve.spectral import masvd
from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.masvd import mas_svd
from s3lora_serve.spectral.scorers import score


def trained_like(seed: int, decay: float, dtype: torch.dtype, r: int = 16) -> LowRank:
    """Factors as training leaves them: A near its uniform start, B decaying over a random basis."""
    g = torch.Generator().manual_seed(seed)
    a = (torch.rand(r, 512, generator=g) - 0.5) / 16
    basis = torch.linalg.qr(torch.randn(r, r, generator=g)).Q
    b = torch.randn(320, r, generator=g) * torch.logspace(0, 1, r, base=decay) @ basis / 100
    return LowRank(a.to(dtype), b.to(dtype), 2.0)


def ssi(module: LowRank) -> float:
    value = mas_svd({"m": module})["m"].ssi
    assert value is not None
    return value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@settings(max_examples=40)
@given(seed=seeds, decay=st.sampled_from((1.0, 0.1, 0.03)))
def test_float32_products_keep_ssi_to_one_in_a_million(dtype: torch.dtype, seed: int, decay: float):
    """At rank 16, SSI of a float32, float16 or bfloat16 adapter is within 1e-6 of dense float64."""
    module = trained_like(seed, decay, dtype)

    assert ssi(module) == pytest.approx(dense_ssi(module), abs=1e-6)


def test_ordinary_modules_need_no_float64(monkeypatch: pytest.MonkeyPatch):
    """Trained factors pass the float32 tier: with the others gone, they are scored all the same."""
    modules = {str(seed): trained_like(seed, 0.1, torch.bfloat16) for seed in range(8)}
    expected = {name: dense_ssi(module) for name, module in modules.items()}
    monkeypatch.setattr(masvd, "_TIERS", masvd._TIERS[:1])
    monkeypatch.delattr(masvd, "_exact_one")

    assert {n: s.ssi for n, s in mas_svd(modules).items()} == pytest.approx(expected, abs=1e-6)


def test_float32_declines_what_it_cannot_resolve(monkeypatch: pytest.MonkeyPatch):
    """A spectrum over five decades is beyond float32 products: the tier hands it on."""
    module = trained_like(1, 1e-5, torch.float32)
    monkeypatch.setattr(masvd, "_TIERS", masvd._TIERS[:1])
    monkeypatch.setattr(masvd, "_exact_one", lambda name, *_: f"handed on {name}")

    assert mas_svd({"steep": module}) == {"steep": "handed on steep"}


@settings(max_examples=40)
@given(seeds, st.sampled_from((0.01, 1e-3, 1e-5, 1e-8)))
def test_steep_spectra_are_scored_in_float64(seed: int, decay: float):
    """However fast σ falls, SSI of float32 factors matches the dense float64 index."""
    module = trained_like(seed, decay, torch.float32)

    assert ssi(module) == pytest.approx(dense_ssi(module), abs=1e-8 if decay < 0.01 else 1e-6)


@settings(max_examples=40)
@given(seeds, st.sampled_from((1e2, 1e4, 1e6)))
def test_a_contrived_factorisation_cannot_move_the_index(seed: int, condition: float):
    """An attacker may store (T A, B T⁻¹) with T nearly singular: SSI stays that of the ΔW in the file."""
    g = torch.Generator().manual_seed(seed)
    plain = trained_like(seed, 0.1, torch.float64)
    left, right = (torch.linalg.qr(torch.randn(16, 16, generator=g, dtype=torch.float64)).Q for _ in range(2))
    stretch = torch.logspace(0, 1, 16, base=condition, dtype=torch.float64)
    a = (left @ (stretch[:, None] * (right @ plain.a))).float()
    b = ((plain.b @ right.mT) / stretch @ left.mT).float()
    contrived = LowRank(a, b, plain.scaling)

    assert ssi(contrived) == pytest.approx(dense_ssi(contrived), abs=1e-6)


@settings(max_examples=40)
@given(seeds, st.sampled_from((3, 5, 16)))
def test_rank_deficient_factors_are_exact(seed: int, r: int):
    """Repeated columns make both Gram matrices singular; the index is still the dense one to 1e-9."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(1, 128, generator=g).repeat(r, 1)
    a[0] = torch.randn(128, generator=g)
    b = torch.randn(192, 1, generator=g).repeat(1, r)
    b[:, -1] = torch.randn(192, generator=g)
    module = LowRank(a, b, 1.0)

    assert ssi(module) == pytest.approx(dense_ssi(module), abs=1e-9)


@pytest.mark.parametrize("magnitude", [1e-30, 1e-20, 1e-12, 1e12, 1e18])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_magnitudes_do_not_underflow(magnitude: float, dtype: torch.dtype):
    """Values whose squares leave float32's range are scored in float64, not taken for zeros."""
    module = trained_like(3, 0.3, torch.float32)
    scaled = LowRank(module.a.to(dtype), (module.b * magnitude).to(dtype), 1.0)
    wide = LowRank(scaled.a.double(), scaled.b.double() / magnitude, 1.0)

    assert ssi(scaled) == pytest.approx(dense_ssi(wide), abs=1e-6)


@pytest.mark.parametrize("scaling", [1e308, -1e308, 1e-308])
@pytest.mark.parametrize("magnitude", [1e-200, 1.0, 1e200])
def test_no_scale_is_too_extreme(scaling: float, magnitude: float):
    """σ may overflow to infinity or underflow to zero, but SSI is that of the update at a usual scale."""
    module = trained_like(6, 0.3, torch.float64)
    extreme = LowRank(module.a * magnitude, module.b * magnitude, scaling)

    assert ssi(extreme) == pytest.approx(ssi(module), abs=1e-9)
    assert score({"m": extreme}, "svd")["m"].score == pytest.approx(
        score({"m": module}, "svd")["m"].score, abs=1e-9
    )


def test_a_row_too_small_for_float32_still_counts():
    """A row 25 decades below the rest has norm 1 once normalised, like any other: it is not masked."""
    module = trained_like(4, 0.3, torch.float32, r=2)
    b = module.b.clone()
    b[:300] *= 1e-25
    faint = LowRank(module.a, b, 1.0)

    assert ssi(faint) == pytest.approx(dense_ssi(faint), abs=1e-6)


def test_a_row_that_cancels_to_rounding_is_a_zero_row():
    """b_i·A = 0 with b_i ≠ 0 leaves nothing but rounding, which must not be blown up to norm 1."""
    g = torch.Generator().manual_seed(5)
    a = torch.randn(3, 40, generator=g, dtype=torch.float64)
    a[2] = a[0] + a[1]
    b = torch.randn(24, 3, generator=g, dtype=torch.float64)
    cancelling = torch.cat([b, torch.tensor([[1.0, 1.0, -1.0]], dtype=torch.float64)])

    assert ssi(LowRank(a, cancelling, 1.0)) == pytest.approx(ssi(LowRank(a, b, 1.0)), abs=1e-12)
