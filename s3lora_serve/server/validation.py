"""A request body read as JSON, and what is wrong with it: the field, its value and the limit."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from planners import PlanRequest, ToolSpec
from s3lora_serve.errors import S3LoRAError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

# Fields of each object in a body, by the path that leads to it (without list positions).
Fields = Mapping[tuple[str, ...], Iterable[str]]
# Of a value in a body: the place of what it stands in, and where in that.
_Place = tuple["_Place | None", int | str]

PLAN_FIELDS: Fields = {
    (): PlanRequest.model_fields,
    ("tools",): ToolSpec.model_fields,
}
HALF = "holds half a surrogate pair, not a character"
# JSON's escapes but for half a pair: where these are gone, a backslash begins one.
_WHOLE_ESCAPE = re.compile(
    r"\\(?:[^u]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
# pydantic speaks of Python's types, and clients of JSON's.
_WANTED = {
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "dict_type": "should be an object",
    "model_type": "should be an object",
    "model_attributes_type": "should be an object",
}
_DEEPEST = 12  # steps of a path that are shown
_MOST_PROBLEMS = 5
_MOST_CHARS = 300


class RequestRefused(S3LoRAError):
    """The request itself is wrong; it reached no planner. ``reason`` is the stable code of the answer."""

    def __init__(
        self, message: str, *, reason: str, status: int = 400, param: str | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.status = status
        self.param = param


def parse_object(
    body: bytes, request: Request, of_pairs: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> dict[str, Any]:
    """The body as a JSON object. Raises RequestRefused, also for what only some parsers would take.

    ``of_pairs`` makes an object of its fields; without it, a field given twice counts as given last. No text
    in it holds half a surrogate pair, which neither engines nor answers nor logs can take.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RequestRefused(
            f"content-type {media_type[:80]!r}; send application/json",
            reason="unsupported_media_type",
            status=415,
        )
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        data = json.loads(text, object_pairs_hook=of_pairs)
    except RecursionError:
        raise RequestRefused("the JSON is nested too deeply", reason="invalid_json") from None
    except ValueError as error:  # also bytes that are not UTF-8, and integers of thousands of digits
        raise RequestRefused(f"the body is not JSON: {str(error)[:200]}", reason="invalid_json") from None
    if not isinstance(data, dict):
        raise RequestRefused("the body must be a JSON object", reason="invalid_json")
    if _SURROGATE.search(text) or "\\" in _WHOLE_ESCAPE.sub("", text):
        _refuse_half(data)
    return data


def _refuse_half(data: dict[str, Any]) -> None:
    """Raise RequestRefused for the first text, or name of a field, that holds half a surrogate pair."""
    left: list[tuple[Any, _Place | None]] = [(data, None)]
    while left:
        value, place = left.pop()
        if isinstance(value, str) and _SURROGATE.search(value):
            where = _where(place)
            raise RequestRefused(f"{where}: {HALF}", reason="invalid_request", param=where)
        if isinstance(value, dict):
            if any(map(_SURROGATE.search, value)):
                where = _where(place)
                what = f"the name of a field {HALF}"
                raise RequestRefused(
                    f"{where}: {what}" if where else what, reason="invalid_request", param=where or None
                )
            left += [(each, (place, name)) for name, each in reversed(value.items())]
        elif isinstance(value, list):
            left += [(each, (place, number)) for number, each in reversed(list(enumerate(value)))]


def _where(place: _Place | None) -> str:
    """The place as a client reads it, or its beginning."""
    path: list[int | str] = []
    while place is not None:
        place, step = place
        path.append(step)
    return dotted(reversed(path[-_DEEPEST:]))


def describe(errors: Sequence[Mapping[str, Any]], fields: Fields = PLAN_FIELDS) -> tuple[str, str | None]:
    """All problems as one message, and the first field at fault. Repeats little of what was sent."""
    # A list whose entries are wrong is also too short without them, says pydantic; the entries say enough.
    inside = {_path(error)[:depth] for error in errors for depth in range(len(_path(error)))}
    errors = [error for error in errors if error["type"] != "too_short" or _path(error) not in inside]
    shown = [_sentence(error, fields)[:_MOST_CHARS] for error in errors[:_MOST_PROBLEMS]]
    if len(errors) > _MOST_PROBLEMS:
        shown.append(f"and {len(errors) - _MOST_PROBLEMS} more problems")
    return "; ".join(shown), (_dotted(errors[0]) or None) if errors else None


def is_no_object(error: Mapping[str, Any]) -> bool:
    """Whether the body is at fault as a whole: no JSON, empty, or JSON but no object."""
    return error["type"] == "json_invalid" or (not _path(error) and error["type"] != "value_error")


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` when a known name is close, else the list of known ones."""
    known = sorted(known)
    if close := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(known)}"


def _sentence(error: Mapping[str, Any], fields: Fields) -> str:
    kind, path = error["type"], _path(error)
    if kind == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']}"
    if not path and kind == "string_unicode":
        return f"the name of a field {HALF}"
    if not path and kind == "value_error":  # about the body as a whole, though it is an object
        return str(error["msg"]).removeprefix("Value error, ")
    if not path:
        return "the body must be a JSON object, sent as application/json"
    if kind == "extra_forbidden":
        parent = tuple(part for part in path[:-1] if isinstance(part, str))
        name = str(path[-1])[:80]
        return f"unknown field {name!r}; {nearest(name, fields.get(parent, ()))}"
    if kind == "too_short" and path == ("tools",):
        return "tools: offer at least one tool"
    if kind == "too_long" and path[-1:] == ("tools",):
        most = error["ctx"]["max_length"]
        return (
            f"{_dotted(error)}: over {most} tools; a server takes {most} at most, or fewer (plans.max_tools)"
        )
    if kind == "missing":
        return f"field {_dotted(error)!r} is required"
    if kind == "string_unicode":
        return f"{_dotted(error)}: {HALF}"
    if kind in ("too_long", "too_short"):
        least = kind == "too_short"
        bound = f"least {error['ctx']['min_length']}" if least else f"most {error['ctx']['max_length']}"
        return f"{_dotted(error)}: should have at {bound} entries, not {error['ctx']['actual_length']}"
    message = _WANTED.get(kind) or str(error["msg"]).removeprefix("Value error, ")
    # Of a source nothing is repeated: it may begin with a password.
    return f"{_dotted(error)}: {message}" + (
        "" if kind == "value_error" or path[-1:] == ("source",) else f", not {_short(error['input'])}"
    )


def _path(error: Mapping[str, Any]) -> tuple[int | str, ...]:
    loc: tuple[int | str, ...] = tuple(error["loc"])
    return loc[1:] if loc[:1] == ("body",) else loc


def _dotted(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        return ""
    return dotted(_path(error))


def dotted(path: Iterable[int | str]) -> str:
    """As OpenAI writes it: messages[0].content"""
    steps = (f"[{part}]" if isinstance(part, int) else f".{str(part)[:80]}" for part in path)
    return "".join(steps).removeprefix(".")


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str | int | float):
        text = repr(value[:60] if isinstance(value, str) else value)
        return text if len(text) <= 60 else text[:57] + "..."
    return f"{'an object' if isinstance(value, Mapping) else 'a list'} of {len(value)} entries"
