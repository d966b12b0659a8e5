"""An OpenAI-compatible app over the fake engine, unfiltered, as vLLM's is."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from s3lora_serve.engine.fake.fake_responses import FakeResponses
from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import EngineDead, EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from s3lora_serve.engine.fake.fake_answering import Answering
    from s3lora_serve.engine.port import RequestFacts, Slot

# vLLM serves these without a key; they are here so that a server's filter can be tested without vLLM.
UNGUARDED = (
    "/health", "/load", "/version", "/metrics", "/tokenize", "/detokenize", "/ping", "/invocations",
    "/generative_scoring", "/scale_elastic_ep", "/inference/v1/generate", "/adapters",
)  # fmt: skip


def make_app(engine: Answering) -> Starlette:
    """The app: chats, completions and responses, streamed too, the models, and vLLM's unguarded routes."""
    serving = _Serving(engine)
    return Starlette(
        routes=[
            Route("/v1/models", serving.models, methods=["GET"]),
            Route("/v1/chat/completions", serving.chat, methods=["POST"]),
            Route("/v1/completions", serving.completions, methods=["POST"]),
            Route("/v1/responses", FakeResponses(engine).serve, methods=["POST"]),
            *(Route(path, _unguarded, methods=["GET", "POST", "DELETE"]) for path in UNGUARDED),
        ]
    )


async def _unguarded(request: Request) -> Response:
    return PlainTextResponse(f"# fake {request.url.path}\n")  # as metrics: a comment


class _Serving:
    def __init__(self, engine: Answering) -> None:
        self._engine = engine

    async def models(self, request: Request) -> Response:
        # As vLLM does, with paths of the machine and the slots' names; hiding them is the server's task.
        cards = [
            {
                "id": name,
                "object": "model",
                "created": int(time.time()),
                "owned_by": "fake",
                "root": str(slot.path) if slot else "/models/base",
                "parent": self._engine.base_name if slot else None,
            }
            for name, slot in self._engine.names.items()
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def chat(self, request: Request) -> Response:
        return await self._serve(request, "chat.completion")

    async def completions(self, request: Request) -> Response:
        return await self._serve(request, "text_completion")

    async def _serve(self, request: Request, kind: str) -> Response:
        try:
            body = json.loads(await request.body())
            prompt, slot, sampling = self._read(body, kind)
        except _Refused as error:
            return _error(error.status, str(error))
        except (ValueError, TypeError, KeyError) as error:
            return _error(400, f"bad request: {error!r}")
        envelope = {
            "id": f"{'chatcmpl' if kind == 'chat.completion' else 'cmpl'}-{uuid.uuid4().hex[:16]}",
            "object": kind,
            "created": int(time.time()),
            "model": slot.name if slot else self._engine.base_name,
        }
        try:
            if body.get("stream"):
                usage = bool((body.get("stream_options") or {}).get("include_usage"))
                events = self._events(envelope, prompt, slot, sampling, usage)
                return StreamingResponse(events, media_type="text/event-stream")
            return JSONResponse(await self._whole(envelope, prompt, slot, sampling, int(body.get("n") or 1)))
        except EngineDead as error:
            return _error(500, str(error), "EngineDeadError")
        except EngineError as error:
            return _error(400, str(error))

    def _read(self, body: dict[str, Any], kind: str) -> tuple[str, Slot | None, Sampling]:
        name = body.get("model") or self._engine.base_name
        if name not in self._engine.names:
            raise _Refused(404, f"The model `{name}` does not exist.")
        if kind == "chat.completion":
            prompt = "\n".join(str(message["content"]) for message in body["messages"])
        else:
            prompt = str(body["prompt"])
        stop = body.get("stop") or ()
        return (
            prompt,
            self._engine.names[name],
            Sampling(
                max_tokens=int(body.get("max_completion_tokens") or body.get("max_tokens") or 256),
                temperature=float(body.get("temperature") or 0.0),
                seed=body.get("seed"),
                stop=(stop,) if isinstance(stop, str) else tuple(stop),
                grammar=(body.get("structured_outputs") or {}).get("grammar"),
            ),
        )

    async def _whole(
        self, envelope: dict[str, Any], prompt: str, slot: Slot | None, sampling: Sampling, n: int
    ) -> dict[str, Any]:
        answer = await self._engine.complete(prompt, slot, sampling, n=n)
        part: dict[str, Any] = (
            {"message": {"role": "assistant", "content": answer.text}}
            if envelope["object"] == "chat.completion"
            else {"text": answer.text}
        )
        choices = [
            {"index": i, **part, "logprobs": None, "finish_reason": answer.facts.finish_reason}
            for i in range(n)
        ]
        return {**envelope, "choices": choices, "usage": _usage(answer.facts)}

    async def _events(
        self, envelope: dict[str, Any], prompt: str, slot: Slot | None, sampling: Sampling, usage: bool
    ) -> AsyncIterator[str]:
        chat = envelope["object"] == "chat.completion"
        envelope = {**envelope, "object": "chat.completion.chunk"} if chat else envelope

        def event(part: dict[str, Any], finish: str | None = None) -> str:
            choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish}
            return _sse({**envelope, "choices": [choice]})

        try:
            if chat:
                yield event({"delta": {"role": "assistant", "content": ""}})
            async with aclosing(self._engine.generate(prompt, slot, sampling)) as deltas:
                async for delta in deltas:
                    yield event({"delta": {"content": delta.text}} if chat else {"text": delta.text})
                    if delta.facts is None:
                        continue
                    yield event({"delta": {}} if chat else {"text": ""}, delta.facts.finish_reason)
                    if usage:
                        yield _sse({**envelope, "choices": [], "usage": _usage(delta.facts)})
        except EngineError as error:
            yield _sse({"error": {"message": str(error), "type": "EngineDeadError", "code": 500}})
        yield "data: [DONE]\n\n"


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _usage(facts: RequestFacts) -> dict[str, Any]:
    out = facts.output_tokens
    return {
        "prompt_tokens": facts.prompt_tokens,
        "completion_tokens": out,
        "total_tokens": facts.prompt_tokens + out,
        "prompt_tokens_details": {"cached_tokens": facts.cached_tokens},
    }


def _sse(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _error(status: int, message: str, kind: str | None = None) -> Response:
    kind = kind or {404: "NotFoundError"}.get(status, "BadRequestError")
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)
