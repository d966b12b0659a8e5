"""Messages as the engine renders them: what it decodes is decoded, and what it puts together is together."""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# Parts of a content that are text, with the field that has it (vllm/renderers/chat_utils.py).
TEXTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "thinking": "thinking",
    "refusal": "refusal",
}
_BESIDE_TEXT = frozenset(("type", "cache_control"))
_HALF = re.compile("[\ud800-\udfff]")  # of a pair: no engine takes it


def decoded(text: str) -> Any:
    """The value that a text is as JSON; the text itself if it is none, or would hold half a character."""
    try:
        value = json.loads(text)
        return text if _HALF.search(json.dumps(value, ensure_ascii=False)) else value
    except (ValueError, RecursionError):
        return text


def plain_messages(messages: Any) -> Any:
    """The messages with calls' arguments as JSON without needless escapes, and texts in a row as one part.

    The engine reads the arguments as JSON, and some chat templates put parts together with nothing between
    (vllm/renderers/chat_utils.py): so a control token that is escaped, or cut in two, would be whole in the
    prompt. What is none of this stays.
    """
    if not isinstance(messages, list):
        return messages
    return [_message(message) for message in messages]


def _message(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    plain = dict(message)
    if isinstance(calls := message.get("tool_calls"), list):
        plain["tool_calls"] = [_call(call) for call in calls]
    if isinstance(parts := message.get("content"), list):
        plain["content"] = list(_joined(parts))
    return plain


def text_of_part(part: Any) -> str | None:
    """The text of a message's part that is nothing else; None for any other part."""
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    name = TEXTS.get(kind) if isinstance(kind, str) else None
    text = part.get(name) if name is not None else None
    return text if isinstance(text, str) and not part.keys() - _BESIDE_TEXT - {name} else None


def _joined(parts: list[Any]) -> Iterator[Any]:
    for is_text, run in groupby(parts, lambda part: text_of_part(part) is not None):
        if is_text:
            yield {"type": "text", "text": "\n".join(str(text_of_part(part)) for part in run)}
        else:
            yield from run


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(arguments := function.get("arguments"), str):
        return call
    value = decoded(arguments)
    plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": plain}}
