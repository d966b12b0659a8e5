"""The steps that orders are made of: admit → load and check → flip → drain → unload; each fails safely"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.flipped import Flipped, Flips
from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.operation import Operation, Step
from s3lora_serve.errors import S3LoRAError
from s3lora_serve.fleet.background import Background
from s3lora_serve.fleet.deployment import Deployment, DeploymentState
from s3lora_serve.fleet.slots import slot_name
from s3lora_serve.fleet.states import LOADED
from s3lora_serve.serving.loading import stopwatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.config import SwapConfig
    from s3lora_serve.control.admission_port import Admission
    from s3lora_serve.control.operation import Wanted
    from s3lora_serve.control.operations import Operations
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.leases import LeaseBook
    from s3lora_serve.fleet.notify import Notifier
    from s3lora_serve.fleet.planner import Alias
    from s3lora_serve.fleet.rollout import Rollout
    from s3lora_serve.serving.loading import Loading

log = logging.getLogger(__name__)

_S = DeploymentState


class SwapSteps:
    """The steps, each usable alone: swap, canary, promotion, rollback and apply are made of them."""

    def __init__(
        self,
        fleet: Fleet,
        loading: Loading,
        leases: LeaseBook,
        notifier: Notifier,
        operations: Operations,
        flips: Flips,
        admission: Admission,
        settings: SwapConfig,
        slot_seconds: float,
    ) -> None:
        self._fleet = fleet
        self._loading = loading
        self._leases = leases
        self._notifier = notifier
        self._operations = operations
        self._flips = flips
        self._admission = admission
        self._settings = settings
        self._slot_seconds = slot_seconds  # how long a swap waits for a slot
        self._later = Background()

    async def admit(self, op: Operation, planner: str, wanted: Wanted) -> Revision:
        """The revision of what is wanted, published. Raises AdapterError, StoreError, ConfigError."""
        loop = asyncio.get_running_loop()

        def tell(stage: str, fraction: float) -> None:
            loop.call_soon_threadsafe(self._tell, op.id, stage, fraction)

        with stopwatch() as took:
            if wanted.revision is not None:
                revision = await asyncio.to_thread(self._admission.restore, wanted.revision)
            else:
                revision = await asyncio.to_thread(self._admission.admit, planner, wanted, tell)
        await self._operations.write(
            op.id,
            "revision.admitted",
            to_digest=revision.digest,
            step=Step.LOADING,
            seconds={**op.seconds, "admit": took()},
            progress="",
            fraction=None,
            about={"source": revision.lineage.source, "pruned": len(revision.lineage.pruned)},
        )
        return revision

    async def deploy(self, op: Operation, planner: str, revision: Revision) -> Deployment:
        """The revision loaded and proved, in READY or in whatever loaded state it was in already.

        The caller holds it (``Loading.held``), else it is taken out again at once. Raises SlotsBusy,
        EngineError; then the engine holds nothing of it.
        """
        deployment = self._fleet.add(planner, revision)
        key, before = deployment.key, deployment
        try:
            deployment = await self._loading.load(
                key, lambda stage: self._tell(op.id, stage, None), self._slot_seconds
            )
        except BaseException:
            self._discard(key)
            raise
        effect = deployment.effect
        # What was loaded already cost nothing now.
        seconds = {} if before.state in LOADED else dict(deployment.seconds)
        self._operations.update(op.id, seconds=seconds, progress="")
        await self._operations.note(
            NewEntry(
                actor=op.order.actor,
                action="deployment.loaded",
                planner=planner,
                operation=op.id,
                to_digest=revision.digest,
                details={
                    "seconds": seconds,
                    "effect_nats": effect.max_abs_delta if effect else None,
                    "served_by": deployment.served_by,
                },
            )
        )
        return deployment

    async def flip(
        self,
        op: Operation,
        planner: str,
        action: str,
        *,
        active: Revision,
        previous: str | None,
        candidate: Revision | None = None,
        rollout: Rollout | None = None,
        declared: str | None = None,
        judge: bool = False,
    ) -> Alias:
        """Decide what the planner's name means: first in the journal, then in memory.

        The caller's operation must hold the decision about the planner. With ``judge`` the rules compare the
        new revision's first requests with the old one's last. Raises StateError; then nothing changed.
        """
        alias = self._fleet.alias(planner)
        keys = [slot_name(alias.name, r.digest) for r in (active, candidate) if r is not None]
        with stopwatch() as took:
            after = replace(alias, previous=previous, rollout=rollout, generation=alias.generation + 1)
            record = after.record(active, candidate, declared)
            await self._operations.write(op.id, action, planner=record, step=Step.DRAINING)
        commit = took()
        for revision in (active, candidate):
            if revision is not None:
                self._fleet.add(alias.name, revision)  # the engine's death may have taken it meanwhile
        began = time.perf_counter()
        now = self._fleet.flip(
            alias,
            active=keys[0],
            previous=previous,
            candidate=keys[1] if candidate else None,
            rollout=rollout,
        )
        flip = time.perf_counter() - began
        self._operations.update(op.id, seconds={"commit": commit, "flip": flip})
        self._flips.announce(
            Flipped(planner, now.active, alias.active, now.candidate, alias.candidate, judge)
        )
        return now

    async def retire(self, op: Operation, key: str, *, keep: bool) -> None:
        """Let the requests on a deployment without a role end, then keep it for a rollback or unload it."""
        deployment = self._fleet.find(key)
        if deployment is not None and deployment.state is _S.DRAINING:
            await self._drain(op, deployment, keep)
        else:
            self._discard(key)  # it was evicted: there is nothing to drain
        if op.planner or deployment:
            await self._unload_outdated(op, deployment.planner if deployment else str(op.planner))

    async def _drain(self, op: Operation, deployment: Deployment, keep: bool) -> None:
        key = deployment.key
        with stopwatch() as took:
            cut, empty = await self._leases.drained(
                key, self._settings.drain_seconds, lambda: self._draining(key)
            )
        self._operations.update(op.id, seconds={"drain": took()}, cut=cut)
        if cut:
            log.warning("%s: %d requests were cut at the drain deadline: %s", key, len(cut), ", ".join(cut))
        if not empty or not self._draining(key):
            return  # it serves again, or the engine died
        await self._note(op, deployment, "deployment.drained", {"cut": list(cut), "key": key})
        await self._loading.released(key)
        if not self._draining(key):
            return
        if keep:
            self._fleet.set(self._fleet[key].to(_S.STANDBY))
            self._later.go(self._expire(self._fleet[key]))
        else:
            await self._unload(deployment, op)

    async def _unload_outdated(self, op: Operation, planner: str) -> None:
        """What is neither served nor a rollback's goal needs no slot."""
        for deployment in self._fleet.of(planner):
            goal = self._fleet.alias(planner).previous if planner in self._fleet.names() else None
            now = self._fleet.find(deployment.key)  # others may have come and gone meanwhile
            if now is not None and now.state is _S.STANDBY and now.revision.digest != goal:
                await self._unload(now, op)

    async def _unload(self, deployment: Deployment, op: Operation) -> None:
        if await self._loading.unload(deployment.key):
            await self._note(op, deployment, "deployment.unloaded")

    async def _expire(self, standby: Deployment) -> None:
        await asyncio.sleep(self._settings.keep_seconds)
        await self._loading.released(standby.key)
        if self._fleet.find(standby.key) is not standby:
            return  # it served again since; if it is kept again, that is another hour
        if await self._loading.unload(standby.key):
            why = f"kept for a rollback for {self._settings.keep_seconds:g} s"
            await self._note(None, standby, "deployment.unloaded", reason=why)

    async def _note(
        self,
        op: Operation | None,
        deployment: Deployment,
        action: str,
        details: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        """Write down what was done after the decision. It is done: a full disk must not keep a slot taken."""
        entry = NewEntry(
            actor=op.order.actor if op else "s3lora-serve",
            action=action,
            planner=deployment.planner,
            operation=op.id if op else None,
            from_digest=deployment.revision.digest,
            reason=reason,
            details=details or {},
        )
        try:
            await self._operations.note(entry)
        except S3LoRAError as error:
            log.error("%s of %s could not be written down: %s", action, deployment.key, error)

    def _draining(self, key: str) -> bool:
        deployment = self._fleet.find(key)
        return deployment is not None and deployment.state is _S.DRAINING

    def _discard(self, key: str) -> None:
        """Forget a deployment that came to nothing; one that a name means stays."""
        deployment = self._fleet.find(key)
        if deployment is not None and deployment.slot is None and self._fleet.role(key) is None:
            self._fleet.forget(key)

    def _tell(self, id_: str, stage: str, fraction: float | None) -> None:
        with contextlib.suppress(KeyError):  # a late word from a thread; the operation has ended
            self._operations.update(id_, progress=stage, fraction=fraction)

    async def close(self) -> None:
        """Cancel the waits that keep old revisions for a rollback."""
        await self._later.close()
