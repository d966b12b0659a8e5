"""Texts that a model's tokenizer turns into control tokens, written so that they stay text."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# Whatever the model: how most chat templates begin one. Adapters were trained with it broken up like this.
_COMMON = "<|"


class ControlTokens:
    """Breaks control tokens of one model up, with a space behind the first character.

    ``texts`` are the model's own (``<start_of_turn>``, ``[INST]``, ``</s>``). A message that holds one would
    end early, or speak in another's name. Texts of one character cannot be broken up, and are left.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._broken = {
            text: f"{text[0]} {text[1:]}" for text in sorted({*texts, _COMMON}) if len(text.strip()) > 1
        }

    def broken(self, text: str) -> str:
        """The text, in which the tokenizer finds no control token."""
        # Not one pattern of all: with hundreds of them and a hostile text that takes a hundred times longer.
        while found := [each for each in self._broken if each in text]:
            for each in found:
                text = text.replace(each, self._broken[each])
        return text

    def broken_in(self, value: Any) -> Any:
        """The JSON value with every string in it broken up, also where it is a key."""
        if isinstance(value, str):
            return self.broken(value)
        if isinstance(value, list):
            return [self.broken_in(item) for item in value]
        if isinstance(value, dict):
            return {self.broken_in(key): self.broken_in(item) for key, item in value.items()}
        return value


@cache
def control_tokens_of(texts: tuple[str, ...] = ()) -> ControlTokens:
    """Those of a model with these texts; without any, of a model that is not known."""
    return ControlTokens(texts)
