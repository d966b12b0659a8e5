"""Which planner gets an engine slot: a free one, or one that can be taken; in turns when all are busy"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from s3lora_serve.fleet.states import DeploymentState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.leases import LeaseBook
    from s3lora_serve.fleet.notify import Notifier
    from s3lora_serve.fleet.slots import SlotTable
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor

_S = DeploymentState


# A busy planner keeps its slot this long while others wait for one, so that slots do not thrash.
TURN_SECONDS = 5.0


class SlotAllocator:
    """Decides which deployments hold the engine's slots.

    Pinned planners and candidates keep theirs. Others lose theirs when a planner needs one: first what is
    only kept for a rollback, then the planner that was idle longest. When all are busy, the one that has had
    its slot longest gets no new leases, so that it drains and the slot changes hands: every planner gets its
    turn, and a slot is not reloaded for every request. A deployment with a lease is never taken.
    """

    def __init__(
        self,
        host: EngineSupervisor,
        fleet: Fleet,
        slots: SlotTable,
        leases: LeaseBook,
        notifier: Notifier,
    ) -> None:
        self._host = host
        self._fleet = fleet
        self._slots = slots
        self._leases = leases
        self._notifier = notifier
        self._queue = asyncio.Lock()  # first come, first served
        self._reserved: set[object] = set()  # loads that were promised a slot and do not have one yet
        self._held: Counter[str] = Counter()  # a decision about them is on its way
        self._used: dict[str, float] = {}  # key → when it was last leased
        self._since: dict[str, float] = {}  # key → when it got its slot
        self.yielding: set[str] = set()  # get no new leases, because another one waits for their slot

    @property
    def taken(self) -> int:
        """Slots that are held or promised."""
        return len(self._slots.live) + len(self._reserved)

    async def reserve(self, load: object, key: str, evict: Callable[[Deployment], Awaitable[None]]) -> None:
        """Promise ``load`` a slot for the deployment once there is one; ``evict`` takes a slot from another.

        Raises EngineDead, and KeyError when the deployment is not wanted any more.
        """
        async with self._queue:
            try:
                while True:
                    planner = self._fleet[key].planner
                    if self._free():
                        break
                    if (victim := self._victim(planner)) is not None:
                        await evict(victim)
                        continue
                    self._let_one_drain()
                    turn = max(TURN_SECONDS / 4, 0.01)
                    await self._notifier.until(lambda: self._news(key), turn)
                self._reserved.add(load)
            finally:
                # The one that was to make room for this load has done so, or need not any more.
                self.yielding.clear()
                self._notifier.ring()

    def settled(self, load: object) -> None:
        """The load has its slot in the table, or needs none any more."""
        self._reserved.discard(load)

    def hold(self, key: str) -> None:
        """Do not take this deployment's slot, until ``let_go`` was called as often."""
        self._held[key] += 1

    def let_go(self, key: str) -> None:
        """Take one ``hold`` back."""
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]
        self._notifier.ring()

    def holds(self, key: str) -> bool:
        """Whether a decision about this deployment is on its way."""
        return key in self._held

    def came(self, key: str) -> None:
        """The deployment got a slot."""
        self._since[key] = self._used[key] = time.monotonic()

    def used(self, key: str) -> None:
        """A lease on it was taken: the eviction order follows from it."""
        self._used[key] = time.monotonic()

    def left(self, key: str) -> None:
        """The deployment has no slot any more."""
        self.yielding.discard(key)
        self._since.pop(key, None)
        self._used.pop(key, None)

    def _free(self) -> bool:
        return self.taken < self._host.current.capacity

    def _news(self, key: str) -> bool:
        deployment = self._fleet.find(key)
        return deployment is None or self._free() or self._victim(deployment.planner) is not None

    def _victim(self, planner: str) -> Deployment | None:
        """Whose slot ``planner`` can have: a standby's, else that of the unpinned planner idle longest."""
        idle = [
            d
            for d in self._fleet.deployments()
            if d.slot is not None and not self._leases.count(d.key) and not self.holds(d.key)
        ]
        standby = [d for d in idle if d.state is _S.STANDBY]
        serving = [d for d in idle if d.state is _S.SERVING and self._evictable(d)]

        def rank(d: Deployment) -> tuple[bool, bool, float]:
            # What serves the very planner comes last: it is better not to serve from a load.
            return d.planner == planner, d.key not in self.yielding, self._used.get(d.key, 0.0)

        return min(standby or serving, key=rank, default=None)

    def _evictable(self, deployment: Deployment) -> bool:
        alias = self._fleet.alias(deployment.planner)
        return not alias.desired.pinned and alias.candidate is None and not self.holds(deployment.key)

    def _let_one_drain(self) -> None:
        now = time.monotonic()
        busy = [
            d for d in self._fleet.deployments() if d.state is _S.SERVING and d.slot and self._evictable(d)
        ]
        self.yielding &= {d.key for d in busy}  # others may have been pinned or swapped meanwhile
        had_turn = [d for d in busy if now - self._since.get(d.key, now) >= TURN_SECONDS]
        if had_turn and not self.yielding:
            self.yielding.add(min(had_turn, key=lambda d: self._since[d.key]).key)
