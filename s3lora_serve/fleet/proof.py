"""What was proved of a deployment before it answered requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Effect:
    """Largest change of a probe token's log-probability (nats): by the adapter, and between base runs."""

    max_abs_delta: float
    noise: float


@dataclass(frozen=True)
class Proof:
    """What one check found: the effect where it measured that, and further facts as JSON values."""

    effect: Effect | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
