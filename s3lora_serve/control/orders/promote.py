"""Promotion: the candidate's revision serves everyone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.control.operation import Kind, Operation, Order, fingerprint
from s3lora_serve.errors import Conflict

if TYPE_CHECKING:
    from s3lora_serve.control.orders.execution import Execution


async def promote(run: Execution, name: str, order: Order) -> Operation:
    """Begin a promotion, which serves before this returns. Raises UnknownPlanner, Conflict, StateError."""
    asked = fingerprint(Kind.PROMOTE, name, order)
    if (known := await run.operations.known(order, asked)) is not None:
        return known
    alias = run.expected(name, order)
    if alias.candidate is None:
        raise Conflict(f"planner {name!r} has no candidate", hint="order a canary of an adapter first")
    revision = run.replica.revision(alias.candidate)
    op = await run.begin(Kind.PROMOTE, alias, order, asked, to_digest=revision.digest)
    await run.decide(op, run.serve(op, alias, revision, "promote.flipped"))
    return run.go(op, run.finish(op, alias.active))
