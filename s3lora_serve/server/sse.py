"""Server-sent events: taken one by one from the engine's stream, and written with their JSON on one line."""

from __future__ import annotations

import json
from typing import Any

EVENT_STREAM = "text/event-stream"
# A proxy that collects an answer before it passes it on would hold back every event.
STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_DATA = b"data:"
_END = b"\n\n"


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
