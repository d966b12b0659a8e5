"""Fields of chat and completion bodies that vLLM would take and ignore, while the client counts on them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

_STRUCTURED = (
    'use \'structured_outputs\' ({"json", "regex", "choice" or "grammar": ...}) or \'response_format\''
)
_MODEL = "name the planner as 'model'; adapters are configured on the server"

IGNORED: Mapping[str, str] = {
    # vLLM removed these and answers 200 without any constraint (vllm#53975).
    "guided_json": _STRUCTURED,
    "guided_regex": _STRUCTURED,
    "guided_choice": _STRUCTURED,
    "guided_grammar": _STRUCTURED,
    "guided_decoding_backend": _STRUCTURED,
    "guided_whitespace_pattern": _STRUCTURED,
    "lora_request": _MODEL,
    "lora_name": _MODEL,
    "lora_path": _MODEL,
    "lora_int_id": _MODEL,
    "adapter": _MODEL,
    "adapter_id": _MODEL,
}
# A slip in one of these loses a promise about the output, and the answer would not show it.
_PROMISES = ("response_format", "structured_outputs", "tool_choice", "s3lora")


def check_fields(fields: Mapping[str, Any]) -> None:
    """Refuse fields that would silently do nothing. Raises RequestRefused, which says what to use."""
    for name in fields:
        if name in IGNORED:
            raise RequestRefused(
                f"field {name!r} would have no effect", reason="ignored_field", param=name, hint=IGNORED[name]
            )
        if name not in _PROMISES and (
            close := difflib.get_close_matches(name[:80].lower(), _PROMISES, 1, 0.85)
        ):
            raise RequestRefused(
                f"unknown field {name[:80]!r} would have no effect",
                reason="ignored_field",
                param=name[:80],
                hint=f"did you mean {close[0]!r}?",
            )


def check_count(fields: Mapping[str, Any], max_n: int) -> None:
    """Raise RequestRefused (422) for more answers than ``max_n``; what is no number is for the engine."""
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
                status=422,
                param="n",
            )
