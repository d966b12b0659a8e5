"""Which deployments hold the engine's slots: loading, proving, evicting, and who waits for a slot."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.errors import EngineDead, PlannerNotReady, S3LoRAError, SlotsBusy
from s3lora_serve.runtime.deployment import Deployment, DeploymentState
from s3lora_serve.runtime.probe import prove_effect
from s3lora_serve.runtime.states import LOADED
from s3lora_serve.runtime.trial import try_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3lora_serve.runtime.changes import Changes
    from s3lora_serve.runtime.engine_host import EngineHost
    from s3lora_serve.runtime.fleet import Fleet
    from s3lora_serve.runtime.leases import LeaseBook
    from s3lora_serve.runtime.slots import SlotTable

log = logging.getLogger(__name__)

_S = DeploymentState


@dataclass(frozen=True)
class SlotSettings:
    """How planners share fewer slots than there are planners."""

    wait_seconds: float = 30.0  # longest that a request, or a swap, waits for a slot
    max_waiting: int = 64  # requests that may wait at once; more are refused with 429
    turn_seconds: float = 5.0  # a busy planner keeps its slot this long while others wait for one
    trial: bool = True  # generate a few tokens before a deployment counts as ready


class Residency:
    """Brings deployments into the engine and takes them out; never one that somebody holds a lease on.

    Pinned planners and candidates keep their slots. The others lose theirs to whoever needs one: first what
    is only kept for a rollback, then the planner that was idle longest. When all are busy, the one that has
    had its slot longest gets no new leases, so that it drains and the slot changes hands: every planner gets
    its turn, and a slot is not reloaded for every request.
    """

    def __init__(
        self,
        host: EngineHost,
        fleet: Fleet,
        slots: SlotTable,
        leases: LeaseBook,
        changes: Changes,
        settings: SlotSettings,
        evicted: Callable[[Deployment], None] = lambda _: None,
    ) -> None:
        self._host = host
        self._fleet = fleet
        self._slots = slots
        self._leases = leases
        self._changes = changes
        self._settings = settings
        self._evicted = evicted
        self._room = asyncio.Lock()  # first come, first served
        self._loading: dict[str, asyncio.Task[Deployment]] = {}
        self._reserved: set[str] = set()  # keys that were promised a slot and do not hold one yet
        self._yielding: set[str] = set()
        self._held: set[str] = set()  # about to be flipped to; not to be evicted meanwhile
        self._used: dict[str, float] = {}  # key → when it was last leased
        self._since: dict[str, float] = {}  # key → when it got its slot
        self.waiting = 0  # requests that wait for a slot now
        self.evictions = 0

    @property
    def capacity(self) -> int:
        """Slots of the engine."""
        return self._host.current.capacity

    # Asked by whoever takes a lease

    def usable(self, deployment: Deployment) -> bool:
        """Whether a lease can be taken on it at once."""
        return deployment.state in (_S.SERVING, _S.CANARY) and deployment.key not in self._yielding

    def used(self, key: str) -> None:
        """Note that a lease was taken: the eviction order follows from it."""
        self._used[key] = time.monotonic()

    async def ensure(self, key: str) -> None:
        """Wait until the deployment can be leased again, loading it if need be.

        Raises SlotsBusy when too many wait or it takes too long, EngineDead, or what its load raised.
        """
        retry = max(1.0, self._settings.turn_seconds)
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
                await self._changes.until(lambda: key not in self._yielding)
                # The load goes on when this request leaves: others may wait for it too.
                await asyncio.shield(self._task(key))
        except TimeoutError:
            raise SlotsBusy(
                f"planner {name!r} is not loaded, and no slot came free within"
                f" {self._settings.wait_seconds:g} seconds",
                retry_after=retry,
                hint="try again later; raise engine.max_loras, or slots.wait_seconds",
            ) from None
        finally:
            self.waiting -= 1

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Keep the deployment's slot from being given away, while a decision about it is written down."""
        self._held.add(key)
        try:
            yield
        finally:
            self._held.discard(key)
            self._changes.ring()

    # Loading

    async def load(self, key: str, tell: Callable[[str], None] = lambda _: None) -> Deployment:
        """Bring the deployment into the engine and prove it; the loaded value, in the state of its role.

        A deployment that no name means yet ends in READY. Raises what went wrong; then it is FAILED and the
        engine holds nothing of it (or EVICTED, when the engine died).
        """
        return await self._load(key, tell)

    def _task(self, key: str) -> asyncio.Task[Deployment]:
        if (task := self._loading.get(key)) is None:
            task = self._loading[key] = asyncio.create_task(self._load(key, lambda _: None))
            task.add_done_callback(lambda done: self._loaded(key, done))
        return task

    def _loaded(self, key: str, task: asyncio.Task[Deployment]) -> None:
        self._loading.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("%s could not be loaded again: %s", key, error)  # and is thus retrieved
        self._changes.ring()

    async def _load(self, key: str, tell: Callable[[str], None]) -> Deployment:
        deployment = self._fleet[key]
        if deployment.state in LOADED:
            return self._fleet.settle(key)
        if deployment.state is _S.FAILED:
            raise PlannerNotReady(f"{key} failed: {deployment.reason}")
        if deployment.revision.fully_pruned:
            self._fleet.set(deployment.to(_S.READY))
            return self._fleet.settle(key)
        tell("waiting for a slot")
        await self._make_room(key)
        try:
            return await self._prove(key, tell)
        finally:
            self._reserved.discard(key)
            self._changes.ring()

    async def _prove(self, key: str, tell: Callable[[str], None]) -> Deployment:
        # Its last slot may still be on the way out.
        await self._changes.until(lambda: not self._slots.holds(key))
        engine = self._host.current
        deployment = self._fleet[key]
        proven = deployment.effect is not None
        slot = self._slots.allocate(deployment.planner, deployment.revision.digest, deployment.revision.path)
        deployment = self._fleet.set(deployment.to(_S.LOADING, slot=slot))
        self._reserved.discard(key)  # from here its slot counts
        try:
            tell("load")
            with stopwatch() as took:
                await engine.load(slot)
            deployment = self._step(deployment, _S.PROBING, "load", took())
            tell("probe")
            with stopwatch() as took:
                effect = await prove_effect(engine, slot)
            deployment = self._note(deployment, "probe", took(), effect=effect)
            if self._settings.trial:
                tell("trial")
                with stopwatch() as took:
                    await try_out(engine, slot)
                deployment = self._note(deployment, "trial", took())
            self._current(deployment)
            self._since[key] = self._used[key] = time.monotonic()
            self._fleet.set(dataclasses.replace(deployment.to(_S.READY), reason=""))
            return self._fleet.settle(key)
        except EngineDead:
            self.lost(key)
            raise
        except BaseException as error:
            reason = str(error) if isinstance(error, S3LoRAError) else f"{type(error).__name__}: {error}"
            await asyncio.shield(self._give_up(key, reason, proven))
            raise

    def _current(self, deployment: Deployment) -> None:
        """Raise EngineDead if the engine was lost under this load."""
        now = self._fleet.find(deployment.key)
        if now is None or now.slot is None or now.slot != deployment.slot:
            raise EngineDead(f"the engine stopped while {deployment.key} was loaded", hint="try again")

    def _step(self, deployment: Deployment, state: _S, stage: str, seconds: float) -> Deployment:
        self._current(deployment)
        return self._fleet.set(deployment.took(stage, seconds).to(state))

    def _note(self, deployment: Deployment, stage: str, seconds: float, **changes: object) -> Deployment:
        self._current(deployment)
        return self._fleet.set(dataclasses.replace(deployment.took(stage, seconds), **changes))  # type: ignore[arg-type]

    async def _give_up(self, key: str, reason: str, proven: bool) -> None:
        """Take a failed load back. One that served before may serve again: the next request tries anew."""
        deployment = self._fleet.find(key)
        if deployment is None or deployment.slot is None:
            return
        slot = deployment.slot
        try:
            await self._host.current.unload(slot)
        except S3LoRAError as error:
            # The slot's name stays taken: loading over what may still be there could kill the engine.
            log.error("%s: slot %s could not be unloaded: %s", key, slot.id, error)
        else:
            self._slots.retire(slot)
        again = proven and self._fleet.role(key) is not None
        self._fleet.set(deployment.to(_S.EVICTED if again else _S.FAILED, slot=None, reason=reason))

    # Unloading

    async def unload(self, key: str) -> None:
        """Take a deployment that no name means out of the engine for good; nobody may hold a lease on it."""
        await self._leave(self._fleet[key], _S.UNLOADED)

    async def _evict(self, deployment: Deployment) -> None:
        """Give a deployment's slot up; it is loaded again on demand, or forgotten if no name means it."""
        wanted = self._fleet.role(deployment.key) is not None
        self.evictions += 1
        await self._leave(deployment, _S.EVICTED if wanted else _S.UNLOADED)
        self._evicted(deployment)

    async def _leave(self, deployment: Deployment, state: DeploymentState) -> None:
        key, slot = deployment.key, deployment.slot
        # First: from here on nobody finds it, although the engine still has it.
        self._fleet.set(deployment.to(state, slot=None))
        if state is _S.UNLOADED:
            self._fleet.forget(key)
        self._yielding.discard(key)
        self._since.pop(key, None)
        if slot is None:
            return
        try:
            engine = self._host.current
            # A lease ends when the answer was sent; the engine may be a step behind with an aborted one.
            while engine.running(slot):
                await asyncio.sleep(0.005)  # it rings no bell
            await engine.unload(slot)
        except EngineDead:
            pass  # then it holds nothing any more
        except S3LoRAError as error:
            # Its name and place stay taken: loading over what may still be there could kill the engine.
            log.error("%s: slot %s could not be unloaded: %s", key, slot.id, error)
            return
        self._slots.retire(slot)
        self._changes.ring()

    # Room

    async def _make_room(self, key: str) -> None:
        """Reserve a slot for ``key``: a free one, or the one of whoever can do without best."""
        async with self._room:
            while self.taken >= self._host.current.capacity:
                if (victim := self._victim()) is not None:
                    await self._evict(victim)
                    continue
                self._let_one_drain()
                seconds = self._settings.turn_seconds / 4
                await self._changes.until(lambda: self._victim() is not None, max(seconds, 0.01))
            self._reserved.add(key)

    @property
    def taken(self) -> int:
        """Slots that are held or promised."""
        return len(self._slots.live) + len(self._reserved)

    def _victim(self) -> Deployment | None:
        """Whose slot can be taken now: a standby, else the unpinned planner that was idle longest."""
        idle = [
            d
            for d in self._fleet.deployments()
            if d.slot is not None and not self._leases.count(d.key) and d.key not in self._held
        ]
        standby = [d for d in idle if d.state is _S.STANDBY]
        serving = [d for d in idle if d.state is _S.SERVING and self._evictable(d)]
        for group in (standby, serving):
            if group:
                return min(group, key=lambda d: (d.key not in self._yielding, self._used.get(d.key, 0.0)))
        return None

    def _evictable(self, deployment: Deployment) -> bool:
        alias = self._fleet.alias(deployment.planner)
        return not alias.desired.pinned and alias.candidate is None

    def _let_one_drain(self) -> None:
        if self._yielding:
            return
        now = time.monotonic()
        busy = [
            d for d in self._fleet.deployments() if d.state is _S.SERVING and d.slot and self._evictable(d)
        ]
        had_turn = [d for d in busy if now - self._since.get(d.key, now) >= self._settings.turn_seconds]
        if had_turn:
            self._yielding.add(min(had_turn, key=lambda d: self._since[d.key]).key)

    # Engine death

    def lost(self, key: str) -> None:
        """Note that the engine no longer holds this deployment: EVICTED if a name means it, else UNLOADED."""
        deployment = self._fleet.find(key)
        if deployment is None or deployment.slot is None:
            return
        self._slots.retire(deployment.slot)
        self._yielding.discard(key)
        ends = deployment.state in (_S.DRAINING, _S.STANDBY)
        self._fleet.set(deployment.to(_S.UNLOADED if ends else _S.EVICTED, slot=None))
        if ends:
            self._fleet.forget(key)

    def all_lost(self) -> None:
        """Note that the engine is gone, and every slot with it."""
        for deployment in self._fleet.deployments():
            self.lost(deployment.key)


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """A function that tells the seconds since the block was entered."""
    began = time.monotonic()
    yield lambda: time.monotonic() - began
