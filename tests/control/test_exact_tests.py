"""The tails are exact, and stay so for windows of thousands."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.control.exact_tests import binomial_tail, fisher_tail


@given(
    trials=st.integers(0, 30),
    failures=st.integers(0, 31),
    rate=st.fractions(0, 1, max_denominator=50),
)
def test_binomial_tail_is_exact(trials, failures, rate):
    """The same as summing fractions."""
    terms = (math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(failures, trials + 1))
    assert binomial_tail(failures, trials, float(rate)) == pytest.approx(
        float(sum(terms, Fraction(0))), 1e-9, 1e-13
    )


@given(data=st.data(), trials=st.integers(1, 30), others=st.integers(0, 30))
def test_fisher_tail_is_exact(data, trials, others):
    """The same as counting the ways in which the failures can fall."""
    failures = data.draw(st.integers(0, trials))
    before = data.draw(st.integers(0, others))
    both = failures + before
    ways = sum(
        math.comb(trials, k) * math.comb(others, both - k) for k in range(failures, min(both, trials) + 1)
    )
    expected = float(Fraction(ways, math.comb(trials + others, both)))
    assert fisher_tail(failures, trials, before, others) == pytest.approx(expected, 1e-9, 1e-13)


def test_tails_of_large_windows():
    """Neither overflow nor underflow spoils windows of thousands."""
    assert binomial_tail(1, 100_000, 0.5) == pytest.approx(1.0)
    assert binomial_tail(50_000, 100_000, 0.5) == pytest.approx(0.5, abs=0.002)
    assert binomial_tail(90_000, 100_000, 0.5) == 0.0
    assert fisher_tail(500, 10_000, 500, 10_000) == pytest.approx(0.5, abs=0.02)
    assert fisher_tail(1, 10_000, 9_000, 10_000) == pytest.approx(1.0)
