"""Chats that are longer than the context, cut into pieces that overlap, so that nothing goes unread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Tokens = tuple[int, ...]
OVERLAP = 4  # two windows share one part in so many: what is said in fewer tokens is whole in one of them


def windows(whole: Tokens, room: int, *likes: Tokens) -> Iterator[Tokens]:
    """``whole`` itself if it fits into ``room``, else windows that together have each of its tokens.

    What it begins and ends with as one of the ``likes`` does (the template; a short task, too) stands in each
    window: the first of them that leaves half of the room decides, or else the last. If that leaves no room,
    there is none.
    """
    if len(whole) <= room:
        yield whole
        return
    head, tail = 0, 0
    for like in likes:
        head = _alike(whole, like)
        rest = min(len(whole), len(like)) - head
        tail = _alike(whole[::-1], like[::-1][:rest])
        if 2 * (head + tail) <= room:
            break
    width = room - head - tail
    if width < OVERLAP:
        return
    begin, middle, end = whole[:head], whole[head : len(whole) - tail], whole[len(whole) - tail :]
    step = width - width // OVERLAP
    for at in range(0, max(len(middle) - width, 0) + step, step):
        yield (*begin, *middle[at : at + width], *end)


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens the two begin with that are the same."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return at
    return min(len(one), len(other))
