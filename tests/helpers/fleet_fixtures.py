"""Fleets that are closed at the end of the test, whatever became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from fleet_factory import Fleet


@pytest_asyncio.fixture
async def fleet_of(tmp_path: Path) -> AsyncIterator[Callable[..., Fleet]]:
    """``fleet_of("p", "q", pinned=("p",), max_loras=2)``: a fleet that is not started yet.

    At the end it is stopped, and no law of the engine's port may have been broken.
    """
    from fleet_factory import make_fleet

    fleets: list[Fleet] = []

    def make(*names: str, **options: object) -> Fleet:
        root = options.pop("root", tmp_path / f"fleet{len(fleets)}")
        root.mkdir(exist_ok=True)
        fleets.append(make_fleet(root, *names, **options))
        return fleets[-1]

    yield make
    for fleet in fleets:
        await fleet.close()
    assert [text for fleet in fleets for text in fleet.starts.violations] == []
