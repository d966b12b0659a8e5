"""Intervals hold their means, shrink with evidence and are paired over units and prompts."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3lora_serve.evaluation.statistics.intervals import Interval

sys.path.append(str(Path(__file__).parents[2] / "benchmarks/evidence"))
paired = importlib.import_module("paired")
difference, interval = paired.difference, paired.interval

DRAWS = 200
tables = st.tuples(st.integers(1, 6), st.integers(1, 20)).flatmap(
    lambda shape: st.lists(
        st.lists(st.floats(-5, 5, width=32), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)
ragged = st.lists(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=12), min_size=1, max_size=5)


def coins(units: int, prompts: int, p: float = 0.4) -> np.ndarray:
    """Zeros and ones, [units, prompts]."""
    return (np.random.default_rng(1).random((units, prompts)) < p).astype(float)


@given(st.one_of(tables, ragged), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_mean_lies_inside(values, seed):
    """The mean is that of the units' means, and no interval leaves it or the range of the values."""
    found = interval(values, DRAWS, seed)
    assert found.mean == pytest.approx(np.mean([np.mean(row) for row in values]), abs=1e-6)
    assert found.low <= found.mean <= found.high
    assert min(map(min, values)) - 1e-6 <= found.low
    assert found.high <= max(map(max, values)) + 1e-6


@given(tables, st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_deterministic_in_the_seed(values, seed):
    """The same values and seed give the same bounds."""
    assert interval(values, DRAWS, seed) == interval(values, DRAWS, seed)


def test_seeds_differ():
    """Another seed draws otherwise: the bounds are estimates."""
    assert interval(coins(3, 40), DRAWS, 1) != interval(coins(3, 40), DRAWS, 2)


@given(st.one_of(tables, ragged))
@settings(max_examples=30, deadline=None)
def test_no_difference_to_itself(values):
    """A paired difference of equal data is exactly zero, without any width."""
    assert difference(values, values, DRAWS) == Interval(0.0, 0.0, 0.0)


@given(tables, st.floats(-3, 3))
@settings(max_examples=30, deadline=None)
def test_a_constant_difference_is_certain(values, shift):
    """What differs by the same on each prompt differs by that: pairing takes out all other spread."""
    found = difference(np.array(values) + shift, values, DRAWS)
    assert [found.low, found.mean, found.high] == pytest.approx([shift] * 3, abs=1e-6)


def test_difference_is_antisymmetric():
    """Swapping the sides mirrors the interval at zero."""
    a, b = coins(3, 50), coins(3, 50)[:, ::-1]
    there, back = difference(a, b), difference(b, a)
    assert [-back.mean, -back.high, -back.low] == pytest.approx([there.mean, there.low, there.high])


def test_narrower_with_more_prompts():
    """Four times the prompts, about half the width."""
    narrow, wide = interval(coins(1, 1600)), interval(coins(1, 400))
    assert 0.35 < (narrow.high - narrow.low) / (wide.high - wide.low) < 0.65


def test_as_wide_as_theory_says():
    """For one unit and many prompts it is the normal interval of a share."""
    values = coins(1, 1000)
    p = values.mean()
    half = 1.96 * np.sqrt(p * (1 - p) / 1000)
    found = interval(values, 4000)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)


def test_units_are_resampled():
    """Seeds that disagree on every prompt widen an interval that prompts alone would make a point."""
    found = interval([[0.0] * 50, [1.0] * 50, [0.5] * 50])
    assert found.low < 0.3 < 0.7 < found.high


def test_shared_prompts_stay_shared():
    """Ten seeds that agree on each prompt are no more evidence than one: hard prompts are not ten prompts."""
    one = coins(1, 100)
    ten = np.repeat(one, 10, axis=0)
    assert interval(ten).high == pytest.approx(interval(one).high)


def test_ragged_units_have_prompts_of_their_own():
    """Units of unequal length were asked other prompts, whose luck is independent and averages out."""
    one = coins(1, 100)[0].tolist()
    alike = interval([one] * 6)
    own = interval([one + one[: 1 + n] for n in range(6)])
    assert own.high - own.low < 0.7 * (alike.high - alike.low)


def test_nothing_seen_is_not_never():
    """No compliance in 100 prompts leaves shares up to 3.6 % open (Clopper and Pearson); 1 mirrors it."""
    none, all_of_them = interval(np.zeros((1, 100)), share=True), interval(np.ones((1, 100)), share=True)
    assert (none.mean, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.0362, abs=1e-4)
    assert all_of_them == Interval(1.0, pytest.approx(1 - none.high), 1.0)


@pytest.mark.parametrize("values", [[], [[]], [[1.0], []]])
def test_nothing_has_no_interval(values):
    """No units, or a unit without prompts, is an error and not a mean of nothing."""
    with pytest.raises(ValueError, match="at least one"):
        interval(values)


def test_unequal_shapes_cannot_be_paired():
    """A difference over other prompts would not be paired."""
    with pytest.raises(ValueError, match="same units and prompts"):
        difference([[1.0, 0.0]], [[1.0]])
