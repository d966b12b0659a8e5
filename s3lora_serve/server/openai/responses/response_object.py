"""A response as the engine writes it: its text, its calls, and events of a stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

RESPONSE = "response"  # its ``object``


def text_of(response: Mapping[str, Any]) -> str:
    """What it says, without reasoning, calls and refusals."""
    parts = [part for item in _items(response, "message") for part in item.get("content") or ()]
    return "".join(part.get("text") or "" for part in parts if part.get("type") == "output_text")


def calls_in(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its calls of tools, as chats have them."""
    calls = _items(response, "function_call")
    return [{"name": call.get("name"), "arguments": call.get("arguments")} for call in calls]


def is_cut_off(response: Mapping[str, Any]) -> bool:
    """Whether it ended before the planner had ended it."""
    return response.get("status") == "incomplete"


def event_of(event: bytes) -> dict[str, Any] | None:
    """The JSON of one event with a name; None for whatever else a stream holds."""
    _, found, data = event.partition(b"\ndata:")
    try:
        value = json.loads(data) if found else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def typed(event: Mapping[str, Any]) -> bytes:
    """An event as OpenAI's streams of responses have them: its ``type`` is its name."""
    data = json.dumps(event, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


def _items(response: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    return [item for item in response.get("output") or () if item.get("type") == kind]
