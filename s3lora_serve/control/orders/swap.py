"""Swap: admit, load, prove, flip, drain; a dry run ends once it is admitted."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.operation import Kind, Operation, Order, Step, Wanted, fingerprint
from s3lora_serve.errors import Conflict
from s3lora_serve.fleet.slots import slot_name

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.orders.execution import Execution


async def swap(
    run: Execution, name: str, wanted: Wanted, order: Order, *, dry_run: bool, force: bool
) -> Operation:
    """Begin a swap. Raises UnknownPlanner, Conflict, StateError, SourceError."""
    asked = fingerprint(Kind.SWAP, name, order, wanted, dry_run=dry_run, force=force)
    if (known := await run.operations.known(order, asked)) is not None:
        return known
    wanted = await run.steps.permitted(wanted)
    alias = run.expected(name, order)
    if alias.candidate is not None and not (dry_run or force):
        raise Conflict(f"planner {name!r} has a candidate on trial", hint="promote it or roll it back first")
    details = {"wanted": wanted.to_json(), "dry_run": dry_run}
    op = await run.begin(Kind.SWAP, alias, order, asked, details=details, decides=not dry_run)
    return run.go(op, _swap(run, op, name, wanted, dry_run))


async def _swap(run: Execution, op: Operation, name: str, wanted: Wanted, dry_run: bool) -> None:
    desired = run.replica.alias(name).desired
    wanted = replace(wanted, policy=wanted.policy or desired.policy)
    revision = await run.steps.admit(op, name, wanted)
    alias = run.replica.alias(name)
    serving = run.replica.revision(alias.active)
    if dry_run or (revision.digest == serving.digest and not alias.withheld):
        await _end_unchanged(run, op, serving, revision, dry_run)
        return
    async with AsyncExitStack() as held:
        revision = await run.load(held, op, name, revision, wanted)
        if revision.digest == serving.digest and not alias.withheld:  # mended into what serves already
            await _end_unchanged(run, op, serving, revision, dry_run)
            return
        await run.serve(op, alias, revision, "swap.flipped")
    if alias.candidate not in (None, slot_name(name, revision.digest)):
        await run.steps.retire(op, str(alias.candidate), keep=False)
    await run.finish(op, alias.active)


async def _end_unchanged(
    run: Execution, op: Operation, serving: Revision, revision: Revision, dry_run: bool
) -> None:
    same = {"same": revision.digest == serving.digest, "would": _compared(serving, revision)}
    action = "swap.checked" if dry_run else "swap.done"
    details = {**run.operations.get(op.id).details, **same}
    await run.operations.end(op.id, Step.DONE, action, details=details)


def _compared(serving: Revision, wanted: Revision) -> dict[str, Any]:
    """What a dry run shows: both revisions' pruning and sharpness."""

    def facts(revision: Revision) -> dict[str, Any]:
        ssi = revision.lineage.report.summary()
        return {
            "revision": revision.digest,
            "source": revision.lineage.source,
            "kept_modules": revision.lineage.kept,
            "pruned_modules": list(revision.lineage.pruned),
            "ssi_max": ssi.max,
            "ssi_median": ssi.median,
            "warnings": list(revision.lineage.warnings),
        }

    return {"serving": facts(serving), "wanted": facts(wanted)}
