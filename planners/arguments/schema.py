"""JSON Schema → the arguments of a tool. What is not understood is refused by its path, never dropped.

Read as pydantic, LangChain and MCP servers write it: ``$defs`` are put where they are referred to, and what
only annotates (title, description, default, format, ...) is passed over.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from planners.arguments.types import (
    BOOLEAN,
    MOST_DIGITS,
    NULL,
    Choice,
    Either,
    Field,
    Fields,
    Items,
    Number,
    Text,
    Value,
    unusable,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SCHEMA_BYTES = 8_000  # as compact JSON
MAX_DEPTH = 4  # objects and lists inside each other
MAX_PROPERTIES = 32  # of one object
MAX_CHOICES = 64  # of one enum
MAX_VALUES = 128  # of the whole, with definitions put in: a few nested references make millions
MAX_LEAST = 16  # items or characters that a schema may ask for at least

PROPERTY = re.compile(r"[A-Za-z_$][A-Za-z0-9_.$-]{0,63}", re.ASCII)
_ANNOTATIONS = {
    *("title", "description", "default", "examples", "example", "format", "deprecated", "readOnly"),
    *("writeOnly", "$schema", "$comment", "$defs", "definitions"),
}
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "boolean": set[str](),
    "null": set[str](),
}
_PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def read_schema(schema: Mapping[str, Any]) -> Fields:
    """The arguments that ``schema`` describes. Raises ValueError that names the path of what is refused."""
    try:
        size = len(json.dumps(schema, allow_nan=False, separators=(",", ":")).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"$: this is not JSON ({error})") from None
    if size > MAX_SCHEMA_BYTES:
        raise ValueError(f"$: {size} bytes of JSON, at most {MAX_SCHEMA_BYTES}; shorten descriptions")
    found = _Reader(schema).read(schema, "$", 1, ())
    if not isinstance(found, Fields):
        raise ValueError('$: the arguments of a tool are an object; write {"type": "object", ...}')
    return found


class _Reader:
    """One schema's definitions, and how many values were read."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._values = 0

    def read(self, node: Any, at: str, depth: int, inside: tuple[str, ...]) -> Value:
        """The value that ``node`` describes; ``inside`` are the definitions that it was reached through."""
        if not isinstance(node, dict):
            raise ValueError(f"{at}: {json.dumps(node)} is not a schema; write an object with a type")
        self._values += 1
        if self._values > MAX_VALUES:
            raise ValueError(f"{at}: more than {MAX_VALUES} values in all; offer fewer properties")
        for key in ("$ref", "anyOf", "allOf"):
            if key in node:
                _only(node, {key}, at)
                break
        if "$ref" in node:
            return self._definition(node["$ref"], f"{at}.$ref", depth, inside)
        if "allOf" in node:
            return self._single(node["allOf"], f"{at}.allOf", depth, inside)
        if "anyOf" in node:
            return self._either(node["anyOf"], f"{at}.anyOf", depth, inside)
        kinds = _kinds(node, at)
        if "enum" in node or "const" in node:
            _only(node, {"type", "enum", "const"}, at)
            return _choice(node, kinds, at)
        _only(node, {"type"}.union(*(_KEYWORDS[kind] for kind in kinds)), at)
        if not kinds:
            raise ValueError(f'{at}: any value at all is too much; say a type, such as {{"type": "string"}}')
        ways = [self._typed(kind, node, at, depth, inside) for kind in kinds]
        return ways[0] if len(ways) == 1 else Either(tuple(ways))

    def _definition(self, ref: Any, at: str, depth: int, inside: tuple[str, ...]) -> Value:
        where = re.fullmatch(r"#/(\$defs|definitions)/([^/~%]+)", ref) if isinstance(ref, str) else None
        definitions = self._root.get(where[1]) if where else None
        if where is None or not isinstance(definitions, dict) or where[2] not in definitions:
            raise ValueError(f"{at}: {ref!r} is not one of this schema's own $defs; put the definition there")
        if ref in inside:
            raise ValueError(f"{at}: {ref} refers to itself; nest to a fixed depth instead")
        return self.read(definitions[where[2]], f"$.{where[1]}.{where[2]}", depth, (*inside, ref))

    def _single(self, parts: Any, at: str, depth: int, inside: tuple[str, ...]) -> Value:
        if not isinstance(parts, list) or len(parts) != 1:
            raise ValueError(f"{at}: only one schema is understood here; merge them")
        return self.read(parts[0], f"{at}[0]", depth, inside)

    def _either(self, parts: Any, at: str, depth: int, inside: tuple[str, ...]) -> Value:
        if not isinstance(parts, list) or not parts:
            raise ValueError(f"{at}: give a list of schemas")
        found = (self.read(part, f"{at}[{n}]", depth, inside) for n, part in enumerate(parts))
        ways = dict.fromkeys(
            w for value in found for w in (value.ways if isinstance(value, Either) else [value])
        )
        return Either(tuple(ways)) if len(ways) > 1 else next(iter(ways))

    def _typed(self, kind: str, node: dict[str, Any], at: str, depth: int, inside: tuple[str, ...]) -> Value:
        if kind in ("object", "array") and depth > MAX_DEPTH:
            raise ValueError(f"{at}: nested deeper than {MAX_DEPTH} objects and lists; flatten it")
        if kind == "object":
            return self._fields(node, at, depth, inside)
        if kind == "array":
            if "items" not in node:
                raise ValueError(f'{at}: say what the list holds, such as "items": {{"type": "string"}}')
            least, most = _lengths(node, "minItems", "maxItems", at)
            return Items(self.read(node["items"], f"{at}.items", depth + 1, inside), least, most)
        if kind == "string":
            return Text(*_lengths(node, "minLength", "maxLength", at))
        if kind in ("integer", "number"):
            return _number(node, kind == "integer", at)
        return BOOLEAN if kind == "boolean" else NULL

    def _fields(self, node: dict[str, Any], at: str, depth: int, inside: tuple[str, ...]) -> Value:
        properties, required = node.get("properties", {}), node.get("required", [])
        if not isinstance(node.get("additionalProperties", False), bool):
            raise ValueError(f"{at}.additionalProperties: a plan only writes named properties; name them")
        if not isinstance(properties, dict) or not (properties or at == "$"):
            raise ValueError(f"{at}: name the properties of the object")
        if len(properties) > MAX_PROPERTIES:
            raise ValueError(f"{at}.properties: {len(properties)} properties, at most {MAX_PROPERTIES}")
        for name in properties:
            if not PROPERTY.fullmatch(name):
                raise ValueError(
                    f"{at}.properties: name {name[:80]!r}; use 1 to 64 letters, digits, '_', '-', '.' and"
                    " '$', beginning with a letter"
                )
        if not isinstance(required, list):
            raise ValueError(f"{at}.required: {required!r} is not a list; list names of properties")
        if odd := [name for name in required if not isinstance(name, str) or name not in properties]:
            raise ValueError(f"{at}.required: list names of properties; {odd[0]!r} is none")
        fields = (
            Field(name, self.read(value, f"{at}.properties.{name}", depth + 1, inside), name in required)
            for name, value in properties.items()
        )
        return Fields(tuple(fields))


