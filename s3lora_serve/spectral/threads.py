"""Coarse threads in place of torch's own: one chunk each, so that no thread waits inside an operation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(work: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> list[Result]:
    """One result for each of as many threads as torch may use; each works on every n-th item.

    Torch splits every operation over its threads, which then wait for the slowest. Scoring has thousands of
    short operations: on a machine busy with something else, as one that serves is, those waits took it from
    0.1 to over 10 seconds. Here a thread runs its operations alone and waits for no other.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2:
        return [work(items)] if items else []
    return _on_threads(work, [items[start::threads] for start in range(threads)])


def in_turn(work: Callable[[Sequence[Item]], Result], items: Sequence[Item]) -> Result:
    """The result of one such thread for all items: for work that may hold only one thing at a time."""
    return _on_threads(work, [items])[0]


def _on_threads(work: Callable[[Sequence[Item]], Result], shares: Sequence[Sequence[Item]]) -> list[Result]:
    try:
        with ThreadPoolExecutor(
            len(shares), "score", initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            return list(pool.map(work, shares))
    finally:
        # The pool's setting was its own threads', but threads born later would inherit it.
        torch.set_num_threads(torch.get_num_threads())
