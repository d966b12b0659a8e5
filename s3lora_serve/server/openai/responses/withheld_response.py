"""What a client gets in place of a response that the guard refused: OpenAI's refusal, whole or streamed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from s3lora_serve.server.openai.guarded.withheld_answer import WithheldAnswer
from s3lora_serve.server.openai.responses.response_object import RESPONSE, typed

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACE = {"output_index": 0, "content_index": 0}


class WithheldResponse(WithheldAnswer):
    """It holds nothing of the answer: neither its text nor how many tokens it had or how long it took."""

    def whole(self) -> dict[str, Any]:
        sealed = self._sealed
        usage = sealed["usage"]
        counts = {"input_tokens": usage["prompt_tokens"], "output_tokens": 0}
        counts |= {"total_tokens": usage["total_tokens"], "s3lora": usage["s3lora"]}
        details = {
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        return {
            **self._response("completed", [self._item("completed")]),
            **sealed,
            "usage": {**counts, **details},
        }

    def events(self) -> bytes:
        begun, whole, item = self._response("in_progress", []), self.whole(), self._item("completed")
        place = {"item_id": item["id"], **_PLACE}
        (part,) = item["content"]
        first = {**self._item("in_progress"), "content": []}
        told: list[Mapping[str, Any]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": first},
            {"type": "response.content_part.added", **place, "part": {**part, "refusal": ""}},
            {"type": "response.refusal.delta", **place, "delta": self.message},
            {"type": "response.refusal.done", **place, "refusal": self.message},
            {"type": "response.content_part.done", **place, "part": part},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        return b"".join(typed({**event, "sequence_number": number}) for number, event in enumerate(told))

    def _item(self, status: str) -> dict[str, Any]:
        content = [{"type": "refusal", "refusal": self.message}]
        name = f"msg_{self.request_id}"
        return {"id": name, "type": "message", "role": "assistant", "status": status, "content": content}

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"resp_{self.request_id}",
            "object": RESPONSE,
            "created_at": int(time.time()),
            "status": status,
            "model": self.origin.model,
            "system_fingerprint": self.origin.fingerprint,
            "output": output,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": None,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
        }
