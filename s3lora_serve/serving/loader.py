"""Loads a deployment into a slot, checks it there, and unloads it; a failed load leaves nothing behind"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

from s3lora_serve.errors import EngineDead, S3LoRAError, SlotLoadError
from s3lora_serve.fleet.background import Background
from s3lora_serve.fleet.deployment import Deployment, DeploymentState
from s3lora_serve.fleet.stopwatch import stopwatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractContextManager

    from s3lora_serve.engine.port import Engine, Slot
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.notify import Notifier
    from s3lora_serve.fleet.slots import SlotTable
    from s3lora_serve.serving.checks.check import Check
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor
    from s3lora_serve.serving.slot_allocator import SlotAllocator

log = logging.getLogger(__name__)

_S = DeploymentState


class _Pause:
    """Within, the limit of a load does not run, and whoever loads is told that it may be cancelled."""

    def __init__(self, limit: asyncio.Timeout, told: Callable[[bool], None]) -> None:
        self._limit = limit
        self._told = told
        self._left = 0.0

    def __enter__(self) -> None:
        now = asyncio.get_running_loop().time()
        self._left = (self._limit.when() or now) - now
        self._limit.reschedule(None)
        self._told(True)

    def __exit__(self, *_: object) -> None:
        self._told(False)
        if not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + self._left)


def _reason(error: BaseException) -> str:
    """Why a load failed, in words."""
    if isinstance(error, asyncio.CancelledError):
        return "nothing waits for it any more"
    return str(error) if isinstance(error, S3LoRAError) else f"{type(error).__name__}: {error}"


class Loader:
    """Loads and unloads slots in the engine; which deployment gets one is decided elsewhere."""

    def __init__(
        self,
        host: EngineSupervisor,
        fleet: Fleet,
        slots: SlotTable,
        allocator: SlotAllocator,
        notifier: Notifier,
        seconds: float,
        checks: Sequence[Check],
        reread: Callable[[str], Awaitable[object]],
    ) -> None:
        """``reread`` reads every byte of a published revision again; it raises StoreError."""
        self._host = host
        self._fleet = fleet
        self._slots = slots
        self._allocator = allocator
        self._notifier = notifier
        self._seconds = seconds
        self._checks = checks
        self._reread = reread
        self._background = Background()

    async def bring_in(
        self,
        key: str,
        placed: Callable[[], None],
        tell: Callable[[str], None],
        long: Callable[[bool], None] = lambda now: None,
    ) -> Deployment:
        """The deployment, loaded and proved, in the state of its role or READY; ``placed`` is called once it
        has a slot, ``long`` when a long check begins and ends: meanwhile it may be cancelled.

        Raises what went wrong. Then it is FAILED and the engine holds nothing of it; or EVICTED, if it
        served before or the engine died.
        """
        engine, deployment = self._host.current, self._fleet[key]
        proven = bool(deployment.proofs)
        slot = self._slots.allocate(deployment.planner, deployment.revision.digest, deployment.revision.path)
        placed()
        deployment = self._fleet.set(deployment.to(_S.LOADING, slot=slot))
        try:
            async with asyncio.timeout(self._seconds) as limit:
                deployment = await self._proved(engine, deployment, slot, tell, _Pause(limit, long))
            self._allocator.came(key)
            self._fleet.set(dataclasses.replace(deployment.to(_S.READY), reason=""))
            return self._fleet.settle(key)
        except EngineDead:
            self.lost(key)
            raise
        except TimeoutError:
            reason = f"slot {slot.name} was not loaded and tried within {self._seconds:g} s"
            await self._background.run(self._give_up(key, slot, reason, proven))
            raise SlotLoadError(reason, hint="slots.load_seconds sets the limit") from None
        except BaseException as error:
            ended = isinstance(error, asyncio.CancelledError)
            await self._background.run(self._give_up(key, slot, _reason(error), proven, ended))
            raise

    async def _proved(
        self,
        engine: Engine,
        deployment: Deployment,
        slot: Slot,
        tell: Callable[[str], None],
        pause: _Pause,
    ) -> Deployment:
        """The deployment, PROBING, with what its load and the checks found. Raises what they raise."""
        if deployment.proofs:
            # It was loaded before, perhaps long ago. The first time, admission has just read it.
            tell("check")
            await self._reread(deployment.revision.digest)
            self._current(deployment)
        tell("load")
        with stopwatch() as took:
            await engine.load(slot)
        self._current(deployment)
        deployment = self._fleet.set(deployment.took("load", took()).to(_S.PROBING))
        for check in self._checks:
            if check.long and check.name in deployment.proofs:
                continue
            tell(check.name)
            within: AbstractContextManager[None] = pause if check.long else nullcontext()
            with stopwatch() as took, within:
                proof = await check(engine, slot, deployment.revision, tell)
            self._current(deployment)
            if proof is not None:
                deployment = self._fleet.set(deployment.took(check.name, took()).passed(check.name, proof))
        return deployment

    def _current(self, deployment: Deployment) -> None:
        """Raise EngineDead if the engine was lost under this load."""
        now = self._fleet.find(deployment.key)
        if now is None or now.slot is None or now.slot != deployment.slot:
            raise EngineDead(f"the engine stopped while {deployment.key} was loaded", hint="try again")

    async def _give_up(self, key: str, slot: Slot, reason: str, proven: bool, ended: bool = False) -> None:
        """Take a failed load back, or one that was ``ended``, which is no failure.

        One that served before may serve again: the next request tries anew.
        """
        await self._free(slot)
        deployment = self._fleet.find(key)
        if deployment is None or deployment.slot != slot:
            return  # the engine died meanwhile
        wanted = self._fleet.role(key) is not None
        again = _S.EVICTED if ended or (proven and wanted) else _S.FAILED
        self._fleet.set(deployment.to(again, slot=None, reason=reason))
        if not wanted:
            self._fleet.forget(key)

    async def take_out(self, slot: Slot) -> None:
        """Unload a slot whose deployment is no longer listed in the fleet."""
        await self._background.run(self._free(slot))

    async def _free(self, slot: Slot) -> None:
        """Let the engine forget the slot once nothing runs on it, and free its name and place."""
        try:
            # A lease ends when the answer was sent; the engine may be a step behind with an aborted one.
            while (engine := self._host.current).running(slot):
                await asyncio.sleep(0.005)  # it rings no bell
            await engine.unload(slot)
        except EngineDead:
            pass  # then it holds nothing any more
        except S3LoRAError as error:
            # Its name and place stay taken: loading over what may still be there could kill the engine.
            log.error("slot %s (%s) could not be unloaded: %s", slot.id, slot.name, error)
            return
        self._slots.retire(slot)
        self._notifier.ring()

    def lost(self, key: str) -> None:
        """Note that the engine no longer holds this deployment; one that no name means is forgotten."""
        deployment = self._fleet.find(key)
        if deployment is None or deployment.slot is None:
            return
        self._slots.retire(deployment.slot)
        self._allocator.left(key)
        ends = deployment.state in (_S.DRAINING, _S.STANDBY)
        self._fleet.set(deployment.to(_S.UNLOADED if ends else _S.EVICTED, slot=None))
        if self._fleet.role(key) is None:
            self._fleet.forget(key)

    def all_lost(self) -> None:
        """Note that the engine is gone, and every slot with it."""
        for deployment in self._fleet.deployments():
            self.lost(deployment.key)
        for slot in self._slots.live:  # those that could not be unloaded
            self._slots.retire(slot)
        self._notifier.ring()

    async def close(self) -> None:
        """Give up what is on its way out."""
        await self._background.close()
