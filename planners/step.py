"""One step of a plan: a tool, its input as text or as JSON arguments, and which earlier results it uses."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    field_validator,
    model_validator,
)

from planners.tools import NAME_RULE, TOOL_NAME

MAX_STEP_CHARS = 40_000  # of a thought or an input: bounds what a reader of plans must hold

# [0-9], not \d: \d also matches other scripts' digits, which int() would accept.
REFERENCE = re.compile(r"#E([0-9]+)")
# What str.splitlines, terminals or editors take for the end of a line, and invisible characters.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_STEP_ID = re.compile(r"#E[1-9][0-9]{0,3}")

OneLine = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_STEP_CHARS)]


class PlanStep(BaseModel):
    """One step, ``tool[tool_input]`` or ``tool{arguments}``, whose result other steps call by ``id``.

    With ``arguments``, ``tool_input`` is their JSON on one line. It and ``depends_on``, the references in the
    order in which they appear, are derived; giving them with another meaning is an error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    thought: OneLine
    tool: str
    tool_input: OneLine
    arguments: Annotated[
        dict[str, JsonValue] | None, Field(description="the input of a tool that takes JSON")
    ] = None
    depends_on: tuple[str, ...] = ()

    # The dict among the fields has no hash; tool_input stands for it.
    def __hash__(self) -> int:
        return hash((self.id, self.thought, self.tool, self.tool_input))

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        arguments, text = data.get("arguments"), data.get("tool_input")
        if isinstance(arguments, dict):
            written = one_line_json(arguments)
            if text is not None and not _same_json(text, arguments):
                raise ValueError("tool_input says something else than arguments; leave it out")
            text = written
        if not isinstance(text, str):
            return data
        found = references(text)
        given = data.get("depends_on")
        if given is not None and tuple(given) != found:
            raise ValueError(
                f"depends_on is {list(given)}, but tool_input refers to {list(found)}; leave it out"
            )
        return {**data, "tool_input": text, "depends_on": found}

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not _STEP_ID.fullmatch(value):
            raise ValueError(f"step id {shortened(value)}: write #E1, #E2, ...")
        return value

    @field_validator("tool")
    @classmethod
    def _tool(cls, value: str) -> str:
        if not TOOL_NAME.fullmatch(value):
            raise ValueError(f"tool {shortened(value)}: use {NAME_RULE}")
        return value

    @field_validator("thought", "tool_input")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if found := CONTROL.search(value):
            raise ValueError(
                f"control character U+{ord(found.group()):04X} in {shortened(value)}; keep it on one line"
            )
        return value

    @model_validator(mode="after")
    def _no_brackets(self) -> PlanStep:
        if self.arguments is None and ("[" in self.tool_input or "]" in self.tool_input):
            # Executors of ReWOO plans stop at the first "]" (LangGraph's example), so the rest would be lost.
            raise ValueError(
                f"tool_input {shortened(self.tool_input)} holds a square bracket, which ends the input for "
                f"ReWOO executors; give such input as JSON arguments"
            )
        return self


def references(text: str) -> tuple[str, ...]:
    """Evidence ids in ``text``, each once, in order of appearance; ``#E10`` is never ``#E1`` and a zero."""
    return tuple(dict.fromkeys(found.group() for found in REFERENCE.finditer(text)))


def one_line_json(value: object) -> str:
    """JSON on one line, keys in the order given; ValueError for what JSON cannot hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("the arguments are nested too deeply") from None
    except TypeError as error:
        raise ValueError(f"the arguments are no JSON: {error}") from error
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the arguments hold half of a surrogate pair, which is not a character") from None
    # json escapes what ASCII has of these. They can only stand inside strings, where an escape is the same.
    return CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def shortened(text: str, most: int = 60) -> str:
    """``text`` in quotes on one line, cut after ``most`` characters: error messages are shown to models."""
    return repr(text if len(text) <= most else text[: most - 3] + "...")


def _same_json(text: Any, value: dict[str, Any]) -> bool:
    # As text: in Python, 1, 1.0 and True are equal.
    try:
        return json.dumps(json.loads(text), sort_keys=True) == json.dumps(value, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return False
