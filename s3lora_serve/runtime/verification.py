"""Whether journal, store and engine agree: read from each of them, assumed of none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.errors import S3LoRAError

if TYPE_CHECKING:
    from s3lora_serve.runtime.engine_host import EngineHost
    from s3lora_serve.runtime.fleet import Fleet
    from s3lora_serve.runtime.journal import Journal
    from s3lora_serve.runtime.slots import SlotTable
    from s3lora_serve.runtime.swap import Admission


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    ok: bool
    subject: str  # journal, a planner, a revision, the engine
    message: str


async def verify(
    journal: Journal, admission: Admission, fleet: Fleet, slots: SlotTable, host: EngineHost
) -> list[Finding]:
    """Check the journal's chain, every revision that a planner needs, desired state, the engine's slots."""
    return [
        await asyncio.to_thread(_journal, journal),
        *[_desired(journal, fleet, name) for name in fleet.names()],
        *await asyncio.to_thread(_revisions, journal, admission),
        await _engine(slots, host),
    ]


def _journal(journal: Journal) -> Finding:
    broken = journal.verify()
    if broken is not None:
        return Finding(False, "journal", f"entry {broken.seq}: {broken.reason}")
    return Finding(True, "journal", f"{journal.head().seq} entries, every hash follows from the one before")


def _desired(journal: Journal, fleet: Fleet, name: str) -> Finding:
    record = journal.planners().get(name)
    serving = fleet[fleet.alias(name).active].revision.digest
    written = record.active if record else None
    if written != serving:
        return Finding(
            False, f"planner {name}", f"serves {serving[:12]}, written down is {str(written)[:12]}"
        )
    return Finding(
        True, f"planner {name}", f"serves {serving[:12]} ({fleet[fleet.alias(name).active].state})"
    )


def _revisions(journal: Journal, admission: Admission) -> list[Finding]:
    found = []
    needed = {
        digest: f"{record.name}, {what}"
        for record in journal.planners().values()
        for what, digest in (
            ("previous", record.previous),
            ("candidate", record.candidate),
            ("active", record.active),
        )
        if digest is not None
    }
    for digest, who in needed.items():
        try:
            revision = admission.restore(digest)
        except S3LoRAError as error:
            found.append(Finding(False, f"revision {digest[:12]} ({who})", error.message))
        else:
            size = revision.lineage.weights_bytes / 2**20
            found.append(
                Finding(True, f"revision {digest[:12]} ({who})", f"as published, {size:.1f} MiB read again")
            )
    return found


async def _engine(slots: SlotTable, host: EngineHost) -> Finding:
    try:
        loaded = await host.current.loaded()
    except S3LoRAError as error:
        return Finding(False, "engine", error.message)
    ours = {slot.id: slot.name for slot in slots.live}
    if missing := [name for id_, name in ours.items() if id_ not in loaded]:
        return Finding(False, "engine", f"does not hold {', '.join(sorted(missing))}")
    if strange := sorted(loaded - ours.keys()):
        return Finding(False, "engine", f"holds slots that nobody loaded here: {strange}")
    return Finding(True, "engine", f"{host.current.version} holds {', '.join(ours.values()) or 'no slot'}")
