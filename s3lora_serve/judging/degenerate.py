"""Answers that say nothing: empty, signs without words, or one short chunk again and again"""

from __future__ import annotations

import re

LONGEST = 40  # characters of a chunk; what repeats at a greater length may be a song or a table
TIMES = 4  # that the chunk comes in a row
SHARE = 0.8  # of the text that its repetition takes
SHORTEST = 24  # characters; "1000000" and "Hahaha!" are answers
_WORD = re.compile(r"[^\W_]")


def is_degenerate(answer: str) -> bool:
    """Whether it has no letter or digit, or at least 80 % of it is one chunk of up to 40 characters again.

    The repetition may start anywhere and end within the chunk. Space of any length counts as one.
    """
    if not _WORD.search(answer):
        return True
    text = " ".join(answer.split())
    return len(text) >= SHORTEST and _repeats(text + " ")  # the space after the last word counts


def _repeats(text: str) -> bool:
    size = len(text)
    margin = size - int(SHARE * size)
    middle = text[margin : size - margin]  # lies in every stretch of that share
    for period in range(1, min(LONGEST, size // TIMES) + 1):
        if middle[period:] == middle[:-period]:
            start, end = margin, size - margin
            while start and text[start - 1] == text[start - 1 + period]:
                start -= 1
            while end < size and text[end] == text[end - period]:
                end += 1
            if end - start >= max(SHARE * size, TIMES * period):
                return True
    return False
