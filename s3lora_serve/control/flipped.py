"""The event that a planner's name means another deployment, and those who are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Flipped:
    """One flip: keys of deployments, before and after it."""

    planner: str
    active: str
    active_before: str
    candidate: str | None
    candidate_before: str | None
    judged: bool  # whether the rules compare the new revision's first requests with the old one's last


class Flips:
    """Tells of each flip, in the event loop, right after it."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[Flipped], None]] = []

    def subscribe(self, told: Callable[[Flipped], None]) -> None:
        """``told`` is called with each flip from now on; it must neither wait nor raise."""
        self._subscribers.append(told)

    def announce(self, event: Flipped) -> None:
        """Tell everyone who subscribed."""
        for told in self._subscribers:
            told(event)
