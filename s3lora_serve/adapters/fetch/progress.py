"""Progress reports of a long admission to its caller."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called with the stage (fetch, verify, score, prune, publish) and the share of it that is done, 0 to 1."""


def silent(stage: str, fraction: float) -> None:
    """Say nothing: the progress of a caller that gave none."""
