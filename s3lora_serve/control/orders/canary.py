"""Canary and shadow: another revision is tried on a share of the requests, or the trial's terms change."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from s3lora_serve.control.operation import Kind, Operation, Order, Step, Wanted, fingerprint
from s3lora_serve.errors import ConfigError, Conflict

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.orders.execution import Execution
    from s3lora_serve.fleet.rollout import Rollout, RolloutOrder


async def canary(
    run: Execution, name: str, wanted: Wanted | None, order: Order, terms: RolloutOrder
) -> Operation:
    """Begin a trial of what is wanted, or change that of the present candidate.

    Raises UnknownPlanner, Conflict, StateError, SourceError, and ConfigError for terms that mean nothing.
    """
    asked = fingerprint(Kind.CANARY, name, order, wanted, **terms.to_json())
    if (known := await run.operations.known(order, asked)) is not None:
        return known
    if wanted is not None:
        wanted = await run.steps.permitted(wanted)
    alias = run.expected(name, order)
    if alias.withheld:
        raise Conflict(
            f"planner {name!r} is stopped: {alias.withheld}", hint="order a swap to what it shall serve first"
        )
    try:
        rollout = terms.applied(alias.rollout if wanted is None else None, time.time())
    except ValueError as error:
        raise ConfigError(str(error)) from error
    kind = Kind.SHADOW if rollout.shadow else Kind.CANARY
    details = {key: value for key, value in rollout.to_json().items() if key != "since"}
    if wanted is None:
        if alias.candidate is None:
            raise Conflict(f"planner {name!r} has no candidate", hint="name an adapter or a revision to try")
        candidate = run.replica.revision(alias.candidate)
        op = await run.begin(kind, alias, order, asked, to_digest=candidate.digest, details=details)
        await run.decide(op, run.try_(op, alias, candidate, rollout, f"{kind}.changed"))
        return await run.operations.end(op.id, Step.DONE, f"{kind}.done")
    if alias.candidate is not None:
        raise Conflict(f"planner {name!r} has a candidate on trial", hint="promote it or roll it back first")
    op = await run.begin(kind, alias, order, asked, details={**details, "wanted": wanted.to_json()})
    return run.go(op, _begin(run, op, name, wanted, rollout))


async def _begin(run: Execution, op: Operation, name: str, wanted: Wanted, rollout: Rollout) -> None:
    desired = run.replica.alias(name).desired
    wanted = replace(wanted, policy=wanted.policy or desired.policy)
    revision = await run.steps.admit(op, name, wanted)
    alias = run.replica.alias(name)
    serving = run.replica.revision(alias.active).digest
    if revision.digest == serving:
        raise _served(name, revision)
    async with AsyncExitStack() as held:
        revision = await run.load(held, op, name, revision, wanted)
        if revision.digest == serving:  # mended into what serves already
            raise _served(name, revision)
        await run.try_(op, alias, revision, rollout, f"{op.kind}.flipped")
    await run.operations.end(op.id, Step.DONE, f"{op.kind}.done")


def _served(name: str, revision: Revision) -> Conflict:
    return Conflict(f"planner {name!r} serves revision {revision.short} already", hint="nothing to try")
