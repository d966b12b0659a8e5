"""Texts that may go into the history and onto terminals."""

from __future__ import annotations

import unicodedata

# Controls, formats that reorder or hide text, halves of surrogate pairs, line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """The text with a replacement character for each one that a terminal would act on."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _acts(c) else c for c in text)


def checked(text: str) -> str:
    """The text itself. Raises ValueError, naming the first character that a terminal would act on."""
    for at, character in enumerate(text):
        if _acts(character):
            raise ValueError(f"character {at} is U+{ord(character):04X}; send printable text on one line")
    return text


def _acts(character: str) -> bool:
    return unicodedata.category(character) in _UNPRINTABLE
