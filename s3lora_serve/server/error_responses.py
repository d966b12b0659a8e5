"""Every error leaves in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from planners import Problem
from s3lora_serve.config.guard import GuardPart  # noqa: TC001  (pydantic reads the annotation)
from s3lora_serve.errors import (
    AdapterError,
    ConfigError,
    Conflict,
    ControlError,
    EngineDead,
    EngineError,
    EngineRefused,
    ExamFailed,
    GuardUndecided,
    InvalidPlan,
    LeaseCut,
    Overloaded,
    PlanIncomplete,
    PlannerNotReady,
    PlannerWithheld,
    PlanTimeout,
    RefusedByGuard,
    RevisionMismatch,
    S3LoRAError,
    ShuttingDown,
    SlotsBusy,
    SourceNotAllowed,
    StateError,
    StoreError,
    UnknownOperation,
    UnknownPlanner,
)
from s3lora_serve.server.validation import PLAN_FIELDS, Fields, RequestRefused, describe, is_no_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from s3lora_serve.server.redact import Redactor

log = logging.getLogger(__name__)

# The first class that an error is an instance of decides; anything else is a defect of ours and gets 500.
STATUS: Mapping[type[S3LoRAError], int] = {
    UnknownPlanner: 404,
    PlannerNotReady: 503,
    PlanIncomplete: 422,
    InvalidPlan: 422,
    PlanTimeout: 503,
    RefusedByGuard: 403,
    GuardUndecided: 403,  # 503 of one that asking again may help: status_of
    RevisionMismatch: 409,
    Overloaded: 429,
    SlotsBusy: 429,
    LeaseCut: 503,
    ShuttingDown: 503,
    EngineRefused: 400,
    EngineDead: 503,
    ExamFailed: 503,
    EngineError: 502,
    UnknownOperation: 404,
    ControlError: 409,
    AdapterError: 422,
    ConfigError: 422,
    StoreError: 503,
    StateError: 503,
}

# Seconds after which a client may ask again when something is down; an engine's start takes twice as long.
RETRY = 10

FORBIDDEN_HOST = "forbidden_host"
MODEL_NOT_FOUND = "model_not_found"  # OpenAI's code, on its routes
# vLLM's, with which its clients change adapters.
ADAPTER_ROUTES = frozenset(("/v1/load_lora_adapter", "/v1/unload_lora_adapter"))
_SWAP = "adapters are the operator's to change, with `s3lora swap`"
_HTTP_CODES = {400: "invalid_json", 404: "not_found", 405: "method_not_allowed"}


class ErrorDetail(BaseModel):
    """OpenAI's error fields; ``code`` is stable, ``message`` is for people."""

    message: str
    type: str
    param: str | None
    code: str
    problems: list[Problem] = Field(
        default=[], description="what is wrong with a plan; only with invalid_plan"
    )
    part: GuardPart | None = Field(
        None, description="what of the request the guard refused; only with refused_by_guard"
    )


class ErrorBody(BaseModel):
    """What every answer with a status of 400 or more holds."""

    error: ErrorDetail


class ConflictBody(ErrorBody):
    """A 409: the error, and what serves at present, so that the caller can decide anew.

    ``operation`` is there if one is in the way: it can be cancelled.
    """

    revision: str | None
    generation: int | None
    operation: str | None = None


_RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
_SAYS = {
    400: "a request that is wrong: no JSON object, a field that is none of its type, over a limit, or without"
    " effect, or a prompt too long for the model",
    401: "no valid key",
    403: "without a key only this machine is answered, by its own names; or a field is not allowed here; or"
    " the guard refused the request",
    404: "no such name; the message lists the known ones",
    408: "the body did not arrive in time",
    409: "another revision serves; the body says which",
    413: "the body is too large",
    415: "not application/json",
    422: "not answered with a whole and valid plan; of an order: an adapter or a configuration was refused",
    429: "too many requests at once",
    499: "the client left before its answer began; only the metrics see it",
    500: "a defect of the server; its log has it under the request's id",
    502: "the engine failed",
    503: "the engine, the planner or the time for a plan is not there at present",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's ``responses`` for OpenAPI: these errors, and 401, which every route has."""
    return {status: _documented(status) for status in (401, *statuses)}


def _documented(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {"description": _SAYS[status]}
    if status != 499:
        response["model"] = ConflictBody if status == 409 else ErrorBody
    if status in (429, 503):
        response["headers"] = _RETRY_AFTER
    return response


def error_response(
    status: int,
    message: str,
    *,
    code: str,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """One error as a response; ``type`` follows from the status."""
    body = error_body(status, message, code=code, param=param)
    return JSONResponse(body, status_code=status, headers=headers)


def error_body(status: int, message: str, *, code: str, param: str | None = None) -> dict[str, Any]:
    """One error as it leaves in a response, or in an event of a stream."""
    error = {
        "message": _utf8(message),
        "type": error_type(status, code),
        "param": param and _utf8(param),
        "code": code,
    }
    return {"error": error}


def conflict_response(
    message: str, revision: str | None, generation: int | None, operation: str | None = None
) -> JSONResponse:
    """A 409 with what serves at present, None when it is not about one planner, and what is in the way."""
    now = {"revision": revision, "generation": generation, **({"operation": operation} if operation else {})}
    body = {**error_body(409, message, code=Conflict.code), **now}
    return JSONResponse(body, status_code=409)


def told(error: S3LoRAError, redact: Redactor) -> tuple[int, dict[str, Any]]:
    """Status and body of one of our errors, its message freed of server paths; logged if it is our fault."""
    status = status_of(error)
    if status >= 500 and not isinstance(error, ShuttingDown):  # that one is meant to be
        log.error("%s: %s", error.code, error)
    # What a client sent comes back as it was; what the engine or a file said may hold paths.
    as_sent = status == 404 or isinstance(error, SourceNotAllowed)
    message = str(error) if as_sent else redact(str(error))
    body = error_body(status, message, code=error.code)
    if isinstance(error, InvalidPlan):
        body["error"]["problems"] = [_problem(problem) for problem in error.problems]
    if isinstance(error, RefusedByGuard):
        body["error"]["part"] = error.part
    if isinstance(error, RevisionMismatch):
        body |= {"revision": error.revision, "generation": error.generation}
    return status, body


def _problem(problem: object) -> dict[str, str | None]:
    assert isinstance(problem, Problem)
    step = problem.step and _utf8(problem.step)
    return {"kind": problem.kind, "step": step, "message": _utf8(problem.message)}


def _utf8(text: str) -> str:
    # JSON can spell half a surrogate pair, which no response can: what came in must not break the answer.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def error_type(status: int, code: str) -> str:
    """OpenAI's ``type`` for a status; a 403 is about who asks (``forbidden_host``) or about what is asked."""
    if status == 401 or code == FORBIDDEN_HOST:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


def status_of(error: S3LoRAError) -> int:
    """The status that the error leaves with; 500 for one that should not have reached a client."""
    if getattr(error, "again", False):  # the guard's: of the class alone nothing is known
        return 503
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)


def retry_headers(error: S3LoRAError) -> dict[str, str]:
    """Whether and when to ask again: whole seconds, never too early, for errors that pass by themselves."""
    if isinstance(error, SlotsBusy | Overloaded):
        return {"retry-after": str(max(1, math.ceil(error.retry_after)))}
    if isinstance(error, LeaseCut):
        return {"retry-after": "1"}  # another revision serves already
    if isinstance(error, PlannerWithheld):
        return {}  # it passes by an order, not by itself
    if isinstance(error, RevisionMismatch):
        return {"x-should-retry": "false"}  # the openai client would send every 409 again
    return {"retry-after": str(RETRY)} if status_of(error) == 503 else {}


def exception_handlers(
    redact: Redactor,
    fields: Callable[[Request], Fields] = lambda request: PLAN_FIELDS,
    description: str = "/openapi.json",
) -> dict[Any, Callable[[Request, Any], Any]]:
    """Handlers that turn each exception into a response, its message freed of server paths.

    ``fields`` are those of a request's body, ``description`` is where the application's own one is.
    """

    async def refused(_: Request, error: RequestRefused) -> JSONResponse:
        return error_response(error.status, str(error), code=error.reason, param=error.param)

    async def ours(_: Request, error: S3LoRAError) -> JSONResponse:
        status, body = told(error, redact)
        return JSONResponse(body, status_code=status, headers=retry_headers(error))

    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = _HTTP_CODES.get(error.status_code, "http_error")
        message = redact(str(error.detail))
        if error.status_code in (404, 405):
            message = (
                f"{request.method} {request.url.path[:80]!r} is not served; GET {description} says what is"
            )
            if request.url.path in ADAPTER_ROUTES:
                message += f"; {_SWAP}"
        return error_response(error.status_code, message, code=code, headers=error.headers)

    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        message, param = describe(error.errors(), fields(request))
        if any(is_no_object(problem) for problem in error.errors()):
            return error_response(400, message, code="invalid_json")
        return error_response(400, message, code="invalid_request", param=param)

    return {RequestRefused: refused, S3LoRAError: ours, HTTPException: http, RequestValidationError: invalid}
