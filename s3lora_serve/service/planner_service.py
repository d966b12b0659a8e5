"""The one object that the server and the launch call: planners in, plans out."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from planners.grammar import MAX_TEXT
from s3lora_serve.config import RollbackConfig, SlotsConfig, SwapConfig
from s3lora_serve.control.audit import audit
from s3lora_serve.control.auto_rollback import AutoRollback
from s3lora_serve.control.flipped import Flips
from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.operation import Kind, Step
from s3lora_serve.control.operations import Operations
from s3lora_serve.control.orders.execution import Execution
from s3lora_serve.control.orders.orders import Orders
from s3lora_serve.control.recovery import Recovery
from s3lora_serve.control.steps import SwapSteps
from s3lora_serve.errors import ConfigError, S3LoRAError
from s3lora_serve.fleet.background import Background
from s3lora_serve.fleet.deployment import Deployment, DeploymentState
from s3lora_serve.fleet.fleet import Fleet
from s3lora_serve.fleet.leases import Lease, LeaseBook
from s3lora_serve.fleet.notify import Notifier
from s3lora_serve.fleet.slots import SlotTable
from s3lora_serve.fleet.stop import Stop
from s3lora_serve.fleet.work_threads import WorkThreads
from s3lora_serve.safety.guard.guards import Guards
from s3lora_serve.service.metrics.prometheus import Metrics
from s3lora_serve.service.plan_requests import PlanRequests
from s3lora_serve.service.request_counts import RequestCounts
from s3lora_serve.service.samples import live_sample, sample
from s3lora_serve.service.service_exams import ExamSetup, ServiceExams
from s3lora_serve.serving.acquire import Acquirer
from s3lora_serve.serving.checks.effect import EffectCheck
from s3lora_serve.serving.checks.trial import TrialCheck
from s3lora_serve.serving.loading import Loading
from s3lora_serve.serving.local_replica import LocalReplica
from s3lora_serve.serving.shadow_routing import Shadows
from s3lora_serve.serving.warmup import Warmer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from planners import ToolSpec
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.admission_port import Admission
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.control.journal.reconciliation import Reconciled
    from s3lora_serve.control.operation import Operation
    from s3lora_serve.engine.port import Engine, EngineKind
    from s3lora_serve.fleet.planner import DesiredPlanner, Planner
    from s3lora_serve.serving.checks.check import Check
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor

log = logging.getLogger(__name__)
_S = DeploymentState
CHECKS: tuple[Check, ...] = (EffectCheck(), TrialCheck())  # that every revision passes by default


class PlannerService:
    """Serves a fleet over one engine, which may die and be restarted.

    ``base_model`` is the public name of the model that answers when no adapter does. ``watch`` sees each
    change of a deployment's state. ``metrics`` counts each finished engine request under the name it ran for,
    a planner's or ``base_model``: that of a fully pruned planner, too.
    """

    def __init__(
        self,
        host: EngineSupervisor,
        journal: Journal,
        admission: Admission,
        *,
        base_model: str,
        slots: SlotsConfig | None = None,
        checks: Sequence[Check] = CHECKS,
        swap: SwapConfig | None = None,
        rules: RollbackConfig | None = None,
        read: Callable[[], Mapping[str, DesiredPlanner]] | None = None,
        watch: Callable[[Deployment], None] | None = None,
        first_slot_id: int = 1,
        max_text: int = MAX_TEXT,
        guards: Guards | None = None,
        exams: ExamSetup | None = None,
    ) -> None:
        """``checks``, then ``exams``: what a revision passes before it answers. ``first_slot_id`` is above
        ids that the engine was given before; ``max_text`` bounds plans' texts by default; ``guards`` judge.
        """
        slots, swap = slots or SlotsConfig(), swap or SwapConfig()
        self.threads = threads = WorkThreads.of(swap.admissions)
        self.base_model = base_model
        self.guards = guards or Guards({}, {})
        self.started_at = time.time()  # Unix seconds, for the base model's card
        self.host = host
        self.journal = journal
        self._notifier = Notifier()
        self._watch = watch
        self._fleet = Fleet(self._notifier, self._seen)
        self._slots = SlotTable(first_slot_id)
        self._leases = LeaseBook(self._notifier, self._ended)
        self.stop = Stop(self._leases, self._notifier)
        self.shadows = Shadows(self._fleet, self._leases, base_model)
        self.exams = ServiceExams(exams, host, self._fleet, self._slots, self.threads)
        reread, checks = partial(self.threads.files.run, admission.restore), (*checks, *self.exams.checks)
        self._loading = Loading(
            host, self._fleet, self._slots, self._leases, self._notifier, slots, checks, reread
        )
        self.lease = Acquirer(host, self._fleet, self._loading, self._leases, base_model).lease
        requests = PlanRequests(host, self.lease, self.guards, self.shadows, base_model, self._tools)
        self.plan, self.stream_plan = requests.plan, requests.stream_plan
        self._operations = Operations(journal, self.threads.journal, self._notifier, self._counted)
        flips = Flips()
        self._replica = LocalReplica(host, self._fleet, self._slots, self._loading, self._leases)
        steps = SwapSteps(
            self._replica, self._operations, flips, admission, swap, slots.wait_seconds, self.threads
        )
        run = Execution(self._replica, steps, self._operations, self.exams.mending(self._replica))
        check = partial(audit, journal, admission, self._replica, self._operations.deciding, threads.audit)
        self.control = Orders(run, journal, read, check, base_model, self.exams.examining, threads=threads)
        self._auto_rollback = AutoRollback(self._replica, rules or RollbackConfig(), self.control)
        flips.subscribe(self._auto_rollback.flipped)
        self._admission = admission
        self.metrics = Metrics(
            lambda: [sample(p, base_model, host.alive) for p in self.planners()],
            lambda: live_sample(host, self._fleet, self._loading, self._leases, journal, self.threads),
        )
        self.metrics.declare(base_model)
        self._counts = RequestCounts(self.metrics, self._slots, base_model)
        self.guards.counted = self._counts.judged
        self.exams.use(self._replica, admission, self._operations, self.metrics.exam, slots.wait_seconds)
        self._warmer = Warmer(max_text)
        self._background = Background()

    # Life

    async def start(
        self,
        desired: Mapping[str, DesiredPlanner],
        revisions: Mapping[str, Revision],
        found: Reconciled | None = None,
    ) -> None:
        """Load, prove and serve every planner: ``revisions`` says which revision of each.

        ``found`` is what comparing the journal with its tables came to: who is withheld, and why.
        One that fails is FAILED with its reason and the others go on; the caller decides whether that will
        do, and calls ``commit`` if so. Raises EngineDead, since then no planner can serve; ConfigError.
        """
        if self.base_model in desired:
            raise ConfigError(
                f"planner {self.base_model!r} has the name of the base model",
                hint="give one of them another name",
            )
        parts = self._replica, self.journal, self._admission, self.threads
        self._recovery = Recovery(*parts, found, self.exams.start_mending, self.exams.unserved)
        for name in desired:
            self.metrics.declare(name)
        self.exams.declare(desired, self.metrics.exam)
        # vLLM compiles grammars in its own thread, beside the loads.
        warm = self._warmer.warm(self.host.current, (planner.tools for planner in desired.values()))
        await asyncio.gather(self._recovery.restore(desired, revisions), warm)
        self.host.current.observe(self._counts.ended)  # from here on: the probes above are not requests
        self.host.subscribe(down=self._engine_down, up=self._engine_up, told=self._notifier.ring)

    async def commit(self) -> None:
        """Write down that this is what serves now. Raises StateError."""
        await self._recovery.commit()

    async def close(self) -> None:
        """Stop what goes on in the background; running operations are left to the next start."""
        await self._background.close()
        await self._auto_rollback.close()
        await self.guards.close()
        await self.shadows.close()
        await self.control.close()
        await self._loading.close()

    @property
    def engine(self) -> Engine:
        """The engine that runs now. Raises EngineDead while there is none."""
        return self.host.current

    @property
    def engine_kind(self) -> EngineKind:
        """What answers here, also while the engine is being restarted."""
        return self.host.kind

    # Questions

    def planners(self) -> tuple[Planner, ...]:
        """Every planner, serving or not, in the order of the configuration."""
        counts = self._leases.counts()
        return tuple(self._fleet.planner(name, counts) for name in self._fleet.names())

    def get(self, name: str) -> Planner:
        """The planner of that name, whatever its state. Raises UnknownPlanner, which lists the known ones."""
        return self._fleet.planner(name, self._leases.counts())

    def _tools(self, name: str) -> tuple[ToolSpec, ...]:
        return self.get(name).tools

    def state_of(self, planner: Planner) -> tuple[DeploymentState, str]:
        """State and reason of its active deployment as a client meets it: under a dead engine none serves."""
        if planner.up and not self.host.alive:
            return _S.EVICTED, "the engine has stopped and is being restarted"
        return planner.state, planner.reason

    async def changed(self, seen: int, seconds: float) -> int:
        """The count of changes of state so far, once it is not ``seen`` any more or after ``seconds``."""
        await self._notifier.until(lambda: self._notifier.rings != seen, seconds)
        return self._notifier.rings

    async def healthy(self) -> bool:
        """Whether the engine runs and can be asked."""
        return self.host.alive and await self.host.current.healthy()

    async def ready(self) -> bool:
        """Whether all that is configured is served: a healthy engine, and at least one planner, all serving.

        One failed planner makes the whole process not ready, so that a rollout of a bad adapter stops. The
        others' requests are answered all the same, and so are those to a server that is told to stop.
        """
        planners = self.planners()
        if self.stop.announced or not planners or self.guards.stuck(planner.name for planner in planners):
            return False
        return all(p.answers for p in planners) and await self.healthy()

    # What is counted

    def _ended(self, lease: Lease) -> None:
        self.metrics.live.lease(lease.deployment.planner, lease.role, lease.outcome)
        self._auto_rollback.ended(lease)

    def _counted(self, operation: Operation) -> None:
        if operation.kind is Kind.APPLY and operation.step is Step.DONE and self.host.alive:
            sets = [planner.tools for planner in self.planners()]
            self._background.go(self._warmer.warm(self.host.current, sets))
        if not operation.details.get("dry_run"):
            what = operation.kind, operation.step, operation.order.actor, operation.seconds
            self.metrics.live.operation(*what)

    def _seen(self, deployment: Deployment) -> None:
        if deployment.state is _S.READY:
            self.metrics.declare(deployment.planner)  # it may be a planner that an apply has added
        if self._watch is not None:
            self._watch(deployment)

    # The engine

    def _engine_down(self, reason: str) -> None:
        self._loading.all_lost()
        self._warmer.forget()
        self._note("engine.died", reason)

    async def _engine_up(self, engine: Engine) -> None:
        await self._replica.reload()
        # After the loads, whose probes would be slowed, and awaited by nobody: what serves answers meanwhile,
        # and the first plans wait for their grammar as they would for one of their own tools.
        self._background.go(self._warmer.warm(engine, [planner.tools for planner in self.planners()]))
        self._background.go(self.guards.base.restarted(engine, self._loading.kept))
        engine.observe(self._counts.ended)
        self._note("engine.restarted", f"restart {self.host.restarts}")

    def _note(self, action: str, reason: str) -> None:
        async def write() -> None:
            try:
                await self._operations.note(NewEntry(actor="s3lora-serve", action=action, reason=reason))
            except S3LoRAError as error:
                log.error("%s could not be written down: %s", action, error)

        self._background.go(write())
