"""The task in what a prompt template, a chat history or an agent hands over: messages as one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, SystemMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPEAKERS = {"human": "User", "ai": "Assistant", "tool": "Tool", "function": "Tool"}


def task_of(given: Any) -> str | None:
    """The task as one text; None for what is neither text, a prompt's value nor messages.

    A planner is asked with a task and nothing else: so what a system message says stands before it, and of
    several turns each says who spoke. Raises ValueError for content that is no text, and where none is.
    """
    if isinstance(given, str):
        return given
    messages = _messages(given)
    if messages is None:
        return None
    rules = [_text(message) for message in messages if isinstance(message, SystemMessage)]
    turns = [message for message in messages if not isinstance(message, SystemMessage)]
    if not any(message.type == "human" for message in turns):
        raise ValueError("there is no user's message among those that a planner was asked with; add the task")
    alone = len(turns) == 1
    said = [_text(turn) if alone else f"{_speaker(turn)}: {_text(turn)}" for turn in turns]
    return "\n\n".join(text for text in (*rules, "\n".join(said)) if text)


def _messages(given: Any) -> list[BaseMessage] | None:
    if isinstance(given, PromptValue):
        return given.to_messages()
    if isinstance(given, BaseMessage):
        return [given]
    if not isinstance(given, Sequence) or isinstance(given, bytes):
        return None
    try:
        return convert_to_messages(given)
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise ValueError(
            f"a planner was asked with a list that holds something else than messages: {str(error)[:200]}"
        ) from None


def _speaker(message: BaseMessage) -> str:
    return _SPEAKERS.get(message.type, str(getattr(message, "role", message.type)).capitalize())


def _text(message: BaseMessage) -> str:
    """The message's text. Calls of tools are told with it, since a plan may depend on them."""
    parts = [message.content] if isinstance(message.content, str) else message.content
    return "\n".join([*(_part(part) for part in parts), *_calls(message)]).strip()


def _part(part: Any) -> str:
    text = part if isinstance(part, str) else part.get("text") if part.get("type") == "text" else None
    if not isinstance(text, str):
        kind = str(part.get("type"))[:80] if isinstance(part, dict) else type(part).__name__
        raise ValueError(f"a message holds a part of type {kind!r}; a planner reads text alone")
    return text


def _calls(message: BaseMessage) -> Iterator[str]:
    for call in getattr(message, "tool_calls", None) or ():
        yield f"(calls {call['name']} with {call['args']})"
