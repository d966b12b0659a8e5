"""vLLM's exceptions as ours, in one place."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from s3lora_serve.engine.context_length import is_too_long
from s3lora_serve.errors import (
    ContextTooLong,
    EngineDead,
    EngineError,
    EngineRefused,
    S3LoRAError,
    SlotLoadError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3lora_serve.engine.port import Slot

# By name, because the classes differ between releases: VLLMError and its two halves exist from 0.32 on only.
MAPPED: Mapping[str, type[EngineError]] = {
    # vllm.v1.engine.exceptions
    "EngineDeadError": EngineDead,
    "EngineGenerateError": EngineError,
    # vllm.exceptions
    "VLLMError": EngineError,
    "VLLMClientError": EngineRefused,
    "VLLMServerError": EngineError,
    "VLLMValidationError": EngineRefused,
    "VLLMNotFoundError": EngineRefused,
    "VLLMUnprocessableEntityError": EngineRefused,
    "LoRAAdapterNotFoundError": SlotLoadError,
    "GenerationError": EngineError,
    "RetryableRequestError": EngineError,
    "GracefulHTTPError": EngineError,
    "QueueOverflowError": EngineError,
    "MaxQueuedTokensError": EngineError,
    "ProfilerAlreadyActiveError": EngineError,
    # What releases before 0.32 raise for a request they refuse.
    "ValueError": EngineRefused,
}

_DEAD_HINT = "its log names the cause; try again once it was restarted"

# What a failed load means for the operator. Errors of the engine process arrive without their type, as text
# (v1/engine/core_client.py), so text is all there is to go by.
_LOAD_HINTS = (
    (
        re.compile(r"rank \d+ is greater than max_lora_rank", re.I),
        "raise engine.max_lora_rank to the adapter's rank",
    ),
    (re.compile(r"No adapter found for"), "the revision is gone from the store; admit the adapter again"),
    (re.compile(r"expected target modules in"), "the adapter is for another base model"),
    (
        re.compile(r"size of tensor|shape|must match", re.I),
        "the adapter's shapes are those of another base model",
    ),
)
# What the two processes between vLLM's error and us wrap around its text.
_WRAPPING = re.compile(
    r"^(?:Call to \w+ method failed: )?"
    r"(?:Worker failed with error '(?P<worker>.*)', please check .*|(?P<text>.*))$",
    re.S,
)


def translate(error: Exception, doing: str) -> S3LoRAError:
    """Our error for whatever vLLM raised while ``doing`` something; our own errors pass unchanged."""
    if isinstance(error, S3LoRAError):
        return error
    kind = _kind(error)
    if kind is EngineDead:
        return EngineDead(f"{doing}: the engine is dead", hint=_DEAD_HINT)
    text = _text(error)
    if kind is EngineRefused and is_too_long(text):
        return ContextTooLong(f"{doing}: {text}")
    return kind(f"{doing}: {text}")


def translate_load(error: Exception, slot: Slot) -> S3LoRAError:
    """Our error for a failed load: SlotLoadError with the next step, or EngineDead."""
    if isinstance(error, S3LoRAError):
        return error
    if _kind(error) is EngineDead:
        return translate(error, f"loading slot {slot.name}")
    text = _text(error)
    hint = next(
        (hint for pattern, hint in _LOAD_HINTS if pattern.search(text)), "the engine's log has the details"
    )
    return SlotLoadError(f"slot {slot.name} could not be loaded from {slot.path}: {text}", hint=hint)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Let nothing but our own errors leave the block."""
    try:
        yield
    except Exception as error:
        ours = translate(error, doing)
        if ours is error:
            raise
        raise ours from error


def _kind(error: Exception) -> type[EngineError]:
    for cls in type(error).__mro__:
        if cls.__name__ in MAPPED:
            return MAPPED[cls.__name__]
    return EngineError


def _text(error: Exception) -> str:
    match = _WRAPPING.match(str(error))
    text = (match["worker"] or match["text"] or "") if match else str(error)
    return text.strip() or type(error).__name__
