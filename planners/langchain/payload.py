"""The body of a chat request as this server takes it, from the one that langchain-openai makes"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openai

from planners.langchain.bounds import bounded
from planners.langchain.tool_conversion import tool_specs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from planners.langchain.tool_conversion import AnyTool


@dataclass(frozen=True)
class Ours:
    """What a call wants beyond OpenAI's fields; ``max_text`` in characters, None: no limit."""

    extra_body: Mapping[str, Any]
    revision: str | None
    plan: Mapping[str, Any] | None
    max_text: int | None


def for_server(payload: Mapping[str, Any], ours: Ours) -> dict[str, Any]:
    """The payload with our fields in its extra_body, tools that are enforced, and strings that end.

    Raises ValueError for a tool that no plan can name, and for a tool_choice without tools.
    """
    made, body = dict(payload), dict(ours.extra_body)
    if ours.revision is not None:
        body = joined(body, {"s3lora": {"revision": ours.revision}})
    if ours.plan is not None:
        body = joined(body, {"s3lora": {"plan": _plan(ours.plan, ours.max_text)}})
    if "tools" in made:
        made = _with_tools(made, ours.max_text)
    if ours.max_text is not None and (shape := made.get("response_format")):
        made["response_format"], body = _bounded_format(shape, body, ours.max_text)
    if body:
        made["extra_body"] = body
    return made


def offered(tools: Iterable[AnyTool]) -> list[dict[str, Any]]:
    """The tools as the server reads them. Raises ValueError for what ``tool_specs`` refuses."""
    return [spec.model_dump(mode="json", exclude_defaults=True) for spec in tool_specs(tools)]


def joined(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, key by key and level by level; ``over`` wins."""
    both = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            both[key] = joined(under[key], over[key])
    return both


def _plan(plan: Mapping[str, Any], max_text: int | None) -> dict[str, Any]:
    asked = dict(plan)
    if max_text is not None:
        asked.setdefault("max_text", max_text)
    if tools := offered(asked.pop("tools", None) or ()):  # none: the server has some for the planner
        asked["tools"] = tools
    return asked


def _with_tools(payload: Mapping[str, Any], max_text: int | None) -> dict[str, Any]:
    if payload["tools"]:
        return {**payload, "tools": [_enforced(tool, max_text) for tool in payload["tools"]]}
    # The engine refuses an empty list of tools, and it offers nothing.
    if (choice := payload.get("tool_choice")) not in (None, "auto", "none"):
        raise ValueError(f"tool_choice is {choice!r}, but there are no tools; bind some")
    needless = ("tools", "tool_choice", "parallel_tool_calls")
    return {name: value for name, value in payload.items() if name not in needless}


def _enforced(tool: Any, max_text: int | None) -> Any:
    """The tool with ``strict``, without which vLLM 0.32 leaves arguments free, and with bounded strings."""
    if not isinstance(tool, dict) or "function" not in tool:
        return tool
    function = {"strict": True, **tool["function"]}
    if max_text is not None and "parameters" in function:
        function["parameters"] = bounded(function["parameters"], max_text)
    return {**tool, "function": function}


def _bounded_format(shape: Any, body: dict[str, Any], longest: int) -> tuple[Any, dict[str, Any]]:
    """A response_format with bounded strings, and the extra_body that goes with it."""
    if isinstance(shape, dict):
        if shape.get("type") != "json_schema":
            return shape, body
        described = shape["json_schema"]
        schema = bounded(described["schema"], longest)
        return {**shape, "json_schema": {**described, "schema": schema}}, body
    # openai's client makes a schema of the class and reads the answer with the class. On the wire, what is in
    # extra_body replaces that schema.
    schema = openai.pydantic_function_tool(shape)["function"]["parameters"]
    described = {"name": shape.__name__, "strict": True, "schema": bounded(schema, longest)}
    return shape, joined(body, {"response_format": {"type": "json_schema", "json_schema": described}})
