"""Which planner has a shadow now, and running requests again on it under separate leases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.fleet.leases import Lease
from s3lora_serve.fleet.states import DeploymentState
from s3lora_serve.serving.shadow import Rerun, ShadowRunner, ShadowStats

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.leases import LeaseBook
    from s3lora_serve.fleet.planner import Alias


class Shadows:
    """One runner for each planner that has a shadow; a new candidate begins with empty figures."""

    def __init__(self, fleet: Fleet, leases: LeaseBook, base_model: str) -> None:
        self._fleet = fleet
        self._leases = leases
        self._base_model = base_model
        self._runners: dict[str, tuple[str, ShadowRunner]] = {}  # planner → candidate key, runner

    def wants(self, planner: str) -> bool:
        """Whether requests of this planner are to be offered."""
        if planner not in self._fleet.names():
            return False
        alias = self._fleet.alias(planner)
        return alias.rollout is not None and alias.rollout.shadow and self._live(alias)

    def offer(self, lease: Lease, original: Rerun, again: Callable[[Lease], Awaitable[Rerun]]) -> bool:
        """Run an answered request again on the shadow, perhaps; returns at once and never raises."""
        planner = lease.deployment.planner
        if not self.wants(planner):
            return False
        alias = self._fleet.alias(planner)
        return self._runner(alias).run(original, lambda: self._run(planner, lease, again))

    def stats(self, planner: str) -> ShadowStats | None:
        """What has come out of the planner's shadow so far; None without one."""
        known = self._runners.get(planner)
        alias = self._fleet.alias(planner)
        return known[1].stats if known and known[0] == alias.candidate else None

    async def close(self) -> None:
        """End what runs."""
        for _, runner in self._runners.values():
            await runner.close()

    def _live(self, alias: Alias) -> bool:
        return alias.candidate is not None and self._fleet[alias.candidate].state is DeploymentState.SHADOW

    def _runner(self, alias: Alias) -> ShadowRunner:
        candidate, share = str(alias.candidate), alias.rollout.share if alias.rollout else 0.0
        known = self._runners.get(alias.name)
        if known is None or known[0] != candidate:
            known = self._runners[alias.name] = (candidate, ShadowRunner(share))
        known[1].share = share
        return known[1]

    async def _run(self, planner: str, lease: Lease, again: Callable[[Lease], Awaitable[Rerun]]) -> Rerun:
        alias = self._fleet.alias(planner)
        if not self._live(alias):
            raise LookupError(f"planner {planner!r} has no shadow any more")
        deployment = self._fleet[str(alias.candidate)]
        model = deployment.model(self._base_model)
        own = Lease(deployment, model, "shadow", f"{lease.request_id}-shadow", lease.session)
        self._leases.take(own)
        try:
            return await own.run(_coroutine(again, own))
        except BaseException:
            own.outcome = "error" if own.outcome == "ok" and not own.cut.is_set() else own.outcome
            raise
        finally:
            self._leases.give_back(own)


async def _coroutine(again: Callable[[Lease], Awaitable[Rerun]], lease: Lease) -> Rerun:
    return await again(lease)
