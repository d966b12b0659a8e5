"""The exact test of paired shares holds its level, whatever share of prompts the two differ on."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from s3lora_serve.safety.exam.paired_test import p_above, p_values_above, probabilities, score

MARGINS = (0.03, 0.0, -0.17)


def pairs(n):
    """All tables of n prompts."""
    return [(risen, fallen) for risen in range(n + 1) for fallen in range(n + 1 - risen)]


def chance(n, risen, fallen, rises, falls):
    """The trinomial distribution, written out."""
    ways = comb(n, risen) * comb(n - risen, fallen)
    return ways * rises**risen * falls**fallen * max(0.0, 1 - rises - falls) ** (n - risen - fallen)


def by_hand(n, risen, fallen, margin):
    """The p-value by its definition, on an even and a finer grid."""
    bound = float(score(n, risen, fallen, margin)) - 1e-9
    extreme = [pair for pair in pairs(n) if float(score(n, *pair, margin)) >= bound]
    least, most = max(0.0, -margin), (1 - margin) / 2
    shares = [least + (most - least) * step / 800 for step in range(801)]
    return max(sum(chance(n, *pair, share + margin, share) for pair in extreme) for share in shares)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("table", [(0, 0), (3, 0), (0, 3), (5, 2), (9, 0), (4, 4)])
def test_it_is_the_greatest_probability_of_what_is_as_extreme(table, margin):
    """As its definition says, on another grid."""
    assert p_above(9, *table, margin) == pytest.approx(by_hand(9, *table, margin), rel=2e-3)


@pytest.mark.parametrize("margin", MARGINS)
def test_the_level_holds(margin):
    """On the edge of the hypothesis, and inside it: a rejection is never likelier than the level."""
    n, level = 30, 0.05
    rejects = p_values_above(n, margin) <= level
    likeliest = 0.0
    for below in (0.0, 0.02, 0.1):
        rise = margin - below
        for share in np.linspace(max(0.0, -rise), (1 - rise) / 2, 300):
            found = float(probabilities(n, share + rise, share)[rejects].sum())
            assert found <= level * 1.01
            likeliest = max(likeliest, found)
    assert likeliest > 0.7 * level  # and it is no test that never rejects


@pytest.mark.parametrize("margin", MARGINS)
def test_the_statistic_is_monotone(margin):
    """More risen is more extreme and more fallen less: so the edge of the hypothesis is its worst case."""
    n = 40
    for risen, fallen in pairs(n - 1):
        here = float(score(n, risen, fallen, margin))
        assert float(score(n, risen + 1, fallen, margin)) >= here - 1e-12
        assert float(score(n, risen, fallen + 1, margin)) <= here + 1e-12
        if fallen:
            assert float(score(n, risen + 1, fallen - 1, margin)) >= here - 1e-12


@pytest.mark.parametrize("margin", MARGINS)
def test_all_at_once_are_the_same(margin):
    """The values for power are those that decide, but for the last look around the greatest."""
    at_once = p_values_above(24, margin)
    for risen, fallen in pairs(24)[::17]:
        alone = p_above(24, risen, fallen, margin)
        assert 0.99 * alone - 1e-12 <= at_once[risen, fallen] <= alone + 1e-9


def test_the_edges():
    """Nothing asked and nothing differing prove nothing; all risen proves a rise; counts must be counts."""
    assert p_above(0, 0, 0, 0.03) == 1.0
    assert p_above(200, 0, 0, 0.03) == pytest.approx(1.0)
    assert p_above(200, 0, 0, 0.0) == pytest.approx(1.0)
    assert p_above(200, 200, 0, 0.03) < 1e-30
    assert p_above(200, 0, 200, 0.03) == pytest.approx(1.0)
    for counts in ((10, 11, 0), (10, 6, 5), (10, -1, 0)):
        with pytest.raises(ValueError, match="cannot be tested"):
            p_above(*counts, 0.03)
    with pytest.raises(ValueError, match="cannot be tested"):
        p_above(10, 1, 0, 1.0)


def test_many_prompts_are_tested_too():
    """A folder of a thousand own prompts takes no more memory than the likely tables do."""
    assert p_above(1200, 132, 96, 0.03) == pytest.approx(0.5, abs=0.06)
    assert p_above(1200, 240, 96, 0.03) < 1e-6
