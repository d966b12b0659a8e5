"""The server's memory, descriptors and routes while the soak runs, and whether they stayed flat."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psutil
    from soak_server import SoakServer

MIB = 2**20
EVERY = 5.0  # seconds
# What the last third may have over the middle one: allocators and pools settle late, a leak does not.
MORE_MIB, MORE_DESCRIPTORS, MORE_BYTES = 24.0, 16.0, 8192.0


@dataclass(frozen=True)
class Sample:
    """Of the server's process: resident MiB, open files, and how many of each kind; bytes of /metrics;
    seconds of /livez (-1: none).
    """

    at: float
    rss: float
    descriptors: int
    metrics: int
    alive: float
    kinds: Mapping[str, int]


@dataclass(frozen=True)
class Trend:
    """A quantity after the first third: medians of the middle and the last third, and its slope."""

    middle: float
    last: float
    per_minute: float

    def flat(self, more: float) -> bool:
        """Whether the last third has no more than ``more`` over the middle one."""
        return self.last - self.middle <= more


def trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """Raises ValueError for fewer than six samples."""
    third = len(values) // 3
    if third < 2:
        raise ValueError(f"{len(values)} samples are too few for a trend")
    slope = statistics.linear_regression([at / 60 for at in times[third:]], values[third:]).slope
    middle, last = statistics.median(values[third:-third]), statistics.median(values[-third:])
    return Trend(middle, last, slope)


class Measured:
    """``samples``, every five seconds; each is a line of ``OUT/samples.jsonl``, too."""

    def __init__(self, server: SoakServer) -> None:
        self.samples: list[Sample] = []
        self._server = server
        self._path = server.root / "samples.jsonl"

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.samples.append(await asyncio.to_thread(self._sample))
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(self.samples[-1])) + "\n")
            await asyncio.sleep(EVERY)

    def _sample(self) -> Sample:
        main: psutil.Process = self._server.main
        began = time.monotonic()
        try:
            httpx.get(f"{self._server.url}/livez", timeout=30).raise_for_status()
            alive = time.monotonic() - began
        except httpx.HTTPError:
            alive = -1.0
        try:
            metrics = self._server.metrics_bytes()
        except httpx.HTTPError:
            metrics = self.samples[-1].metrics if self.samples else 0
        kinds = _open_files(main.pid)
        descriptors = sum(kinds.values())
        return Sample(time.time(), main.memory_info().rss / MIB, descriptors, metrics, alive, kinds)


def _open_files(pid: int) -> dict[str, int]:
    """How many of each kind: socket, pipe, anon_inode, or a file by its name."""
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            target = str(entry.readlink())
            found[target.partition(":")[0] if ":[" in target else Path(target).name] += 1
    return dict(found)
