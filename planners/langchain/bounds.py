"""JSON schemas in which every string has a maximum length: a small model may otherwise never end one"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Keywords whose values are schemas: one, several, or by name. What stands elsewhere (enum, default) is data.
_ONE = ("items", "additionalProperties", "not", "contains", "propertyNames")
_SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems")
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
# A schema with one of these says itself how a string ends.
_ENDED = ("maxLength", "enum", "const", "pattern", "format")


def bounded(schema: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """A copy in which every string without a limit has one: ``longest`` characters."""
    copy = dict(schema)
    types = copy.get("type")
    strings = "string" in types if isinstance(types, list) else types == "string"
    if strings and not any(key in copy for key in _ENDED):
        copy["maxLength"] = longest
    for key in _ONE:
        if isinstance(copy.get(key), dict):
            copy[key] = bounded(copy[key], longest)
    for key in _SEVERAL:
        if isinstance(copy.get(key), list):
            copy[key] = [bounded(one, longest) if isinstance(one, dict) else one for one in copy[key]]
    for key in _BY_NAME:
        if isinstance(copy.get(key), dict):
            copy[key] = {
                name: bounded(one, longest) if isinstance(one, dict) else one
                for name, one in copy[key].items()
            }
    return copy
