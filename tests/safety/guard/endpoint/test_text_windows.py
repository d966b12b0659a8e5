"""Long texts in windows."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.safety.guard.endpoint.text_windows import OVERLAP, text_windows


@given(st.integers(0, 5000), st.integers(16, 600))
def test_nothing_is_cut_and_whatever_fits_the_overlap_stands_whole_somewhere(length, most):
    """The windows cover the text in order, none is too long, and neighbours share their overlap."""
    text = "".join(chr(0x4E00 + number) for number in range(length))
    windows = text_windows(text, most)
    assert all(len(window) <= most for window in windows)
    shared = most // OVERLAP
    assert windows[0] + "".join(window[shared:] for window in windows[1:]) == text
    assert all(after.startswith(before[-shared:]) for before, after in pairwise(windows))
