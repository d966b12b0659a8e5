"""One tool that a plan may use, whoever described it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from planners.arguments.arguments import Arguments
from planners.tools.tool_forms import own_form

MAX_TOOL_NAME = 128  # as of MCP; OpenAI's names have 64
MAX_DESCRIPTION_CHARS = 1_024  # as of OpenAI

# Names as OpenAI and MCP have them. They stand as they are in prompts, grammars, plans and messages: none of
# these characters means anything there, and a mapped name would have to be found in all that may quote it.
TOOL_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_TOOL_NAME - 1}}}", re.ASCII)
NAME_RULE = f"1 to {MAX_TOOL_NAME} letters, digits, '_', '-' and '.', beginning with a letter, a digit or '_'"
# C0 and C1 controls but tab, newline and carriage return: they are invisible, so not sent on purpose.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text; ValueError for one with a control character."""
    if found := _CONTROL.search(text):
        raise ValueError(
            f"control character U+{ord(found.group()):04X} at position {found.start()}; remove it"
        )
    return text


_Description = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=MAX_DESCRIPTION_CHARS),
    AfterValidator(printable),
]


class ToolSpec(BaseModel):
    """One tool a plan may use. The plan writes the name; the planner reads name and description.

    A tool as OpenAI, MCP or Anthropic write it (``{"type": "function", ...}``, ``inputSchema``) is read, too.
    With ``parameters``, a JSON Schema of an object, the tool takes JSON arguments, else one line of text.
    ``Arguments.of`` says which schemas are understood; others are refused here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: _Description = ""
    parameters: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_others_write(cls, given: Any) -> Any:
        return own_form(given)

    @field_validator("name")
    @classmethod
    def _usable(cls, name: str) -> str:
        if not TOOL_NAME.fullmatch(name):
            raise ValueError(f"tool name {name[:160]!r}: use {NAME_RULE}, such as {_suggest(name)!r}")
        return name

    @field_validator("parameters")
    @classmethod
    def _understood(cls, schema: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if schema is not None:
            try:
                Arguments.of(schema)
            except ValueError as error:
                # A key of the schema may hold half a surrogate pair, with which pydantic could not raise it.
                why = str(error).encode("utf-8", "backslashreplace").decode()
                raise ValueError(f"parameters of tool {info.data.get('name', '?')!r}: {why}") from None
        return schema

    @property
    def arguments(self) -> Arguments | None:
        """The JSON arguments that it takes; None for a tool that takes text."""
        return None if self.parameters is None else Arguments.of(self.parameters)

    def __hash__(self) -> int:
        return hash((self.name, self.description))  # a schema is a dict, which has no hash


def _suggest(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:MAX_TOOL_NAME] or "Tool"
