"""A decision as it is handed in (``NewEntry``), and as it stands in the journal (``Entry``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class NewEntry:
    """A decision to write down: who did what, why, and from which digest to which."""

    actor: str
    action: str
    planner: str | None = None
    operation: str | None = None
    from_digest: str | None = None
    to_digest: str | None = None
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON values


@dataclass(frozen=True)
class Entry:
    """A decision as it was written down. ``hash`` covers every other field, the hash before it included."""

    seq: int  # 1, 2, 3, … without a gap
    at: str  # ISO 8601, UTC, microseconds; clocks may step back, seq never does
    actor: str
    action: str
    planner: str | None
    operation: str | None
    from_digest: str | None
    to_digest: str | None
    reason: str
    details: Mapping[str, Any]
    previous_hash: str
    hash: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the names of the fields."""
        return asdict(self)

    @property
    def intact(self) -> bool:
        """Whether the content is what ``hash`` was taken of."""
        content = {key: value for key, value in vars(self).items() if key != "hash"}
        try:
            return canonical_digest(content) == self.hash
        except (TypeError, ValueError):  # a value that no entry was ever written with
            return False
