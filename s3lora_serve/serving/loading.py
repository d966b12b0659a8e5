"""Which deployments are in the engine: loaded, proved, and unloaded, but never while leased"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.errors import EngineDead, PlannerNotReady, ShuttingDown, SlotsBusy
from s3lora_serve.fleet.deployment import Deployment, DeploymentState
from s3lora_serve.fleet.states import LOADED, TRANSITIONS
from s3lora_serve.serving import slot_allocator
from s3lora_serve.serving.loader import Loader
from s3lora_serve.serving.slot_allocator import SlotAllocator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from s3lora_serve.config import SlotsConfig
    from s3lora_serve.engine.port import Slot
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.leases import LeaseBook
    from s3lora_serve.fleet.notify import Notifier
    from s3lora_serve.fleet.slots import SlotTable
    from s3lora_serve.serving.checks.check import Check
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor

log = logging.getLogger(__name__)

_S = DeploymentState


@dataclass(eq=False)
class _Load:
    """One load; callers that want the same deployment meanwhile wait for the same one."""

    key: str
    task: asyncio.Task[Deployment] | None = None
    waiting: int = 0  # callers that wait for it
    placed: bool = False  # it has its slot; from here on it runs to its end, even if all callers leave,
    long: bool = False  # but for a long check of what no name means
    tell: Callable[[str], None] = lambda _: None

    @property
    def done(self) -> bool:
        """Whether it has come to its end, good or bad."""
        return self.task is not None and self.task.done()

    def placed_or_done(self) -> bool:
        """Whether it need not wait for a slot any more."""
        return self.placed or self.done


class Loading:
    """Brings deployments into the engine and takes them out; ``SlotAllocator`` decides which has to go."""

    def __init__(
        self,
        host: EngineSupervisor,
        fleet: Fleet,
        slots: SlotTable,
        leases: LeaseBook,
        notifier: Notifier,
        settings: SlotsConfig,
        checks: Sequence[Check],
        reread: Callable[[str], Awaitable[object]],
    ) -> None:
        """``checks`` are what a deployment passes, in order, before it answers; ``reread`` reads a published
        revision again before it is loaded again, and raises StoreError.
        """
        self._host = host
        self._fleet = fleet
        self._slots = slots
        self._leases = leases
        self._notifier = notifier
        self._settings = settings
        self._allocator = SlotAllocator(host, fleet, slots, leases, notifier)
        self._loader = Loader(
            host, fleet, slots, self._allocator, notifier, settings.load_seconds, checks, reread
        )
        self._loads: dict[str, _Load] = {}
        self._leaving: dict[str, asyncio.Task[Deployment]] = {}  # cancelled, and on their way out
        self.waiting = 0  # requests that wait for a slot now
        self.evictions = 0

    @property
    def capacity(self) -> int:
        """Slots of the engine. Raises EngineDead."""
        return self._host.current.capacity

    @property
    def taken(self) -> int:
        """Slots that are held or promised."""
        return self._allocator.taken

    # Asked before a lease is taken

    def usable(self, deployment: Deployment) -> bool:
        """Whether a lease can be taken on it at once."""
        return deployment.state in (_S.SERVING, _S.CANARY) and deployment.key not in self._allocator.yielding

    def used(self, key: str) -> None:
        """Note that a lease was taken."""
        self._allocator.used(key)

    async def ensure(self, key: str) -> None:
        """Wait until the deployment can be leased again, loading it if need be, or until no name means it.

        Raises SlotsBusy when too many wait or it takes too long, ShuttingDown, EngineDead, or what its load
        raised.
        """
        retry = max(1.0, slot_allocator.TURN_SECONDS)
        name = self._fleet[key].planner
        if self.waiting >= self._settings.max_waiting:
            raise SlotsBusy(
                f"planner {name!r} is not loaded, and {self.waiting} requests wait for a slot already",
                retry_after=retry,
                hint="try again later; raise engine.max_loras or slots.max_waiting",
            )
        self.waiting += 1
        try:
            async with asyncio.timeout(self._settings.wait_seconds):
                await self._until(key, lambda: key not in self._allocator.yielding)
                with self._joined(key) as load:
                    await self._until(key, lambda: load.done)
                    if load.task is not None and load.done:
                        load.task.result()
        except TimeoutError:
            raise SlotsBusy(
                f"planner {name!r} is not loaded, and no slot came free within"
                f" {self._settings.wait_seconds:g} seconds",
                retry_after=retry,
                hint="try again later; raise engine.max_loras, or slots.wait_seconds",
            ) from None
        finally:
            self.waiting -= 1

    async def _until(self, key: str, true: Callable[[], bool]) -> None:
        """Wait for it, or until no name means the deployment. Raises ShuttingDown.

        In the caller's task: one that looks a turn of the loop later may find the slot given away again.
        """
        stopped = self._leases.stopped
        await self._notifier.until(lambda: true() or self._fleet.role(key) is None or stopped.is_set())
        if stopped.is_set():
            raise ShuttingDown.told()

    @asynccontextmanager
    async def held(self, key: str) -> AsyncIterator[None]:
        """Keep the deployment in the engine while it is decided about.

        If no name means it in the end, and it was loaded only for that, it is taken out again.
        """
        self._allocator.hold(key)
        try:
            yield
        finally:
            self._allocator.let_go(key)
            await self._abandon(key)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[list[Slot]]:
        """The slots of what serves now, which stay in the engine meanwhile."""
        async with AsyncExitStack() as held:
            slots = []
            for name in self._fleet.names():
                deployment = self._fleet[self._fleet.alias(name).active]
                if deployment.slot is not None and deployment.state in LOADED:
                    await held.enter_async_context(self.held(deployment.key))
                    slots.append(deployment.slot)
            yield slots

    async def released(self, key: str) -> None:
        """Wait until no lease holds the deployment."""
        await self._notifier.until(lambda: not self._allocator.holds(key))

    # Loading

    async def load(
        self, key: str, tell: Callable[[str], None] = lambda _: None, seconds: float | None = None
    ) -> Deployment:
        """Bring the deployment into the engine and prove it; the loaded value, in the state of its role.

        A deployment that no name means ends in READY if it is ``held``. ``seconds`` limit the wait for a
        slot, not the load. Raises SlotsBusy, or what went wrong; then it is FAILED and the engine holds
        nothing of it, or EVICTED if it served before or the engine died.
        """
        while True:
            joined = key in self._loads and not self._loads[key].done
            with self._joined(key, tell) as load:
                if not await self._notifier.until(load.placed_or_done, seconds):
                    raise SlotsBusy(
                        f"no slot came free for {key} within {seconds:g} seconds",
                        retry_after=seconds or 0.0,
                        hint="every slot is pinned, on trial or busy: raise engine.max_loras",
                    )
                try:
                    return await asyncio.shield(load.task)  # type: ignore[arg-type]
                except EngineDead:
                    if not joined:
                        raise
                    # Else that was a load into an engine before this one.

    @contextmanager
    def _joined(self, key: str, tell: Callable[[str], None] | None = None) -> Iterator[_Load]:
        """Wait, within, for the one load of this deployment in progress; begun if there is none.

        A load without waiting callers is given up if it has no slot yet, or is in a long check.
        """
        load = self._loads.get(key)
        if load is None or load.done:
            load = self._loads[key] = _Load(key)
            load.task = asyncio.create_task(self._load(load))
            load.task.add_done_callback(lambda task: self._ended(load, task))
        load.tell = tell or load.tell
        load.waiting += 1
        try:
            yield load
        finally:
            load.waiting -= 1
            if not load.waiting:
                self._forsake(load)

    def _forsake(self, load: _Load) -> None:
        """Cancel a load that no caller waits for, where that can be done."""
        alone = load.long and self._fleet.role(load.key) is None
        if load.task is None or load.done or (load.placed and not alone):
            return
        load.task.cancel()
        self._loads.pop(load.key, None)  # the next caller must not wait for this one
        if load.placed:
            self._leaving[load.key] = load.task

    def _long(self, load: _Load, now: bool) -> None:
        load.long = now
        if now and not load.waiting:  # they left while it could not be cancelled
            self._forsake(load)

    async def left(self, key: str) -> None:
        """Wait until a load that was cancelled in a long check has left the engine."""
        if (task := self._leaving.get(key)) is not None:
            await asyncio.wait((task,))

    def _ended(self, load: _Load, task: asyncio.Task[Deployment]) -> None:
        if self._loads.get(load.key) is load:
            del self._loads[load.key]
        if self._leaving.get(load.key) is task:
            del self._leaving[load.key]
        if not task.cancelled() and (error := task.exception()) is not None:
            why = "no name means it any more" if isinstance(error, KeyError) else error
            log.warning("%s was not loaded: %s", load.key, why)  # and is thus retrieved
        self._notifier.ring()

    async def _load(self, load: _Load) -> Deployment:
        key = load.key
        deployment = self._fleet[key]
        if deployment.state in LOADED:
            return self._fleet.settle(key)
        if deployment.state is _S.FAILED:
            raise PlannerNotReady(f"{key} failed: {deployment.reason}")
        if deployment.revision.fully_pruned:
            self._fleet.set(deployment.to(_S.READY))
            return self._fleet.settle(key)
        load.tell("waiting for a slot")
        try:
            await self._allocator.reserve(load, key, self._evict)
            # Its last slot may still be on the way out.
            await self._notifier.until(lambda: not self._slots.holds(key))
            load.placed = True
            self._notifier.ring()
            deployment = await self._loader.bring_in(
                key,
                lambda: self._allocator.settled(load),
                lambda stage: load.tell(stage),
                lambda now: self._long(load, now),
            )
        finally:
            self._allocator.settled(load)
            self._notifier.ring()
        await self._abandon(key)
        return deployment

    # Unloading

    async def unload(self, key: str) -> bool:
        """Take a deployment out of the engine for good; say whether it went.

        It stays if a name refers to it, a lease holds it, or an order about it is in progress.
        """
        deployment = self._fleet.find(key)
        if deployment is None or self._fleet.role(key) is not None:
            return False
        if self._leases.count(key) or self._allocator.holds(key):
            return False
        if _S.UNLOADED not in TRANSITIONS[deployment.state]:
            return False
        await self._leave(deployment, _S.UNLOADED)
        return True

    async def _abandon(self, key: str) -> None:
        """Take out what was loaded for a decision that was not made, or for a name that changed meanwhile."""
        deployment = self._fleet.find(key)
        if deployment is None or deployment.state not in (_S.READY, _S.EVICTED):
            return
        # Leases that are still held on it are from before the engine died: none was given since.
        if self._fleet.role(key) is None and not self._allocator.holds(key):
            await self._leave(deployment, _S.UNLOADED)

    async def _evict(self, deployment: Deployment) -> None:
        """Give a deployment's slot up; it is loaded again on demand, or forgotten if no name means it."""
        self.evictions += 1
        wanted = self._fleet.role(deployment.key) is not None
        await self._leave(deployment, _S.EVICTED if wanted else _S.UNLOADED)

    async def _leave(self, deployment: Deployment, state: DeploymentState) -> None:
        key, slot = deployment.key, deployment.slot
        # First: from here on no lookup finds it, although the engine still has it.
        self._fleet.set(deployment.to(state, slot=None))
        if state is _S.UNLOADED:
            self._fleet.forget(key)
        self._allocator.left(key)
        if slot is not None:
            await self._loader.take_out(slot)

    # Engine death

    def lost(self, key: str) -> None:
        """Note that the engine no longer holds this deployment."""
        self._loader.lost(key)

    def all_lost(self) -> None:
        """Note that the engine is gone, and every slot with it."""
        self._loader.all_lost()

    async def close(self) -> None:
        """Give up what is on its way in or out."""
        tasks = [load.task for load in self._loads.values() if load.task is not None]
        tasks += self._leaving.values()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loader.close()
