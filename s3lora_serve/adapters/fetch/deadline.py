"""How long fetching may take: the total enforced here, for whatever source; the rest by its driver."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

import fsspec

from s3lora_serve.errors import SourceError
from s3lora_serve.storage.daemon_threads import DaemonCall, abandoned, given_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.adapters.fetch.progress import Progress
    from s3lora_serve.config import LimitsConfig

_T = TypeVar("_T")

log = logging.getLogger(__name__)

POLL = 0.2  # seconds between two looks whether the caller was given up itself


def within(where: str, seconds: float, call: Callable[[Progress], _T], progress: Progress) -> _T:
    """``call``, given where to tell its progress, on a thread that is left behind after ``seconds``.

    A folder on a server that is gone, or a driver without time limits, cannot be interrupted. What was left
    behind ends at its next report of progress. ``where`` is the source as it may be shown. Raises SourceError
    when the time is over, and what ``call`` raises.
    """

    def tell(stage: str, fraction: float) -> None:
        if given_up():
            raise _left(where)
        progress(stage, fraction)

    until = time.monotonic() + seconds
    running = DaemonCall("fetch", lambda: call(tell))
    try:
        while not running.wait(min(POLL, max(0.0, until - time.monotonic()))):
            if given_up():  # the operation was cancelled
                raise _left(where)
            if time.monotonic() >= until:
                running.give_up()
                log.warning("fetching %s was given up; threads that hang in sources: %d", where, abandoned())
                raise SourceError(
                    f"{where} was not fetched within {seconds:g} s (limits.fetch_seconds)",
                    hint="does its server answer? If it is only slow, raise limits.fetch_seconds",
                )
    except BaseException:
        running.give_up()
        raise
    return running.result()


def _left(where: str) -> SourceError:
    return SourceError(
        f"fetching {where} was given up", hint="what waited for it was cancelled, or its time was over"
    )


def unanswered(where: str, limits: LimitsConfig) -> SourceError:
    """The refusal of a source whose driver waited for nothing."""
    return SourceError(
        f"{where} does not answer: no connection within {limits.fetch_connect_seconds:g} s"
        f" (limits.fetch_connect_seconds), or not a byte for {limits.fetch_read_seconds:g} s"
        " (limits.fetch_read_seconds)",
        hint="is its server up? If it is only slow, raise the limit",
    )


def driver_limits(scheme: str, limits: LimitsConfig) -> dict[str, Any]:
    """What fsspec's driver for ``scheme`` takes as connect and read limits, beside what is configured for it.

    Drivers that are not named here have limits of their own, or none; the total holds for all.
    """
    if scheme != "s3":
        return {}
    times = {"connect_timeout": limits.fetch_connect_seconds, "read_timeout": limits.fetch_read_seconds}
    configured = fsspec.config.conf.get(scheme, {}).get("config_kwargs", {})
    return {scheme: {"config_kwargs": {**configured, **times}}}
