"""What every column of the table must be able to do: put another revision under a planner's name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from process import ServerProcess

MAX_LORAS, RANK, CONTEXT = 6, 16, 1024


@dataclass(frozen=True)
class Setting:
    """What all columns serve, and how."""

    base: Path
    adapters: Path  # holds r00 … r15
    work: Path  # for what a server writes
    load_format: str | None = None
    gpu_memory_utilization: float | None = None
    enforce_eager: bool = False

    def adapter(self, revision: int) -> Path:
        """The folder of a revision's adapter."""
        return self.adapters / f"r{revision:02d}"


@dataclass
class Swap:
    """One swap: ``wall`` seconds until the server said that it serves, and the seconds it named by stage."""

    planner: str
    revision: int
    way: str  # revision, source, rollback
    phase: str = ""
    wall: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


class Column(Protocol):
    """One way to swap, with the server that it needs."""

    name: str
    title: str
    base_model: str
    process: ServerProcess

    async def prepare(self, active: Mapping[str, int]) -> None:
        """After a start: bring the planners to these revisions, if the server did not."""

    async def swap(self, planner: str, revision: int, way: str) -> Swap:
        """Serve ``revision``; returns once the server says that it does, or why not."""

    async def rollback(self, planner: str, revision: int) -> Swap:
        """Serve ``revision``, which served just before, again."""

    def revision_of(self, digest: str) -> int | None:
        """The revision that the server names ``digest`` in its answers."""
