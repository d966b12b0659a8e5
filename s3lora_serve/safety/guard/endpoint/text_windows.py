"""A text that is longer than a guard model reads at once, in pieces that overlap."""

from __future__ import annotations

OVERLAP = 8  # each piece repeats the last eighth of the one before, where what was cut stands whole


def text_windows(text: str, most: int) -> list[str]:
    """The text in pieces of at most ``most`` characters, all of it; a short one is the only piece."""
    if len(text) <= most:
        return [text]
    step = most - most // OVERLAP
    return [text[begin : begin + most] for begin in range(0, len(text) - most // OVERLAP, step)]
