"""Where a stream tells its usage, which the engine is always asked for: the cost comes with it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

# As vLLM reads it: "true" and 1 are true, too.
_FLAG = TypeAdapter(bool)


class UsageAt(Enum):
    """Where the client of a stream reads usage."""

    FINISH = "on the chunk with the last finish_reason"  # nothing was said: loops read a choice of each chunk
    OWN = "on a chunk without choices, as OpenAI sends it"  # include_usage: true
    NOWHERE = "nowhere"  # include_usage: false


def usage_at(fields: Mapping[str, Any]) -> UsageAt:
    """What ``stream_options`` asks for; of what is malformed the engine says what is wrong with it."""
    options = fields.get("stream_options")
    asked = options.get("include_usage") if isinstance(options, dict) else None
    if asked is None:
        return UsageAt.FINISH
    return UsageAt.OWN if _flag(asked) else UsageAt.NOWHERE


def with_usage(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with which a stream ends with a usage chunk, whatever the client said of it.

    What the client did not ask for, usage on every chunk, does not come either: vLLM gives it with both set.
    """
    stream = _flag(fields.get("stream") or False)
    if stream is None:
        return dict(fields)  # the engine says what is wrong with it
    options = fields.get("stream_options")
    if not stream or not isinstance(options, dict | None):
        return {**fields, "stream": stream} if "stream" in fields else dict(fields)
    options = dict(options or {})
    if usage_at(fields) is not UsageAt.OWN:
        options.pop("continuous_usage_stats", None)
    return {**fields, "stream": True, "stream_options": {**options, "include_usage": True}}


def _flag(value: Any) -> bool | None:
    try:
        return _FLAG.validate_python(value)
    except ValidationError:
        return None
