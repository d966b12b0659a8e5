"""The key of an agent's episode, which must not change revision midway."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER = "x-s3lora-session"
_LONGEST = 128  # characters that are kept for each session


def session_of(headers: Mapping[str, str], fields: Mapping[str, Any] | None = None) -> str | None:
    """The header, else OpenAI's ``user``; None without either. A long one is kept as its hash."""
    user = (fields or {}).get("user")
    session = headers.get(HEADER) or (user if isinstance(user, str) else "")
    if len(session) > _LONGEST:
        session = hashlib.sha256(session.encode("utf-8", "surrogatepass")).hexdigest()
    return session or None
