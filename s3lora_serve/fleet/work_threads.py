"""The threads of a server, by what their calls wait for: none of these ever waits behind another."""

from __future__ import annotations

from dataclasses import dataclass

from s3lora_serve.storage.daemon_threads import DaemonThreads, abandoned


@dataclass(frozen=True)
class WorkThreads:
    """Made with ``of``. A source that does not answer takes places in ``admission`` and nowhere else."""

    admission: DaemonThreads  # fetch, verify, score, prune, publish
    looks: DaemonThreads  # where an order's folder lies
    files: DaemonThreads  # what was published is read again before it serves; planners.yaml
    audit: DaemonThreads  # all that is published and the whole journal are read
    journal: DaemonThreads

    @property
    def abandoned(self) -> int:
        """Threads of this process that nothing waits for any more, and that still hang."""
        return abandoned()

    @classmethod
    def of(cls, admissions: int) -> WorkThreads:
        """With places for so many admissions at a time."""
        return cls(
            admission=DaemonThreads("admission", admissions),
            looks=DaemonThreads("looks", 8),
            files=DaemonThreads("files", 4),
            audit=DaemonThreads("audit", 2),
            journal=DaemonThreads("journal", 4),
        )
