"""The OpenAI endpoints: the engine's own application answers, for planners that serve and for nobody else."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from s3lora_serve.errors import EngineError, UnknownPlanner
from s3lora_serve.server.answer import Answer, engine_dead
from s3lora_serve.server.chat_fields import check_fields
from s3lora_serve.server.constraints import check_constraints
from s3lora_serve.server.departure import Client
from s3lora_serve.server.engine_call import call
from s3lora_serve.server.errors import RequestRefused, error_response
from s3lora_serve.server.reruns import Listener, ask_again
from s3lora_serve.server.session import session_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from s3lora_serve.runtime.leases import Lease
    from s3lora_serve.runtime.service import PlannerService
    from s3lora_serve.runtime.shadow import Rerun
    from s3lora_serve.server.engine_apps import EngineApps
    from s3lora_serve.server.redact import Redactor

log = logging.getLogger(__name__)

# The engine's routes that are served; all others of its application are unreachable. Each one here is tested.
OPENAI_ROUTES = ("/v1/chat/completions", "/v1/completions")


class OpenAIRoute:
    """ASGI endpoint: checks the fields, leases the planner, and lets the engine's application answer."""

    def __init__(self, apps: EngineApps, service: PlannerService, redact: Redactor) -> None:
        self._apps = apps
        self._service = service
        self._redact = redact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        fields = parse_object(body, request)
        check_fields(fields)
        check_constraints(fields)
        model = self._model(fields)
        scope["state"]["planner"] = model
        client = Client(receive, send)
        if model == self._service.base_model:
            await client.unless_gone(self._answer(scope, body, client.send, None))
        else:
            session = session_of(request.headers, fields)
            await client.unless_gone(self._leased(scope, model, fields, session, client.send))

    async def _leased(
        self, scope: Scope, model: str, fields: dict[str, Any], session: str | None, send: Send
    ) -> None:
        request_id = scope["state"]["request_id"]
        listener = Listener(send) if self._service.shadows.wants(model) and not fields.get("stream") else None
        async with self._service.lease(model, session=session, request_id=request_id) as lease:
            # Written anew, and not patched: now the engine reads exactly the fields that were checked.
            body = _dumped({**fields, "model": lease.model})
            await self._answer(scope, body, listener.send if listener else send, lease)
        if listener and lease.outcome == "ok" and (heard := listener.heard(lease.seconds or 0.0)):

            async def again(shadow: Lease) -> Rerun:
                body = _dumped({**fields, "model": shadow.model})
                return await ask_again(self._apps, scope, body, shadow)

            self._service.shadows.offer(lease, heard, again)

    async def _answer(self, scope: Scope, body: bytes, send: Send, lease: Lease | None) -> None:
        """Let the engine's application answer, and note on the lease how it went."""
        running = await self._apps.current()
        if not await running.engine.healthy():
            raise engine_dead()
        answer = Answer(send, running.engine, _headers(lease), self._redact)
        stops = (running.gone, lease.cut) if lease else (running.gone,)
        stop, crash = None, None
        try:
            stop = await call(running.app, scope, body, answer.send, stops)
        except Exception as error:  # vLLM's application answers first and then raises for its server's log
            log.exception("request %s failed in the engine's application", scope["state"]["request_id"])
            crash = error
        if answer.well and stop is None and crash is None:
            return
        dead = stop is running.gone or not await running.engine.healthy()
        cut = lease is not None and stop is lease.cut
        if lease is not None:
            lease.outcome = "aborted" if dead or cut or (answer.refused or 500) < 500 else "error"
        if lease is not None and cut:
            await answer.fail(lease.error())
        elif dead:
            # vLLM's own answer to a death in mid-request assumes that it runs the web server, and fails.
            await answer.fail(engine_dead())
        elif answer.refused is not None:
            await self._refuse(answer, answer.refused, send)
        elif crash is not None and not answer.begun:
            raise crash
        else:
            await answer.fail(EngineError("the engine broke its answer off"))

    async def _refuse(self, answer: Answer, status: int, send: Send) -> None:
        """Send the application's error in our shape."""
        message, param = answer.refusal
        code = "engine_refused" if status < 500 else "engine_error"
        response = error_response(status, self._redact(message), code=code, param=param)
        await send({"type": "http.response.start", "status": status, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})

    def _model(self, fields: dict[str, Any]) -> str:
        """What ``model`` names: a planner or the base model. Raises RequestRefused."""
        model = fields.get("model")
        if not isinstance(model, str) or not model:
            # vLLM would answer from the base model, and nobody would notice that no planner was asked.
            names = ", ".join(sorted(p.name for p in self._service.planners()))
            raise RequestRefused(
                f"'model' must name a planner; planners: {names}", reason="model_required", param="model"
            )
        if model != self._service.base_model:
            try:
                self._service.get(model)
            except UnknownPlanner as error:
                raise RequestRefused(str(error), reason=error.code, status=404, param="model") from error
        return model


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


def _dumped(fields: dict[str, Any]) -> bytes:
    try:
        return json.dumps(fields).encode()
    except RecursionError:  # it may take more of the stack than reading it did
        raise RequestRefused("the JSON is nested too deeply", reason="invalid_json") from None


def _headers(lease: Lease | None) -> dict[str, str]:
    if lease is None:
        return {}
    return {
        "x-s3lora-planner": lease.deployment.planner,
        "x-s3lora-revision": lease.deployment.revision.digest,
        "x-s3lora-role": lease.role,
    }
