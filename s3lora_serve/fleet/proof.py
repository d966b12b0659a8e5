"""What was proved of a deployment before it answered requests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effect:
    """Largest change of a probe token's log-probability (nats): by the adapter, and between base runs."""

    max_abs_delta: float
    noise: float
