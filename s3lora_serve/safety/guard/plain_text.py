"""JSON in a passage as what it says: between brackets and quotes a base model does not see what harms."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPENING = re.compile(r"[\[{]")
_DECODER = json.JSONDecoder()
# What a JSON Schema is made of, and says nothing by itself.
_SCHEMA = frozenset(
    (
        "type", "properties", "description", "title", "required", "items", "enum", "default", "examples",
        "anyOf", "oneOf", "allOf", "additionalProperties", "format", "$ref", "$defs", "const", "strict",
        "object", "array", "string", "integer", "number", "boolean", "null",
    )
)  # fmt: skip


def plain_text(text: str) -> str:
    """The text with the JSON in each of its lines replaced by its keys and strings, a line each.

    Lines without any stay, and so does what stands around it. Words of a JSON Schema are left out.
    """
    return "\n".join(line for given in text.splitlines() for line in _read(given))


def _read(line: str) -> Iterator[str]:
    found = _OPENING.search(line)
    if found is None:
        yield line
        return
    try:
        value, end = _DECODER.raw_decode(line, found.start())
    except (ValueError, RecursionError):
        yield line
        return
    before, after = line[: found.start()].strip(), line[end:].strip()
    if before.removesuffix(":") not in ("", "parameters"):
        yield before
    yield from (each for each in _said(value) if each.strip() and each not in _SCHEMA)
    if after:
        yield after


def _said(value: Any) -> Iterator[str]:
    """Its keys and strings, in order, without recursion: a client decides how deep it is."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            left.extend(item for pair in reversed(each.items()) for item in (pair[1], pair[0]))
        elif isinstance(each, list):
            left.extend(reversed(each))
