"""Norms and singular values of ΔW from its factors, and the scaling that PEFT gives it."""

from __future__ import annotations

import pytest
import torch
from dense_svd import delta
from hypothesis import given
from lora_strategies import Case, cases

from s3lora_serve.spectral.lowrank import LowRank


@given(cases())
def test_norms_and_singular_values_are_those_of_the_update(case: Case):
    """Row norms and singular values match ΔW formed in float64, to 1e-9 of the largest."""
    w = delta(case.module)
    largest = float(torch.linalg.matrix_norm(w, 2))
    sigma = case.module.singular_values()

    assert sigma.dtype == torch.float64
    assert float((case.module.row_norms() - w.norm(dim=1)).abs().max()) < 1e-9 * largest
    assert float((sigma - torch.linalg.svdvals(w)[: len(sigma)]).abs().max()) < 1e-9 * largest


def test_shape_and_rank_are_read_from_the_factors():
    """ΔW is [out, in]: B's rows by A's columns."""
    module = LowRank(torch.zeros(8, 576), torch.zeros(192, 8), 2.0)

    assert module.shape == (192, 576)
    assert module.rank == 8


@pytest.mark.parametrize(
    ("a", "b"), [((4, 8), (8, 5)), ((4,), (8, 4)), ((4, 8, 1), (8, 4))], ids=["rank", "vector", "3-D"]
)
def test_factors_that_do_not_fit_are_refused(a: tuple[int, ...], b: tuple[int, ...]):
    """The message carries both shapes."""
    with pytest.raises(ValueError, match=r"factors do not match: a \(.*\), b \(.*\)"):
        LowRank(torch.zeros(a), torch.zeros(b), 1.0)
