"""What a guard is asked about a chat or a completion: every text of it that reaches the prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from s3lora_serve.safety.guard.guard_question import GuardQuestion, Part, Passage
from s3lora_serve.server.openai.fields.plain_messages import decoded, plain_messages, text_of_part
from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARTS = {
    "user": Part.HISTORY,
    "assistant": Part.HISTORY,
    "system": Part.SYSTEM,
    "developer": Part.SYSTEM,
    "tool": Part.EVIDENCE,
    "function": Part.EVIDENCE,
}
# Parts of a content that are none, as a refusal may name them: never by a word of the client's.
_NO_TEXTS = frozenset(
    (
        "image_url", "input_image", "image_pil", "image_embeds", "audio_url", "input_audio", "audio_embeds",
        "video_url", "video_embeds", "prompt_embeds", "file", "tool_reference",
    )
)  # fmt: skip
_TITLE = 64  # characters of a client's text in a title


def questions_of(fields: Mapping[str, Any], *, chat: bool) -> tuple[GuardQuestion, ...]:
    """One about a chat; one about each prompt of a completion. Raises RequestRefused for JSON too deep.

    What a text guard cannot read is named in ``unreadable``, also what the engine would not understand.
    """
    try:
        if chat:
            return (_of_chat(fields),)
        prompt = fields.get("prompt")
        prompts = prompt if isinstance(prompt, list) else [prompt]
        form = tuple(_forms(fields))
        return tuple(_of_prompt(each, form) for each in prompts) or (
            GuardQuestion("", unreadable="no prompt"),
        )
    except RecursionError:
        raise RequestRefused("the JSON is nested too deeply", reason="invalid_json") from None


def _of_prompt(prompt: Any, form: tuple[Passage, ...]) -> GuardQuestion:
    if not isinstance(prompt, str):
        return GuardQuestion("", form, unreadable="a prompt that is no text")
    return GuardQuestion(prompt, form)


def _of_chat(fields: Mapping[str, Any]) -> GuardQuestion:
    read = _Conversation()
    messages = plain_messages(fields.get("messages"))
    said = messages if isinstance(messages, list) else []
    asks = [
        number for number, each in enumerate(said) if _role(each) == "user" and read.text_of(each).strip()
    ]
    last = asks[-1] if asks else None
    for number, message in enumerate(said):
        read.message(message, is_task=number == last)
    if last is None:
        read.unreadable.append("no text of a user")
    read.passages += (*_tools(fields), *_forms(fields), *_documents(fields))
    return GuardQuestion(read.task, tuple(read.passages), tuple(read.turns), "; ".join(read.unreadable[:1]))


@dataclass
class _Conversation:
    """What was read of a conversation so far."""

    task: str = ""
    passages: list[Passage] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def message(self, message: Any, *, is_task: bool) -> None:
        """Take in one message with all that stands in it."""
        role, text = _role(message), self.text_of(message)
        if role not in _PARTS:
            self.unreadable.append("a message of an unknown role")
        given = message.items() if isinstance(message, dict) else ()
        rest = {key: value for key, value in given if key not in ("role", "content") and value}
        beside = _json(rest) if rest else ""
        if is_task:
            self.task = text
            self._add(Part.HISTORY, "beside the task", beside)
            return
        if role == "user" and text.strip():
            self.turns.append(text)
        part = _PARTS.get(role, Part.HISTORY)
        self._add(part, role if role in _PARTS else "", "\n".join(each for each in (text, beside) if each))

    def text_of(self, message: Any) -> str:
        """The text of its content. What is none is noted."""
        content = message.get("content") if isinstance(message, dict) else None
        if content is None or isinstance(content, str):
            return content or ""
        parts = content if isinstance(content, list) else [content]
        return "\n".join(self._part(part) for part in parts)

    def _part(self, part: Any) -> str:
        if (text := text_of_part(part)) is not None:
            return text
        given = part.get("type") if isinstance(part, dict) else None
        kind = given if isinstance(given, str) else ""
        self.unreadable.append(
            f"a part of the type {kind}" if kind in _NO_TEXTS else "a part that is no text"
        )
        return ""

    def _add(self, part: Part, title: str, text: str) -> None:
        if text.strip():
            self.passages.append(Passage(part, title, text))


def _role(message: Any) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) else ""


def _tools(fields: Mapping[str, Any]) -> list[Passage]:
    """Tools and OpenAI's former functions: names, descriptions and schemas."""
    passages = []
    for tool in (*_listed(fields.get("tools")), *_listed(fields.get("functions"))):
        inner = tool.get("function", tool) if isinstance(tool, dict) else tool
        name = inner.get("name") if isinstance(inner, dict) else None
        title = f"tool {name[:_TITLE]}" if isinstance(name, str) else "tool"
        passages.append(Passage(Part.TOOLS, title, _lines(inner) + _beside(tool, inner)))
    return passages


def _beside(tool: Any, inner: Any) -> str:
    """What stands in a tool around its function, but for the word that it is one."""
    if tool is inner:
        return ""
    rest = {
        key: value
        for key, value in tool.items()
        if key != "function" and (key, value) != ("type", "function")
    }
    return f"\n{_lines(rest)}" if rest else ""


def _forms(fields: Mapping[str, Any]) -> list[Passage]:
    """What an answer must look like: it can hold whole sentences of the client's."""
    given = [fields.get(name) for name in ("structured_outputs", "response_format")]
    if isinstance(text := fields.get("text"), dict):  # of a response
        given.append(text.get("format"))
    return [
        Passage(Part.TOOLS, "the answer's form", _lines(_as_read(form)))
        for form in given
        if form is not None and form != {"type": "text"}
    ]


def _as_read(form: Any) -> Any:
    """The form with a schema that came as text as the engine reads it: escapes say nothing to a guard."""
    schema = form.get("json") if isinstance(form, dict) else None
    return {**form, "json": decoded(schema)} if isinstance(schema, str) else form


def _documents(fields: Mapping[str, Any]) -> list[Passage]:
    return [
        Passage(Part.DOCUMENTS, "document", _lines(document)) for document in _listed(fields.get("documents"))
    ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _lines(value: Any) -> str:
    """A value as a text to read: an object's texts as they are, and all else as JSON."""
    if not isinstance(value, dict):
        return value if isinstance(value, str) else _json(value)
    return "\n".join(
        f"{key}: {each if isinstance(each, str) else _json(each)}" for key, each in value.items()
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
