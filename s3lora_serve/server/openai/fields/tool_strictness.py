"""Tools of a chat whose calls must fit their schema: the engine is told so of each function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# What says of a schema already which values fit it, beside ``type``.
_SAYS_WHICH = frozenset(("type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"))
_NOTHING = {"type": "object", "properties": {}}


def is_forced(choice: Any) -> bool:
    """Whether this ``tool_choice`` leaves the model no answer but a call."""
    return choice not in (None, "auto", "none")


def with_strict_tools(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with which the arguments of each call that is forced, or ``strict``, fit the schema.

    OpenAI's clients count on it wherever they force a call. vLLM constrains what stands around the
    arguments, and these only of a function with ``strict``; up to 0.26 also of one that says nothing of it
    (vllm/tool_parsers/structural_tag_registry.py). So each function of a forced call says so here. One that
    has no parameters, or does not say that they are an object, would get any JSON: a text, say.
    """
    tools = fields.get("tools")
    if not isinstance(tools, list) or fields.get("tool_choice") == "none":
        return dict(fields)
    forced = is_forced(fields.get("tool_choice"))
    return {**fields, "tools": [_strict(tool, forced=forced) for tool in tools]}


def _strict(tool: Any, *, forced: bool) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not (forced or function.get("strict") is True):
        return tool  # what is no function is for the engine to refuse
    given = function.get("parameters")
    parameters = _NOTHING if given is None or given == {} else given
    if isinstance(parameters, dict) and not _SAYS_WHICH & parameters.keys():
        parameters = {"type": "object", **parameters}
    return {**tool, "function": {**function, "parameters": parameters, "strict": True}}
