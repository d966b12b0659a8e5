"""What `make test-fast` leaves out is little, and known."""

from __future__ import annotations

from pathlib import Path

import pytest
from quick_loop import LEFT_OUT, counts, names, slow_cases

TESTS = Path(__file__).parents[1]


@pytest.fixture
def everything(request):
    """The session's cases, if all files were collected."""
    collected = counts(request.config)
    if collected["files"] < len(list(TESTS.rglob("test_*.py"))):
        pytest.skip("only some files were collected; `make test` collects all")
    return collected


def test_at_most_a_quarter_is_left_out(everything):
    """A quick loop that leaves out more is no longer worth its name: make cases faster, or split them."""
    left = sum(everything[mark] for mark in LEFT_OUT)
    assert left <= everything["all"] / 4, {mark: everything[mark] for mark in LEFT_OUT}


def test_slow_cases_exist(everything, request):
    """A line of slow.txt that names no case would hide that the case which took its place is slow."""
    assert [line for line in slow_cases() if line not in names(request.config)] == []
