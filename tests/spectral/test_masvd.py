"""MAS-SVD in factor space: agreement with the dense definition, and every invariant the method names."""

from __future__ import annotations

import pytest
import torch
from dense_svd import delta, dense_sigma, dense_ssi, svd_sharpness
from hypothesis import given
from hypothesis import strategies as st
from lora_strategies import Case, cases, seeds

from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.masvd import MasSpectrum, mas_svd


def spectrum(module: LowRank) -> MasSpectrum:
    return mas_svd({"m": module})["m"]


def ssi(module: LowRank) -> float:
    value = spectrum(module).ssi
    assert value is not None
    return value


@given(cases())
def test_agrees_with_the_dense_definition(case: Case):
    """SSI and the top singular value match two dense float64 SVDs of ΔW, and the norm is ΔW's."""
    found = spectrum(case.module)
    expected = dense_sigma(delta(case.module), min(case.module.rank, *case.module.shape))

    assert found.ssi == pytest.approx(dense_ssi(case.module), abs=case.tolerance)
    assert float(found.sigma[0]) == pytest.approx(float(expected[0]), rel=case.tolerance)
    assert found.norm == pytest.approx(float(delta(case.module).norm()), rel=case.tolerance)


@given(cases())
def test_float64_factors_agree_in_every_singular_value(case: Case):
    """In float64 the whole spectrum matches the dense one to 1e-9 of its top value."""
    module = LowRank(case.module.a.double(), case.module.b.double(), case.module.scaling)
    expected = dense_sigma(delta(module), min(module.rank, *module.shape))

    assert float((spectrum(module).sigma - expected).abs().max() / expected[0]) < 1e-9


@given(cases())
def test_ssi_lies_between_one_over_m_and_one(case: Case):
    """σ is non-negative, descending and as long as the rank allows; SSI lies in [1/M, 1]."""
    found = spectrum(case.module)
    m = min(case.module.rank, *case.module.shape)

    assert len(found.sigma) == m
    assert found.sigma.dtype == torch.float64
    assert found.sigma.tolist() == sorted(found.sigma.tolist(), reverse=True)
    assert float(found.sigma[-1]) >= 0
    assert found.ssi is not None
    assert 1 / len(found.sigma) - 1e-12 <= found.ssi <= 1 + 1e-12


@given(cases(), st.sampled_from((-1e6, -1.0, -1e-3, 1e-6, 0.37, 1e6)))
def test_ssi_ignores_the_scale_of_the_update(case: Case, c: float):
    """ΔW → cΔW leaves SSI alone, whether c sits in the scaling or in a factor; σ grows by |c|."""
    m = case.module
    scaled = [
        LowRank(m.a, m.b, c * m.scaling),
        LowRank(m.a, c * m.b, m.scaling),
        LowRank(c * m.a, m.b, m.scaling),
    ]

    for module in scaled:
        assert ssi(module) == pytest.approx(ssi(m), abs=case.tolerance)
        assert float(spectrum(module).sigma[0]) == pytest.approx(
            abs(c) * float(spectrum(m).sigma[0]), rel=10 * case.tolerance
        )


@given(cases())
def test_ssi_ignores_the_order_of_rows_and_columns(case: Case):
    """Permuting ΔW's rows or columns leaves SSI alone."""
    m = case.module
    out, inp = m.shape
    rows = torch.randperm(out, generator=case.generator)
    cols = torch.randperm(inp, generator=case.generator)

    assert ssi(LowRank(m.a[:, cols], m.b[rows], m.scaling)) == pytest.approx(ssi(m), abs=case.tolerance)


@given(cases(), st.sampled_from((1.0, 10.0, 1e3)))
def test_ssi_ignores_how_the_update_is_factored(case: Case, condition: float):
    """(A, B) → (T A, B T⁻¹) leaves SSI alone, even for an ill-conditioned T."""
    m, r = case.module, case.module.rank
    left, right = (
        torch.linalg.qr(torch.randn(r, r, generator=case.generator, dtype=torch.float64)).Q for _ in range(2)
    )
    stretch = torch.logspace(0, 1, r, base=condition, dtype=torch.float64)
    a, b = m.a.double(), m.b.double()
    other = LowRank(left @ (stretch[:, None] * (right @ a)), (b @ right.mT) / stretch @ left.mT, m.scaling)

    assert ssi(other) == pytest.approx(ssi(LowRank(a, b, m.scaling)), abs=1e-9)


@given(seeds, st.sampled_from((1, 4, 16)), st.sampled_from((torch.float64, torch.float32)))
def test_a_rank_one_update_is_perfectly_sharp(seed: int, r: int, dtype: torch.dtype):
    """ΔW of rank 1 has SSI 1, however many columns its factors have."""
    g = torch.Generator().manual_seed(seed)
    a = torch.zeros(r, 128, dtype=dtype)
    a[-1] = torch.randn(128, generator=g)
    b = torch.randn(64, r, generator=g).to(dtype)

    assert ssi(LowRank(a, b, 2.0)) == pytest.approx(1.0, abs=1e-9)


