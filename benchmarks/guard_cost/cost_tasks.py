"""Tasks and conversations that nobody asked before: else the guard would remember its verdict."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guard_cells import Cell

TOOLS = [
    {"name": "Search", "description": "looks something up"},
    {"name": "Calculator", "description": "does arithmetic"},
]
# Each with the space before it is one token of SmolLM2's, and of most others.
_WORDS = (
    "report", "water", "train", "winter", "harbour", "bridge", "garden", "school", "letter", "river",
    "paper", "museum", "kitchen", "market", "station", "picture", "engine", "island", "library", "village",
    "hospital", "summer", "morning", "evening", "yellow", "green", "silver", "wooden", "small", "large",
    "early", "later", "quiet", "open", "broken", "local", "northern", "southern", "new", "old", "long",
    "short", "heavy", "light", "clean",
)  # fmt: skip
_LENGTH, _AROUND = 20, 15  # words of a sentence; tokens of its opening, number and end
_TOOL_NAMES = ("Timetable", "Stock", "Weather")


class CostTasks:
    """Makes one request after the other; the same seed makes the same ones, each number once."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._numbers: Iterator[int] = itertools.count(seed * 100_000 + 10_000)

    def task(self, sentences: int) -> str:
        """A task of so many sentences, each of which is new, too."""
        return " ".join(self._sentence() for _ in range(sentences))

    def earlier(self, tokens: int, turns: int) -> list[dict[str, str]]:
        """A conversation of about so many tokens: so many turns of the user, each answered."""
        said = ("user", "assistant") * turns
        return [{"role": role, "content": self._text(tokens // len(said))} for role in said] if turns else []

    def plan_fields(self, cell: Cell) -> dict[str, Any]:
        """What a request for a plan brings besides its planner. A plan has two short steps at most."""
        fields: dict[str, Any] = {"task": self.task(cell.sentences), "max_steps": 2, "max_text": 120}
        if cell.evidence:
            fields["tools"] = [{"name": name, "description": self._text(24)} for name in _TOOL_NAMES]
            fields["evidence"] = {"#E1": self._text(150), "#E2": self._text(150)}
            fields["max_steps"] = 4  # two are done
        return fields

    def _sentence(self, length: int = _LENGTH) -> str:
        words = " ".join(self._random.choices(_WORDS, k=length))
        return f"Plan how group {next(self._numbers)} moves the {words} before Friday."

    def _text(self, tokens: int) -> str:
        """Sentences of about so many tokens; each digit of a number is one."""
        whole, rest = divmod(tokens, _LENGTH + _AROUND)
        lengths = [_LENGTH] * whole + ([max(rest - _AROUND, 1)] if rest or not whole else [])
        return " ".join(self._sentence(length) for length in lengths)
