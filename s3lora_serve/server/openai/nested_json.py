"""JSON that stands as text in a request, and that the engine reads before it renders it."""

from __future__ import annotations

import json
import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")  # of a pair: no engine takes it


def decoded(text: str) -> Any:
    """The value that a text is as JSON; the text itself if it is none, or would hold half a character."""
    try:
        value = json.loads(text)
        return text if _HALF.search(json.dumps(value, ensure_ascii=False)) else value
    except (ValueError, RecursionError):
        return text


def with_plain_arguments(messages: Any) -> Any:
    """The messages, in which every call's arguments are JSON without needless escapes.

    The engine reads them as JSON (vllm/renderers/chat_utils.py), so ``\\u003c|im_end|>`` in them reaches the
    prompt as a control token.
    """
    if not isinstance(messages, list):
        return messages
    return [_message(message) for message in messages]


def _message(message: Any) -> Any:
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    return {**message, "tool_calls": [_call(call) for call in calls]} if isinstance(calls, list) else message


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(arguments, str):
        return call
    value = decoded(arguments)
    plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": plain}}
