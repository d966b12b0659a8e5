"""JSON with exactly one spelling, for digests, and a reader that accepts only strict JSON."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Never

if TYPE_CHECKING:
    from collections.abc import Sequence


def canonical_bytes(value: Any) -> bytes:
    """The one spelling of ``value``: sorted keys, no spaces, ASCII. Raises ValueError on NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def canonical_digest(value: Any) -> str:
    """sha256 (64 hex digits) of ``canonical_bytes(value)``."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()


def strict_loads(raw: bytes) -> Any:
    """Parse UTF-8 JSON; raises ValueError on duplicate keys, NaN, infinity or nesting too deep for Python.

    Python's own parser keeps the last of two equal keys and other parsers keep the first, so a file with
    duplicates could mean one thing to the check and another to the engine.
    """
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def excerpt(value: object, limit: int = 80) -> str:
    """``repr(value)`` cut to ``limit`` characters: what a message quotes may be a megabyte long."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"key {excerpt(name)} appears twice")
            seen.add(name)
    return result


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not a JSON number")
