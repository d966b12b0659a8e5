"""How many questions the prompts of one request may cause together, of one judge."""

from __future__ import annotations

MOST_TOGETHER = 256  # of a completion's 64 prompts, each of which may cause as many as a judge asks of one


class Allowance:
    """Counts each question once, whichever prompt it is of."""

    def __init__(self, most: int = MOST_TOGETHER) -> None:
        self._most = most
        self._taken: set[str] = set()

    def takes(self, key: str) -> bool:
        """Whether the question of that name may be asked, and that it is."""
        if key not in self._taken and len(self._taken) >= self._most:
            return False
        self._taken.add(key)
        return True
