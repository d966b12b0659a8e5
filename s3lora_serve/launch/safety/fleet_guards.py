"""From settings to what judges requests: judges, connections to endpoints, and where verdicts are kept"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from s3lora_serve.launch.resolve import to_guards
from s3lora_serve.safety.guard.base_judge import BaseJudge
from s3lora_serve.safety.guard.endpoint.endpoint_judge import EndpointJudge
from s3lora_serve.safety.guard.endpoint.guard_route import GuardRoute
from s3lora_serve.safety.guard.guards import FLEET, Guards
from s3lora_serve.safety.guard.proof.base_proof import BaseProof
from s3lora_serve.safety.guard.ruling import Found
from s3lora_serve.safety.guard.texts.frame import framed
from s3lora_serve.safety.guard.verdict_cache import VerdictCache
from s3lora_serve.safety.guard.verdicts.verdict_log import VerdictLog
from s3lora_serve.safety.guard.verdicts.verdict_record import done_with
from s3lora_serve.safety.guard.verdicts.verdict_report import verdict_report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3lora_serve.config import Config, GuardConfig
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.safety.guard.guarding import Guarding
    from s3lora_serve.safety.guard.judge_port import Judge
    from s3lora_serve.safety.guard.ruling import JudgeName, Ruling
    from s3lora_serve.safety.guard.verdicts.verdict_report import VerdictReport
    from s3lora_serve.service.metrics.guard_metrics import GuardMetrics

log = logging.getLogger(__name__)


def endpoint_keys(config: Config, environ: Mapping[str, str]) -> dict[GuardConfig, str | None]:
    """The API key of each guard's endpoint. Raises ConfigError, which names the variable that is not set."""
    return {
        guard: guard.api_key(environ, f"planners.{name}.guard" if _own(config, name) else "guard")
        for name, guard in to_guards(config).items()
    }


def _own(config: Config, name: str) -> bool:
    return name != FLEET and config.planners[name].guard is not None


class FleetGuards:
    """Use as an async context around the service: afterwards connections and the log are closed.

    Planners whose settings are the same share their judges, and so what those remember.
    """

    def __init__(
        self, config: Config, keys: Mapping[GuardConfig, str | None], engine: Callable[[], Engine]
    ) -> None:
        """``keys`` as ``endpoint_keys`` found them; ``engine`` is the one that runs now."""
        self._settings = to_guards(config)
        self._state = config.state
        self._keys = keys
        self._engine = engine
        self._owned = AsyncExitStack()
        self._log: VerdictLog | None = None
        self._metrics: GuardMetrics | None = None
        self._proof = BaseProof()
        self.guards = Guards({}, {})

    async def __aenter__(self) -> Self:
        """Raises StateError for a log that cannot be used."""
        async with AsyncExitStack() as owned:
            asking = {guard for guard in self._settings.values() if guard.asks}
            if asking:
                self._log = owned.enter_context(VerdictLog(self._state.guard_file, self._state.guard_days))
            made = {guard: await self._judges(guard, owned) for guard in asking}
            judges = {name: made.get(guard, {}) for name, guard in self._settings.items()}
            self.guards = Guards(self._settings, judges, self._told, self._proof, self._exempted)
            self._owned = owned.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._owned.aclose()

    @property
    def base_asked(self) -> bool:
        """Whether the base model judges for any planner, or would for one that is added."""
        return any(guard.asks and "base" in guard.by for guard in self._settings.values())

    def count(self, metrics: GuardMetrics) -> None:
        """Count there what is found from now on."""
        self._metrics = metrics
        if self._log is not None:
            verdicts = self._log
            metrics.lost = lambda: verdicts.lost
        for name, guard in self._settings.items():
            for by in guard.by if guard.asks and name != FLEET else ():
                metrics.declare(name, by)

    def tested(self, found: Mapping[str, Any] | None) -> None:
        """Tell of what the base model did when it was tested at the start."""
        self._proof.told = found
        if self._metrics is not None and found is not None:
            self._metrics.tested(found)

    def report(self, **which: Any) -> VerdictReport:
        """What was found so far, as ``verdict_report`` reads it. Waits for the disk: call it in a thread."""
        if self._log is not None:
            self._log.settled()
        return verdict_report(self._state.guard_file, missing=True, **which)

    async def _judges(self, guard: GuardConfig, owned: AsyncExitStack) -> dict[JudgeName, Judge]:
        judges: dict[JudgeName, Judge] = {}
        if "base" in guard.by:
            judges["base"] = BaseJudge(lambda: self._proof.judging(self._engine()), guard)
        if "endpoint" in guard.by and guard.endpoint is not None:
            route = GuardRoute(guard.endpoint, self._keys[guard], guard.seconds)
            await owned.enter_async_context(route)
            remembered: VerdictCache[Ruling] = VerdictCache(guard.cache_seconds)
            judges["endpoint"] = EndpointJudge(guard, route, framed, remembered)
        return judges

    def _exempted(self, planner: str, caller: str) -> None:
        if self._metrics is not None:
            self._metrics.exempt(planner)
        if self._log is not None:
            self._log.exempt(planner, caller)

    def _told(self, planner: str, guarding: Guarding) -> None:
        done = done_with(guarding)
        for ruling in guarding.rulings:
            if self._metrics is not None:
                self._metrics.ruled(planner, ruling, done)
            say = partial(log.log, logging.DEBUG if ruling.finding is Found.ALLOWED else logging.INFO)
            part = f" for its {ruling.part}" if ruling.part is not None else ""
            why = f" ({ruling.why})" if ruling.why else ""
            request, by = guarding.request_id, ruling.by
            say("request %s to %s: %s%s by %s%s, %s", request, planner, ruling.finding, part, by, why, done)
        if done == "withheld" and self._metrics is not None:
            self._metrics.withheld(planner)
        if self._log is not None:
            self._log.add(planner, guarding)
