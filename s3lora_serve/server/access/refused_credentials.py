"""Requests with a wrong key or token, or with none: counted, told of in the log, and slowed down"""

from __future__ import annotations

import asyncio
import logging
import time
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3lora_serve.service.metrics.prometheus import Metrics

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0  # between two lines of the log
FIRST_DELAY, MOST_DELAY = 0.02, 1.0  # seconds; it doubles with each wrong secret
FORGET_SECONDS = 60.0  # without a wrong secret, and the delay begins anew


class RefusedCredentials:
    """Of one listener. The secrets themselves are never logged."""

    def __init__(self, metrics: Metrics, listener: str, secret: str, *, slow: bool = False) -> None:
        """``secret`` is what the log calls it; ``slow``: answers to wrong ones are held back for a moment."""
        self._metrics = metrics
        self._listener, self._secret, self._slow = listener, secret, slow
        self._wrong, self._last = 0, 0.0  # secrets of late, for the delay
        self._untold, self._peer = 0, ""
        self._timer: asyncio.TimerHandle | None = None

    async def note(self, peer: str | None, *, sent: bool) -> None:
        """One more, from this address; ``sent``: with a wrong secret. Returns once it may be answered.

        Only who sent a wrong secret waits.
        """
        self._metrics.refused_credentials(self._listener)
        self._untold, self._peer = self._untold + 1, peer or "an unknown address"
        if self._timer is None:
            self._tell()
        if sent and self._slow:
            await asyncio.sleep(self._delay())

    def _delay(self) -> float:
        now = time.monotonic()
        self._wrong = 0 if now - self._last > FORGET_SECONDS else self._wrong + 1
        self._last = now
        return min(FIRST_DELAY * 2.0 ** min(self._wrong, 20), MOST_DELAY)

    def _tell(self) -> None:
        """Log those that were not told of yet, and nothing more for some seconds."""
        self._timer = None
        if not self._untold:
            return
        log.warning(
            "requests without a valid %s were refused: %d, the last one from %s",
            self._secret,
            self._untold,
            self._peer,
        )
        self._untold = 0
        # In no request's context: what it tells of is more than one.
        self._timer = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._tell, context=Context())
