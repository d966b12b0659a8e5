"""The engine's time is shared out completely and fairly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.engine.shared_time import SharedTime

# Each step waits some seconds, then lets a request in, or the n-th of those inside out.
STEPS = st.lists(st.tuples(st.floats(0, 100), st.none() | st.integers(0, 9)), max_size=60)


@given(STEPS)
def test_shares_add_up_to_the_busy_time(steps):
    """Whatever overlaps, each share is the sum over all moments of 1/n, and all of them are the busy time."""
    now = busy = 0.0
    time = SharedTime(lambda: now)
    inside: list[list[float]] = []  # of each request: what it began with, and its share as summed up here
    shares: list[tuple[float, float]] = []

    def leave(n):
        begun, expected = inside.pop(n)
        shares.append((time.end(begun), expected))

    for wait, way in (*steps, *[(1.0, 0)] * len(steps)):
        now += wait
        for request in inside:
            busy += wait / len(inside)
            request[1] += wait / len(inside)
        if way is None:
            inside.append([time.begin(), 0.0])
        elif inside:
            leave(way % len(inside))
    assert inside == []
    assert [share for share, _ in shares] == pytest.approx([expected for _, expected in shares], abs=1e-6)
    assert sum(share for share, _ in shares) == pytest.approx(busy, abs=1e-6)


def test_two_requests_that_overlap():
    """2 s alone, 4 s together, 6 s alone: 2 + 2 for the first, 2 + 6 for the other; idle time for none."""
    now = 10.0
    time = SharedTime(lambda: now)
    first = time.begin()
    now = 12.0
    second = time.begin()
    now = 16.0
    assert time.end(first) == 4.0
    now = 22.0
    assert time.end(second) == 8.0
    now = 99.0
    third = time.begin()
    now = 100.0
    assert time.end(third) == 1.0
