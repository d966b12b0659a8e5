"""Requests for plans: guarded, leased, answered whole or step by step, and offered to a shadow"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from planners import Plan, PlanStep
from s3lora_serve.config.listeners import ANYONE
from s3lora_serve.safety.guard.plan_question import plan_guard
from s3lora_serve.serving.planning import Planning, PlanOptions
from s3lora_serve.serving.shadow import Rerun

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection
    from contextlib import AbstractAsyncContextManager

    from planners import PlanMeta, PlannerInput, ToolSpec
    from s3lora_serve.fleet.leases import Lease
    from s3lora_serve.safety.guard.guarding import Guarding
    from s3lora_serve.safety.guard.guards import Guards
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor
    from s3lora_serve.serving.shadow_routing import Shadows


class PlanRequests:
    """Answers them. ``lease`` is ``Acquirer.lease``; ``tools`` says which are a planner's own."""

    def __init__(
        self,
        host: EngineSupervisor,
        lease: Callable[..., AbstractAsyncContextManager[Lease]],
        guards: Guards,
        shadows: Shadows,
        base_model: str,
        tools: Callable[[str], Collection[ToolSpec]],
    ) -> None:
        self._host = host
        self._lease = lease
        self._guards = guards
        self._shadows = shadows
        self._base_model = base_model
        self._tools = tools

    async def plan(
        self,
        request: PlannerInput,
        planner: str,
        options: PlanOptions | None = None,
        *,
        revision: str | None = None,
        session: str | None = None,
        request_id: str = "",
        caller: str = ANYONE,
        leased: Callable[[Lease], None] = lambda lease: None,
    ) -> Plan:
        """A valid plan for the task, with ``meta`` filled in. ``leased`` is told the lease before it begins.

        ``caller``: whose request it is. Raises what ``lease`` does, PlanIncomplete, InvalidPlan, PlanTimeout,
        LeaseCut, EngineError, RefusedByGuard, GuardUndecided.
        """
        begin = self._planning(request, options, self._guard(planner, request, caller, request_id))
        async with self._lease(planner, revision=revision, session=session, request_id=request_id) as lease:
            leased(lease)
            plan = await begin(lease).whole()
        self._shadow(lease, plan, request, options)
        return plan

    async def stream_plan(
        self,
        request: PlannerInput,
        planner: str,
        options: PlanOptions | None = None,
        *,
        revision: str | None = None,
        session: str | None = None,
        request_id: str = "",
        caller: str = ANYONE,
        leased: Callable[[Lease], None] = lambda lease: None,
    ) -> AsyncGenerator[PlanStep | PlanMeta, None]:
        """As ``plan``, with each step as soon as it is whole and the guard has passed, and then the meta.

        ``leased`` is told the lease before the first step. Closing early ends the engine's request,
        and gives the lease back once that has ended.
        """
        begin = self._planning(request, options, self._guard(planner, request, caller, request_id))
        plan = Plan(steps=())
        async with (
            self._lease(planner, revision=revision, session=session, request_id=request_id) as lease,
            aclosing(begin(lease).steps()) as items,
        ):
            leased(lease)
            async for item in items:
                plan += Plan(steps=(item,)) if isinstance(item, PlanStep) else Plan(steps=(), meta=item)
                yield item
        self._shadow(lease, plan, request, options)

    def _guard(self, planner: str, request: PlannerInput, caller: str, request_id: str) -> Guarding | None:
        return plan_guard(self._guards, planner, request, lambda: self._tools(planner), caller, request_id)

    def _planning(
        self, request: PlannerInput, options: PlanOptions | None, guarding: Guarding | None = None
    ) -> Callable[[Lease], Planning]:
        """How to plan under a lease; the clock of the request runs from now."""
        arrived = time.monotonic()
        return lambda lease: Planning(
            self._host.current, lease, request, options or PlanOptions(), self._base_model, arrived, guarding
        )

    def _shadow(self, lease: Lease, plan: Plan, request: PlannerInput, options: PlanOptions | None) -> None:
        """Offer an answered request to the planner's shadow, if it has one."""

        async def again(held: Lease) -> Rerun:
            return Rerun.of_plan(await self._planning(request, options)(held).whole())

        self._shadows.offer(lease, Rerun.of_plan(plan), again)
