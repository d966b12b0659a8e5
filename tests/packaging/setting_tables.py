"""Every setting of planners.yaml as tables, a section each, from the JSON Schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from markdown_table import code, table

from s3lora_serve.config import json_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEAD = ("setting", "type", "default", "meaning")


def settings() -> str:
    """A heading, a sentence and a table for each section, in the schema's order, each section once."""
    schema = json_schema()
    seen: set[str] = set()
    parts = [table(HEAD, _rows(schema))]
    parts += [
        f"### {path}\n\n{_text(section)}\n\n{table(HEAD, _rows(section))}"
        for path, section in _sections("", schema, schema["$defs"], seen)
    ]
    return "\n" + "\n".join(parts) + "\n"


def _sections(
    path: str, section: Mapping[str, Any], defs: Mapping[str, Any], seen: set[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, field in section["properties"].items():
        if (inner := _section_of(field)) is None or inner in seen:
            continue
        if inner == "PolicyConfig" and path:  # a planner's own one is told with the fleet's
            continue
        seen.add(inner)
        mark = ".NAME" if "additionalProperties" in field else "[]" if field.get("type") == "array" else ""
        here = f"{path}.{name}{mark}".lstrip(".")
        yield here, defs[inner]
        yield from _sections(here, defs[inner], defs, seen)


def _section_of(field: Mapping[str, Any]) -> str | None:
    """The definition that a field holds: itself, as a value, in a list, or beside null."""
    for each in (field, field.get("additionalProperties"), field.get("items"), *field.get("anyOf", ())):
        if isinstance(each, dict) and "$ref" in each:
            return str(each["$ref"]).rpartition("/")[2]
    return None


def _rows(section: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for name, field in section["properties"].items():
        if "$ref" in field:  # a section, which has a table
            continue
        required = name in section.get("required", ())
        yield (
            code(name),
            _type(field),
            "" if required else code(_default(field)),
            field.get("description", ""),
        )


def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if "$ref" in field:
        return "section"
    if "enum" in field:
        return ", ".join(code(value) for value in field["enum"])
    kind = {"array": "list", "object": "mapping"}.get(field["type"], field["type"])
    if field.get("format") == "path":
        kind = "path"
    return kind + _bounds(field)


def _bounds(field: Mapping[str, Any]) -> str:
    above, least = field.get("exclusiveMinimum"), field.get("minimum")
    below, most = field.get("exclusiveMaximum"), field.get("maximum")
    words = [
        f"{word} {bound:g}" if isinstance(bound, float) else f"{word} {bound}"
        for word, bound in ((">", above), ("≥", least), ("<", below), ("≤", most))
        if bound is not None
    ]
    return " " + ", ".join(words) if words else ""


def _default(field: Mapping[str, Any]) -> str:
    if "default" in field:
        return json.dumps(field["default"], ensure_ascii=False)
    return {"array": "[]", "object": "{}"}[field["type"]]  # made by a factory, which the schema leaves out


def _text(section: Mapping[str, Any]) -> str:
    return " ".join(str(section["description"]).replace("``", "`").split())
