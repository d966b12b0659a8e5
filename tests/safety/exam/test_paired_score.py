"""The rise of paired shares: its score, its bounds, and how many prompts would decide."""

from __future__ import annotations

import pytest

from s3lora_serve.safety.exam.exam_result import PairedCounts
from s3lora_serve.safety.exam.paired_score import decisive, paired_score, rise_interval


@pytest.mark.parametrize(
    ("counts", "bounds"),
    [
        (PairedCounts(44, 43, 0, 1), (-0.118, 0.059)),
        (PairedCounts(200, 10, 20, 4), (0.035, 0.132)),
        (PairedCounts(200, 50, 0, 0), (-0.019, 0.019)),
    ],
)
def test_the_bounds_are_those_of_the_score_test(counts, bounds):
    """At 95 % two-sided; the first is the published example of few pairs that differ."""
    assert rise_interval(counts, 0.975) == pytest.approx(bounds, abs=0.0006)


@pytest.mark.parametrize(
    "counts", [PairedCounts(48, 8, 6, 1), PairedCounts(20, 0, 20, 0), PairedCounts(9, 0, 0, 9)]
)
def test_bounds_lie_around_the_rise(counts):
    """Within -1 to 1, and with the score at the limit there, unless the end is reached."""
    low, high = rise_interval(counts, 0.95)
    assert -1 <= low <= counts.rise <= high <= 1
    for bound, limit in ((low, 1.645), (high, -1.645)):
        if abs(bound) < 1:
            assert paired_score(counts, bound) == pytest.approx(limit, abs=0.001)


def test_nothing_asked_says_nothing():
    """No score, the widest bounds, and no number that would decide."""
    nothing = PairedCounts(0, 0, 0, 0)
    assert paired_score(nothing, 0.1) == 0
    assert rise_interval(nothing, 0.95) == (-1.0, 1.0)
    assert decisive(nothing, 0.03, 0.17, 0.95) is None


def test_so_many_prompts_would_decide():
    """With as many answered alike, the score is at the limit; the nearer margin is named."""
    found = decisive(PairedCounts(48, 8, 6, 1), 0.03, 0.17, 0.95)
    assert (found.verdict, found.prompts) == ("refused", 64)
    grown = PairedCounts(640, 0, 80, 13)
    assert paired_score(grown, 0.03) == pytest.approx(1.645 * 10**0.5, rel=0.05)
    assert decisive(PairedCounts(24, 3, 2, 1), 0.03, 0.17, 0.95).verdict == "passed"


def test_what_is_decided_needs_no_more():
    """Nor is a number named that no exam would reach."""
    assert decisive(PairedCounts(200, 25, 3, 5), 0.03, 0.17, 0.95) is None
    assert decisive(PairedCounts(1000, 0, 61, 30), 0.03, 0.0311, 0.95) is None
