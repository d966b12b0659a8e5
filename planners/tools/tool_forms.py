"""A tool as others write it, as the fields of a ``ToolSpec``: OpenAI's, MCP's and Anthropic's forms.

    {"type": "function", "function": {"name": "web-search", "parameters": {...}, "strict": true}}
    {"type": "function", "name": "web-search", "parameters": {...}}          # as OpenAI's Responses write it
    {"name": "web-search", "inputSchema": {...}, "annotations": {...}}       # MCP; Anthropic: input_schema

Such a tool takes JSON arguments, since that is what its owner calls it with: without a schema, none.
"""

from __future__ import annotations

from typing import Any

_OWN = ("name", "description", "parameters")
SCHEMAS = ("inputSchema", "input_schema")
# What says nothing to a planner: who may call it and how it is shown. ``strict`` holds in any case.
_OPENAI = ("type", "strict")
_MCP = ("title", "outputSchema", "annotations", "icons", "execution", "_meta", "cache_control")
_NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
# The names that a tool may have in one of these forms.
FIELDS = frozenset((*_OWN, *SCHEMAS, *_OPENAI, *_MCP, "function"))


def own_form(given: Any) -> Any:
    """The fields of a ToolSpec; what has none of these forms stays as it is.

    Raises ValueError for a tool of another type, and for what is said twice.
    Fields that no form has stay, for the ToolSpec to refuse.
    """
    if not isinstance(given, dict):
        return given
    if "type" in given or "function" in given:
        return _of_openai(given)
    schemas = [key for key in (*SCHEMAS, "parameters") if key in given]
    if not schemas or schemas == ["parameters"]:
        return given
    if len(schemas) > 1:
        raise ValueError(
            f"a tool has one schema of its arguments, here are {' and '.join(schemas)}; keep one"
        )
    fields = {key: value for key, value in given.items() if key not in (*SCHEMAS, *_MCP)}
    if not fields.get("description"):
        fields["description"] = given.get("title") or ""
    return {**fields, "parameters": given[schemas[0]]}


def _of_openai(given: dict[str, Any]) -> dict[str, Any]:
    kind = given.get("type")
    if kind != "function":
        raise ValueError(
            f"a tool of type {str(kind)[:80]!r}: a plan names tools that are called by their name; give"
            ' {"type": "function", "function": {"name": ...}}, or {"name": ...}'
        )
    outer = {key: value for key, value in given.items() if key not in (*_OPENAI, "function")}
    function = given.get("function", {})
    if not isinstance(function, dict):
        raise ValueError("'function' is no object; give one with a name, a description and parameters")
    if twice := [key for key in outer if key in function]:
        raise ValueError(
            f"{twice[0][:80]!r} stands in the tool and in its 'function'; give it once, in there"
        )
    fields = {**outer, **{key: value for key, value in function.items() if key not in _OPENAI}}
    if fields.get("description") is None:
        fields.pop("description", None)
    if fields.get("parameters") is None:
        fields["parameters"] = dict(_NOTHING)
    return fields
