"""Runs of neighbouring tokens that use one adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def runs(indices: Sequence[int], lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(start, end, index) of each longest run of tokens with one index."""
    start = end = 0
    current: int | None = None
    for index, length in zip(indices, lengths, strict=True):
        if index != current:
            if current is not None and end > start:
                yield start, end, current
            start, current = end, index
        end += length
    if current is not None and end > start:
        yield start, end, current