def _only(node: dict[str, Any], known: set[str], at: str) -> None:
    if odd := [key for key in node if key not in known and key not in _ANNOTATIONS]:
        raise ValueError(
            f"{at}.{odd[0]}: not supported here, where {', '.join(sorted(known))} are; "
            "leave it out and let the tool check it"
        )


def _kinds(node: dict[str, Any], at: str) -> list[str]:
    given = node.get("type", [])
    kinds = [given] if isinstance(given, str) else given
    if not isinstance(kinds, list) or not set(map(str, kinds)) <= set(_KEYWORDS):
        raise ValueError(f"{at}.type: {given!r}; use {', '.join(_KEYWORDS)}, or a list of them")
    return list(dict.fromkeys(kinds))


def _choice(node: dict[str, Any], kinds: list[str], at: str) -> Choice:
    values = [node["const"]] if "const" in node else node["enum"]
    key = "const" if "const" in node else "enum"
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_CHOICES:
        raise ValueError(f"{at}.{key}: give a list of 1 to {MAX_CHOICES} values")
    for value in values:
        if not (value is None or isinstance(value, str | int | float)):
            raise ValueError(f"{at}.{key}: {write(value)[:60]} is not a string, number, boolean or null")
        if isinstance(value, str) and ("#" in value or unusable(value)):
            why = "'#' begins a reference" if "#" in value else unusable(value)
            raise ValueError(f"{at}.{key}: {value!r}: {why}")
        if kinds and not any(_fits(value, kind) for kind in kinds):
            raise ValueError(f"{at}.{key}: {write(value)} is not of type {' or '.join(kinds)}")
    return Choice(tuple(dict.fromkeys(write(value) for value in values)))


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _PYTHON.get(kind, ()))


def _lengths(node: dict[str, Any], least: str, most: str, at: str) -> tuple[int, int | None]:
    for key in (least, most):
        value = node.get(key, 0)
        if type(value) is not int or value < 0 or (key == least and value > MAX_LEAST):
            limit = f" to {MAX_LEAST}" if key == least else ""
            raise ValueError(f"{at}.{key}: {value!r}; use a whole number from 0{limit}")
    low, high = node.get(least, 0), node.get(most)
    if high is not None and low > high:
        raise ValueError(f"{at}.{least}: {low} is more than {most} {high}")
    return low, high


def _number(node: dict[str, Any], whole: bool, at: str) -> Number:
    edges: dict[str, int | None] = {}
    for key in sorted(_KEYWORDS["number"]):
        value = node.get(key)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
                raise ValueError(f"{at}.{key}: {value!r}; use a whole number, or let the tool check it")
            if abs(value) >= 10**MOST_DIGITS - 1:
                raise ValueError(f"{at}.{key}: {value!r} has more than {MOST_DIGITS} digits; leave it out")
        edges[key] = None if value is None else int(value)
    least, above = _tighter(edges["minimum"], edges["exclusiveMinimum"], 1)
    most, below = _tighter(edges["maximum"], edges["exclusiveMaximum"], -1)
    if whole:
        least, above = (least + above if least is not None else None), False
        most, below = (most - below if most is not None else None), False
    if least is not None and most is not None:
        # Between two large neighbours there is no fraction that a float keeps.
        room = most - least - above - below + (not whole and above and below and abs(least) < 10**9)
        if room < 0:
            raise ValueError(f"{at}: no number lies between its bounds {least} and {most}")
    return Number(whole, least, most, above, below)


def _tighter(closed: int | None, opened: int | None, sign: int) -> tuple[int | None, bool]:
    if opened is not None and (closed is None or sign * opened >= sign * closed):
        return opened, True
    return closed, False
