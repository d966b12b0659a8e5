"""What messages and tools of a chat must look like, told in a sentence: the engine tells its insides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from s3lora_serve.server.openai.fields.plain_messages import TEXTS
from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

# Fields that the engine looks into before it looks at their types.
_SHAPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "stream_options": ((dict,), "an object"),
    "response_format": ((dict,), "an object"),
    "structured_outputs": ((dict,), "an object"),
    "logit_bias": ((dict,), "an object"),
    "kv_transfer_params": ((dict,), "an object"),
    "tools": ((list,), "a list of functions"),
    "tool_choice": ((str, dict), "'none', 'auto', 'required', or the function to call"),
}
_NEEDS_CONTENT = frozenset(("user", "system", "developer", "tool"))
_INSTEAD = ("tool_calls", "function_call", "refusal", "reasoning", "reasoning_content", "audio")


def check_shapes(fields: Mapping[str, Any]) -> None:
    """Raise RequestRefused (400) for a field of another JSON type than any that the engine reads."""
    for name, (types, wanted) in _SHAPES.items():
        value = fields.get(name)
        if value is not None and not isinstance(value, types):
            raise _refused(name, f"must be {wanted}")


def check_chat(fields: Mapping[str, Any]) -> None:
    """Raise RequestRefused (400) for messages and tools that are none, naming the first one at fault."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _refused("messages", "must be a list of at least one message")
    for number, message in enumerate(messages):
        _check_message(f"messages[{number}]", message)
    for number, tool in enumerate(fields.get("tools") or ()):
        _check_tool(f"tools[{number}]", tool)


def _check_message(at: str, message: Any) -> None:
    if not isinstance(message, dict):
        raise _refused(at, "must be an object with 'role' and 'content'")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise _refused(f"{at}.role", "must say who speaks: system, developer, user, assistant or tool")
    calls = message.get("tool_calls")
    if calls is not None:
        _check_calls(f"{at}.tool_calls", calls)
    if content is None:
        if role in _NEEDS_CONTENT or (role == "assistant" and not any(map(message.get, _INSTEAD))):
            raise _refused(f"{at}.content", "is required: a text, or a list of parts")
    elif isinstance(content, list):
        for number, part in enumerate(content):
            _check_part(f"{at}.content[{number}]", part)
    elif not isinstance(content, str):
        raise _refused(f"{at}.content", "must be a text, or a list of parts")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise _refused(f"{at}.tool_call_id", "must be the id of the call that this message answers")


def _check_part(at: str, part: Any) -> None:
    if isinstance(part, str):
        return
    if not isinstance(part, dict):
        raise _refused(at, 'must be an object, such as {"type": "text", "text": ...}')
    kind = part.get("type")
    if kind is not None and not isinstance(kind, str):
        raise _refused(f"{at}.type", "must be a text, such as 'text' or 'image_url'")
    if kind is None and not part.keys() - {"cache_control"}:
        raise _refused(f"{at}.type", "is required, such as 'text' or 'image_url'")
    name = TEXTS.get(kind) if kind is not None else None
    if name is not None and not isinstance(part.get(name), str):
        raise _refused(f"{at}.{name}", "must be a text")


def _check_calls(at: str, calls: Any) -> None:
    if not isinstance(calls, list):
        raise _refused(at, "must be a list of calls")
    for number, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _refused(
                f"{at}[{number}].function.name", "must be the name of the function that was called"
            )
        given = function.get("arguments")
        if isinstance(given, str) and given and not _is_json(given):
            raise _refused(f"{at}[{number}].function.arguments", "must be JSON")
        if given is not None and not isinstance(given, str | dict):
            raise _refused(f"{at}[{number}].function.arguments", "must be a text of JSON")


def _check_tool(at: str, tool: Any) -> None:
    if not isinstance(tool, dict):
        raise _refused(at, 'must be an object: {"type": "function", "function": ...}')
    if (kind := tool.get("type", "function")) != "function":
        shown = repr(kind[:40]) if isinstance(kind, str) else "that"
        raise _refused(f"{at}.type", f"must be 'function': this server has no tools of the type {shown}")
    function = tool.get("function")
    if not isinstance(function, dict):
        raise _refused(f"{at}.function", "must be an object with the function's 'name' and 'parameters'")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise _refused(f"{at}.function.name", "must be the function's name")
    if not isinstance(function.get("parameters"), dict | None):
        raise _refused(f"{at}.function.parameters", "must be an object: a JSON schema")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _refused(param: str, what: str) -> RequestRefused:
    return RequestRefused(f"{param}: {what}", reason="invalid_request", param=param)
