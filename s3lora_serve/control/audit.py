"""Whether journal, store and engine agree, each of them read anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.control.journal.journal_findings import AuditFinding, journal_findings
from s3lora_serve.errors import S3LoRAError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3lora_serve.control.admission_port import Admission
    from s3lora_serve.control.journal.chain import Head
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.control.replica_port import Replica
    from s3lora_serve.fleet.planner_record import PlannerRecord
    from s3lora_serve.storage.daemon_threads import DaemonThreads


async def audit(
    journal: Journal,
    admission: Admission,
    replica: Replica,
    deciding: Callable[[str], bool],
    threads: DaemonThreads,
    noted: Head | None = None,
) -> list[AuditFinding]:
    """Check the journal's chain and tables, every revision that a planner needs, and the engine's slots.

    ``noted`` is a head of the journal that was kept elsewhere. What cannot be read is a finding.
    """
    agrees, told = await replica.engine_agrees()
    found = await threads.run(journal_findings, journal, noted)
    try:
        rows = await threads.run(journal.planner_rows)
    except StateError:  # which is among the findings by now
        rows = None
    bad = {finding.subject for finding in found if not finding.ok}
    if rows is not None:
        names = (name for name in replica.names() if f"planner {name}" not in bad)
        found += [_desired(rows.get(name), replica, name, deciding(name)) for name in names]
        found += await threads.run(_revisions, rows, admission)
    return [*found, AuditFinding(agrees, "engine", told)]


def _desired(record: PlannerRecord | str | None, replica: Replica, name: str, deciding: bool) -> AuditFinding:
    subject, alias = f"planner {name}", replica.alias(name)
    if alias.withheld:
        hint = "order a swap to what it shall serve"
        return AuditFinding(False, subject, f"is not served since the start: {alias.withheld}", hint)
    serving = replica.revision(alias.active).digest
    candidate = replica.revision(alias.candidate).digest if alias.candidate else None
    memory = {"active": serving, "candidate": candidate, "previous": alias.previous}
    for what, digest in memory.items():
        written = getattr(record, what, None)
        if written != digest and not deciding:  # else it is being written down at this very moment
            told = f"{what} is {_short(digest)}, written down is {_short(written)}"
            return AuditFinding(False, subject, told, "the next order or restart settles it; look who writes")
    state = next(deployment.state for deployment in replica.of(name) if deployment.key == alias.active)
    return AuditFinding(True, subject, f"serves {_short(serving)} ({state})")


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"


def _revisions(rows: Mapping[str, PlannerRecord | str], admission: Admission) -> list[AuditFinding]:
    found = []
    needed = {
        digest: f"{record.name}, {what}"
        for record in rows.values()
        if not isinstance(record, str)
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
            found.append(AuditFinding(False, f"revision {digest[:12]} ({who})", error.message, error.hint))
        else:
            size = revision.lineage.weights_bytes / 2**20
            found.append(
                AuditFinding(
                    True, f"revision {digest[:12]} ({who})", f"as published, {size:.1f} MiB read again"
                )
            )
    return found
