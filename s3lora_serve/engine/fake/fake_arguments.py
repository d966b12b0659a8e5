"""The least arguments that a JSON tool takes, read from its signature in a planner's prompt."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIELD = re.compile(r'\s*("(?:[^"\\]|\\.)*")(\?)?\s*:\s*(.*)', re.S)
_VALUES = {"integer": 1, "number": 1, "boolean": True, "null": None}
_OPEN, _CLOSE = "{[(", "}])"


def signature_end(text: str) -> int:
    """Where the bracketed signature ends with which the text begins; 0 if it begins with none."""
    depth = 0
    for at, character in _unquoted(text):
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0:
            return at + 1 if at else 0
    return 0


def least_arguments(signature: str, text: str) -> dict[str, Any]:
    """A value for each required field of ``{"query": string, "limit"?: integer}``; strings are ``text``."""
    fields = (_FIELD.fullmatch(field) for field in _split(signature.strip()[1:-1], ","))
    return {json.loads(field[1]): _value(field[3], text) for field in fields if field and not field[2]}


def _value(kind: str, text: str) -> Any:
    kind = next(_split(kind, "|")).strip()
    if kind.endswith("[]"):
        return []
    if kind.startswith("{"):
        return least_arguments(kind, text)
    if kind in _VALUES:
        return _VALUES[kind]
    try:
        return json.loads(kind)  # an enum's first value
    except ValueError:
        return text


def _split(text: str, separator: str) -> Iterator[str]:
    """The parts between separators that stand in no bracket and no string."""
    depth = begin = 0
    for at, character in _unquoted(text):
        depth += (character in _OPEN) - (character in _CLOSE)
        if character == separator and depth == 0:
            yield text[begin:at]
            begin = at + 1
    yield text[begin:]


def _unquoted(text: str) -> Iterator[tuple[int, str]]:
    """The characters, with their places, that stand in no JSON string."""
    quoted = escaped = False
    for at, character in enumerate(text):
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        else:
            yield at, character
