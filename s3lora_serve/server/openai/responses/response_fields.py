"""Fields of a response's request: what cannot be kept or done here is refused, not left out in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.server.openai.fields.steering_fields import check_steering, with_own_salt
from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_EARLIER = "this server keeps no answers: send the items of the conversation in 'input'"
_LATER = "this server keeps no answers: leave it out, and stream an answer that takes long"

# What asks for something that is not there, the values that do not, and what to do instead.
REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "store": ((False,), "this server keeps no answers: leave it out or send false"),
    "background": ((False,), _LATER),
    "previous_response_id": ((), _EARLIER),
    "conversation": ((), _EARLIER),
    "previous_input_messages": (([],), _EARLIER),
    "context_management": (([],), "nothing is compacted here: send fewer items in 'input'"),
    "prompt": ((), "there are no prompt templates here: send 'instructions' and 'input'"),
    "enable_response_messages": ((False,), "leave it out: answers have no tokens of the prompt"),
}
# Fields of chats that would do nothing here, and what does the same.
_AS_CHAT: Mapping[str, str] = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "top_logprobs, and include: [message.output_text.logprobs]",
    "functions": "tools",
    "function_call": "tool_choice",
    "documents": "input",
    "n": "as many requests",
}
_LOGPROBS = "message.output_text.logprobs"
_ENCRYPTED = "reasoning.encrypted_content"  # clients ask for it without being told to; there never is any
_DROPPED = ("include", "stream_options")
_TOOLS = "tools run at the client: give functions, each with type, name, description and parameters"
_FORMATS = ("text", "json_object", "json_schema")
_CHOICE = 'give "auto", "none", "required" or {"type": "function", "name": ...}'


def checked_fields(fields: Mapping[str, Any], allowed: Collection[str]) -> dict[str, Any]:
    """The fields without those that say nothing, for an engine that takes null for a value.

    A call that is forced is kept to its function's schema. Raises RequestRefused.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    for name, value in given.items():
        neutral, hint = REFUSED.get(name, ((value,), ""))
        if not any(type(value) is type(other) and value == other for other in neutral):
            raise _refused(name, "not supported here", hint)
        if name in _AS_CHAT:
            raise RequestRefused(
                f"field {name!r} would have no effect",
                reason="ignored_field",
                param=name,
                hint=f"at /v1/responses it is {_AS_CHAT[name]}",
            )
    check_steering(given, allowed)
    _check_format(given.get("text"))
    choice = _checked_choice(given.get("tool_choice", "auto"))
    tools = _checked_tools(given.get("tools", []), forced=choice not in ("auto", "none"))
    if choice not in ("auto", "none") and not tools:
        raise _refused("tool_choice", "forces a call, but there are no tools", _TOOLS)
    left = {name: value for name, value in given.items() if name not in _DROPPED and name not in REFUSED}
    if tools:
        left |= {"tools": tools, "tool_choice": choice}
    if _asks_for_logprobs(given.get("include")):
        left["include"] = [_LOGPROBS]
    return with_own_salt({**left, "store": False})


def calls_of(fields: Mapping[str, Any]) -> bool:
    """Whether the answer may be a call of a tool."""
    return bool(fields.get("tools")) and fields.get("tool_choice", "auto") != "none"


def _checked_choice(choice: Any) -> Any:
    if choice in ("auto", "none", "required"):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("name"), str):
        return choice
    raise _refused("tool_choice", "this choice is not supported here", _CHOICE)


def _checked_tools(tools: Any, *, forced: bool) -> list[dict[str, Any]]:
    if not isinstance(tools, list):
        raise _refused("tools", "must be a list", _TOOLS)
    for number, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != "function":
            raise _refused(f"tools[{number}]", "only functions are supported here", _TOOLS)
        if not isinstance(tool.get("name"), str) or "function" in tool:
            raise _refused(f"tools[{number}]", "the function's name stands beside its type", _TOOLS)
        if tool.get("defer_loading"):
            raise _refused(f"tools[{number}]", "tools are not loaded later here", "leave defer_loading out")
    # Without it the engine would keep to the schema where it chooses itself, and not where it must call.
    return [{"parameters": None, **tool, **({"strict": True} if forced else {})} for tool in tools]


def _check_format(text: Any) -> None:
    """Raise RequestRefused for a form of the answer that would be left aside."""
    form = text.get("format") if isinstance(text, dict) else None
    if form is None and isinstance(text, dict | None):
        return
    given = form if isinstance(form, dict) else {}
    kind = given.get("type")
    if kind not in _FORMATS or (kind == "json_schema" and not isinstance(given.get("schema"), dict)):
        hint = 'give {"format": {"type": "json_schema", "name": ..., "schema": {...}}}'
        raise _refused("text", "this format is not supported", hint)


def _asks_for_logprobs(include: Any) -> bool:
    wanted = include if isinstance(include, list) else [] if include is None else [include]
    for each in wanted:
        if each not in (_LOGPROBS, _ENCRYPTED):
            raise _refused("include", "asks for what no answer has here", f"only {_LOGPROBS} can be included")
    return _LOGPROBS in wanted


def _refused(name: str, message: str, hint: str) -> RequestRefused:
    return RequestRefused(f"{name}: {message}", reason="unsupported_field", param=name, hint=hint)
