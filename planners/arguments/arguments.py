"""The JSON arguments of a tool: what it takes, whether given ones fit, and how a prompt describes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from planners.arguments.schema import read_schema
from planners.arguments.types import Choice, Either, Fields, Items, Number, Text, Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping


@dataclass(frozen=True)
class Arguments:
    """What a tool takes, as a value: equal schemas are equal, whatever their titles and descriptions."""

    fields: Fields

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Arguments:
        """Read a JSON Schema. Raises ValueError with the JSON path of what is not supported.

        The subset: objects of named properties, strings (minLength, maxLength), integers and numbers (with
        whole numbers as bounds), booleans, null, enum, const, lists of one type (minItems, maxItems), anyOf,
        and $ref to the schema's own $defs; at most four objects and lists inside each other.
        """
        try:
            text = json.dumps(schema)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"$: this is not JSON ({error})") from None
        return _read(text)

    def problems(self, value: Any, known: Collection[str] = ()) -> tuple[str, ...]:
        """What keeps ``value`` from being this tool's arguments, each with its JSON path; empty when it fits.

        ``known``: the results that exist before, such as ``{"#E1"}``. One of them may stand for any value as
        a whole, and anywhere in a string; other references, and "#" itself, may not.
        """
        if not isinstance(value, dict):
            return ("$: the arguments of a tool are an object",)
        return tuple(self.fields.problems(value, "$", known))

    def signature(self) -> str:
        """Short description for a prompt, such as ``{"query": string, "limit"?: integer}``."""
        return self.fields.signature()


def grammar_parts(tools: Iterable[Arguments], steps: int) -> int:
    """What a grammar for these arguments costs, in parts of about half a millisecond of xgrammar's time.

    Each value needs separate rules at each step. Literals, the bounds of numbers, and characters that a
    string must have, are shared by all steps; for the latter xgrammar goes through the whole vocabulary.
    """
    values, texts, numbers, literals = 0, set[Text](), set[Number](), set[str]()
    for tool in set(tools):
        for node in _inside(tool.fields):
            values += 1
            if isinstance(node, Text):
                texts.add(node)
            elif isinstance(node, Number):
                numbers.add(node)
            elif isinstance(node, Choice):
                literals.update(node.texts)
            elif isinstance(node, Fields):
                literals.update(field.name for field in node.fields)
    shared = 20 * sum(text.least for text in texts) + sum(map(len, literals)) // 6
    return values * steps + shared + sum(map(_number_parts, numbers))


def _number_parts(number: Number) -> int:
    # A bound of n digits takes about n alternatives of about n characters, and those again before a fraction.
    digits = [len(str(abs(bound))) for bound in (number.least, number.most) if bound is not None]
    return sum(n * n for n in digits) * (1 if number.whole else 2) // 24


def _inside(node: Value) -> Iterator[Value]:
    yield node
    within: tuple[Value, ...] = ()
    if isinstance(node, Fields):
        within = tuple(field.value for field in node.fields)
    elif isinstance(node, Either):
        within = node.ways
    elif isinstance(node, Items):
        within = (node.of,)
    for value in within:
        yield from _inside(value)


@lru_cache(maxsize=1024)
def _read(text: str) -> Arguments:
    return Arguments(read_schema(json.loads(text)))
