"""What a JSON argument may be: text, numbers, choices, lists, objects; each checks values and signs itself.

A reference to an earlier result ("#E1") may stand for any value, since only the executor will know it, and
anywhere in a text. What cannot be written in a plan's one line is no value either.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MOST_DIGITS = 15  # of a number; a float holds that many exactly
_REFERENCE = re.compile(r"#E[0-9]+")
# Line breaks and tabs can be escaped; JSON writes the others raw, or so that a reader must guess them.
_UNUSABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Text:
    """A string of ``least`` to ``most`` characters; with references in it its length is not known yet."""

    least: int = 0
    most: int | None = None

    def problems(self, value: Any, at: str, known: Collection[str]) -> Iterator[str]:
        """What is wrong with ``value``; ``at`` is its JSON path, ``known`` the results that exist before."""
        if not isinstance(value, str):
            yield f"{at}: {_short(value)} is not a string"
            return
        yield from _characters(value, at, known)
        if not _REFERENCE.search(value):
            if len(value) < self.least:
                yield f"{at}: {len(value)} characters are fewer than {self.least}"
            if self.most is not None and len(value) > self.most:
                yield f"{at}: {len(value)} characters are more than {self.most}"

    def signature(self) -> str:
        """For the prompt."""
        return "string"


@dataclass(frozen=True)
class Number:
    """A number between ``least`` and ``most``, both included unless open; ``whole``: without a fraction."""

    whole: bool
    least: int | None = None
    most: int | None = None
    above: bool = False  # least itself is excluded
    below: bool = False  # most itself is excluded

    def problems(self, value: Any, at: str, known: Collection[str]) -> Iterator[str]:
        """See Text."""
        if is_reference(value):
            yield from _characters(value, at, known)
        elif isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            yield f"{at}: {_short(value)} is not {'an integer' if self.whole else 'a number'}"
        elif not math.isfinite(value):
            yield f"{at}: {value} cannot be written in JSON"
        elif self.least is not None and (value <= self.least if self.above else value < self.least):
            yield f"{at}: {value} is below {'or at ' * self.above}{self.least}"
        elif self.most is not None and (value >= self.most if self.below else value > self.most):
            yield f"{at}: {value} is above {'or at ' * self.below}{self.most}"

    def signature(self) -> str:
        """See Text."""
        return "integer" if self.whole else "number"


@dataclass(frozen=True)
class Choice:
    """One of some values, each as its JSON text: ``true`` and ``1`` would be equal as Python values."""

    texts: tuple[str, ...]

    def problems(self, value: Any, at: str, known: Collection[str]) -> Iterator[str]:
        """See Text."""
        if is_reference(value):
            yield from _characters(value, at, known)
        elif not (value is None or isinstance(value, str | int | float)) or write(value) not in self.texts:
            yield f"{at}: {_short(value)} is not {self.signature()}"

    def signature(self) -> str:
        """See Text."""
        return "boolean" if self == BOOLEAN else " | ".join(self.texts)


BOOLEAN = Choice(("true", "false"))
NULL = Choice(("null",))


@dataclass(frozen=True)
class Items:
    """A list of ``least`` to ``most`` values of one type."""

    of: Value
    least: int = 0
    most: int | None = None

    def problems(self, value: Any, at: str, known: Collection[str]) -> Iterator[str]:
        """See Text."""
        if is_reference(value):
            yield from _characters(value, at, known)
        elif not isinstance(value, list | tuple):
            yield f"{at}: {_short(value)} is not a list"
        else:
            if len(value) < self.least:
                yield f"{at}: {len(value)} items are fewer than {self.least}"
            if self.most is not None and len(value) > self.most:
                yield f"{at}: {len(value)} items are more than {self.most}"
            for n, item in enumerate(value):
                yield from self.of.problems(item, f"{at}[{n}]", known)

    def signature(self) -> str:
        """See Text."""
        inner = self.of.signature()
        return f"({inner})[]" if isinstance(self.of, Choice | Either) and " | " in inner else f"{inner}[]"


@dataclass(frozen=True)
class Field:
    """One property of an object."""

    name: str
    value: Value
    required: bool


@dataclass(frozen=True)
class Fields:
    """An object with these properties and no others."""

    fields: tuple[Field, ...]

    def problems(self, value: Any, at: str, known: Collection[str]) -> Iterator[str]:
        """See Text."""
        if is_reference(value):
            yield from _characters(value, at, known)
            return
        if not isinstance(value, dict):
            yield f"{at}: {_short(value)} is not an object"
            return
        names = [field.name for field in self.fields]
        for key in value:
            if key not in names:
                yield f"{at}: property {_short(key)} is not one of {', '.join(names) or 'none'}"
        for field in self.fields:
            if field.name in value:
                yield from field.value.problems(value[field.name], f"{at}.{field.name}", known)
            elif field.required:
                yield f"{at}: property {field.name!r} is missing"

    def signature(self) -> str:
        """See Text."""
        parts = (f'"{f.name}"{"" if f.required else "?"}: {f.value.signature()}' for f in self.fields)
        return "{" + ", ".join(parts) + "}"


@dataclass(frozen=True)
class Either:
    """A value of any of these types."""

    ways: tuple[Value, ...]

    def problems(self, value: Any, at: str, known: Collection[str]) -> Iterator[str]:
        """See Text."""
        found = [tuple(way.problems(value, at, known)) for way in self.ways]
        if all(found):
            real = [problems for way, problems in zip(self.ways, found, strict=True) if way != NULL]
            if len(real) == 1 or is_reference(value):
                yield from real[0]
            else:
                yield f"{at}: {_short(value)} does not fit {self.signature()}"

    def signature(self) -> str:
        """See Text."""
        return " | ".join(way.signature() for way in self.ways)


Value = Text | Number | Choice | Items | Fields | Either


def write(value: Any) -> str:
    """JSON as plans hold it: on one line, a space after each separator, other scripts as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def is_reference(value: Any) -> bool:
    """Whether this is nothing but a reference, and so may stand for a value of any type."""
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def unusable(text: str) -> str | None:
    """What keeps ``text`` out of a plan whatever is known: a character, named; None for nothing."""
    if found := _UNUSABLE.search(text):
        return f"character U+{ord(found.group()):04X} at position {found.start()}; leave it out"
    if "#" in _REFERENCE.sub("", text):
        return "'#' outside a reference such as #E1; write 'No.' or leave it out"
    return None


def _characters(text: str, at: str, known: Collection[str]) -> Iterator[str]:
    if why := unusable(text):
        yield f"{at}: {why}"
    for name in dict.fromkeys(_REFERENCE.findall(text)):
        if name not in known:
            yield f"{at}: {name} is not an earlier result"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
