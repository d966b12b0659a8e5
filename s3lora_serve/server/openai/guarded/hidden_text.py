"""What a constraint makes an answer say in signs that a guard cannot read as words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from s3lora_serve.server.openai.constraints import constraints_of, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_HIDDEN = 8  # letters in all patterns of one request; "to" and "a" between words are some
_WORD = 3  # letters in a row that can be read
_WIDE = 8  # characters of which a class lets the model choose freely
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*+\]?|\{[\s\d,]{0,40}\}|[^\W\d_]+|.", re.DOTALL)
_CLASSES = frozenset("dDwWsSbBnrtfv")
_IN_CLASS = re.compile(r"(\\.|.)(?:-(\\.|[^\]]))?", re.DOTALL)
_HINT = "leave it out: give a schema, or a choice of texts; the guard reads words, and no grammar"
_LETTERS = "leave it out, or give a choice of texts: the guard reads words, and no single letters or escapes"


def hidden_text(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first field that may hide a text from the guard, and what to do instead; None without one.

    The engine makes the answer keep to it, so it can begin that as a started turn of the assistant would.
    Schemas and choices are read as texts. A grammar can put one together from anywhere in it. A pattern says
    it in order, in words, or else letter by letter.
    """
    letters = 0
    for name, kind, value in constraints_of(fields):
        field, _, part = name.partition(".")
        if value is None:
            continue
        if part in ("grammar", "structural_tag"):
            return field, _HINT
        if isinstance(value, dict) and value.get("type") == "structural_tag":
            return field, _HINT
        patterns = (value,) if kind == "regex" else _patterns(parsed(value))
        letters += sum(hidden_letters(pattern) for pattern in patterns if isinstance(pattern, str))
        if letters > MOST_HIDDEN:
            return field, _LETTERS
    given = fields.get("structured_outputs")
    space = given.get("whitespace_pattern") if isinstance(given, dict) else None
    return None if space is None else ("structured_outputs", _HINT)


def hidden_letters(pattern: str) -> int:
    """How many letters a regular expression may spell other than in a word that can be read in it."""
    count = 0
    for piece in _PIECE.findall(pattern):
        if piece[0] == "\\":
            count += _escaped(piece)
        elif piece[0] == "[":
            count += _narrow(piece)
        elif piece[0].isalpha() and len(piece) < _WORD:
            count += len(piece)
    return count


def _escaped(piece: str) -> bool:
    return piece[1:].isalnum() and piece[1:] not in _CLASSES


def _narrow(piece: str) -> bool:
    """Whether a class leaves the model next to no choice."""
    inner = piece[1:].removesuffix("]")
    negated = inner.startswith("^")
    width = 0
    for first, last in _IN_CLASS.findall(inner.removeprefix("^")):
        if _escaped(first) or (last and _escaped(last)):
            return True  # whatever it stands for
        if negated and last:
            return True  # all but a range may be little
        if first[0] == "\\" and first[1:].isalpha():
            width += _WIDE
        else:
            width += max(ord(last[-1]) - ord(first[-1]), 0) + 1 if last else 1
    return not negated and width < _WIDE and any(each.isalpha() for each in inner)


def _patterns(schema: Any) -> Iterator[Any]:
    """Every regular expression in a schema, at any depth."""
    left = [schema]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node.get("pattern")
            if isinstance(named := node.get("patternProperties"), dict):
                yield from named
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)
