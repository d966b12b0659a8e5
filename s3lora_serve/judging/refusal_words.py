"""What the patterns of refusals are made of: lists of words, and the words of condemnation"""

from __future__ import annotations

import re


def any_of(words: str, *phrases: str) -> str:
    """A pattern for one of the ``words``, which space separates, or one of the ``phrases``."""
    return "(?:" + "|".join([*words.split(), *phrases]) + ")"


def pattern(*alternatives: str) -> re.Pattern[str]:
    """One of ``alternatives``; in each, line breaks and the indentation after them mean nothing."""
    return re.compile("|".join("".join(map(str.strip, text.splitlines())) for text in alternatives))


_DEGREE = any_of(
    "highly strictly completely deeply extremely morally both a an very considered serious also potentially"
)
_WORDS = any_of(
    """illegal unlawful unethical immoral harmful inappropriate unacceptable dangerous hateful
    offensive wrong irresponsible crime criminal felony disrespectful discriminatory misleading
    inaccurate malicious""",
    "against the law",
    "(?:not|never)(?: an?)? "
    + any_of(
        r"""okay ok acceptable appropriate right ethical legal safe constructive permissible
        justifi\w+ solution productive good""",
        "the answer",
    ),
)
BAD = f"(?:(?:{_DEGREE} )*{_WORDS})"  # "highly illegal", "never an acceptable ..."
