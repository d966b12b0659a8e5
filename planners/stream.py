"""Plans read while they are written: each step as soon as its line has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planners.rewoo import parse

if TYPE_CHECKING:
    from planners.plan import PlanStep


class PlanReader:
    """Feed it text as it comes."""

    def __init__(self) -> None:
        self._text, self._given = "", 0

    def feed(self, text: str) -> tuple[PlanStep, ...]:
        """The steps that this text completes. Raises PlanSyntaxError."""
        self._text += text
        lines = self._text.split("\n")[:-1]
        return self._new("\n".join(lines[: len(lines) // 2 * 2]))

    def finish(self) -> tuple[PlanStep, ...]:
        """The steps that the end of the text completes. Raises PlanSyntaxError."""
        return self._new(self._text)

    def _new(self, text: str) -> tuple[PlanStep, ...]:
        steps = parse(text).steps if text.strip() else ()
        new, self._given = steps[self._given :], max(self._given, len(steps))
        return new
