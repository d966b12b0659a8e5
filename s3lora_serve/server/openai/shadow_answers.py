"""Answers of the OpenAI endpoints, read for comparing them with what a shadow answers to the same request."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from planners import parse
from s3lora_serve.errors import EngineError
from s3lora_serve.server.openai.responses.response_object import RESPONSE, calls_in, text_of
from s3lora_serve.server.openai.upstream import alarm, call
from s3lora_serve.serving.shadow import Rerun

if TYPE_CHECKING:
    from starlette.types import Message, Scope, Send

    from s3lora_serve.fleet.leases import Lease
    from s3lora_serve.server.openai.upstream_app import UpstreamApps


class Listener:
    """Keeps a copy of an answer on its way. Streams are not kept: their pieces do not say what they cost."""

    def __init__(self, send: Send, *, plan: bool = False) -> None:
        """``plan``: a plan was asked for, so the tools that it names are compared, too."""
        self._send = send
        self._plan = plan
        self._body = bytearray()
        self._status = 0

    async def send(self, message: Message) -> None:
        """Pass the message on."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        else:
            self._body += message.get("body", b"")
        await self._send(message)

    def heard(self, seconds: float) -> Rerun | None:
        """The answer, or None for one that is no success or cannot be read."""
        return read(bytes(self._body), seconds, plan=self._plan) if self._status == 200 else None


async def ask_again(
    apps: UpstreamApps, scope: Scope, body: bytes, lease: Lease, seconds: float, *, plan: bool = False
) -> Rerun:
    """What the leased deployment answers to the body within the time that a client's request would get.

    Raises EngineError, LeaseCut, EngineDead.
    """

    async def discard(_: Message) -> None:
        return

    running, listener, began = await apps.current(), Listener(discard, plan=plan), time.monotonic()
    with alarm(seconds) as late:
        stop = await call(running.app, scope, body, listener.send, (running.gone, lease.cut, late))
    if stop is lease.cut:
        raise lease.error()
    answer = listener.heard(time.monotonic() - began)
    if stop is not None or answer is None:
        raise EngineError("the shadow gave no answer")
    lease.tokens = answer.tokens
    return answer


def read(body: bytes, seconds: float, *, plan: bool = False) -> Rerun | None:
    """A response's, chat's or text completion's whole text, tool calls included; None for anything else."""
    try:
        answer: Any = json.loads(body)
        if answer.get("object") == RESPONSE:
            texts, counted = [text_of(answer) + _calls(calls_in(answer))], "output_tokens"
        else:
            texts, counted = [_text(choice) for choice in answer["choices"]], "completion_tokens"
        tools = tuple(step.tool for step in parse(texts[0]).steps) if plan else None
        tokens = int(answer["usage"][counted])
        return Rerun("\n".join(texts), tokens=tokens, seconds=seconds, tools=tools)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):  # ValueError: also no plan
        return None


def _text(choice: dict[str, Any]) -> str:
    if (message := choice.get("message")) is None:
        return str(choice["text"])
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return str(message.get("content") or "") + _calls(calls)


def _calls(calls: list[Any]) -> str:
    """Calls of tools without their ids, which are random."""
    return json.dumps(calls) if calls else ""
