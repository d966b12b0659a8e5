"""Whether journal, store and engine agree, each of them read anew."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.errors import S3LoRAError

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.control.admission_port import Admission
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.control.replica_port import Replica


@dataclass(frozen=True)
class AuditFinding:
    """One thing that was checked."""

    ok: bool
    subject: str  # journal, a planner, a revision, the engine
    message: str


async def audit(
    journal: Journal,
    admission: Admission,
    replica: Replica,
    deciding: Callable[[str], bool],
) -> list[AuditFinding]:
    """Check the journal's chain, every revision that a planner needs, desired state, the engine's slots."""
    agrees, told = await replica.engine_agrees()
    return [
        await asyncio.to_thread(_journal, journal),
        *[_desired(journal, replica, name, deciding(name)) for name in replica.names()],
        *await asyncio.to_thread(_revisions, journal, admission),
        AuditFinding(agrees, "engine", told),
    ]


def _journal(journal: Journal) -> AuditFinding:
    broken = journal.verify()
    if broken is not None:
        return AuditFinding(False, "journal", broken.reason)
    return AuditFinding(
        True, "journal", f"{journal.head().seq} entries, every hash follows from the one before"
    )


def _desired(journal: Journal, replica: Replica, name: str, deciding: bool) -> AuditFinding:
    subject, record, alias = f"planner {name}", journal.planners().get(name), replica.alias(name)
    serving = replica.revision(alias.active).digest
    candidate = replica.revision(alias.candidate).digest if alias.candidate else None
    memory = {"active": serving, "candidate": candidate, "previous": alias.previous}
    for what, digest in memory.items():
        written = getattr(record, what) if record else None
        if written != digest and not deciding:  # else it is being written down at this very moment
            told = f"{what} is {_short(digest)}, written down is {_short(written)}"
            return AuditFinding(False, subject, told)
    state = next(deployment.state for deployment in replica.of(name) if deployment.key == alias.active)
    return AuditFinding(True, subject, f"serves {_short(serving)} ({state})")


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
