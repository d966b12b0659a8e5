"""OpenAI's Responses over the fake engine, with the events that vLLM's application sends."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import EngineDead, EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from s3lora_serve.engine.fake.fake_answering import Answering
    from s3lora_serve.engine.port import RequestFacts, Slot


class FakeResponses:
    """``POST /v1/responses``: a text, whole or streamed. Tools are never called."""

    def __init__(self, engine: Answering) -> None:
        self._engine = engine

    async def serve(self, request: Request) -> Response:
        """The answer, or an error in vLLM's shape."""
        try:
            body = json.loads(await request.body())
            name = body.get("model") or self._engine.base_name
            if name not in self._engine.names:
                return _error(404, f"The model `{name}` does not exist.")
            prompt, sampling = _prompt(body), _sampling(body)
        except (ValueError, TypeError, KeyError) as error:
            return _error(400, f"bad request: {error!r}")
        response = _begun(body, name)
        slot = self._engine.names[name]
        if body.get("stream"):
            return StreamingResponse(
                self._events(response, prompt, slot, sampling), media_type="text/event-stream"
            )
        try:
            answer = await self._engine.complete(prompt, slot, sampling)
        except EngineDead as error:
            return _error(500, str(error))
        except EngineError as error:
            return _error(400, str(error))
        return JSONResponse(_ended(response, [_message(answer.text)], answer.facts))

    async def _events(
        self, response: dict[str, Any], prompt: str, slot: Slot | None, sampling: Sampling
    ) -> AsyncIterator[str]:
        """As vLLM's, which break off when the engine fails."""
        number = 0

        def event(kind: str, **more: Any) -> str:
            nonlocal number
            data = {"type": kind, "sequence_number": number, **more}
            number += 1
            return f"event: {kind}\ndata: {json.dumps(data)}\n\n"

        yield event("response.created", response=response)
        yield event("response.in_progress", response=response)
        item = _message("", status="in_progress")
        place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        yield event("response.output_item.added", output_index=0, item={**item, "content": []})
        yield event("response.content_part.added", **place, part=_part(""))
        text, facts = "", None
        async with aclosing(self._engine.generate(prompt, slot, sampling)) as deltas:
            async for delta in deltas:
                text += delta.text
                yield event("response.output_text.delta", **place, delta=delta.text, logprobs=[])
                facts = delta.facts or facts
        assert facts is not None, "the last piece has them"
        done = {**item, "status": "completed", "content": [_part(text)]}
        yield event("response.output_text.done", **place, text=text, logprobs=[])
        yield event("response.content_part.done", **place, part=_part(text))
        yield event("response.output_item.done", output_index=0, item=done)
        yield event("response.completed", response=_ended(response, [done], facts))


def _prompt(body: dict[str, Any]) -> str:
    given = body["input"]
    items = [{"content": given}] if isinstance(given, str) else given
    said = [body.get("instructions"), *(item.get("content", item.get("output")) for item in items)]
    return "\n".join(str(each) for each in said if each)


def _sampling(body: dict[str, Any]) -> Sampling:
    return Sampling(
        max_tokens=int(body.get("max_output_tokens") or 256),
        temperature=float(body.get("temperature") or 0.0),
        seed=body.get("seed"),
        grammar=(body.get("structured_outputs") or {}).get("grammar"),
    )


def _begun(body: dict[str, Any], model: str) -> dict[str, Any]:
    return {
        "id": f"resp_{uuid.uuid4().hex[:16]}",
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "status": "in_progress",
        "output": [],
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata"),
        "parallel_tool_calls": True,
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "usage": None,
    }


def _ended(response: dict[str, Any], output: list[dict[str, Any]], facts: RequestFacts) -> dict[str, Any]:
    cut = facts.finish_reason == "length"
    usage = {
        "input_tokens": facts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": facts.cached_tokens},
        "output_tokens": facts.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": facts.prompt_tokens + facts.output_tokens,
    }
    why = {"reason": "max_output_tokens"} if cut else None
    status = "incomplete" if cut else "completed"
    return {**response, "status": status, "incomplete_details": why, "output": output, "usage": usage}


def _message(text: str, status: str = "completed") -> dict[str, Any]:
    name = f"msg_{uuid.uuid4().hex[:16]}"
    return {
        "id": name, "type": "message", "role": "assistant", "status": status, "content": [_part(text)]
    }  # fmt: skip


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": None}


def _error(status: int, message: str) -> Response:
    return JSONResponse(
        {"error": {"message": message, "type": "error", "param": None, "code": status}}, status
    )
