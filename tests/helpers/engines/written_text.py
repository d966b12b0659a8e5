"""What a model writes that keeps to its constraints and says the least."""

from __future__ import annotations

import json
from typing import Any

CITY = "Paris"
WEATHER = "21 degrees"  # in a tool's result
ASKED = "weather"  # in a question that the model answers with a call of its tool
CALLED = {"name": "get_weather", "arguments": {"city": CITY}}
REPORT = f"It is {WEATHER} in {CITY}."
HELLO = "Hello from the planner."


def written(prompt: str, constraint: Any | None) -> str:
    """The answer to a rendered prompt under vLLM's ``StructuredOutputsParams``, but for a grammar."""
    may_call = constraint is not None and "triggered_tags" in (constraint.structural_tag or "")
    if constraint is not None and not may_call:
        return _constrained(constraint)
    if WEATHER in prompt:
        return REPORT
    if ASKED in prompt:
        return _constrained(constraint) if may_call else f"<tool_call>\n{json.dumps(CALLED)}\n</tool_call>"
    return HELLO


def instance(schema: Any, defs: dict[str, Any] | None = None) -> Any:
    """The least value of a JSON schema; where anything goes, what no client's schema asks for: a text."""
    if not isinstance(schema, dict):
        return "Lana"
    defs = {**(defs or {}), **schema.get("$defs", {}), **schema.get("definitions", {})}
    if "$ref" in schema:
        return instance(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return instance(schema[several][0], defs)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object" or "properties" in schema:
        return {name: _named(name, each, defs) for name, each in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", True), defs)] * max(1, schema.get("minItems", 1))
    values = {
        "string": "Lana",
        "integer": max(7, schema.get("minimum", 7)),
        "number": 7.5,
        "boolean": True,
        "null": None,
    }
    return values.get(kind, "Lana")


def _named(name: str, schema: Any, defs: dict[str, Any]) -> Any:
    value = instance(schema, defs)
    return CITY if name == "city" and value == "Lana" else value


def _constrained(constraint: Any) -> str:
    if constraint.json is not None:
        schema = json.loads(constraint.json) if isinstance(constraint.json, str) else constraint.json
        return json.dumps(instance(schema))
    if constraint.json_object:
        return "{}"
    if constraint.choice:
        return str(constraint.choice[0])
    return _tagged(json.loads(constraint.structural_tag)["format"])


def _tagged(form: dict[str, Any]) -> str:
    """One call, of the first tool."""
    if form["type"] == "json_schema":
        return json.dumps(instance(form["json_schema"]))
    if form["type"] == "tag":
        return form["begin"] + _tagged(form["content"]) + form["end"]
    if form["type"] in ("tags_with_separator", "triggered_tags"):
        return _tagged(form["tags"][0])
    raise AssertionError(f"a structural tag of the kind {form['type']!r} is not written here yet")
