"""What a client gets in place of a chat or completion that the guard refused, as OpenAI's clients know it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planners import Cost
from s3lora_serve.server.openai.fields.stream_usage import UsageAt
from s3lora_serve.server.openai.stamp import tally
from s3lora_serve.server.sse import EVENT_STREAM, written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Send

    from s3lora_serve.server.openai.stamp import Origin

FILTERED = "content_filter"  # OpenAI's finish_reason


@dataclass(frozen=True)
class WithheldAnswer:
    """It holds nothing of the answer: neither its text nor how many tokens it had or how long it took."""

    request_id: str
    chat: bool
    choices: int
    origin: Origin
    verdict: Mapping[str, Any]  # the ``s3lora.guard`` of the answer
    message: str
    prompt_tokens: int
    guard_tokens: int | None
    usage: UsageAt = UsageAt.FINISH  # where a stream tells it

    def whole(self) -> dict[str, Any]:
        """As one object."""
        part: dict[str, Any] = {"message": self._said} if self.chat else {"text": ""}
        return {
            **self._envelope("chat.completion"),
            "choices": [self._choice(index, part) for index in range(self.choices)],
            **self._sealed,
        }

    def events(self) -> bytes:
        """As a stream: a chunk for each choice, usage where the client reads it, and the end."""
        part: dict[str, Any] = {"delta": self._said} if self.chat else {"text": ""}
        envelope, sealed = self._envelope("chat.completion.chunk"), self._sealed
        chunks = [{**envelope, "choices": [self._choice(index, part)]} for index in range(self.choices)]
        if self.usage is UsageAt.OWN:
            chunks = [{**chunk, "usage": None} for chunk in chunks] + [{**envelope, "choices": [], **sealed}]
        else:
            chunks[-1] |= sealed
            if self.usage is UsageAt.NOWHERE:
                del chunks[-1]["usage"]
        return b"".join(written(chunk) for chunk in chunks) + b"data: [DONE]\n\n"

    async def send(self, send: Send, headers: Mapping[str, str], *, stream: bool) -> None:
        """Send it as the whole response; ``headers`` are those of every answer of its planner."""
        if stream:
            body, kind = self.events(), f"{EVENT_STREAM}; charset=utf-8"
            headers = {**headers, "cache-control": "no-store", "x-accel-buffering": "no"}
        else:
            body, kind = _compact(self.whole()), "application/json"
            headers = {**headers, "content-length": str(len(body))}
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        raw.append((b"content-type", kind.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    @property
    def _said(self) -> dict[str, Any]:
        return {"role": "assistant", "content": None, "refusal": self.message}

    @property
    def _sealed(self) -> dict[str, Any]:
        about = self.origin.about
        cost = Cost(prompt_tokens=self.prompt_tokens, output_tokens=0, guard_tokens=self.guard_tokens)
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": 0,
            "total_tokens": self.prompt_tokens,
            "s3lora": tally(about),
        }
        return {
            "usage": usage,
            "s3lora": {**about, "guard": dict(self.verdict)},
            "cost": cost.model_dump(exclude_none=True),
        }

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.request_id}",
            "object": kind if self.chat else "text_completion",
            "created": int(time.time()),
            "model": self.origin.model,
            "system_fingerprint": self.origin.fingerprint,
        }

    def _choice(self, index: int, part: Mapping[str, Any]) -> dict[str, Any]:
        return {"index": index, **part, "logprobs": None, "finish_reason": FILTERED}


def _compact(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
