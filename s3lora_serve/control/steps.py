"""The steps that orders are made of: admit → load and check → flip → drain → unload; each fails safely"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.flipped import Flipped, Flips
from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.operation import Operation, Step
from s3lora_serve.errors import OperationCancelled, S3LoRAError, SourceError
from s3lora_serve.fleet.background import Background
from s3lora_serve.fleet.deployment import Deployment, DeploymentState
from s3lora_serve.fleet.slots import slot_name
from s3lora_serve.fleet.states import LOADED
from s3lora_serve.fleet.stopwatch import stopwatch
from s3lora_serve.storage.daemon_threads import given_up

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.config import SwapConfig
    from s3lora_serve.control.admission_port import Admission
    from s3lora_serve.control.operation import Wanted
    from s3lora_serve.control.operations import Operations
    from s3lora_serve.control.replica_port import Replica
    from s3lora_serve.fleet.planner import DesiredPlanner
    from s3lora_serve.fleet.rollout import Rollout
    from s3lora_serve.fleet.work_threads import WorkThreads

log = logging.getLogger(__name__)

_S = DeploymentState
LOOK_SECONDS = 10.0  # for an order's folder to be found, before the order begins


class SwapSteps:
    """The steps, each usable alone: swap, canary, promotion, rollback and apply are made of them."""

    def __init__(
        self,
        replica: Replica,
        operations: Operations,
        flips: Flips,
        admission: Admission,
        settings: SwapConfig,
        slot_seconds: float,
        threads: WorkThreads,
    ) -> None:
        self._replica = replica
        self._operations = operations
        self._flips = flips
        self._admission = admission
        self._settings = settings
        self._slot_seconds = slot_seconds  # how long a swap waits for a slot
        self._threads = threads
        self._later = Background()
        self._clocks: dict[str, tuple[Deployment, asyncio.TimerHandle]] = {}  # standbys, by key

    async def permitted(self, wanted: Wanted) -> Wanted:
        """What an order names, with what planners.yaml names now. Raises SourceNotAllowed, SourceError."""
        names = self._replica.names()
        wanted = replace(wanted, declared=tuple(self._replica.alias(name).desired for name in names))
        if wanted.revision is None:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._threads.looks.run(self._admission.permit, wanted)  # it looks where links lead
            except TimeoutError:
                raise SourceError(
                    f"{wanted.source} was not found within {LOOK_SECONDS:g} s", hint="does its folder hang?"
                ) from None
        return wanted

    async def admit(self, op: Operation, planner: str, wanted: Wanted) -> Revision:
        """The revision of what is wanted, published. Raises AdapterError, StoreError, ConfigError.

        Raises OperationCancelled when the operation is; its thread is left behind and publishes nothing.
        """
        loop = asyncio.get_running_loop()

        def tell(stage: str, fraction: float) -> None:
            if given_up():
                raise OperationCancelled(f"operation {op.id} waits for this no more")
            loop.call_soon_threadsafe(self._tell, op.id, stage, fraction)

        def queued(before: int) -> None:
            self._tell(op.id, f"waiting for {before} other admissions (swap.admissions)", None)

        if wanted.revision is not None:
            reading = self._threads.files.run(self._admission.restore, wanted.revision)
        else:
            reading = self._threads.admission.run(self._admission.admit, planner, wanted, tell, queued=queued)
        with stopwatch() as took:
            revision = await self._operations.unless_stopped(op.id, reading)
        await self._operations.write(
            op.id,
            "revision.admitted",
            name=planner,
            moved=(op.from_digest, revision.digest),
            to_digest=revision.digest if op.planner else None,
            step=Step.LOADING,
            seconds={**op.seconds, "admit": took()},
            progress="",
            fraction=None,
            about={"source": revision.lineage.source, "pruned": len(revision.lineage.pruned)},
        )
        return revision

    async def deploy(self, op: Operation, planner: str, revision: Revision) -> Deployment:
        """The revision loaded and proved, in READY or in whatever loaded state it was in already.

        The caller holds it (``Replica.held``), else it is taken out again at once. Raises SlotsBusy,
        EngineError, OperationCancelled; then the engine holds nothing of it.
        """
        before = self._replica.find(slot_name(planner, revision.digest))
        loading = self._replica.prepare(
            planner, revision, lambda stage: self._tell(op.id, stage, None), self._slot_seconds
        )
        deployment = await self._operations.unless_stopped(op.id, loading)
        effect = deployment.effect
        # What was loaded already cost nothing now.
        seconds = {} if before is not None and before.state in LOADED else dict(deployment.seconds)
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
        desired: DesiredPlanner | None = None,
        judge: bool = False,
        withheld: str = "",
    ) -> None:
        """Decide what the planner's name means: first in the journal, then in memory.

        The caller's operation must hold the decision about the planner. ``desired`` is another declaration of
        it, ``withheld`` keeps it from answering. With ``judge`` the rules compare the new revision's first
        requests with the old one's last. Raises StateError, OperationCancelled; then nothing changed.
        """
        self.point_of_no_return(op)
        before = self._replica.alias(planner)
        now = replace(
            before,
            desired=desired or before.desired,
            active=slot_name(planner, active.digest),
            previous=previous,
            candidate=slot_name(planner, candidate.digest) if candidate else None,
            rollout=rollout,
            withheld=withheld,
            generation=before.generation + 1,
        )
        with stopwatch() as took:
            record = now.record(active, candidate)
            moved = (
                (self._replica.revision(before.active).digest, active.digest) if op.planner is None else None
            )
            await self._operations.write(op.id, action, planner=record, moved=moved, step=Step.DRAINING)
        commit = took()
        with stopwatch() as took:
            self._replica.flip(now, active, *([candidate] if candidate else []))
        self._operations.update(op.id, seconds={"commit": commit, "flip": took()})
        self._flips.announce(
            Flipped(planner, now.active, before.active, now.candidate, before.candidate, judge)
        )

    async def present(self, revision: Revision) -> None:
        """Raise StoreError if the files of a revision went from the store."""
        await self._threads.files.run(revision.require_files)

    def point_of_no_return(self, op: Operation) -> None:
        """From here on the operation cannot be cancelled. Raises OperationCancelled if it was."""
        self._operations.update(op.id, step=Step.FLIPPING, progress="", fraction=None)

    async def retire(self, op: Operation, key: str, *, keep: bool) -> None:
        """Let the requests on a deployment without a role end, then keep it for a rollback or unload it."""
        deployment = self._replica.find(key)
        if deployment is not None and deployment.state is _S.DRAINING:
            await self._drain(op, deployment, keep)
        else:
            self._replica.discard(key)  # it was evicted: there is nothing to drain
        if op.planner or deployment:
            await self._drop_outdated(op, deployment.planner if deployment else str(op.planner))

    async def _drain(self, op: Operation, deployment: Deployment, keep: bool) -> None:
        key = deployment.key
        with stopwatch() as took:
            cut, drained = await self._replica.drain(key, self._settings.drain_seconds)
        self._operations.update(op.id, seconds={"drain": took()}, cut=cut)
        if cut:
            log.warning("%s: %d requests were cut at the drain deadline: %s", key, len(cut), ", ".join(cut))
        if not drained:
            return  # it serves again, or the engine died
        await self._note(op, deployment, "deployment.drained", {"cut": list(cut), "key": key})
        if not keep:
            await self._drop(op, deployment, patient=True)
        elif (standby := await self._replica.keep(key)) is not None:
            self._expire_later(standby)

    async def _drop_outdated(self, op: Operation, planner: str) -> None:
        """What is neither served nor a rollback's goal needs no slot."""
        for deployment in self._replica.of(planner):
            goal = self._replica.alias(planner).previous if planner in self._replica.names() else None
            now = self._replica.find(deployment.key)  # others may have come and gone meanwhile
            if now is not None and now.state is _S.STANDBY and now.revision.digest != goal:
                await self._drop(op, now)

    async def _drop(self, op: Operation, deployment: Deployment, *, patient: bool = False) -> None:
        if await self._replica.drop(deployment, patient=patient):
            await self._note(op, deployment, "deployment.unloaded")

    def _expire_later(self, standby: Deployment) -> None:
        """Unload it after ``keep_seconds``, unless it served or went meanwhile."""
        # Most standbys go before their time: what is left of their clocks would hold them until then.
        gone = [key for key, (old, _) in self._clocks.items() if self._replica.find(key) is not old]
        for key in gone:
            self._clocks.pop(key)[1].cancel()

        def ring() -> None:
            del self._clocks[standby.key]
            self._later.go(self._expire(standby))

        loop = asyncio.get_running_loop()
        self._clocks[standby.key] = standby, loop.call_later(self._settings.keep_seconds, ring)

    async def _expire(self, standby: Deployment) -> None:
        # If it served since and is kept again, that is another hour.
        if await self._replica.drop(standby, patient=True):
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

    def _tell(self, id_: str, stage: str, fraction: float | None) -> None:
        with contextlib.suppress(OperationCancelled):  # a late word from a thread; the operation has ended
            self._operations.update(id_, progress=stage, fraction=fraction)

    async def close(self) -> None:
        """Stop the clocks that keep old revisions for a rollback."""
        for _, clock in self._clocks.values():
            clock.cancel()
        self._clocks.clear()
        await self._later.close()
