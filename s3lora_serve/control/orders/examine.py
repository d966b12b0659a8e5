"""Exam by order: what serves, or what might, is asked the exam's questions. Nothing flips."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from s3lora_serve.control.operation import Kind, Operation, Order, Step, Wanted, fingerprint
from s3lora_serve.errors import Conflict, EngineError, OperationCancelled, S3LoRAError
from s3lora_serve.fleet.slots import slot_name
from s3lora_serve.fleet.states import LOADED
from s3lora_serve.fleet.stopwatch import stopwatch
from s3lora_serve.safety.exam.exam_facts import exam_facts

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.orders.exam_port import Exams
    from s3lora_serve.control.orders.execution import Execution
    from s3lora_serve.fleet.planner import Alias
    from s3lora_serve.safety.exam.kept_exam import KeptExam

log = logging.getLogger(__name__)


async def examine(run: Execution, exams: Exams, name: str, wanted: Wanted | None, order: Order) -> Operation:
    """Begin an exam of what is wanted, or of what the planner serves.

    A verdict that is kept and not stale is the answer, and nothing is asked: else one could ask until it
    passes. What is wanted gets a slot as for a swap, and leaves it again. Nothing waits for an exam, and it
    waits for no other operation. Raises UnknownPlanner, Conflict, StateError, SourceError.
    """
    asked = fingerprint(Kind.EXAM, name, order, wanted)
    if (known := await run.operations.known(order, asked)) is not None:
        return known
    if wanted is not None:
        wanted = await run.steps.permitted(wanted)
    alias = run.expected(name, order)
    if wanted is None and alias.withheld and not await _withheld_for(run, exams, alias):
        raise Conflict(
            f"planner {name!r} is stopped: {alias.withheld}", hint="name the adapter that shall be examined"
        )
    details = {"wanted": wanted.to_json() if wanted else None}
    op = await run.begin(Kind.EXAM, alias, order, asked, details=details, decides=False)
    return run.go(op, _examine(run, exams, op, name, wanted))


async def _withheld_for(run: Execution, exams: Exams, alias: Alias) -> bool:
    """Whether a verdict that is kept is what withholds the planner: then that is the answer."""
    if alias.withheld_by != "exam":
        return False
    return await _current(exams, alias.name, run.replica.revision(alias.active)) is not None


async def _examine(run: Execution, exams: Exams, op: Operation, name: str, wanted: Wanted | None) -> None:
    alias = run.replica.alias(name)
    if wanted is None:
        revision = run.replica.revision(alias.active)
        run.operations.update(op.id, step=Step.LOADING, to_digest=revision.digest)
    else:
        policy = wanted.policy or alias.desired.policy
        revision = await run.steps.admit(op, name, replace(wanted, policy=policy))
    found = await _current(exams, name, revision)
    kept = found is not None
    found = found or await _asked(run, exams, op, name, revision)
    about = {"kept": kept, "exam": exam_facts(found)}
    await run.operations.write(op.id, "exam.answered", about=about)
    details = {**op.details, "kept": kept, "exam": found.to_json()}
    await run.operations.end(op.id, Step.DONE, "exam.done", about=about, details=details)


async def _asked(run: Execution, exams: Exams, op: Operation, name: str, revision: Revision) -> KeptExam:
    def told(done: int, total: int) -> None:
        with contextlib.suppress(OperationCancelled):  # a late word; the operation has ended
            progress = f"exam: {done} of {total} answers"
            run.operations.update(op.id, progress=progress, fraction=done / total if total else None)

    key = slot_name(name, revision.digest)
    async with run.replica.held(key):
        deployment = run.replica.find(key)
        if deployment is None or deployment.state not in LOADED:
            try:
                deployment = await run.steps.deploy(op, name, revision)
            except EngineError:
                # An exam is a check of a load, too, and may be what ended this one: then this is its verdict.
                if (found := await _current(exams, name, revision)) is None:
                    raise
                return found
            if (found := await _current(exams, name, revision)) is not None:
                return found
        with stopwatch() as took:
            found = await run.operations.unless_stopped(op.id, exams.examine(name, deployment, told))
        run.operations.update(op.id, seconds={"exam": took()}, progress="", fraction=None)
        return found


async def examine_again(run: Execution, exams: Exams, op: Operation, key: str) -> None:
    """Begin an exam of what serves if it went on with a stale verdict, as an order of its own; ``op`` let it.

    What that finds is shown, and what serves goes on. Raises nothing: ``op`` is done.
    """
    name = str(op.planner)
    order = Order("s3lora-serve", f"operation {op.id} went back to a revision whose exam is stale")
    try:
        alias = run.replica.alias(name)
        if alias.active == key and await exams.outdated(name, run.replica.revision(key)):
            await examine(run, exams, name, None, order)
    except S3LoRAError as error:
        log.warning("planner %s is not examined again: %s", name, error)


async def _current(exams: Exams, name: str, revision: Revision) -> KeptExam | None:
    found = await exams.kept(name, revision)
    return None if found is None or found.stale else found
