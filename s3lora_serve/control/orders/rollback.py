"""Rollback: to the revision before, at once if it is still loaded; a candidate on trial is given up."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from s3lora_serve.control.operation import Kind, Operation, Order, Wanted, fingerprint
from s3lora_serve.control.orders.examine import examine_again
from s3lora_serve.control.orders.execution import SHORTEST_PREFIX
from s3lora_serve.errors import Conflict
from s3lora_serve.fleet.deployment import DeploymentState
from s3lora_serve.fleet.slots import slot_name

if TYPE_CHECKING:
    from s3lora_serve.control.orders.exam_port import Exams
    from s3lora_serve.control.orders.execution import Execution
    from s3lora_serve.control.replica_port import Replica
    from s3lora_serve.fleet.planner import Alias

_QUICK = (DeploymentState.STANDBY, DeploymentState.DRAINING)


async def rollback(
    run: Execution, name: str, order: Order, *, to: str | None, exams: Exams | None = None
) -> Operation:
    """Begin a rollback; when the goal is still loaded it serves before this returns.

    To the revision that served before no exam is taken on the way if one ever let it serve: a stale one will
    do, and is taken again afterwards.

    Raises UnknownPlanner, Conflict, StateError.
    """
    asked = fingerprint(Kind.ROLLBACK, name, order, to=to)
    if (known := await run.operations.known(order, asked)) is not None:
        return known
    alias = run.expected(name, order)
    if alias.candidate is not None:
        if to is not None:
            raise Conflict(
                f"planner {name!r} has a candidate on trial", hint="roll it back without a goal first"
            )
        op = await run.begin(Kind.ROLLBACK, alias, order, asked, details={"gives_up": alias.candidate})
        await run.decide(op, run.try_(op, alias, None, None, "rollback.flipped"))
        return run.go(op, run.finish(op, str(alias.candidate), keep=False))
    goal = _goal(run.replica, alias, to)
    key = slot_name(name, goal)
    op = await run.begin(Kind.ROLLBACK, alias, order, asked, to_digest=goal if len(goal) == 64 else None)
    live = run.replica.find(key)
    if live is not None and live.state in _QUICK:
        async with run.replica.held(key):
            await run.decide(op, run.serve(op, alias, live.revision, "rollback.flipped", judge=False))
        return run.go(op, run.finish(op, alias.active))
    return run.go(op, _from_store(run, op, alias, goal, exams))


async def _from_store(run: Execution, op: Operation, alias: Alias, goal: str, exams: Exams | None) -> None:
    revision = await run.steps.admit(op, alias.name, Wanted(revision=goal))
    if revision.digest == run.replica.revision(alias.active).digest and not alias.withheld:
        raise Conflict(f"planner {alias.name!r} serves revision {revision.short} already")
    key = slot_name(alias.name, revision.digest)
    served = exams is not None and revision.digest == alias.previous
    async with run.replica.held(key):
        with exams.back(key) if exams is not None and served else nullcontext():
            await run.steps.deploy(op, alias.name, revision)
        await run.serve(op, alias, revision, "rollback.flipped", judge=False)
    await run.finish(op, alias.active)
    if exams is not None and served:
        await examine_again(run, exams, op, key)


def _goal(replica: Replica, alias: Alias, to: str | None) -> str:
    """The digest to go back to, or what the caller gave of it when no live deployment has it.

    Raises Conflict when there is none, or when it serves already.
    """
    serving = replica.revision(alias.active).digest
    goal = to or alias.previous
    if goal is None:
        raise Conflict(
            f"planner {alias.name!r} has served no revision before {serving[:12]}",
            hint="name the revision to go back to; the history shows them",
        )
    if len(goal) < SHORTEST_PREFIX:
        raise Conflict(f"{goal!r} is too short for a revision", hint="give at least 8 digits")
    if serving.startswith(goal) and not alias.withheld:
        raise Conflict(f"planner {alias.name!r} serves revision {serving[:12]} already")
    for deployment in replica.of(alias.name):
        if deployment.revision.digest.startswith(goal):
            return deployment.revision.digest
    return goal
