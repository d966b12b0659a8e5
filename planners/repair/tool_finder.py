"""Which offered tool a planner means, and whether one text is enough for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from planners.step import references

if TYPE_CHECKING:
    from planners.tools import ToolSpec


class ToolFinder:
    """Offered tools by name, or by a spelling that only one of them has: "web-search" for "Web_Search"."""

    def __init__(self, tools: tuple[ToolSpec, ...]) -> None:
        self._exact = {tool.name: tool for tool in tools}
        self._loose: dict[str, ToolSpec | None] = {}
        for tool in tools:
            key = _loosely(tool.name)
            self._loose[key] = None if key in self._loose else tool

    def find(self, name: str) -> ToolSpec | None:
        """The tool that ``name`` means; None if there is none, or if it could be several."""
        return self._exact.get(name) or self._loose.get(_loosely(name))


def _loosely(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()


def as_arguments(text: str, tool: ToolSpec) -> dict[str, Any] | None:
    """The arguments of a tool that can do with one text; None if it cannot, or if there are several ways."""
    names = (tool.parameters or {}).get("properties") or {}
    takes, known = tool.arguments, references(text)
    fits = [name for name in names if takes is not None and not takes.problems({name: text}, known)]
    return {fits[0]: text} if len(fits) == 1 else None
