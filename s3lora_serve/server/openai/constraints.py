"""Bounds on the constraints that chat and completion requests bring: one must not slow other requests down.

The engine compiles them on the cores that serve, and checks every token against them. Some patterns of a few
characters take minutes: a bounded repetition inside another, or dozens of ``*`` in a row.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from s3lora_serve.server.openai.fields.tool_strictness import is_forced
from s3lora_serve.server.openai.grammar_text import accepts_something
from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_REGEX = 2_000  # characters
MAX_GRAMMAR = 32_000  # characters, also of a JSON schema
MAX_QUANTIFIERS = 64  # in a regex; compiling grows with the square
MAX_REPETITION = 10_000  # product of the bounds of repetitions inside each other

# Nothing here may backtrack: the texts are an attacker's.
_TOKEN = re.compile(r"\\.|\[(?:\\.|[^\]\\])*+\]?|\{([\s\d,]{0,40})\}|.", re.DOTALL)
_STRING = re.compile(r'"(?:\\.|[^"\\\n])*+"?|#[^\n]*')
_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")


def check_constraints(fields: Mapping[str, Any]) -> None:
    """Raise RequestRefused for a constraint over a bound, or a grammar that no text can satisfy."""
    for name, kind, value in constraints_of(fields):
        if kind == "regex" and isinstance(value, str):
            _check_regex(name, value)
        elif kind == "grammar" and isinstance(value, str):
            _check_length(name, value, MAX_GRAMMAR)
            # A literal becomes one character, so that nothing in it is read as grammar.
            _check_repetition(name, _repetition(_STRING.sub("x", value))[0])
            if not accepts_something(value):
                raise _refused(name, "no text can satisfy it: every way from its root leads back to itself")
        elif kind == "json":
            try:
                text = value if isinstance(value, str) else json.dumps(value)
            except RecursionError:
                raise _refused(name, "the JSON is nested too deeply") from None
            if name != "tools":  # their descriptions count as prompt
                _check_length(name, text, MAX_GRAMMAR)
            _check_schema(name, parsed(value))


def constraints_of(fields: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(where, kind, text or schema) of each constraint; what is malformed is for the engine to refuse."""
    given = fields.get("structured_outputs")
    if isinstance(given, dict):
        for kind in ("regex", "grammar", "json"):
            yield f"structured_outputs.{kind}", kind, given.get(kind)
        yield "structured_outputs.structural_tag", "json", given.get("structural_tag")
        yield "structured_outputs.choice", "json", given.get("choice")
    yield "response_format", "json", fields.get("response_format")
    if isinstance(text := fields.get("text"), dict):  # of a response
        yield "text.format", "json", text.get("format")
    choice, tools = fields.get("tool_choice"), fields.get("tools")
    # A strict tool's schema is kept to also where the model chooses; any other's only where it must call.
    if is_forced(choice) or (choice != "none" and _strict(tools)):
        yield "tools", "json", tools


def _strict(tools: Any) -> bool:
    """Whether one is, by which the engine constrains calls (vllm/tool_parsers/structural_tag_registry.py)."""
    given = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    inner = [tool["function"] for tool in given if isinstance(tool.get("function"), dict)]
    return any(each.get("strict") for each in (*given, *inner))


def parsed(value: Any) -> Any:
    """A schema as its value, also one that came as text; None for a text that is no JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None  # the engine says what is wrong with it


def _check_regex(name: str, pattern: str) -> None:
    _check_length(name, pattern, MAX_REGEX)
    repetition, quantifiers = _repetition(pattern)
    _check_repetition(name, repetition)
    if quantifiers > MAX_QUANTIFIERS:
        raise _refused(name, f"{quantifiers} repetitions are over the limit of {MAX_QUANTIFIERS}")


def _check_length(name: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise _refused(name, f"{len(text)} characters are over the limit of {limit}")


def _check_repetition(name: str, times: int) -> None:
    if times > MAX_REPETITION:
        shown = str(times) if times < 10**12 else "over 10^12"
        raise _refused(name, f"a part may repeat {shown} times, over the limit of {MAX_REPETITION}")


def _check_schema(name: str, schema: Any) -> None:
    """Bound what may repeat, through all levels, and every pattern. Nesting was bounded by the parser."""
    todo = [(schema, 1)]
    while todo:
        node, outer = todo.pop()
        if isinstance(node, dict):
            bounds = [node[key] for key in _LENGTHS if type(node.get(key)) is int]
            times = outer * max(1, *bounds, 1)
            _check_repetition(name, times)
            if isinstance(pattern := node.get("pattern"), str):
                _check_regex(f"{name}: pattern", pattern)
            todo.extend((child, times) for child in node.values())
        elif isinstance(node, list):
            todo.extend((child, outer) for child in node)


def _repetition(pattern: str) -> tuple[int, int]:
    """The largest product of bounds of nested repetitions, and the number of quantifiers."""
    largest, last, quantifiers = 1, 1, 0
    outside: list[int] = []
    for match in _TOKEN.finditer(pattern):
        token = match[0]
        if token == "(":
            outside.append(largest)
            largest, last = 1, 1
        elif token == ")" and outside:
            last = largest
            largest = max(outside.pop(), last)
        elif token in ("*", "+", "?"):
            quantifiers += 1
        elif match[1] is not None:
            quantifiers += 1
            last *= max((int(bound) for bound in re.findall(r"\d+", match[1])), default=1) or 1
            largest = max(largest, last)
        else:
            last = 1
    return max(largest, *outside, 1), quantifiers


def _refused(name: str, message: str) -> RequestRefused:
    return RequestRefused(f"{name}: {message}", reason="constraint_too_complex", param=name.partition(":")[0])
