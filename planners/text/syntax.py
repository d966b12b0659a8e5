"""The two lines of a step as ReWOO text, read strictly."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import ValidationError

from planners.step import PlanStep, shortened

PLAN = "Plan: "
_CALL = re.compile(r"(?P<id>#E[0-9]+) = (?P<tool>[^\[\]{}]*)(?:\[(?P<text>.*)\]|(?P<json>\{.*\}))")


class PlanSyntaxError(ValueError):
    """Text that is not a ReWOO plan. ``line`` counts from 1; ``steps`` are all those read before it."""

    def __init__(self, message: str, *, line: int, steps: tuple[PlanStep, ...]) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.steps = steps


def read_thought(line: str) -> str:
    """What follows "Plan: "; ValueError for another line."""
    if not line.startswith(PLAN):
        raise ValueError(f"expected 'Plan: ...', got {shortened(line)}")
    return line.removeprefix(PLAN)


def read_call(line: str, thought: str, number: int) -> PlanStep:
    """The step of a call's line; ValueError says what is wrong. ``number``: how many steps there are then."""
    call = _CALL.fullmatch(line)
    if call is None:
        raise ValueError(f"expected '#E{number} = Tool[input]', got {shortened(line)}")
    given: dict[str, Any] = {"tool_input": call["text"]} if call["json"] is None else {}
    if call["json"] is not None:
        given["arguments"] = read_object(call["json"])
    try:
        return PlanStep(id=call["id"], thought=thought, tool=call["tool"], **given)
    except ValidationError as error:
        raise ValueError(why(error)) from error


def read_object(text: str) -> dict[str, Any]:
    """A JSON object; ValueError for anything else, and for a name that stands in it twice."""
    try:
        value: dict[str, Any] = json.loads(text, object_pairs_hook=distinct)
    except json.JSONDecodeError as error:
        raise ValueError(f"the arguments {shortened(text)} are no JSON: {error}") from error
    except RecursionError:
        raise ValueError("the arguments are nested too deeply") from None
    return value


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict; ValueError if a name stands twice, where json would keep the last silently."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the argument {shortened(twice)} is given twice")
    return value


def why(error: ValidationError) -> str:
    """The first reason of a validation error, in our words."""
    return error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
