"""JSON in a passage as what it says: between brackets and quotes a base model does not see what harms."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPENING = re.compile(r"[\[{]")
_DECODER = json.JSONDecoder()
_HALF = re.compile("[\ud800-\udfff]")  # of a pair, which JSON can spell and no tokenizer takes
_TRIES = 16  # brackets of one line that may begin no JSON: each is read as far as it goes
# What a JSON Schema or a tool's call is made of, and says nothing by itself.
_FORM = frozenset(
    (
        "type", "properties", "description", "title", "required", "items", "enum", "default", "examples",
        "anyOf", "oneOf", "allOf", "additionalProperties", "format", "$ref", "$defs", "const", "strict",
        "object", "array", "string", "integer", "number", "boolean", "null",
        "tool_calls", "tool_call_id", "id", "function", "name", "arguments",
    )
)  # fmt: skip


def plain_text(text: str) -> str:
    """The text with all JSON in it replaced by its keys and strings, a line each.

    Also JSON over several lines, if the text is nothing else, and JSON in a string of JSON, as the arguments
    of a call are. Lines without any stay, and so does what stands around it. Words that JSON Schemas and
    calls are made of are left out.
    """
    value = _whole(text)
    lines = text.splitlines() if value is None else ()
    read = (*_told(value), *(line for given in lines for line in _read(given)))
    return _HALF.sub("\ufffd", "\n".join(read))


def _read(line: str) -> Iterator[str]:
    read, search = 0, 0
    for _ in range(_TRIES):
        if (found := _OPENING.search(line, search)) is None:
            break
        try:
            value, end = _DECODER.raw_decode(line, found.start())
        except (ValueError, RecursionError):
            search = found.end()
            continue
        before = line[read : found.start()].strip()
        if before.removesuffix(":") not in ("", "parameters"):
            yield before
        yield from _told(value)
        read = search = end
    if (rest := line[read:].strip() if read else line) or not read:
        yield rest


def _told(value: Any) -> Iterator[str]:
    return (each for each in _said(value) if each.strip() and each not in _FORM)


def _said(value: Any) -> Iterator[str]:
    """Its keys and strings, in order, without recursion: a client decides how deep it is."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            if (inner := _whole(each)) is None:
                yield each
            else:
                left.append(inner)
        elif isinstance(each, dict):
            left.extend(item for pair in reversed(each.items()) for item in (pair[1], pair[0]))
        elif isinstance(each, list):
            left.extend(reversed(each))


def _whole(text: str) -> Any:
    """The object or list that a text is as JSON; None for any other text."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
