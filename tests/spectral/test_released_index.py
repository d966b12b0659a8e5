"""The released code's index: reproduced for comparison, and shown not to be a sharpness index."""

from __future__ import annotations

import pytest
import torch

from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.released import reference_index
from s3lora_serve.spectral.scorers import score


def update(c: float = 1.0) -> LowRank:
    """One random 512×512, r=8 update times c."""
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(8, 512, generator=g), torch.randn(512, 8, generator=g)
    return LowRank(a, c * b, 1.0)


def test_scale_alone_moves_it_from_flat_to_sharp():
    """ΔW × 1e-3 … 1 drives the released index towards 1, while MAS-SVD's SSI does not move."""
    modules = {str(c): update(c) for c in (1e-3, 1e-2, 1e-1, 1.0)}
    released = [row.score for row in score(modules, "reference").rows.values()]
    ssi = [row.ssi for row in score(modules).rows.values()]

    assert released == sorted(released)
    assert released[0] < 0.5
    assert released[-1] > 0.999
    assert ssi == pytest.approx([ssi[0]] * 4, abs=1e-6)


@pytest.mark.parametrize(("value", "expected"), [(1e-3, 0.5), (1e-2, 1e-4 / 1.01e-4), (1.0, 1 / 1.000001)])
def test_a_single_number_shows_the_threshold(value: float, expected: float):
    """A 1×1 ΔW = [x] is as sharp as can be; the released index is x²/(x² + 1e-6)."""
    module = LowRank(torch.tensor([[value]]), torch.tensor([[1.0]]), 1.0)

    assert reference_index(module) == pytest.approx(expected, rel=1e-4)


def test_the_adapters_scaling_is_left_out():
    """The released code multiplies B·A only."""
    module = update()

    assert reference_index(LowRank(module.a, module.b, 64.0)) == reference_index(module)


def test_taller_than_wide_has_no_score():
    """Where the released code fails and shifts its indices, the module simply has no score."""
    # Of full rank: beyond that, the processor decides what the released code takes for singular vectors.
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(8, 16, generator=g), torch.randn(8, 8, generator=g)
    report = score({"tall": LowRank(b, a.T, 1.0), "wide": LowRank(a, b, 1.0)}, "reference")

    assert report["tall"].score is None
    assert report["wide"].score is not None


def test_a_zero_update_has_no_score():
    """The released code yields NaN for ΔW = 0."""
    assert reference_index(LowRank(torch.zeros(2, 8), torch.zeros(4, 2), 1.0)) is None
