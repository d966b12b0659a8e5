"""The OpenAI endpoints: the engine's own application answers, for planners that serve and for nobody else."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request

from s3lora_serve.errors import EngineDead, UnknownPlanner
from s3lora_serve.server.chat_fields import check_fields
from s3lora_serve.server.constraints import check_constraints
from s3lora_serve.server.errors import RequestRefused, error_response
from s3lora_serve.server.middleware import REQUEST_ID, replay

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from s3lora_serve.runtime.planner import Planner
    from s3lora_serve.runtime.service import PlannerService
    from s3lora_serve.server.redact import Redactor

log = logging.getLogger(__name__)

# The engine's routes that are served; all others of its application are unreachable. Each one here is tested.
OPENAI_ROUTES = ("/v1/chat/completions", "/v1/completions")

# Headers that reach the engine's application. Others could steer it (a data-parallel rank, a SageMaker
# adapter id) or hold the API key.
_HEADERS = frozenset({b"content-type", b"accept", b"user-agent", b"traceparent", b"tracestate"})


class OpenAIRoute:
    """ASGI endpoint: checks the model name and the fields, then lets the engine's application answer."""

    def __init__(self, engine_app: ASGIApp, service: PlannerService, redact: Redactor) -> None:
        self._engine_app = engine_app
        self._service = service
        self._redact = redact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        fields = parse_object(body, request)
        check_fields(fields)
        check_constraints(fields)
        planner = self._planner(fields)
        scope["state"]["planner"] = planner.name if planner else self._service.base_model
        if not await self._service.healthy():
            raise _dead()
        answer = _Answer(send, self._service, self._redact, planner)
        try:
            await self._engine_app(_inner_scope(scope), replay(body, receive), answer.send)
        except Exception:
            # vLLM's application answers first and then raises for its server's log.
            if not answer.begun:
                raise
            log.exception("request %s failed in the engine's application", scope["state"]["request_id"])

    def _planner(self, fields: Mapping[str, Any]) -> Planner | None:
        """The planner that ``model`` names, None for the base model. Raises RequestRefused, PlannerError."""
        model = fields.get("model")
        if not isinstance(model, str) or not model:
            # vLLM would answer from the base model, and nobody would notice that no planner was asked.
            names = ", ".join(sorted(p.name for p in self._service.planners()))
            raise RequestRefused(
                f"'model' must name a planner; planners: {names}", reason="model_required", param="model"
            )
        if model == self._service.base_model:
            return None
        try:
            return self._service.serving(model)
        except UnknownPlanner as error:
            raise RequestRefused(str(error), reason=error.code, status=404, param="model") from error


def parse_object(body: bytes, request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises RequestRefused, also for what only some parsers would take."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RequestRefused(
            f"content-type {media_type[:80]!r}; send application/json",
            reason="unsupported_media_type",
            status=415,
        )
    try:
        data = json.loads(body)
    except RecursionError:
        raise RequestRefused("the JSON is nested too deeply", reason="invalid_json") from None
    except ValueError as error:  # also bytes that are not UTF-8, and integers of thousands of digits
        raise RequestRefused(f"the body is not JSON: {str(error)[:200]}", reason="invalid_json") from None
    if not isinstance(data, dict):
        raise RequestRefused("the body must be a JSON object", reason="invalid_json")
    return data


class _Answer:
    """Passes the engine's answer on: names the planner in headers, and gives errors our shape."""

    def __init__(
        self, send: Send, service: PlannerService, redact: Redactor, planner: Planner | None
    ) -> None:
        self._send = send
        self._service = service
        self._redact = redact
        self._planner = planner
        self._refused: int | None = None  # the status of an error, whose body is not complete yet
        self._body = bytearray()
        self.begun = False  # whether the client has been sent anything

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._refused = message["status"]
        elif self._refused is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_error(self._refused)
        else:
            if message["type"] == "http.response.start" and self._planner is not None:
                headers = MutableHeaders(scope=message)
                headers["x-s3lora-planner"] = self._planner.name
                headers["x-s3lora-revision"] = self._planner.revision.digest
            await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        self.begun = True
        await self._send(message)

    async def _send_error(self, status: int) -> None:
        message, param = _engine_error(bytes(self._body))
        code = "engine_refused" if status < 500 else "engine_error"
        if status >= 500 and not await self._service.healthy():
            # vLLM's own answer to a death in mid-request assumes that it runs the web server, and fails.
            status, message, param, code = 503, str(_dead()), None, EngineDead.code
        response = error_response(status, self._redact(message), code=code, param=param)
        start = {"type": "http.response.start", "status": status, "headers": response.raw_headers}
        await self._pass_on(start)
        await self._pass_on({"type": "http.response.body", "body": response.body})


def _dead() -> EngineDead:
    return EngineDead("the engine has stopped", hint="restart the server")


def _engine_error(body: bytes) -> tuple[str, str | None]:
    """Message and parameter of an error of the engine's application."""
    try:
        error = json.loads(body)["error"]
        param = error.get("param")
        return str(error["message"]), param if isinstance(param, str) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return "the engine failed; the server's log has it under this request's id", None


def _inner_scope(scope: Scope) -> Scope:
    """A fresh scope for the engine's application: path and method, few headers, nothing of our routing."""
    headers = [(name, value) for name, value in scope["headers"] if name in _HEADERS]
    headers.append(
        (REQUEST_ID.encode(), scope["state"]["request_id"].encode())
    )  # vLLM puts it into its own id
    kept = (
        "type",
        "asgi",
        "http_version",
        "method",
        "scheme",
        "path",
        "raw_path",
        "client",
        "server",
        "extensions",
    )
    inner = {key: scope[key] for key in kept if key in scope}
    return {**inner, "headers": headers, "query_string": b"", "root_path": "", "state": {}}