@given(seeds, st.sampled_from((2, 4, 16)))
def test_an_orthogonal_block_is_perfectly_flat(seed: int, r: int):
    """An r×r orthogonal block in an otherwise zero ΔW has SSI 1/r: zero rows and columns are masked."""
    g = torch.Generator().manual_seed(seed)
    a = torch.zeros(r, 3 * r, dtype=torch.float64)
    b = torch.zeros(2 * r, r, dtype=torch.float64)
    a[:, r : 2 * r] = torch.eye(r)
    b[:r] = torch.linalg.qr(torch.randn(r, r, generator=g, dtype=torch.float64)).Q

    assert ssi(LowRank(a, b, 1.0)) == pytest.approx(1 / r, abs=1e-12)


@given(seeds, st.sampled_from((6, 9, 16)))
def test_equal_row_and_column_norms_give_plain_svd(seed: int, n: int):
    """A circulant ΔW has equal row and column norms: MAS-SVD gives its own singular values."""
    g = torch.Generator().manual_seed(seed)
    first = torch.randn(n, generator=g, dtype=torch.float64)
    w = torch.stack([first.roll(k) for k in range(n)])
    found = spectrum(LowRank(torch.eye(n, dtype=torch.float64), w, 1.0))

    assert float((found.sigma - torch.linalg.svdvals(w)).abs().max()) < 1e-9
    assert found.ssi == pytest.approx(svd_sharpness(w, n), abs=1e-9)


@given(seeds)
def test_one_huge_row_cannot_dominate(seed: int):
    """Scaling one row by 100 moves MAS-SVD's SSI far less than SVD's."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(8, 256, generator=g, dtype=torch.float64)
    b = torch.randn(128, 8, generator=g, dtype=torch.float64)
    spiked = b.clone()
    spiked[17] *= 100
    plain, huge = LowRank(a, b, 1.0), LowRank(a, spiked, 1.0)
    moved = abs(ssi(huge) - ssi(plain))
    svd_moved = abs(svd_sharpness(delta(huge), 8) - svd_sharpness(delta(plain), 8))

    assert moved < svd_moved / 3


@given(cases())
def test_zero_rows_and_columns_do_not_count(case: Case):
    """Appending zero rows and columns to ΔW leaves SSI alone."""
    m = case.module
    out, inp = m.shape
    wider = LowRank(
        torch.cat([m.a, torch.zeros(m.rank, 64 - inp % 64, dtype=m.a.dtype)], dim=1),
        torch.cat([m.b, torch.zeros(64 - out % 64, m.rank, dtype=m.b.dtype)]),
        m.scaling,
    )

    assert ssi(wider) == pytest.approx(ssi(m), abs=case.tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("zeroed", ["a", "b", "scaling", "product"])
def test_an_inert_module_has_no_index(zeroed: str, dtype: torch.dtype):
    """ΔW = 0 has no SSI and norm 0, also when neither factor is zero, but their product is."""
    a, b, scaling = torch.ones(4, 64, dtype=dtype), torch.ones(128, 4, dtype=dtype), 2.0
    if zeroed == "a":
        a = torch.zeros_like(a)
    elif zeroed == "b":
        b = torch.zeros_like(b)
    elif zeroed == "scaling":
        scaling = 0.0
    else:
        b = b * torch.tensor([1, -1, 1, -1], dtype=dtype)
    found = spectrum(LowRank(a, b, scaling))

    assert found.ssi is None
    assert found.norm == 0.0
    assert found.sigma.tolist() == [0.0] * len(found.sigma)


def test_inputs_stay_bit_identical():
    """Scoring never writes to the factors it was given."""
    g = torch.Generator().manual_seed(0)
    modules = {
        str(dtype): LowRank(
            torch.randn(8, 64, generator=g).to(dtype), torch.randn(128, 8, generator=g).to(dtype), 1.0
        )
        for dtype in (torch.float64, torch.float32, torch.bfloat16)
    }
    before = {name: (m.a.clone(), m.b.clone()) for name, m in modules.items()}
    mas_svd(modules)

    for name, module in modules.items():
        assert torch.equal(module.a, before[name][0])
        assert torch.equal(module.b, before[name][1])


@given(st.lists(cases(), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_a_module_is_scored_as_if_it_were_alone(batch: list[Case], random):
    """Neither company nor order changes a module's SSI; results stand in the order given."""
    names = [f"m{i}" for i in range(len(batch))]
    random.shuffle(names)
    together = mas_svd({name: case.module for name, case in zip(names, batch, strict=True)})

    assert list(together) == names
    for name, case in zip(names, batch, strict=True):
        assert together[name].ssi == pytest.approx(ssi(case.module), abs=case.tolerance)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_factors_that_are_not_finite_are_named(bad: float):
    """NaN and infinity are an error that names the module, never a score."""
    module = LowRank(torch.ones(2, 64), torch.full((64, 2), bad), 1.0)

    with pytest.raises(ValueError, match=r"layers\.3\.q_proj: the factors hold NaN or infinite values"):
        mas_svd({"layers.3.q_proj": module})


def test_no_modules_is_no_spectrum():
    """An adapter without modules scores to nothing."""
    assert mas_svd({}) == {}


@given(cases())
def test_parameters_of_a_model_can_be_scored(case: Case):
    """Factors that require gradients score like plain tensors, and nothing of it is recorded."""
    m = case.module
    live = LowRank(torch.nn.Parameter(m.a.clone()), torch.nn.Parameter(m.b.clone()), m.scaling)
    found = spectrum(live)

    assert found.ssi == spectrum(m).ssi
    assert not found.sigma.requires_grad
