"""The OpenAI endpoints: the engine's own application answers, but only for planners that serve."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request

from planners.prompts.control_tokens import control_tokens_of
from s3lora_serve.engine.request_facts import collected_facts
from s3lora_serve.errors import EngineError, PlanTimeout, RefusedByGuard, ShuttingDown, UnknownPlanner
from s3lora_serve.server.error_responses import MODEL_NOT_FOUND, RETRY, error_response
from s3lora_serve.server.http.disconnect import Client
from s3lora_serve.server.openai.answer import UpstreamAnswer, engine_dead
from s3lora_serve.server.openai.checked_request import CHAT, CheckedRequest
from s3lora_serve.server.openai.engine_refusal import EngineRefusal
from s3lora_serve.server.openai.fields.known_fields import warning
from s3lora_serve.server.openai.guarded.request_guard import request_guard
from s3lora_serve.server.openai.guarded.withheld_answer import WithheldAnswer
from s3lora_serve.server.openai.plan_text import PlanText
from s3lora_serve.server.openai.responses.checked_response import RESPONSES, CheckedResponse
from s3lora_serve.server.openai.responses.response_stamp import ResponseStamp
from s3lora_serve.server.openai.responses.withheld_response import WithheldResponse
from s3lora_serve.server.openai.shadow_answers import Listener, ask_again
from s3lora_serve.server.openai.stamp import Origin, Stamp
from s3lora_serve.server.openai.upstream import alarm, call
from s3lora_serve.server.plans.session import session_of
from s3lora_serve.server.validation import RequestRefused, parse_object
from s3lora_serve.server.views import headers_of
from s3lora_serve.serving.plan_verdict import outcome_of_cut
from s3lora_serve.serving.planning import too_late

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from s3lora_serve.config import PlansConfig, ServerConfig
    from s3lora_serve.engine.port import RequestFacts
    from s3lora_serve.errors import S3LoRAError
    from s3lora_serve.fleet.leases import Lease, LeaseOutcome
    from s3lora_serve.fleet.planner import Planner
    from s3lora_serve.safety.guard.guarding import Guarding
    from s3lora_serve.server.openai.upstream_app import UpstreamApps
    from s3lora_serve.server.redact import Redactor
    from s3lora_serve.service.planner_service import PlannerService
    from s3lora_serve.serving.shadow import Rerun

log = logging.getLogger(__name__)

# The engine's routes that are served; all others of its application are unreachable. Each one here is tested.
OPENAI_ROUTES = (CHAT, "/v1/completions", RESPONSES)
_CHATS = (CHAT, RESPONSES)  # what has messages


class OpenAIRoute:
    """ASGI endpoint: checks the fields, leases the planner, and lets the engine's application answer."""

    def __init__(
        self,
        apps: UpstreamApps,
        service: PlannerService,
        redact: Redactor,
        plans: PlansConfig,
        limits: ServerConfig,
    ) -> None:
        self._apps = apps
        self._service = service
        self._redact = redact
        self._plans, self._limits = plans, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        fields = parse_object(await request.body(), request)
        read = CheckedResponse if scope["path"] == RESPONSES else CheckedRequest
        asked = read.of(fields, scope["path"], self._limits)
        planner = self._planner(asked)
        if isinstance(asked, CheckedResponse):
            asked.check_calls(self._service.engine)
        scope["state"]["planner"] = planner.name if planner else self._service.base_model
        if asked.extras.plan is not None:
            own = planner.tools if planner else ()
            asked = asked.planning(own, self._plans, self._service.engine)
        guarding = self._guarding(scope, planner, asked)
        # Under a guard always: a message must not begin the answer itself.
        broken = self._limits.break_control_tokens or (guarding is not None and not guarding.observes)
        if broken and asked.plan is None and scope["path"] in _CHATS:
            asked = asked.as_text(control_tokens_of(self._service.engine.control_tokens))
        client = Client(receive, send)
        if planner is None:
            await client.unless_gone(self._answer(scope, asked, client.send, None, None))
        else:
            session = session_of(request.headers, fields)
            await client.unless_gone(self._leased(scope, planner.name, asked, session, client.send, guarding))

    def _guarding(self, scope: Scope, planner: Planner | None, asked: CheckedRequest) -> Guarding | None:
        """The request's guard; the base model by its own name has none. Raises RequestRefused."""
        if planner is None:
            return None
        caller, request_id = scope["state"]["caller"], scope["state"]["request_id"]
        chat, guards = scope["path"] in _CHATS, self._service.guards
        return request_guard(guards, planner, asked, chat=chat, caller=caller, request_id=request_id)

    async def _leased(
        self,
        scope: Scope,
        planner: str,
        asked: CheckedRequest,
        session: str | None,
        send: Send,
        guarding: Guarding | None,
    ) -> None:
        request_id = scope["state"]["request_id"]
        compared = self._service.shadows.wants(planner) and not asked.stream
        listener = Listener(send, plan=asked.plan is not None) if compared else None
        revision = asked.extras.revision
        async with self._service.lease(
            planner, revision=revision, session=session, request_id=request_id
        ) as lease:
            scope["state"]["lease"] = lease
            if guarding is not None:
                guarding.revision = lease.deployment.revision.digest
            await self._answer(scope, asked, listener.send if listener else send, lease, guarding)
        if listener and lease.outcome == "ok" and (heard := listener.heard(lease.seconds or 0.0)):

            async def again(shadow: Lease) -> Rerun:
                body = asked.body(shadow.model)
                plan, seconds = asked.plan is not None, self._seconds(asked)
                return await ask_again(self._apps, scope, body, shadow, seconds, plan=plan)

            self._service.shadows.offer(lease, heard, again)

    async def _answer(
        self,
        scope: Scope,
        asked: CheckedRequest,
        send: Send,
        lease: Lease | None,
        guarding: Guarding | None,
    ) -> None:
        """Let the engine's application answer, and note on the lease how it went."""
        origin = Origin.of(lease, self._service.base_model, self._service.engine_kind)
        body = asked.body(origin.engine_model)
        running = await self._apps.current()
        if not await running.engine.healthy():
            raise engine_dead()
        plan = PlanText(asked.plan) if asked.plan else None
        stop, crash = None, None
        # Entered first: what the guard asks of the engine is none of the answer's facts.
        async with guarding or nullcontext():
            held = guarding.answering() if guarding is not None else nullcontext()
            with held, collected_facts() as facts, alarm(self._seconds(asked)) as late:
                headers = (headers_of(lease) if lease else {}) | warning(asked.unknown)
                stamp = _stamp(asked, origin, facts, plan, guarding)
                answer = UpstreamAnswer(send, running.engine, headers, self._redact, stamp, guarding)
                cut = lease.cut if lease else self._service.stop.cut
                withheld = (guarding.withheld,) if guarding is not None else ()
                stops = (*withheld, running.gone, late, cut)
                try:
                    stop = await call(
                        partial(answer.of, running.app), scope, body, answer.send, stops, answer.left
                    )
                except Exception as error:  # vLLM's answers first and then raises for its server's log
                    log.exception(
                        "request %s failed in the engine's application", scope["state"]["request_id"]
                    )
                    crash = error
        if lease is not None:
            lease.left = True  # whatever comes now waits for nobody but the client
        if facts:  # the answers to one request have one prompt
            prompt, output = max(f.prompt_tokens for f in facts), sum(f.output_tokens for f in facts)
            scope["state"]["tokens"] = prompt, output
            if lease is not None:
                lease.prompt_tokens, lease.tokens = prompt, output if answer.passed else None
        if guarding is not None and guarding.withheld.is_set():
            assert lease is not None, "a planner's request has one"
            await self._withhold(scope, asked, send, lease, guarding)
            return
        if answer.well and stop is None and crash is None:
            if lease is not None and plan is not None and not plan.valid:
                lease.outcome = outcome_of_cut(
                    lease.prompt_tokens or 0, running.engine.max_model_len, bounded=asked.bounded
                )
            return
        why: S3LoRAError | None = answer.spoiled
        if stop is late:
            why = self._too_late(origin.model, asked)
        elif stop is cut:
            why = lease.error() if lease else ShuttingDown.told()
        elif stop is running.gone or not await running.engine.healthy():
            # vLLM's own answer to a death in mid-request assumes that it runs the web server, and fails.
            why = engine_dead()
        ended: LeaseOutcome = "aborted" if why is not None else "error"
        if why is None and (answer.refused or 500) < 500:
            ended = "refused"
        if why is not None and why is answer.spoiled:
            ended = "invalid"
        scope["state"] |= {"outcome": ended, "cut": stop is cut}
        if lease is not None:
            lease.outcome = ended
        if why is not None:
            await answer.fail(why)
        elif answer.refused is not None:
            await self._refuse(answer, answer.refused, send, chat=scope["path"] == CHAT)
        elif crash is not None and not answer.begun:
            raise crash
        else:
            await answer.fail(EngineError("the engine broke its answer off"))

    async def _withhold(
        self, scope: Scope, asked: CheckedRequest, send: Send, lease: Lease, guarding: Guarding
    ) -> None:
        """Send the refusal in place of the answer. Raises GuardUndecided."""
        lease.withhold()
        error = guarding.why_withheld()
        if not isinstance(error, RefusedByGuard):
            raise error
        kind = WithheldResponse if isinstance(asked, CheckedResponse) else WithheldAnswer
        refusal = kind(
            request_id=scope["state"]["request_id"],
            chat=scope["path"] == CHAT,
            choices=asked.choices,
            origin=Origin.of(lease, self._service.base_model, self._service.engine_kind),
            verdict=guarding.about(),
            message=str(error),
            prompt_tokens=lease.prompt_tokens or 0,
            guard_tokens=guarding.tokens,
            usage=asked.usage,
        )
        headers = headers_of(lease) | warning(asked.unknown)
        await refusal.send(send, headers, stream=asked.stream)

    def _seconds(self, asked: CheckedRequest) -> float:
        """How long the engine may take over the answer."""
        return self._limits.answer_seconds if asked.plan is None else self._plans.seconds

    def _too_late(self, model: str, asked: CheckedRequest) -> PlanTimeout:
        seconds = self._seconds(asked)
        if asked.plan is not None:
            return too_late(model, seconds)
        return PlanTimeout(
            f"{model!r} had not ended its answer within {seconds:g} s",
            hint="try again when less is going on, ask for fewer tokens, or raise server.answer_seconds",
        )

    async def _refuse(self, answer: UpstreamAnswer, status: int, send: Send, *, chat: bool) -> None:
        """Send the application's error in our shape."""
        prompt = "messages" if chat else "prompt"
        told = EngineRefusal.of(status, answer.body, self._redact, prompt)
        later = {"retry-after": str(RETRY)} if told.status == 503 else {}
        response = error_response(told.status, told.message, code=told.code, param=told.param, headers=later)
        await send({"type": "http.response.start", "status": told.status, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})

    def _planner(self, asked: CheckedRequest) -> Planner | None:
        """The planner that ``model`` names, None for the base model. Raises RequestRefused."""
        model = asked.fields.get("model")
        if not isinstance(model, str) or not model:
            # vLLM would answer from the base model, and the client would not see that no planner was asked.
            names = ", ".join(sorted(p.name for p in self._service.planners()))
            raise RequestRefused(
                f"'model' must name a planner; planners: {names}", reason="model_required", param="model"
            )
        if model == self._service.base_model:
            if asked.extras.revision is not None:
                raise RequestRefused(
                    f"'s3lora.revision' would have no effect, since {model!r} is the base model",
                    reason="ignored_field",
                    param="s3lora.revision",
                    hint="name a planner as 'model'",
                )
            return None
        try:
            return self._service.get(model)
        except UnknownPlanner as error:
            raise RequestRefused(str(error), reason=MODEL_NOT_FOUND, status=404, param="model") from error


def _stamp(
    asked: CheckedRequest,
    origin: Origin,
    facts: Sequence[RequestFacts],
    plan: PlanText | None,
    guarding: Guarding | None,
) -> Stamp:
    """What stamps the answer to such a request."""
    if isinstance(asked, CheckedResponse):
        return ResponseStamp(origin, facts, plan, guarding, asked.echo or {})
    return Stamp(origin, facts, plan, guarding, asked.usage)
