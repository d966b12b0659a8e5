"""Whether journal, store and engine agree, each of them read anew."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.errors import S3LoRAError
from s3lora_serve.fleet.states import LOADED

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.control.admission_port import Admission
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.slots import SlotTable
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor


@dataclass(frozen=True)
class AuditFinding:
    """One thing that was checked."""

    ok: bool
    subject: str  # journal, a planner, a revision, the engine
    message: str


async def audit(
    journal: Journal,
    admission: Admission,
    fleet: Fleet,
    slots: SlotTable,
    host: EngineSupervisor,
    deciding: Callable[[str], bool],
) -> list[AuditFinding]:
    """Check the journal's chain, every revision that a planner needs, desired state, the engine's slots."""
    return [
        await asyncio.to_thread(_journal, journal),
        *[_desired(journal, fleet, name, deciding(name)) for name in fleet.names()],
        *await asyncio.to_thread(_revisions, journal, admission),
        await _engine(fleet, slots, host),
    ]


def _journal(journal: Journal) -> AuditFinding:
    broken = journal.verify()
    if broken is not None:
        return AuditFinding(False, "journal", broken.reason)
    return AuditFinding(
        True, "journal", f"{journal.head().seq} entries, every hash follows from the one before"
    )


def _desired(journal: Journal, fleet: Fleet, name: str, deciding: bool) -> AuditFinding:
    subject, record, alias = f"planner {name}", journal.planners().get(name), fleet.alias(name)
    serving = fleet[alias.active].revision.digest
    candidate = fleet[alias.candidate].revision.digest if alias.candidate else None
    memory = {"active": serving, "candidate": candidate, "previous": alias.previous}
    for what, digest in memory.items():
        written = getattr(record, what) if record else None
        if written != digest and not deciding:  # else it is being written down at this very moment
            told = f"{what} is {_short(digest)}, written down is {_short(written)}"
            return AuditFinding(False, subject, told)
    return AuditFinding(True, subject, f"serves {_short(serving)} ({fleet[alias.active].state})")


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"


def _revisions(journal: Journal, admission: Admission) -> list[AuditFinding]:
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
            found.append(AuditFinding(False, f"revision {digest[:12]} ({who})", error.message))
        else:
            size = revision.lineage.weights_bytes / 2**20
            found.append(
                AuditFinding(
                    True, f"revision {digest[:12]} ({who})", f"as published, {size:.1f} MiB read again"
                )
            )
    return found


async def _engine(fleet: Fleet, slots: SlotTable, host: EngineSupervisor) -> AuditFinding:
    before = {slot.id for slot in slots.live}
    held = _in_engine(fleet)
    try:
        loaded = await host.current.loaded()
    except S3LoRAError as error:
        return AuditFinding(False, "engine", error.message)
    ours = held & _in_engine(fleet)  # what came or went while the engine was asked is no finding
    if missing := sorted(name for id_, name in ours if id_ not in loaded):
        return AuditFinding(False, "engine", f"does not hold {', '.join(missing)}")
    if strange := sorted(loaded - before - {slot.id for slot in slots.live}):
        return AuditFinding(False, "engine", f"holds slots that were not loaded here: {strange}")
    names = ", ".join(sorted(name for _, name in ours)) or "no slot"
    return AuditFinding(True, "engine", f"{host.current.version} holds {names}")


def _in_engine(fleet: Fleet) -> set[tuple[int, str]]:
    return {(d.slot.id, d.slot.name) for d in fleet.deployments() if d.slot and d.state in LOADED}
