"""What is known of the base model as a judge, and whether that holds for the engine that runs now."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import EngineDead, EngineError
from s3lora_serve.safety.guard.proof.unharmed import check_unharmed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from s3lora_serve.engine.port import Engine, Slot

    Kept = Callable[[], AbstractAsyncContextManager[Sequence[Slot]]]

log = logging.getLogger(__name__)

PAUSES = (1.0, 5.0, 30.0, 60.0)  # seconds before it is tried again; the last one repeats
_HARM = "the base model is not itself beside adapters on this engine"


class BaseProof:
    """Whether the base model refuses what it should was asked at the start and hangs on its weights; whether
    it is itself beside adapters hangs on the engine's kernels, and is asked anew of each engine.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """``sleep`` waits between attempts (tests watch it)."""
        self.told: Mapping[str, Any] | None = None  # clients and operators; None: nobody asks the base model
        self._sleep = sleep
        self._engine: Engine | None = None  # that replaced another one last

    @property
    def harm(self) -> str:
        """Why the base model must not judge; empty while nothing is known against it."""
        return "" if self._unharmed.get("holds", True) else _HARM

    def judging(self, engine: Engine) -> Engine:
        """The engine, to ask its base model. Raises EngineError for one whose base model must not judge."""
        if self.harm:
            raise EngineError(self.harm)
        return engine

    async def restarted(self, engine: Engine, kept: Kept) -> None:
        """Look again on an engine that replaced another: until it is known, or that engine is gone, too.

        Judging goes on meanwhile. ``kept`` holds the slots of what serves in the engine.
        """
        if not (self.told or {}).get("tested"):
            return
        self._engine = engine
        self._tell(checking=True)
        attempt = 0
        while True:
            try:
                async with kept() as slots:
                    found = await check_unharmed(engine, slots)
                break
            except EngineDead:
                return
            except EngineError as error:
                log.warning("whether the base model is unharmed on this engine is not known yet: %s", error)
            await self._sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1
        if self._engine is not engine:
            return
        self._tell(**found.facts(), checking=False)
        if found.holds:
            log.info("after the engine's restart %s", found)
            if not found.tells:
                log.warning("a leak of adapters into the base model would not have been seen: %s", found)
        else:
            log.error(
                "after the engine's restart %s: guards by the base model fail until an engine passes; report"
                " this engine and its kernels, and use guard by: endpoint meanwhile",
                found,
            )

    @property
    def _unharmed(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = (self.told or {}).get("unharmed", {})
        return found

    def _tell(self, **changes: Any) -> None:
        self.told = {**(self.told or {}), "unharmed": {**self._unharmed, **changes}}
