"""PEFT's rank_pattern and alpha_pattern: regular expressions from an untrusted file, within bounds."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

import regex

from s3lora_serve.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PATTERN_LENGTH = 512
MATCH_SECONDS = 2.0
_SPELL_OUT = "spell module names out in rank_pattern and alpha_pattern"

_PLAIN = regex.compile(r"[\w.\-]+")
# Nested "+" and "{n}" make the compiler itself eat all memory, before any time limit can apply; "(?" opens
# recursion, fuzzy matching and flags. Patterns in the wild use none of them ("(?:" is allowed).
_DANGEROUS = regex.compile(r"[{}]|\)\+|\(\?(?!:)")


class PatternTable:
    """The keys of one pattern table, with one time budget for all the matching that they cause."""

    def __init__(self, patterns: Iterable[str], *, seconds: float = MATCH_SECONDS) -> None:
        self._patterns = tuple(patterns)
        self._budget = seconds
        self._left = seconds

    def matches(self, module: str) -> tuple[str, ...]:
        """The patterns that match ``module``'s whole name or a dotted suffix of it; PEFT takes the first.

        The rule is that of PEFT's ``get_pattern_key``. Raises FormatError if a pattern is malformed,
        dangerous or too slow.
        """
        return tuple(pattern for pattern in self._patterns if self._matches(pattern, module))

    def _matches(self, pattern: str, module: str) -> bool:
        if _PLAIN.fullmatch(pattern):
            return _matches_plain(pattern, module)
        compiled, start = _compiled(pattern), time.monotonic()
        try:
            found = compiled.match(module, timeout=max(self._left, 1e-3)) is not None
        except TimeoutError as error:
            raise FormatError(
                f"patterns take over {self._budget} s to match; the last was {pattern!r}", hint=_SPELL_OUT
            ) from error
        self._left -= time.monotonic() - start
        return found


def check_pattern(pattern: str) -> None:
    """Raise FormatError if ``pattern`` is too long, dangerous or no regular expression."""
    if not _PLAIN.fullmatch(pattern):
        _compiled(pattern)


def _matches_plain(pattern: str, module: str) -> bool:
    """The same rule for a pattern whose only special character is '.': a few hundred of these are usual."""
    start = len(module) - len(pattern)
    if start < 0 or (start > 0 and module[start - 1] != "."):
        return False
    return all(p in (".", m) for p, m in zip(pattern, module[start:], strict=True))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> regex.Pattern[str]:
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise FormatError(
            f"pattern {pattern[:40]!r}... has {len(pattern)} characters > {MAX_PATTERN_LENGTH}",
            hint=_SPELL_OUT,
        )
    if _DANGEROUS.search(pattern):
        raise FormatError(
            f"pattern {pattern!r} uses a construct that can exhaust memory",
            hint="spell module names out, or use only '.', '*', '?', '|', '[...]', '(...)' and '\\d+'",
        )
    try:
        return regex.compile(rf"(.*\.)?({pattern})$")
    except (regex.error, RecursionError) as error:
        raise FormatError(
            f"pattern {pattern!r} is not a regular expression: {error}", hint=_SPELL_OUT
        ) from error
