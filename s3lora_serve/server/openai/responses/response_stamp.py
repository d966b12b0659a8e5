"""Origin and cost in a response, and in the events of a stream that hold one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from s3lora_serve.server.openai.responses.response_object import event_of, is_cut_off, text_of, typed
from s3lora_serve.server.openai.stamp import Stamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from s3lora_serve.engine.port import RequestFacts
    from s3lora_serve.safety.guard.guarding import Guarding
    from s3lora_serve.server.openai.plan_text import PlanText
    from s3lora_serve.server.openai.stamp import Origin

_WHOLE = re.compile(rb"event: response\.(?:created|queued|in_progress|completed|incomplete|failed)\n")
_BEGINNINGS = ("response.created", "response.queued", "response.in_progress")
_INCOMPLETE = "response.incomplete"
# vLLM's own, of which some would tell of the engine and none is ever filled here.
_OMITTED = ("input_messages", "output_messages", "kv_transfer_params", "ec_transfer_params")
_DETAILS = ("input_tokens_details", "output_tokens_details")


class ResponseStamp(Stamp):
    """Stamps a response whole or streamed; the rest of its events holds nothing to stamp.

    ``echo`` are fields that the engine repeats, as the client sent them.
    """

    def __init__(
        self,
        origin: Origin,
        facts: Sequence[RequestFacts],
        plan: PlanText | None,
        guarding: Guarding | None,
        echo: Mapping[str, Any],
    ) -> None:
        super().__init__(origin, facts, plan, guarding)
        self._echo = {"instructions": None, **echo}
        self._next = 0  # number of the next event

    def event(self, event: bytes) -> bytes:
        self._next += 1
        if not _WHOLE.match(event) or (data := event_of(event)) is None:
            return event
        response = data.get("response")
        if not isinstance(response, dict):
            return event
        if data.get("type") in _BEGINNINGS:
            return typed({**data, "response": self._own({**response, **self._names})})
        self._hear(response)
        # OpenAI's name for the end of an answer that was cut; vLLM says "completed" of it.
        kind = _INCOMPLETE if is_cut_off(response) else data["type"]
        return typed({**data, "type": kind, "response": self._own(self._seal(response))})

    def error(self, message: str, body: Mapping[str, Any]) -> bytes:
        error = body["error"]
        kind = {"type": "error", "code": error["code"], "message": message, "param": error["param"]}
        return typed({**kind, "sequence_number": self._next, "error": error})

    def _sealed_whole(self, data: dict[str, Any]) -> dict[str, Any]:
        self._hear(data)
        return self._own(self._seal(data))

    def _hear(self, response: Mapping[str, Any]) -> None:
        if self._plan is not None:
            said = {"content": text_of(response)}
            finish = "length" if is_cut_off(response) else "stop"
            self._plan.hear({"choices": [{"message": said, "finish_reason": finish}]})

    def _own(self, response: dict[str, Any]) -> dict[str, Any]:
        """The response as this server gives it: kept nowhere, and with what the client sent."""
        kept = {name: value for name, value in response.items() if name not in _OMITTED}
        if isinstance(usage := kept.get("usage"), dict):
            kept["usage"] = {
                name: _counts(value) if name in _DETAILS else value for name, value in usage.items()
            }
        return {**kept, "store": False, **self._echo}


def _counts(details: Any) -> Any:
    """OpenAI's counts, without vLLM's lists of them by turn, on which clients that read numbers fail."""
    given = details.items() if isinstance(details, dict) else ()
    return {name: value for name, value in given if not isinstance(value, list)}
