"""Changes of guards' settings in the journal: at each start, those that are not as they were last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.storage.canonical_json import canonical_bytes, canonical_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.control.journal.journal import Journal

GUARD_CHANGED = "guard.changed"
OFF: Mapping[str, Any] = {"action": "off"}  # a planner of which nothing was written down had none


def write_guard_changes(journal: Journal, settings: Mapping[str, Mapping[str, Any]]) -> int:
    """Write an entry for each planner whose guard is not as at the last start. Raises StateError.

    Returns how many. ``settings`` are those in force, by planner, without secrets. They stand in the details
    with their digest and the one before: the digests that entries have themselves are of revisions.
    """
    last = {entry.planner: entry for entry in journal.latest(GUARD_CHANGED)}
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
                GUARD_CHANGED,
                planner,
                reason=_reason(before, after),
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
        return f"guard: {was}, now {now}"
    others = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return f"guard: {now}, with another {', '.join(others)}"


def _short(settings: Mapping[str, Any]) -> str:
    action, by = str(settings.get("action")), settings.get("by")
    if action == "off" or not isinstance(by, list):
        return action
    return f"{action} by {' and '.join(map(str, by))}"
