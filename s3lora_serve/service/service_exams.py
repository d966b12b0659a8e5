"""A service's exams: the check that they add to every load, what they need of its parts, and what is told"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.operation import Kind
from s3lora_serve.control.orders.mending import Mending
from s3lora_serve.control.orders.start_mending import StartMending
from s3lora_serve.errors import ConfigError, S3LoRAError
from s3lora_serve.fleet.log_context import log_context
from s3lora_serve.fleet.slots import slot_name
from s3lora_serve.safety.exam.exam_facts import exam_facts
from s3lora_serve.serving.checks.exam_check import ExamCheck
from s3lora_serve.serving.checks.examining import Examining

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.config import ExamConfig
    from s3lora_serve.control.admission_port import Admission
    from s3lora_serve.control.operations import Operations
    from s3lora_serve.control.replica_port import Replica
    from s3lora_serve.engine.port import Slot
    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.slots import SlotTable
    from s3lora_serve.fleet.work_threads import WorkThreads
    from s3lora_serve.safety.exam.kept_exam import KeptExam
    from s3lora_serve.service.metrics.exam_metrics import ExamMetrics
    from s3lora_serve.serving.checks.check import Check
    from s3lora_serve.serving.checks.examining import Keeps, PlannerExam
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor


@dataclass(frozen=True)
class ExamSetup:
    """What exams a server takes: ``of`` a planner, also of one that is added, and where results are kept."""

    of: Callable[[str], PlannerExam]
    record: Keeps


class ServiceExams:
    """Without a setup nothing is examined."""

    def __init__(
        self,
        setup: ExamSetup | None,
        host: EngineSupervisor,
        fleet: Fleet,
        slots: SlotTable,
        threads: WorkThreads,
    ) -> None:
        self._threads = threads
        self._fleet = fleet
        self.unserved: set[str] = set()  # keys of what a start is about to let serve for the first time
        self.start_mending: StartMending | None = None
        self._mending: Mending | None = None
        self._parts: tuple[Replica, Admission, Operations, float] | None = None
        self.examining: Examining | None = None
        self.checks: tuple[Check, ...] = ()
        if setup is None:
            return
        self.examining = Examining(
            setup.of, setup.record, threads.files.run, lambda: host.current, self._reference
        )
        self.checks = (ExamCheck(self.examining, slots.planner_of, self._serves, self._asked),)
        self.examining.renewed = lambda key, proof: fleet.renew(key, "exam", proof)

    def mending(self, replica: Replica) -> Mending:
        """What loads for orders: with ``action: mend`` it mends what the exam refuses."""
        self._mending = Mending(replica, self.examining)
        return self._mending

    def use(
        self,
        replica: Replica,
        admission: Admission,
        operations: Operations,
        metrics: ExamMetrics,
        slot_seconds: float,
    ) -> None:
        """The parts that loads come through, and are there once those can be: before any is begun.

        ``slot_seconds`` is how long the revision that others are compared with waits for a slot.
        """
        self._parts = replica, admission, operations, slot_seconds
        mending = self._mending or self.mending(replica)
        self.start_mending = StartMending(mending, replica, admission, self._threads, slot_seconds)
        if self.examining is not None:
            self.examining.counted = metrics.found

    def declare(self, planners: Iterable[str], metrics: ExamMetrics) -> None:
        """Show those that are examined with zeros before their first exam."""
        for planner in planners:
            if self.settings(planner) is not None:
                metrics.declare(planner)

    def settings(self, planner: str) -> ExamConfig | None:
        """The planner's; None for one that is not examined."""
        settings = self.examining.settings(planner) if self.examining is not None else None
        return settings if settings is not None and settings.asks else None

    def facts(self, deployment: Deployment | None) -> dict[str, Any] | None:
        """What is shown of a deployment's exam; None without one."""
        if self.examining is None or deployment is None:
            return None
        return self.examining.facts(deployment)

    def _serves(self, key: str) -> bool:
        served = self._fleet.role(key) is not None and key not in self.unserved
        return served or (self.examining is not None and key in self.examining.returning)

    async def _asked(self, planner: str, revision: Revision, found: KeptExam) -> None:
        """Write down that an exam was taken, and its counts; of an order to examine its own end says so."""
        _, _, operations, _ = self._there()
        facts = exam_facts(found)
        # The operation that it was taken for stands in the details: an entry of its own would end it.
        about = {name: value for name, value in log_context().items() if name == "operation"}
        of = [each for each in operations.recent if each.id == about.get("operation")]
        if any(each.kind is Kind.EXAM and each.ended_at is None for each in of):
            return
        await operations.note(
            NewEntry(
                actor="s3lora-serve",
                action="exam.done",
                planner=planner,
                to_digest=revision.digest,
                reason=f"{facts['words']}: {found.result.why}",
                details={**about, "exam": facts},
            )
        )

    @asynccontextmanager
    async def _reference(self, planner: str, digest: str) -> AsyncIterator[Slot]:
        """The revision that a planner's are compared with, in the engine. Raises StoreError, SlotsBusy."""
        replica, admission, _, seconds = self._there()
        try:
            revision = await self._threads.files.run(admission.restore, digest)
        except S3LoRAError as error:
            error.message = f"exam.against: {error.message}"
            error.hint = error.hint or "pin a revision that is in the store, or compare with base"
            raise
        async with replica.held(slot_name(planner, revision.digest)):
            loaded = await replica.prepare(planner, revision, lambda stage: None, seconds)
            if loaded.slot is None:
                raise ConfigError(
                    f"exam.against: every module of revision {revision.short} was pruned",
                    hint="compare with base, which answers for it",
                )
            yield loaded.slot

    def _there(self) -> tuple[Replica, Admission, Operations, float]:
        if self._parts is None:
            raise RuntimeError("a load was begun before the service was put together")
        return self._parts
