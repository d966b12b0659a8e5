"""How a request gets its deployment: chosen, loaded if needed, leased in one step with the lookup."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from s3lora_serve.errors import (
    EngineDead,
    EngineRefused,
    GuardUndecided,
    LeaseCut,
    PlannerNotReady,
    PlannerWithheld,
    RefusedByGuard,
    S3LoRAError,
    ShuttingDown,
    WithheldByExam,
)
from s3lora_serve.fleet.leases import Lease
from s3lora_serve.fleet.routing import Routing
from s3lora_serve.fleet.states import UP, DeploymentState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.leases import LeaseBook
    from s3lora_serve.fleet.planner import Alias
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor
    from s3lora_serve.serving.loading import Loading

log = logging.getLogger(__name__)

# How a request can end that says nothing of the revision: its client left or asked for what no model can
# do, the engine died, the revision was withdrawn, the server stops, or the guard keeps the answer back. Else
# an engine death would roll back an innocent one.
_BLAMELESS = (
    asyncio.CancelledError, GeneratorExit, EngineDead, LeaseCut, ShuttingDown,
    RefusedByGuard, GuardUndecided,
)  # fmt: skip


class Acquirer:
    """Gives requests their leases, and takes them back."""

    def __init__(
        self, host: EngineSupervisor, fleet: Fleet, loading: Loading, leases: LeaseBook, base_model: str
    ) -> None:
        self._host = host
        self._fleet = fleet
        self._loading = loading
        self._leases = leases
        self._base_model = base_model
        self._choice = Routing(fleet)

    @asynccontextmanager
    async def lease(
        self,
        name: str,
        *,
        revision: str | None = None,
        session: str | None = None,
        request_id: str = "",
    ) -> AsyncIterator[Lease]:
        """Hold the planner's deployment for one request; lookup and lease are one step.

        ``revision`` (a digest, or its beginning) is the only one that may answer, if given. Raises
        UnknownPlanner, RevisionMismatch, PlannerWithheld, PlannerNotReady, SlotsBusy, EngineDead,
        ShuttingDown.
        """
        lease = await self._take(name, revision, session, request_id)
        try:
            yield lease
        except BaseException as error:
            if lease.outcome == "ok":
                lease.outcome = "aborted" if isinstance(error, _BLAMELESS) else "error"
                if isinstance(error, EngineRefused):
                    lease.outcome = "refused"
            raise
        finally:
            self._leases.give_back(lease)

    async def _take(self, name: str, revision: str | None, session: str | None, request_id: str) -> Lease:
        without: str | None = None
        while True:
            self._host.current  # noqa: B018  (raises EngineDead while there is none)
            key, role = self._choice.of(name, session, request_id, revision=revision, without=without)
            deployment = self._fleet[key]
            if (alias := self._fleet.alias(name)).withheld:
                raise _withheld(alias)
            if self._loading.usable(deployment):
                # No await since the choice: nothing can have changed in between.
                lease = Lease(deployment, deployment.model(self._base_model), role, request_id, session)
                self._leases.take(lease)
                self._loading.used(key)
                return lease
            if deployment.state is DeploymentState.FAILED:
                raise self._not_ready(deployment)
            try:
                await self._loading.ensure(key)
            except ShuttingDown:
                raise
            except (KeyError, S3LoRAError) as error:
                if self._fleet.role(key) is None:
                    continue  # another decision was made meanwhile: ask again
                if role == "active" or revision is not None or isinstance(error, EngineDead):
                    raise
                # A candidate is an experiment: that it cannot be loaded must not cost an answer.
                log.warning("%s answers for its candidate: %s", name, error)
                without = key

    def _not_ready(self, deployment: Deployment) -> PlannerNotReady:
        why = f": {deployment.reason}" if deployment.reason else ""
        actives = {name: self._fleet[self._fleet.alias(name).active].state for name in self._fleet.names()}
        able = UP | {DeploymentState.EVICTED}
        up = ", ".join(sorted(name for name, state in actives.items() if state in able)) or "none"
        return PlannerNotReady(
            f"planner {deployment.planner!r} does not serve ({deployment.state}){why}; serving: {up}"
        )


def _withheld(alias: Alias) -> PlannerNotReady:
    """What clients of a planner that is withheld are told."""
    if alias.withheld_by == "exam":
        return WithheldByExam(
            f"planner {alias.name!r} is stopped: {alias.withheld}",
            hint="an operator has to order another adapter (of a source that sources.allow names), or set"
            " exam.action to observe or off and restart",
        )
    return PlannerWithheld(
        f"planner {alias.name!r} is stopped: what it shall serve is not what the journal proves",
        hint="an operator has to order what it shall serve; the audit says more",
    )
