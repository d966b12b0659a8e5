"""Fields of chat and completion bodies that vLLM would take and ignore, while the client counts on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

_STRUCTURED = (
    'use \'structured_outputs\' ({"json", "regex", "choice" or "grammar": ...}) or \'response_format\''
)
_TOOLS = "use 'tools' and 'tool_choice'"
_CHAT = "send it to /v1/chat/completions"
_MODEL = "name the planner as 'model'; adapters are configured on the server"

IGNORED: Mapping[str, str] = {
    # vLLM removed these and answers 200 without any constraint (vllm#53975).
    "guided_json": _STRUCTURED,
    "guided_regex": _STRUCTURED,
    "guided_choice": _STRUCTURED,
    "guided_grammar": _STRUCTURED,
    "guided_decoding_backend": _STRUCTURED,
    "guided_whitespace_pattern": _STRUCTURED,
    # Constraints as other servers spell them.
    "json_schema": _STRUCTURED,
    "grammar": _STRUCTURED,
    "regex": _STRUCTURED,
    "ebnf": _STRUCTURED,
    "structural_tag": _STRUCTURED,
    "stop_regex": "use 'stop' with the texts themselves",
    # OpenAI's before there were tools.
    "functions": _TOOLS,
    "function_call": _TOOLS,
    "lora_request": _MODEL,
    "lora_name": _MODEL,
    "lora_path": _MODEL,
    "lora_int_id": _MODEL,
    "adapter": _MODEL,
    "adapter_id": _MODEL,
}
# Of chats alone: a completion would be answered as if no tool had been offered.
_CHATS = {"tools": _CHAT, "tool_choice": _CHAT}
_NOTHING: tuple[Any, ...] = ([], "none")  # what asks for nothing, beside null


def check_fields(fields: Mapping[str, Any], *, chat: bool = True) -> None:
    """Refuse fields that would silently do nothing. Raises RequestRefused, which says what to use."""
    lost = IGNORED if chat else {**IGNORED, **_CHATS}
    for name in fields.keys() & lost.keys():
        value = fields[name]
        if value is not None and not any(type(value) is type(other) and value == other for other in _NOTHING):
            raise RequestRefused(
                f"field {name!r} would have no effect", reason="ignored_field", param=name, hint=lost[name]
            )


def check_count(fields: Mapping[str, Any], max_n: int) -> None:
    """Raise RequestRefused (400) for more answers than ``max_n``; what is no number is for the engine."""
    n = fields.get("n")
    if isinstance(n, int | float | str) and not isinstance(n, bool):
        try:
            number = float(n)  # as vLLM reads it: "8" is a number, too
        except (ValueError, OverflowError):
            number = float("inf") if isinstance(n, int) else 0.0
        if number > max_n:
            raise RequestRefused(
                f"n: {str(n)[:20]} answers are over the limit of {max_n} (server.max_n of this server)",
                reason="over_limit",
                param="n",
            )
