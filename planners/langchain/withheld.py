"""Answers that the server's guard withheld, as LangChain's messages carry them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from planners.client.errors import PlanRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import openai
    from langchain_core.messages import BaseMessage

REFUSAL = "refusal"  # of additional_kwargs, where langchain-openai has it


def refusals(choices: Iterable[Any]) -> list[str | None]:
    """What each choice of an answer says instead of its content; choices are openai's, or their JSON."""
    return [_get(_get(choice, "message"), REFUSAL) or None for choice in choices]


def refusal_in(chunk: Mapping[str, Any]) -> str | None:
    """What a stream's chunk says instead of the first choice's content; of several, each says the same."""
    first = next((choice for choice in chunk.get("choices") or () if not choice.get("index")), None)
    return _get(_get(first, "delta"), REFUSAL) or None


def withheld_answer(error: openai.ContentFilterFinishReasonError) -> dict[str, Any]:
    """The answer that openai's client would not parse, as JSON. Raises ``error`` unless it is a refusal.

    With a ``response_format`` the client parses answers, and fails at any ``finish_reason: content_filter``.
    """
    response = getattr(error, "response", None)  # langchain-openai leaves it there
    body = response.json() if response is not None else None
    if not isinstance(body, dict) or not any(refusals(body.get("choices") or ())):
        raise error
    return body


def withheld_chunk(error: openai.ContentFilterFinishReasonError) -> ChatGenerationChunk:
    """The same for a stream: the chunk that says it. Raises ``error`` unless it is a refusal."""
    told = refusals(getattr(getattr(error, "completion", None), "choices", None) or ())
    if not any(told):
        raise error
    message = AIMessageChunk(content="", additional_kwargs={REFUSAL: told[0]})
    return ChatGenerationChunk(message=message, generation_info={"finish_reason": "content_filter"})


def plan_refused(message: BaseMessage) -> PlanRefused | None:
    """The error for a message that should have carried a plan and says that a guard withheld it."""
    told = message.additional_kwargs.get(REFUSAL)
    if not told:
        return None
    guard = message.response_metadata.get("s3lora", {}).get("guard") or {}
    part = guard.get("part")
    error = PlanRefused(str(told), code="refused_by_guard" if part else "guard_undecided")
    error.part = part
    return error


def _get(given: Any, name: str) -> Any:
    return given.get(name) if isinstance(given, dict) else getattr(given, name, None)
