"""What makes JSON end that a model writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformers import AutoTokenizer

if TYPE_CHECKING:
    from pathlib import Path

_BLANKS = frozenset("ĠĊĉč")  # space, line feed, tab and carriage return, as byte-level tokenizers write them


def no_blanks(base: Path) -> dict[int, int]:
    """``logit_bias`` that bans tokens of nothing but blanks.

    JSON may hold any number of them between its parts, and a small model may write no end. Without them JSON
    is bounded as its strings and numbers are.
    """
    vocabulary = AutoTokenizer.from_pretrained(base).get_vocab()
    return {number: -100 for token, number in vocabulary.items() if set(token) <= _BLANKS}
