"""A window is the last requests of a deployment, no more and no others."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.control.window import Window

OUTCOMES = st.sampled_from(["ok", "error", "invalid", "aborted"])


@given(st.lists(st.tuples(OUTCOMES, st.none() | st.floats()), max_size=60), st.integers(1, 20))
def test_a_window_is_the_last_requests(requests, limit):
    """Counts, latencies and median are those of the last ``limit`` that were not aborted."""
    made = Window(limit)
    for outcome, seconds in requests:
        made.add(outcome, seconds)
    counted = [(outcome, seconds) for outcome, seconds in requests if outcome != "aborted"]
    last = counted[-limit:]
    outcomes = [outcome for outcome, _ in last]
    slow = tuple(s for o, s in last if o != "error" and s is not None and math.isfinite(s))
    assert (made.seen, made.requests) == (len(counted), len(last))
    assert (made.errors, made.invalid) == (outcomes.count("error"), outcomes.count("invalid"))
    assert made.answered == len(last) - outcomes.count("error")
    assert made.latencies == slow
    assert made.median_seconds == (statistics.median(slow) if slow else None)


def test_a_window_refuses_nonsense():
    """An outcome that is not counted would hide failures."""
    with pytest.raises(ValueError, match="limit 0"):
        Window(0)
    with pytest.raises(ValueError, match="outcome 'timeout' is none of aborted, error, invalid, ok"):
        Window(1).add("timeout", 1.0)
