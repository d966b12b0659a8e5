"""The replica in this process: control's orders carried out on the fleet in memory and its one engine."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from s3lora_serve.errors import EngineDead, ExamFailed, S3LoRAError
from s3lora_serve.fleet.deployment import DeploymentState
from s3lora_serve.fleet.slots import slot_name
from s3lora_serve.fleet.states import LOADED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.leases import LeaseBook
    from s3lora_serve.fleet.planner import Alias
    from s3lora_serve.fleet.slots import SlotTable
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor
    from s3lora_serve.serving.loading import Loading

log = logging.getLogger(__name__)

_S = DeploymentState
# Seconds for a slot after a restart: requests may have taken what there is. Then it is loaded on demand.
_PATIENCE = 5.0


class LocalReplica:
    """What each method promises says the port, ``control/replica_port.py``."""

    def __init__(
        self, host: EngineSupervisor, fleet: Fleet, slots: SlotTable, loading: Loading, leases: LeaseBook
    ) -> None:
        self._host = host
        self._fleet = fleet
        self._slots = slots
        self._loading = loading
        self._leases = leases
        self.names, self.alias, self.of, self.find = fleet.names, fleet.alias, fleet.of, fleet.find
        self.flip, self.remove = fleet.flip, fleet.remove
        self.held = loading.held

    def revision(self, key: str) -> Revision:
        """As the port says."""
        return self._fleet[key].revision

    def meant(self, key: str) -> bool:
        """As the port says."""
        return self._fleet.role(key) is not None

    async def prepare(
        self, planner: str, revision: Revision, tell: Callable[[str], None], seconds: float
    ) -> Deployment:
        """As the port says."""
        while True:
            await self._loading.left(slot_name(planner, revision.digest))
            key = self._fleet.add(planner, revision).key
            try:
                await self._loading.load(key, tell, seconds)
            except BaseException:
                self.discard(key)
                raise
            # Else it joined a load for a decision that was given up, which was on its way out again.
            if (deployment := self._fleet.find(key)) is not None and deployment.state in LOADED:
                return deployment

    async def drain(self, key: str, seconds: float) -> tuple[tuple[str, ...], bool]:
        """As the port says."""
        cut, empty = await self._leases.drained(key, seconds, lambda: self._draining(key))
        return cut, empty and self._draining(key)

    def _draining(self, key: str) -> bool:
        deployment = self._fleet.find(key)
        return deployment is not None and deployment.state is _S.DRAINING

    async def keep(self, key: str) -> Deployment | None:
        """As the port says."""
        await self._loading.released(key)
        return self._fleet.set(self._fleet[key].to(_S.STANDBY)) if self._draining(key) else None

    async def drop(self, deployment: Deployment, *, patient: bool = False) -> bool:
        """As the port says."""
        if patient:
            await self._loading.released(deployment.key)
        return self._fleet.find(deployment.key) is deployment and await self._loading.unload(deployment.key)

    def discard(self, key: str) -> None:
        """As the port says."""
        deployment = self._fleet.find(key)
        if deployment is not None and deployment.slot is None and not self.meant(key):
            self._fleet.forget(key)

    async def restore(self, planners: Sequence[tuple[Alias, Revision]]) -> None:
        """As the port says."""
        for alias, revision in planners:
            self._fleet.place(alias, revision)
        for alias, _ in sorted(planners, key=lambda planner: planner[0].desired.pinned):
            if not alias.withheld:
                await self._bring_in(alias)

    async def _bring_in(self, alias: Alias) -> None:
        key = alias.active
        try:
            await self._loading.load(key)
        except EngineDead:
            raise
        except ExamFailed as error:
            # The others are proved, and this one is what its operator has to decide about.
            log.error("planner %s is not served: %s", alias.name, error)
            self._fleet.place(replace(alias, withheld=error.message, withheld_by="exam"))
            self._fleet.forget(key)  # it is to begin anew, should an order say that it serves
        except S3LoRAError as error:
            self._fail(key, str(error))
        except Exception as error:  # a defect met by one adapter must not keep the others from serving
            log.exception("%s: unexpected failure", key)
            self._fail(key, f"{type(error).__name__}: {error}")

    def _fail(self, key: str, reason: str) -> None:
        deployment = self._fleet[key]
        if deployment.state is not _S.FAILED:
            self._fleet.set(deployment.to(_S.FAILED, reason=reason))

    async def restore_candidate(self, alias: Alias, candidate: Revision) -> None:
        """As the port says."""
        self._fleet.place(alias, candidate)
        try:
            for key in (alias.active, str(alias.candidate)):  # the active one may have been evicted again
                await self._loading.load(key, seconds=_PATIENCE)
        except EngineDead:
            raise
        except Exception:
            self._fleet.place(replace(alias, candidate=None, rollout=None))
            self.discard(str(alias.candidate))
            raise

    async def reload(self) -> None:
        """As the port says."""
        wanted = []
        for alias in map(self._fleet.alias, self._fleet.names()):
            wanted.append((not alias.desired.pinned, alias.active))
            if alias.candidate is not None:
                wanted.append((False, alias.candidate))
        wanted = sorted(wanted)[: self._loading.capacity]
        for number, (_, key) in enumerate(wanted, start=1):
            # An order may have changed what the names mean while others were loaded.
            if not self.meant(key) or self._fleet[key].state is not _S.EVICTED:
                continue
            self._host.stage(f"loading planner {number} of {len(wanted)}")
            try:
                await self._loading.load(key, seconds=_PATIENCE)
            except EngineDead:
                raise
            except Exception as error:  # one adapter must not keep the engine from coming back
                log.error("%s could not be loaded again: %s", key, error)

    async def engine_agrees(self) -> tuple[bool, str]:
        """As the port says."""
        before = {slot.id for slot in self._slots.live}
        held = self._in_engine()
        try:
            loaded = await self._host.current.loaded()
        except S3LoRAError as error:
            return False, error.message
        ours = held & self._in_engine()  # what came or went while the engine was asked is no finding
        if missing := sorted(name for id_, name in ours if id_ not in loaded):
            return False, f"does not hold {', '.join(missing)}"
        if strange := sorted(loaded - before - {slot.id for slot in self._slots.live}):
            return False, f"holds slots that were not loaded here: {strange}"
        names = ", ".join(sorted(name for _, name in ours)) or "no slot"
        return True, f"{self._host.current.version} holds {names}"

    def _in_engine(self) -> set[tuple[int, str]]:
        return {(d.slot.id, d.slot.name) for d in self._fleet.deployments() if d.slot and d.state in LOADED}
