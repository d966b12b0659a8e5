"""Which deployment answers a request: the active one, or the candidate for its share; sessions stay"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from s3lora_serve.errors import RevisionMismatch
from s3lora_serve.fleet.sessions import SessionMemory
from s3lora_serve.fleet.states import DeploymentState

if TYPE_CHECKING:
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.leases import Role
    from s3lora_serve.fleet.planner import Alias

# An agent's episode that pauses longer than this may meet another revision when it goes on.
SESSION_SECONDS = 3600.0
SESSIONS = 100_000


class Routing:
    """Nothing here awaits: what is chosen is offered at that very moment."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._sessions = SessionMemory(SESSIONS, SESSION_SECONDS, time.monotonic)

    def of(
        self,
        name: str,
        session: str | None,
        request_id: str,
        *,
        revision: str | None = None,
        without: str | None = None,
    ) -> tuple[str, Role]:
        """The key of the deployment, and its role; not the candidate ``without``.

        ``revision`` is a digest or the beginning of one: whichever of the two has it answers. Raises
        UnknownPlanner, RevisionMismatch.
        """
        alias = self._fleet.alias(name)
        candidate, chosen = self._candidate(alias, without), False
        if revision is not None:
            return self._of_revision(alias, candidate, revision)
        if candidate is not None and alias.rollout is not None:
            digest = self._fleet[candidate].revision.digest
            chosen = alias.rollout.chooses(session or request_id, digest)
        if session is not None:
            key = self._sessions.assign(
                name, session, active=alias.active, candidate=candidate, chosen=chosen
            )
        else:
            key = candidate if candidate is not None and chosen else alias.active
        return key, "canary" if key == candidate else "active"

    def _of_revision(self, alias: Alias, candidate: str | None, revision: str) -> tuple[str, Role]:
        active = self._fleet[alias.active].revision.digest
        if active.startswith(revision):
            return alias.active, "active"
        if candidate is not None and self._fleet[candidate].revision.digest.startswith(revision):
            return candidate, "canary"
        raise RevisionMismatch(
            f"planner {alias.name!r} serves revision {active[:12]}, not {revision[:12]}",
            revision=active,
            generation=alias.generation,
            hint="leave the revision out, or ask for the one that serves",
        )

    def _candidate(self, alias: Alias, without: str | None) -> str | None:
        """The candidate, if it may answer."""
        if alias.candidate in (None, without) or alias.rollout is None or alias.rollout.shadow:
            return None
        found = self._fleet.find(str(alias.candidate))
        return None if found is None or found.state is DeploymentState.FAILED else alias.candidate
