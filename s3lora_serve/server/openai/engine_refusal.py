"""The engine's application's errors as a client is told them: a sentence, OpenAI's ``param``, a code."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.context_length import is_too_long
from s3lora_serve.errors import ContextTooLong, EngineError, EngineRefused
from s3lora_serve.server.error_responses import error_response
from s3lora_serve.server.validation import describe, dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastapi.exceptions import RequestValidationError
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    from s3lora_serve.server.redact import Redactor

log = logging.getLogger(__name__)

INVALID = "invalid_request"
_FAILED = "the engine failed; the server's log has it under this request's id"
_UNREADABLE = "the engine cannot read this request"
_MOST_CHARS = 1_000  # of a message, which may repeat what was sent
# What vLLM's exceptions add to their own text.
_TAIL = re.compile(r"\s*\((?:parameter|value)=.*\)\s*$", re.S)
# An exception's text where a sentence should be.
_DUMP = re.compile(
    r"^\d+ validation errors?|Traceback \(most|^<?class '|'\w+' object |\bNoneType\b|object is not |"
    r"^'[^']*'$|unhashable type|not supported between instances|unexpected keyword argument|"
    r"(?:list|string|tuple) index out of range|indices must be|^Expecting \w+|has no attribute",
)
_NAME = re.compile(r"[A-Za-z_]\w*\Z")
_STEP = re.compile(r"\[(\d+)\]|[^.\[\]]+")
_PROMPTS = frozenset(
    ("input_tokens", "input_text", "prompt_token_ids")
)  # vLLM's words for what it made of it


@dataclass(frozen=True)
class EngineRefusal:
    """One error of the engine's application, fit for a client."""

    status: int
    message: str
    code: str
    param: str | None = None

    @classmethod
    def of(cls, status: int, body: bytes, redact: Redactor, prompt: str = "messages") -> EngineRefusal:
        """What its body says; ``prompt`` is the field that has the prompt.

        Of a failure (500) nothing is repeated: its text is an exception's, and stands in the log.
        """
        try:
            error: Any = json.loads(body)["error"]
            message, param, code = str(error["message"]), error.get("param"), error.get("code")
        except (ValueError, KeyError, TypeError, AttributeError):
            message, param, code = "", None, None
        if status >= 500 and status != 503:
            log.error("the engine's application answered %d: %s", status, redact(message[:_MOST_CHARS]))
            return cls(status, _FAILED, EngineError.code)
        if not message:
            return cls(status, _FAILED if status >= 500 else _UNREADABLE, _code(status))
        param = as_openai(param) if isinstance(param, str) else None
        if code == INVALID:  # it was told by ``refused_fields``
            return cls(status, redact(message), INVALID, param)
        if is_too_long(message):
            return cls(400, redact(_sentence(message)), ContextTooLong.code, prompt)
        if param in _PROMPTS:
            param = prompt
        if _DUMP.search(message):
            log.info("the engine's application refused a request: %s", redact(message[:_MOST_CHARS]))
            message = f"{param}: {_UNREADABLE}" if param else _UNREADABLE
        return cls(status, redact(_sentence(message)), _code(status), param)


async def refused_fields(_: Request, error: RequestValidationError) -> JSONResponse:
    """What the engine's application answers to fields that are none of its types: a sentence with the field.

    Its own answer holds the validation's insides: names of types, and places that no body has.
    """
    message, param = told_of(error.errors(), error.body)
    return error_response(400, message, code=INVALID, param=param)


def told_of(errors: Iterable[Mapping[str, Any]], body: Any) -> tuple[str, str | None]:
    """Message and ``param`` for the problems that validation found in this body."""
    found: dict[tuple[int | str, ...], dict[str, Any]] = {}
    for error in errors:
        own = (error.get("ctx") or {}).get("error")
        place = _place(error, body)
        param, text = getattr(own, "parameter", None), _sentence(str(error["msg"]))
        if isinstance(param, str):  # vLLM's own, raised where the body as a whole is looked at
            return _sentence(str(own)), as_openai(param)
        if place in found:  # the same value held against another type that would do
            before, also = found[place], text.removeprefix("Input should be ")
            if also != text and before["msg"].startswith("Input should be ") and also not in before["msg"]:
                before.update(msg=f"{before['msg']} or {also}", type="several")
            continue
        found[place] = {**error, "loc": place, "msg": text}
    return describe(list(found.values()), {})


def as_openai(path: str) -> str:
    """``body.messages.0.content`` as OpenAI writes it: ``messages[0].content``."""
    steps = [int(step) if step.isdigit() else step for step in _steps(path)]
    return dotted(steps[1:] if steps[:1] == ["body"] and len(steps) > 1 else steps)


def _steps(path: str) -> Iterable[str]:
    return (match[1] or match[0] for match in _STEP.finditer(path[:400]))


def _place(error: Mapping[str, Any], body: Any) -> tuple[int | str, ...]:
    """Where in the body the error is: validation also names types on the way, which are no places."""
    steps = list(error["loc"])
    if steps[:1] == ["body"]:
        del steps[0]
    place: list[int | str] = []
    for number, step in enumerate(steps):
        inside = (isinstance(step, str) and isinstance(body, dict) and step in body) or (
            isinstance(step, int) and isinstance(body, list) and step < len(body)
        )
        if inside:
            place.append(step)
            body = body[step]
        elif error["type"] == "missing" and number == len(steps) - 1 and _NAME.match(str(step)):
            place.append(step)
    return tuple(place)


def _sentence(text: str) -> str:
    """The text without what vLLM's exceptions add to it, on one line and bounded."""
    text = " ".join(_TAIL.sub("", text.removeprefix("Value error, ")).split())
    return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 3] + "..."


def _code(status: int) -> str:
    return EngineRefused.code if status < 500 else EngineError.code
