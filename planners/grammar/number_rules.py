"""Grammar rules for numbers between bounds, as json.dumps writes them: no leading zero, no "+", no exponent.

A fraction ends in a digit other than 0, or is ``.0``, and all digits together are what a float keeps: so the
number that is read is written in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planners.arguments.types import MOST_DIGITS

if TYPE_CHECKING:
    from planners.arguments.types import Number

_LARGEST: int = 10**MOST_DIGITS - 1
_LARGEST_WITH_FRACTION = 10**9 - 1

FRACTION_RULES = (
    'fraction ::= "." [0-9]{0,5} [1-9]',
    # More zeros, and Python would write an exponent.
    'small ::= "." ("" | "0" | "00" | "000") [1-9] ([0-9]{0,4} [1-9])?',
)


def number(kind: Number) -> str:
    """Alternatives for all numbers of this kind, of 15 digits at most. Never empty for a ``Number``."""
    least, most = _bounds(kind)
    whole = _signed(least + kind.above, most - kind.below)
    if kind.whole:
        return " | ".join(whole)
    ways = [f'{way} ".0"?' for way in whole]
    # n.5 lies between n and n + 1, -n.5 between -n - 1 and -n: both must be within the bounds.
    for sign, low, high in (("", max(0, least), most - 1), ('"-" ', max(0, -most), -least - 1)):
        high = min(high, _LARGEST_WITH_FRACTION)
        if low == 0 <= high:
            ways.append(f'{sign}"0" small')
        if max(1, low) <= high:
            ways += [f"{sign}{way} fraction" for way in _between(max(1, low), high)]
    return " | ".join(ways)


def most_digits(kind: Number) -> int:
    """Characters of the longest number of this kind, or a few more; never fewer."""
    whole = max(len(str(bound)) for bound in _bounds(kind))
    # A fraction has six digits, or nine after "0." in all, and stands after nine at most and a sign.
    return whole if kind.whole else max(whole + 2, min(whole, 10) + 7, len("-0.000123456"))


def _bounds(kind: Number) -> tuple[int, int]:
    return (
        -_LARGEST if kind.least is None else kind.least,
        _LARGEST if kind.most is None else kind.most,
    )


def _signed(least: int, most: int) -> list[str]:
    ways = []
    if least < 0:
        ways += [f'"-" {way}' for way in _between(max(1, -most), -least)]
    if most >= 0:
        ways += _between(max(0, least), most)
    return ways


def _between(low: int, high: int) -> list[str]:
    """The whole numbers from ``low`` ≥ 0 to ``high``, by their number of digits."""
    if (low, high) == (1, _LARGEST):
        return [f"[1-9] [0-9]{{0,{MOST_DIGITS - 1}}}"]
    if low > high:
        return []
    ways = []
    for digits in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (digits - 1) if digits > 1 else 0)
        ways += _same_length(str(first), str(min(high, 10**digits - 1)))
    return ways


def _same_length(low: str, high: str) -> list[str]:
    if not low:
        return [""]
    rest, a, b = len(low) - 1, int(low[0]), int(high[0])
    if a == b:
        return [f'"{a}" {way}'.strip() for way in _same_length(low[1:], high[1:])]
    ways, last = [], []
    if low[1:] != "0" * rest:
        ways = [f'"{a}" {way}' for way in _same_length(low[1:], "9" * rest)]
        a += 1
    if high[1:] != "9" * rest:
        last = [f'"{b}" {way}' for way in _same_length("0" * rest, high[1:])]
        b -= 1
    if a <= b:
        ways.append(f"[{a}-{b}]" + (f" [0-9]{{{rest}}}" if rest else ""))
    return ways + last
