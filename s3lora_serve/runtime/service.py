"""The one object that the server and the command line call: planners in, plans out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from s3lora_serve.errors import (
    ConfigError,
    EngineDead,
    PlannerNotReady,
    S3LoRAError,
    UnknownPlanner,
)
from s3lora_serve.metrics.prometheus import Metrics
from s3lora_serve.runtime.planner import Planner, PlannerState
from s3lora_serve.runtime.planning import make_plan
from s3lora_serve.runtime.probe import prove_effect
from s3lora_serve.runtime.samples import sample
from s3lora_serve.runtime.slots import SlotTable

if TYPE_CHECKING:
    from planners import Plan, PlannerInput
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import Engine, RequestFacts

log = logging.getLogger(__name__)

Watcher = Callable[[Planner], None]


class PlannerService:
    """Brings admitted revisions into service and answers for them.

    ``base_model`` is the public name of the model that answers when no adapter does. ``watch`` sees a planner
    at each change of state. ``metrics`` counts each finished engine request under the name it ran for: a
    planner's, or ``base_model``. A fully pruned planner runs as the base model and is counted there.
    ``slots`` is given when the engine has served another service before.
    """

    def __init__(
        self,
        engine: Engine,
        admitted: Mapping[str, Revision],
        *,
        base_model: str,
        descriptions: Mapping[str, str] | None = None,
        watch: Watcher | None = None,
        slots: SlotTable | None = None,
    ) -> None:
        if base_model in admitted:
            raise ConfigError(
                f"planner {base_model!r} has the name of the base model", hint="give one of them another name"
            )
        descriptions = descriptions or {}
        self.base_model = base_model
        self.started_at = time.time()  # Unix seconds, for the base model's card
        self._engine = engine
        self._slots = slots or SlotTable()
        self._watch = watch
        self._planners = {
            name: Planner(name, revision, description=descriptions.get(name, ""))
            for name, revision in admitted.items()
        }
        self._alive = True  # as of the last look; a scrape cannot wait for the engine
        self.metrics = Metrics(lambda: [sample(p, base_model, self._alive) for p in self.planners()])
        for name in (*admitted, base_model):
            self.metrics.declare(name)

    async def start(self) -> None:
        """Load, prove and route every planner in turn. One that fails is marked FAILED and the others go on.

        Raises EngineDead, since then no planner can serve.
        """
        for planner in self.planners():
            await self._bring_up(planner)
        self._engine.observe(self._observe)  # from here on: the probes above are not requests

    def planners(self) -> tuple[Planner, ...]:
        """Every planner, serving or not, in the order of the configuration."""
        return tuple(self._planners.values())

    def get(self, name: str) -> Planner:
        """The planner of that name, whatever its state. Raises UnknownPlanner, which lists the known ones."""
        if (planner := self._planners.get(name)) is None:
            known = ", ".join(sorted(self._planners)) or "none"
            shown = name if len(name) <= 80 else name[:77] + "..."
            raise UnknownPlanner(f"there is no planner {shown!r}; planners: {known}")
        return planner

    def serving(self, name: str) -> Planner:
        """The planner of that name, ready to answer. Raises UnknownPlanner, PlannerNotReady."""
        planner = self.get(name)
        if not planner.up:
            why = f": {planner.reason}" if planner.reason else ""
            up = ", ".join(sorted(p.name for p in self.planners() if p.up)) or "none"
            raise PlannerNotReady(f"planner {name!r} does not serve ({planner.state}){why}; serving: {up}")
        return planner

    def state_of(self, planner: Planner) -> tuple[PlannerState, str]:
        """Its state and the reason, as a client meets it: under a dead engine none serves.

        As of the last call of ``healthy``.
        """
        if planner.up and not self._alive:
            return PlannerState.FAILED, "the engine has stopped; restart the server"
        return planner.state, planner.reason

    async def healthy(self) -> bool:
        """Whether the engine still runs; only a restart helps when it does not."""
        self._alive = await self._engine.healthy()
        return self._alive

    async def ready(self) -> bool:
        """Whether all that was configured is served: a healthy engine, and at least one planner, all serving.

        One failed planner makes the whole process not ready, so that a rollout of a bad adapter stops before
        it replaces processes that serve well. Requests to the other planners are answered all the same.
        """
        return bool(self._planners) and all(p.up for p in self.planners()) and await self.healthy()

    async def plan(
        self, request: PlannerInput, planner: str, *, temperature: float = 0.0, seed: int | None = None
    ) -> Plan:
        """A valid plan for the task, with ``meta`` filled in.

        Raises UnknownPlanner, PlannerNotReady, PlanIncomplete, EngineError.
        """
        return await make_plan(
            self._engine,
            self.serving(planner),
            request,
            base_model=self.base_model,
            temperature=temperature,
            seed=seed,
        )

    async def _bring_up(self, planner: Planner) -> None:
        if planner.revision.fully_pruned:
            self._engine.route(planner.name, None)
            self._set(planner.to(PlannerState.SERVING))
            log.warning("planner %s: every module was pruned, the base model answers for it", planner.name)
            return
        try:
            slot = self._slots.allocate(planner.name, planner.revision.digest, planner.revision.path)
            planner = self._set(planner.to(PlannerState.LOADING, slot=slot))
            with _Stopwatch() as load:
                await self._engine.load(slot)
            planner = self._set(planner.took("load", load.seconds).to(PlannerState.PROBING))
            with _Stopwatch() as probe:
                effect = await prove_effect(self._engine, slot)
            planner = planner.took("probe", probe.seconds)
            self._engine.route(planner.name, slot)
            self._set(planner.to(PlannerState.SERVING, effect=effect))
        except EngineDead:
            raise
        except S3LoRAError as error:
            await self._fail(planner, str(error))
        except Exception as error:  # a defect met by one adapter must not keep the others from serving
            log.exception("planner %s: unexpected failure", planner.name)
            await self._fail(planner, f"{type(error).__name__}: {error}")

    async def _fail(self, planner: Planner, reason: str) -> None:
        self._set(planner.to(PlannerState.FAILED, reason=reason))
        if planner.slot is None:
            return
        try:
            await self._engine.unload(planner.slot)
        except S3LoRAError as error:
            # The slot's name stays taken: loading over what may still be there could kill the engine.
            log.error("planner %s: slot %s could not be unloaded: %s", planner.name, planner.slot.name, error)
        else:
            self._slots.retire(planner.slot)

    def _set(self, planner: Planner) -> Planner:
        self._planners[planner.name] = planner
        if planner.state is PlannerState.FAILED:
            log.error("planner %s failed: %s", planner.name, planner.reason)
        if self._watch is not None:
            self._watch(planner)
        return planner

    def _observe(self, facts: RequestFacts) -> None:
        name = self.base_model if facts.slot is None else self._slots.planner_of(facts.slot)
        if name is not None:  # else a slot that was not handed out here
            self.metrics.observe(name, facts)


class _Stopwatch:
    """Seconds spent in its ``with`` block, also when that raised."""

    seconds = 0.0

    def __enter__(self) -> _Stopwatch:
        self._begin = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._begin
