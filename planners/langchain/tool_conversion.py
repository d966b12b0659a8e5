"""What LangChain takes for a tool, as a tool that plans can name."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ValidationError

from planners.tools import ToolSpec
from planners.tools.tool_forms import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from langchain_core.tools import BaseTool

    AnyTool = ToolSpec | BaseTool | type | Callable[..., Any] | Mapping[str, Any] | str

# What a schema of one free text may say besides its type; a bound or a choice makes it more than text.
_SAYS_NOTHING = {"type", "title", "description", "default", "examples"}


def tool_specs(tools: Iterable[AnyTool]) -> tuple[ToolSpec, ...]:
    """Each tool as plans name it. A tool whose one argument is free text takes text, another one JSON.

    Accepted are ToolSpec, its fields as a dict, a bare name, and what ``convert_to_openai_tool`` understands:
    BaseTool, functions with annotations, pydantic classes, OpenAI's dicts; and MCP's tools, which take JSON.
    Text goes to a tool as it is: ``tool.invoke(step.tool_input)``; JSON as ``tool.invoke(step.arguments)``.
    Text cannot hold square brackets: where they are needed, write the ToolSpec with ``parameters``.

    Raises ValueError that names the tool: for a name that no plan can have (with one that it can), for a
    description that is too long, for arguments beyond what planners can be held to, and for one name twice.
    """
    specs = tuple(_spec(tool) for tool in tools)
    if twice := [name for name, count in Counter(spec.name for spec in specs).items() if count > 1]:
        raise ValueError(f"tool {twice[0]!r} is offered more than once; give each tool a different name")
    return specs


def _spec(tool: Any) -> ToolSpec:
    if isinstance(tool, ToolSpec):
        return tool
    if isinstance(tool, str):
        return _checked({"name": tool})
    if any(hasattr(tool, schema) for schema in SCHEMAS) and not hasattr(tool, "invoke"):
        tool = tool.model_dump(mode="json", by_alias=True, exclude_none=True)  # of the package mcp
    # Our own form, whose author decided between text and JSON, or MCP's or Anthropic's, which is JSON.
    ours = isinstance(tool, dict) and "name" in tool and "type" not in tool
    if ours and (tool.keys() <= ToolSpec.model_fields.keys() or any(schema in tool for schema in SCHEMAS)):
        return _checked(tool)
    try:
        function = convert_to_openai_tool(tool)["function"]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        what = getattr(tool, "name", None) or getattr(tool, "__name__", None) or repr(tool)[:80]
        raise ValueError(
            f"tool {what}: LangChain cannot describe it ({str(error)[:200]}); make it a tool with"
            " langchain_core.tools.tool, or give a ToolSpec"
        ) from error
    parameters = function.get("parameters")
    fields = {"name": function["name"], "description": function.get("description") or ""}
    return _checked(fields if _is_text(parameters) else {**fields, "parameters": parameters})


def _is_text(parameters: Mapping[str, Any] | None) -> bool:
    if parameters is None:
        return True
    arguments = list((parameters.get("properties") or {}).values())
    return (
        len(arguments) == 1 and arguments[0].get("type") == "string" and arguments[0].keys() <= _SAYS_NOTHING
    )


def _checked(fields: Mapping[str, Any]) -> ToolSpec:
    try:
        return ToolSpec.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where, why = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        if first["type"] == "string_too_long":
            why += f", not {len(first['input'])}; shorten it, or give a ToolSpec"
        raise ValueError(why if where == "name" else f"tool {fields['name']!r}: {where}: {why}") from None
