"""Retries where they may help: the server is busy, restarting, or was not reached."""

from __future__ import annotations

import random
from typing import Any

import tenacity

from planners.client.errors import ConnectionFailed, PlannerAPIError, PlanRefused

FIRST_PAUSE = 0.5  # seconds; doubled each time
LONGEST_PAUSE = 60.0  # for longer pauses the caller should retry

_TOO_LONG = ("timeout", "plan_timeout")


def retrying(retries: int) -> tenacity.Retrying:
    """Calls a function up to ``1 + retries`` times; the last error is raised as it is."""
    return tenacity.Retrying(stop=tenacity.stop_after_attempt(1 + retries), **_RULES)


def async_retrying(retries: int) -> tenacity.AsyncRetrying:
    """The same for coroutines."""
    return tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(1 + retries), **_RULES)


def worth_another(error: BaseException) -> bool:
    """Whether it is 429, 503 or a connection that failed, and the server wants to be asked soon.

    Not one that took too long, for the server or for the client: the same plan would take as long again. Nor
    one that a guard refused: only where the guard itself failed does the server say when to ask again.
    """
    if not isinstance(error, PlannerAPIError) or error.code in _TOO_LONG:
        return False
    if isinstance(error, PlanRefused) and (error.part is not None or error.retry_after is None):
        return False
    soon = (error.retry_after or 0.0) <= LONGEST_PAUSE
    return soon and (error.status in (429, 503) or isinstance(error, ConnectionFailed))


def _pause(state: tenacity.RetryCallState) -> float:
    """What the server asked for, else ever longer; never all clients at the same moment."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = getattr(error, "retry_after", None)
    pause = asked if asked is not None else FIRST_PAUSE * 2 ** (state.attempt_number - 1)
    return float(min(pause, LONGEST_PAUSE) * random.uniform(1.0, 1.25))


_RULES: dict[str, Any] = {
    "wait": _pause,
    "retry": tenacity.retry_if_exception(worth_another),
    "reraise": True,
}
