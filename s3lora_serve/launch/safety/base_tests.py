"""Before the base model may guard: what it refuses of questions that ship, and whether it is unharmed"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import ConfigError
from s3lora_serve.judging.question_sets import shipped_questions
from s3lora_serve.launch.safety.base_identity import base_identity
from s3lora_serve.safety.guard.base_judge import BaseJudge
from s3lora_serve.safety.guard.proof.self_test import (
    keep_self_test,
    kept_self_test,
    self_test,
    self_test_digest,
)
from s3lora_serve.safety.guard.proof.unharmed import check_unharmed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from s3lora_serve.config import GuardConfig
    from s3lora_serve.engine.port import Engine, Slot
    from s3lora_serve.judging.share import Share
    from s3lora_serve.launch.resolve import BaseModel
    from s3lora_serve.safety.guard.proof.self_test import SelfTest
    from s3lora_serve.safety.guard.proof.unharmed import Unharmed

log = logging.getLogger(__name__)

MADE_UP = "not tested: answers of a fake engine are made up"


async def base_tests(
    guards: Iterable[GuardConfig],
    engine: Engine,
    kind: EngineKind,
    slots: Sequence[Slot],
    base: BaseModel,
    kept: Path,
    report: Callable[[str, float | None], None],
) -> dict[str, Any] | None:
    """What is told of the base as a guard; None if no guard asks it.

    The self-test's outcome is ``kept`` for later starts with the same weights, if that can be told.

    Raises ConfigError for a base that refuses too little or too much for a guard that withholds answers, or
    that is not itself beside the ``slots``; ones that only observe are warned of. EngineError, EngineDead.
    """
    asking = [guard for guard in guards if guard.asks and "base" in guard.by]
    if not asking:
        return None
    if kind is EngineKind.FAKE:
        log.warning("the guard's base model: %s", MADE_UP)
        return {"tested": False, "why": MADE_UP}
    tested = await _self_test(asking[0], engine, base_identity(base), kept, report)
    log.info("the guard's base model: %s", tested)
    report("does the base model stay itself beside adapters", None)
    unharmed = await check_unharmed(engine, slots)
    log.info("%s", unharmed)
    for guard in dict.fromkeys(asking):
        _judge(guard, tested, unharmed)
    return told(tested, unharmed)


def told(tested: SelfTest, unharmed: Unharmed) -> dict[str, Any]:
    """Shares with their intervals at 95 %, and how far the base model moved beside adapters, in nats."""
    return {
        "tested": True,
        "refusal": _share(tested.attacks.refusal),
        "over_refusal": _share(tested.tasks.refusal),
        "harmless_refusal": _share(tested.harmless.refusal),
        "unharmed": unharmed.facts(),
    }


def _share(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {"value": share.value, "low": low, "high": high, "hits": share.hits, "total": share.total}


def _judge(guard: GuardConfig, tested: SelfTest, unharmed: Unharmed) -> None:
    error = tested.error(guard)
    if not unharmed.holds:
        error = ConfigError(
            f"guard.by: base: {unharmed}",
            hint="report this engine and its kernels; use guard by: endpoint meanwhile",
        )
    if error is None:
        if not unharmed.tells:
            log.warning("a leak of adapters into the base model would not have been seen: %s", unharmed)
        return
    if guard.action == "refuse":
        raise error
    log.warning("%s", error)


async def _self_test(
    guard: GuardConfig,
    engine: Engine,
    base: str | None,
    path: Path,
    report: Callable[[str, float | None], None],
) -> SelfTest:
    suite = shipped_questions()
    attacks, harmless = (
        [prompt for each in sets for prompt in each.prompts] for sets in (suite.attacks, suite.harmless)
    )
    tasks = [task.request.task for each in suite.plans for task in each.tasks]
    digest = None if base is None else self_test_digest(engine, base, attacks, harmless, tasks)
    if digest is not None and (known := kept_self_test(path, digest)) is not None:
        return known
    judge = BaseJudge(lambda: engine, guard)

    def progress(done: int, total: int) -> None:
        report(f"what the base model refuses: {done} of {total} questions", done / total)

    found = await self_test(judge, attacks, harmless, tasks, progress=progress)
    if digest is not None:
        with suppress(OSError):  # the next start asks again
            keep_self_test(path, digest, found)
    return found
