"""Server-sent events: cut out of the engine's stream, written with their JSON on one line, and sent."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from s3lora_serve.server.http.disconnect import Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

EVENT_STREAM = "text/event-stream"
# A proxy that collects an answer before it passes it on would hold back every event.
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_DATA = b"data:"
_END = b"\n\n"


def wants_events(request: Request) -> bool:
    """Whether the client accepts events, and nothing that a whole answer could be."""
    accepted = {
        part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")
    }
    return EVENT_STREAM in accepted and not accepted & {"application/json", "application/*", "*/*"}


def written(data: Any) -> bytes:
    """One event without a name, as OpenAI's streams have them."""
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def named(event: str, data: str) -> bytes:
    """One event with its name, for clients that tell events apart; ``data`` has no line break."""
    return f"event: {event}\ndata: {data}\n\n".encode()


def data_of(event: bytes) -> dict[str, Any] | None:
    """The JSON object that an event carries; None for comments, ``[DONE]`` and whatever else is none."""
    if not event.startswith(_DATA):
        return None
    try:
        data = json.loads(event[len(_DATA) :])
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


class SseReader:
    """Cuts a stream's bytes into events, wherever they were cut on their way."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes, *, last: bool = False) -> list[bytes]:
        """The events that this part completes, each with its blank line; with ``last`` what is left, too."""
        if not self._rest and part.endswith(_END) and part.count(_END) == 1:
            return [part]  # as engines send them
        *events, self._rest = (self._rest + part).split(_END)
        whole = [event + _END for event in events]
        if last and self._rest:
            whole.append(self._rest)
            self._rest = b""
        return whole


class EventStream(Response):
    """Sends events while they are made; when the client leaves, the making ends, too.

    Nothing is sent before the first event: a failure until then raises, and gets its own HTTP status.
    """

    media_type = EVENT_STREAM

    def __init__(
        self, events: AsyncGenerator[bytes, None], headers: Callable[[], Mapping[str, str]] = dict
    ) -> None:
        """``headers`` is asked when the first event is there."""
        self._events = events
        self._late_headers = headers
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(receive, send)
        await client.unless_gone(self._answer(client.send))

    async def _answer(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            first = await anext(events, b"")
            self.headers.update(self._late_headers())
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        # After all was given back: a client that has read the end finds it so.
        await send({"type": "http.response.body", "body": b"", "more_body": False})
