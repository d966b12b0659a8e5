"""The items of a response's ``input``, as a chat's messages and back: only what a chat could say passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ROLES = ("user", "system", "developer", "assistant")
# Parts that are text, with the field that has it.
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
_KEPT_NOWHERE = (
    "nothing is kept here: send the item itself, not its id; @ai-sdk/openai does with store: false"
)
_CALLS = "tools run at the client: give their calls and results as function_call and function_call_output"
_MEDIA = "send texts, and images as input_image with an image_url"
# Names of what is refused, as an error may repeat them: any other word is the client's.
_NAMES = frozenset(
    (
        "item_reference", "computer_call", "computer_call_output", "web_search_call", "file_search_call",
        "code_interpreter_call", "image_generation_call", "local_shell_call", "local_shell_call_output",
        "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output", "mcp_call",
        "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "custom_tool_call",
        "custom_tool_call_output", "compaction", "input_file", "input_audio", "input_image",
    )
)  # fmt: skip


def messages_of(given: Any) -> list[dict[str, Any]]:
    """What the engine makes of ``input``: one message where several items of an assistant follow each other.

    Raises RequestRefused for an item that is no message, call, result or reasoning, or that stands for
    something kept elsewhere.
    """
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise _refused("input", "must be a text or a list of items", "give the user's text")
    messages: list[dict[str, Any]] = []
    for number, item in enumerate(given):
        message = _message(item, f"input[{number}]")
        if message is not None and not _joined(messages, message):
            messages.append(message)
    return messages


def items_of(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as items, from which the engine makes the same messages. No item says it is unfinished:
    the engine would let the planner go on with it.
    """
    before = ({}, *messages)
    return [
        item for number, message in enumerate(messages) for item in _items(message, before[number], number)
    ]


def _items(message: Mapping[str, Any], before: Mapping[str, Any], number: int) -> Iterator[dict[str, Any]]:
    if message["role"] == "tool":
        called, output = message["tool_call_id"], message["content"]
        yield {"type": "function_call_output", "call_id": called, "output": output}
        return
    told: dict[str, dict[str, Any]] = {}
    if (reasoning := message.get("reasoning")) is not None:
        thought = [{"type": "reasoning_text", "text": reasoning}]
        told["reasoning"] = {"type": "reasoning", "id": f"rs_{number}", "summary": [], "content": thought}
    if message.get("content") is not None:
        told["content"] = {"role": message["role"], "content": message["content"]}
    # First what the message before has, too, if it is an assistant's: the rest would be put into that one.
    yield from (told[name] for name in sorted(told, key=lambda name: name not in before))
    for call in message.get("tool_calls", ()):
        yield {"type": "function_call", "call_id": call["id"], **call["function"]}


def _message(item: Any, at: str) -> dict[str, Any] | None:
    """The item as a message; None for reasoning without a text."""
    if not isinstance(item, dict):
        raise _refused(at, "must be an object", 'a message is {"role": "user", "content": "..."}')
    kind = item.get("type", "message")
    if kind == "message":
        return _said(item, at)
    if kind == "function_call":
        if item.get("namespace") is not None:
            raise _refused(at, "a namespace of tools is not supported", _CALLS)
        function = {name: _text(item, name, at) for name in ("name", "arguments")}
        call = {"id": _text(item, "call_id", at), "type": "function", "function": function}
        return {"role": "assistant", "tool_calls": [call]}
    if kind == "function_call_output":
        output = _content(item.get("output"), f"{at}.output")
        return {"role": "tool", "content": output, "tool_call_id": _text(item, "call_id", at)}
    if kind == "reasoning":
        return _reasoning(item, at)
    raise _refused(at, f"items of the type {_named(kind)} are not supported", _hint(kind))


def _said(item: Mapping[str, Any], at: str) -> dict[str, Any]:
    role = item.get("role")
    if role not in _ROLES:
        hint = "a tool's result is a function_call_output"
        raise _refused(f"{at}.role", f"must be one of {', '.join(_ROLES)}", hint)
    content = _content(item.get("content"), f"{at}.content")
    if role == "assistant" and not isinstance(content, str):
        raise _refused(f"{at}.content", "an assistant's must be text", _MEDIA)
    return {"role": role, "content": content}


def _reasoning(item: Mapping[str, Any], at: str) -> dict[str, Any] | None:
    if item.get("encrypted_content"):
        raise _refused(at, "encrypted reasoning cannot be read here", "leave the item out")
    for name in ("content", "summary"):  # the engine reads the first that is there
        parts = item.get(name)
        texts = [part.get("text") if isinstance(part, dict) else None for part in parts or ()]
        if not isinstance(parts, list | None) or not all(isinstance(text, str) for text in texts):
            raise _refused(f"{at}.{name}", "must be parts with a text", "leave the item out")
        if texts:
            return {"role": "assistant", "reasoning": "\n".join(map(str, texts))}
    return None


def _content(given: Any, at: str) -> str | list[dict[str, Any]]:
    """A text, or where there are images, parts."""
    if isinstance(given, str):
        return given
    if not isinstance(given, list) or not given:
        raise _refused(at, "must be a text or a list of parts", _MEDIA)
    parts = [_part(part, f"{at}[{number}]") for number, part in enumerate(given)]
    texts = [part["text"] for part in parts if part["type"] == "input_text"]
    return "\n".join(texts) if len(texts) == len(parts) else parts


def _part(part: Any, at: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind in _TEXTS:
        return {"type": "input_text", "text": _text(part, _TEXTS[kind], at)}
    if kind == "input_image" and part.get("file_id") is None:
        detail = part.get("detail") or "auto"
        return {"type": "input_image", "image_url": _text(part, "image_url", at), "detail": detail}
    raise _refused(at, f"parts of the type {_named(kind)} are not supported", _MEDIA)


def _joined(messages: list[dict[str, Any]], message: dict[str, Any]) -> bool:
    """Put an assistant's item into its message before, where that has room for it, as the engine does."""
    before = messages[-1] if messages else None
    if before is None or before["role"] != "assistant" or message["role"] != "assistant":
        return False
    if "tool_calls" in message:
        before.setdefault("tool_calls", []).extend(message["tool_calls"])
        return True
    (name,) = message.keys() - {"role"}
    if name in before:
        return False
    before[name] = message[name]
    return True


def _text(item: Mapping[str, Any], name: str, at: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise _refused(f"{at}.{name}", "must be a text", "send it as OpenAI's Responses describe it")
    return value


def _hint(kind: Any) -> str:
    return _KEPT_NOWHERE if kind == "item_reference" else _CALLS


def _named(kind: Any) -> str:
    return repr(kind) if isinstance(kind, str) and kind in _NAMES else "that is given"


def _refused(at: str, message: str, hint: str) -> RequestRefused:
    return RequestRefused(f"{at}: {message}", reason="invalid_request", param=at, hint=hint)
