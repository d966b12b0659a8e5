"""An answer in the making beside its guard: nothing of it, nor of what failed about it, passes unjudged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from s3lora_serve.errors import (
    EngineDead,
    EngineRefused,
    GuardUndecided,
    LeaseCut,
    PlanTimeout,
    RefusedByGuard,
    ShuttingDown,
)
from s3lora_serve.fleet.unless import unless

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from s3lora_serve.safety.guard.guarding import Guarding

T = TypeVar("T")

GUARDS_ERRORS = (RefusedByGuard, GuardUndecided)
# What says nothing of the answer; any other error may quote it, and waits for the verdict.
_SAYS_NOTHING = (*GUARDS_ERRORS, EngineDead, EngineRefused, LeaseCut, PlanTimeout, ShuttingDown)


async def once_judged(work: Coroutine[Any, Any, T], guarding: Guarding) -> T:
    """What ``work`` came to, once it may leave; a refusal ends it at once, and it has ended.

    ``guarding`` was entered. Raises RefusedByGuard, GuardUndecided, and what ``work`` raises.
    """
    failure: Exception | None = None
    try:
        answer = await unless(guarding.withheld, work, guarding.why_withheld)
    except _SAYS_NOTHING:
        raise
    except Exception as error:
        failure = error
    await guarding.passed()  # out of the handler: its refusal must not carry the error along
    if failure is not None:
        raise failure
    return answer
