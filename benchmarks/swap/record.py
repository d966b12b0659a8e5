"""How long a column is driven, and what it showed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from column import Swap


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    swaps: int = 1000
    interval: float = 1.5  # seconds from one swap's end to the next one's begin
    blocks: int = 20  # the swaps come in this many blocks, with a quiet phase before each
    quiet: float = 15.0  # seconds of such a phase
    alone: int = 30  # swaps without any load
    rollbacks: int = 20
    deaths: int = 3  # each: the engine's process killed, and the server killed


@dataclass
class Record:
    """What one column showed; the raw material of the table."""

    name: str
    title: str
    start_seconds: float = 0.0
    swaps: list[Swap] = field(default_factory=list)
    verdicts: dict[str, Counter[str]] = field(default_factory=dict)  # phase → verdict → answers
    errors: Counter[str] = field(default_factory=Counter)  # what failed answers said
    gaps: dict[str, list[float]] = field(default_factory=dict)  # phase → of the background stream, seconds
    tokens: dict[str, int] = field(default_factory=dict)  # phase → chunks of text of all clients
    phase_seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)  # after how many swaps → rss, pss
    crashes: list[dict[str, Any]] = field(default_factory=list)
    recovery: dict[str, list[float]] = field(default_factory=dict)
    orphans: list[int] = field(
        default_factory=list
    )  # processes that outlived a killed server by five seconds
    bad: list[dict[str, Any]] = field(default_factory=list)  # the first bad answers, whole
    notes: list[str] = field(default_factory=list)
