"""Length limits of a call's JSON under the grammar: calls too long for readers of plans are never begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planners.arguments.types import Choice, Either, Fields, Items, Number, Text, Value
from planners.grammar.argument_rules import most_chars, most_items
from planners.grammar.number_rules import most_digits
from planners.grammar.text_rules import units
from planners.step import MAX_STEP_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from planners.arguments.arguments import Arguments

_REFERENCE = len("#E63")  # the longest that the last step of the longest plan can refer to
_SEPARATOR = len(", ")


def check_argument_chars(tools: Iterable[tuple[str, Arguments | None]], max_text: int) -> None:
    """Raise ValueError for a tool, by its name, whose arguments could be longer than a step may be."""
    for name, arguments in tools:
        if arguments is not None and (chars := argument_chars(arguments.fields, max_text)) > MAX_STEP_CHARS:
            raise ValueError(
                f"the arguments of tool {name!r} may be {chars} characters with texts of {max_text}, over "
                f"the limit of {MAX_STEP_CHARS}; give its lists a smaller maxItems, or use a smaller max_text"
            )


def argument_chars(node: Value, max_text: int) -> int:
    """Characters of the longest JSON for ``node`` that can be decoded, or a few more; never fewer.

    At any step: a reference may stand for each value. In a string each character may be an escape of two,
    and references come on top. With one in it maxLength does not count: the length of its result is unknown.
    """
    ways = node.ways if isinstance(node, Either) else (node,)
    return max(_REFERENCE + 2, *(_chars(way, max_text) for way in ways))


def _chars(node: Value, max_text: int) -> int:
    if isinstance(node, Text):
        unit, parts = units(max_text)
        return 2 + max(2 * most_chars(node, max_text), 2 * unit * parts + _REFERENCE * (parts + 1))
    if isinstance(node, Number):
        return most_digits(node)
    if isinstance(node, Choice):
        return max(map(len, node.texts))
    if isinstance(node, Items):
        return _joined([argument_chars(node.of, max_text)] * most_items(node))
    if isinstance(node, Fields):
        return _joined([len(f'"{f.name}": ') + argument_chars(f.value, max_text) for f in node.fields])
    return argument_chars(node, max_text)


def _joined(parts: list[int]) -> int:
    return 2 + sum(parts) + _SEPARATOR * max(0, len(parts) - 1)
