"""ROC curves: hand-made cases, agreement with counting pairs, and the chart of them."""

from __future__ import annotations

import importlib
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[2] / "benchmarks/evidence"))
roc_module, roc_chart = map(importlib.import_module, ("roc", "roc_chart"))
auc_interval, roc = roc_module.auc_interval, roc_module.roc

CASES = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def test_a_score_that_separates_has_area_one_and_goes_up_before_it_goes_right() -> None:
    """All bad ones above all good ones: the curve passes (0, 1)."""
    fpr, tpr, auc = roc([0.9, 0.8, 0.3, 0.1], [True, True, False, False])

    assert list(zip(fpr, tpr, strict=True)) == [(0, 0), (0, 0.5), (0, 1), (0.5, 1), (1, 1)]
    assert auc == 1


def test_a_score_that_is_the_wrong_way_round_has_area_zero() -> None:
    """Bad ones below good ones are not mended by turning the score."""
    assert roc([1, 2, 3, 4], [True, True, False, False])[2] == 0


def test_equal_scores_are_one_threshold() -> None:
    """A constant score is the diagonal, whatever the order of the rows."""
    fpr, tpr, auc = roc([7, 7, 7], [False, True, False])

    assert (list(fpr), list(tpr), auc) == ([0, 1], [0, 1], 0.5)


def test_a_mixed_case_by_hand() -> None:
    """Bad 4, 2; good 3, 2, 1: of six pairs four are won and one is tied."""
    fpr, tpr, auc = roc([4, 2, 3, 2, 1], [True, True, False, False, False])

    assert tpr == pytest.approx([0, 0.5, 0.5, 1, 1])
    assert fpr == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    assert auc == pytest.approx(4.5 / 6)


@given(CASES)
def test_the_area_is_the_share_of_pairs_won_and_the_area_below_the_curve(
    rows: list[tuple[int, bool]],
) -> None:
    """Mann and Whitney's count of pairs, and the trapezoids below the drawn points, give the same number."""
    scores, labels = [float(score) for score, _ in rows], [label for _, label in rows]
    fpr, tpr, auc = roc(scores, labels)
    bad = [s for s, label in zip(scores, labels, strict=True) if label]
    good = [s for s, label in zip(scores, labels, strict=True) if not label]
    won = sum((b > g) + (b == g) / 2 for b in bad for g in good) / (len(bad) * len(good))

    assert auc == pytest.approx(won)
    assert float(np.trapezoid(tpr, fpr)) == pytest.approx(won)


@given(CASES)
def test_the_interval_has_the_areas_bounds_and_is_the_same_again(rows: list[tuple[int, bool]]) -> None:
    """0 ≤ low ≤ high ≤ 1, its mean is the area itself, and a seed fixes it."""
    scores, labels = [float(score) for score, _ in rows], [label for _, label in rows]
    interval = auc_interval(scores, labels, draws=50, seed=3)

    assert 0 <= interval.low <= interval.high <= 1
    assert interval.mean == pytest.approx(roc(scores, labels)[2])
    assert auc_interval(scores, labels, draws=50, seed=3) == interval


def test_the_interval_agrees_with_the_normal_theory_of_many_scores() -> None:
    """For 400 normal scores its width is that of Hanley and McNeil's standard error, within a fifth."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(1, 1, 200), rng.normal(0, 1, 200)])
    labels = [True] * 200 + [False] * 200
    interval = auc_interval(list(scores), labels)
    a = interval.mean
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = math.sqrt((a * (1 - a) + 199 * (q1 - a * a) + 199 * (q2 - a * a)) / 40_000)

    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert interval.low < a < interval.high


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [True, True], "all 2 labels are alike"),
        ([], [], "all 0 labels are alike"),
        ([1.0], [True, False], "1 scores for 2 labels"),
        ([1.0, float("nan")], [True, False], "score 1 is not finite"),
    ],
)
def test_what_has_no_curve_is_refused(scores: list[float], labels: list[bool], message: str) -> None:
    """One kind of label, none, unequal lengths and NaN are errors that name what is wrong."""
    with pytest.raises(ValueError, match=re.escape(message)):
        roc(scores, labels)


def test_a_roc_chart_tells_areas_with_their_intervals() -> None:
    """A perfect score has area 1 in the legend."""
    chart = roc_chart.roc_chart({"ours": ([3.0, 2.0, 1.0, 0.0], [True, True, False, False])}, "heading")

    assert "ours: 1.00 [1.00, 1.00]" in [line.get_label() for line in chart.axes[0].lines]


def test_curves_of_one_roc_chart_look_different() -> None:
    """Statistics are no scorers; each still gets its own colour and dashes."""
    names = [f"statistic {n}" for n in range(6)]
    chart = roc_chart.roc_chart({name: ([0.1, 0.9, 0.4], [False, True, True]) for name in names}, "heading")
    drawn = [line for line in chart.axes[0].lines if str(line.get_label()).startswith("statistic")]
    assert len({(line.get_color(), str(line.get_linestyle())) for line in drawn}) == len(names)
