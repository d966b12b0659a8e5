"""Changes of guards' and exams' settings in the journal: at each start, those not as they were last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.storage.canonical_json import canonical_bytes, canonical_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.control.journal.journal import Journal

OFF: Mapping[str, Any] = {"action": "off"}  # a planner of which nothing was written down had neither


def write_safety_changes(
    journal: Journal, section: Literal["guard", "exam"], settings: Mapping[str, Mapping[str, Any]]
) -> int:
    """Write ``guard.changed`` or ``exam.changed`` for each planner whose section is not as at the last start.

    Returns how many. ``settings`` are those in force, by planner, without secrets. They stand in the details
    with their digest and the one before: the digests that entries have themselves are of revisions. Raises
    StateError.
    """
    action = f"{section}.changed"
    last = {entry.planner: entry for entry in journal.latest(action)}
    entries = []
    for planner, given in settings.items():
        after = json.loads(canonical_bytes(dict(given)))
        known = last[planner].details.get("settings") if planner in last else None
        before = known if isinstance(known, dict) else dict(OFF)
        if after == before:
            continue
        entries.append(
            NewEntry(
                "planners.yaml",
                action,
                planner,
                reason=f"{section}: {_reason(before, after)}",
                details={
                    "from": canonical_digest(before),
                    "to": canonical_digest(after),
                    "settings": after,
                },
            )
        )
    if entries:
        journal.write(*entries)
    return len(entries)


def _reason(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Both in a few words, or which settings are others."""
    if (was := _short(before)) != (now := _short(after)):
        return f"{was}, now {now}"
    others = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return f"{now}, with another {', '.join(others)}"


def _short(settings: Mapping[str, Any]) -> str:
    action, by = str(settings.get("action")), settings.get("by")
    if action == "off" or not isinstance(by, list):
        return action
    return f"{action} by {' and '.join(map(str, by))}"
