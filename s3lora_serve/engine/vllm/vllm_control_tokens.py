"""Which texts the base model's tokenizer takes for control tokens."""

from __future__ import annotations

from typing import Any


def control_tokens(tokenizer: Any | None, chat_template: str | None = None) -> tuple[str, ...]:
    """The texts, in alphabetical order; none without a tokenizer.

    Those that the tokenizer calls special, and those among its added tokens that the chat template names:
    some models do not mark the tokens that open a turn. Not all added ones: Gemma has HTML tags among them,
    which a task may well hold.
    """
    if tokenizer is None:
        return ()
    template = "\n".join((chat_template or "", _template_of(tokenizer)))
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    texts = {str(text) for text in getattr(tokenizer, "all_special_tokens", None) or ()}
    texts |= {token.content for token in added.values() if token.special or token.content in template}
    return tuple(sorted(text for text in texts if text.strip()))


def _template_of(tokenizer: Any) -> str:
    """The tokenizer's own chat template; models may have several, by name."""
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        return "\n".join(map(str, template.values()))
    return str(template or "")
