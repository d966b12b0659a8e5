"""Settings that are no more: for one release a file with them is accepted, with a warning for each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

# Section and setting, and what holds instead.
REMOVED = {
    ("slots", "turn_seconds"): "a planner that was just loaded keeps its slot for 5 seconds",
    ("plans", "max_task_chars"): "a task has at most 32000 characters, and what the model's context holds",
}


@cache
def _warn(message: str) -> None:
    log.warning(message)  # once: a command may read the file several times


def without_removed(
    path: Path, data: Mapping[str, Any], lines: Mapping[tuple[int | str, ...], int]
) -> Mapping[str, Any]:
    """The settings of the file without those that are no more; each one found is warned of."""
    kept = dict(data)
    for (section, name), instead in REMOVED.items():
        given = kept.get(section)
        if isinstance(given, Mapping) and name in given:
            line = lines.get((section, name))
            where = f"{path}, line {line}" if line else path
            _warn(f"{where}: {section}.{name} is ignored: {instead}; delete it")
            kept[section] = {key: value for key, value in given.items() if key != name}
    return kept
