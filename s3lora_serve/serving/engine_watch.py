"""One engine, watched until it is lost: dead, or hung and therefore killed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from s3lora_serve.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.engine.port import Engine
    from s3lora_serve.serving.watchdog import Watchdog

log = logging.getLogger(__name__)

DIED = "it died; its log names the cause"


class EngineWatch:
    """Looks at an engine every ``poll_seconds``; while that is idle, asks it for a sign of life."""

    def __init__(self, engine: Engine, watchdog: Watchdog, poll_seconds: float) -> None:
        self.engine = engine
        self._watchdog = watchdog
        self._poll_seconds = poll_seconds
        self._probe: asyncio.Task[None] | None = None

    async def until_lost(self, starting: Callable[[], bool]) -> str:
        """Return why the engine is lost, once it is; one that hangs has been killed by then."""
        clock = asyncio.get_running_loop().time
        try:
            while await self.engine.healthy():
                look = self._watchdog.look(
                    clock(), self.engine.progress(), starting=starting(), probing=self._probing
                )
                if look.hung:
                    self._kill()
                    return look.hung
                if look.probe:
                    self._probe = asyncio.create_task(self._ask(), name="engine-probe")
                await asyncio.sleep(self._poll_seconds)
            return DIED
        finally:
            if self._probe is not None:
                self._probe.cancel()
                await asyncio.gather(self._probe, return_exceptions=True)
                self._probe = None

    @property
    def _probing(self) -> bool:
        return self._probe is not None and not self._probe.done()

    def _kill(self) -> None:
        try:
            self.engine.kill()
        except Exception:  # it must be replaced all the same; closing it is the second try
            log.exception("the engine that hangs could not be killed")

    async def _ask(self) -> None:
        # The engine's loop and every worker take part in the answer, which counts as a sign by itself.
        with suppress(EngineError):  # a death shows in `healthy`; any other error is no silence
            await self.engine.loaded()
