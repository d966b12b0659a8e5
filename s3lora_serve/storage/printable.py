"""Texts that others wrote: escaped for terminals, pages and logs, refused as input to the history."""

from __future__ import annotations

import unicodedata

# Controls, formats that reorder or hide text, halves of surrogate pairs, line and paragraph separators.
_ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str, *, one_line: bool = False) -> str:
    """The text with each character that a terminal would act on written out, as ``\\x1b``.

    Line feeds stay, unless all is to stand on one line.
    """
    keeps = "" if one_line else "\n"
    return "".join(c.encode("unicode_escape").decode() if _acts(c) and c not in keeps else c for c in text)


def checked(text: str) -> str:
    """The text itself. Raises ValueError, naming the first character that a terminal would act on."""
    for at, character in enumerate(text):
        if _acts(character):
            raise ValueError(f"character {at} is U+{ord(character):04X}; send printable text on one line")
    return text


def _acts(character: str) -> bool:
    return unicodedata.category(character) in _ACTING
