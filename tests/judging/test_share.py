"""Shares and their intervals."""

from __future__ import annotations

import pytest

from s3lora_serve.judging.share import Share


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_intervals_are_wilsons(hits, total, low, high):
    """As in Newcombe (1998), table I, and at the ends."""
    assert Share(hits, total).interval == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("hits", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_what_is_no_share_is_an_error(hits, total):
    """More hits than things, or no things."""
    with pytest.raises(ValueError, match="is no share"):
        Share(hits, total)


def test_a_share_says_its_counts():
    """In per cent, with the interval."""
    assert str(Share(5, 10)) == "50 % (5 of 10; 24 to 76 %)"
