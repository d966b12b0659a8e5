"""What control needs of exams: the verdict that is kept of a revision, and asking a loaded one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.safety.exam.kept_exam import KeptExam


class Exams(Protocol):
    """The port. A planner's name says by which settings and questions."""

    async def kept(self, planner: str, revision: Revision) -> KeptExam | None:
        """What is kept of this revision; None if it was never examined. Asks no engine. Raises StateError."""
        ...

    async def outdated(self, planner: str, revision: Revision) -> bool:
        """Whether the planner's revisions are examined, and what is kept of this one is stale.

        Raises StateError, EngineDead.
        """
        ...

    def back(self, key: str) -> AbstractContextManager[None]:
        """Within, the deployment of that key counts as one that serves: a rollback goes back to it."""
        ...

    async def examine(
        self, planner: str, deployment: Deployment, told: Callable[[int, int], None]
    ) -> KeptExam:
        """Ask a loaded deployment, whatever ``exam.action`` is, and keep what was found.

        ``told`` hears how many of how many questions are answered. Cancelling ends what it asked and keeps
        nothing. Raises EngineError, EngineDead, ConfigError for questions that cannot be read, StateError.
        """
        ...
