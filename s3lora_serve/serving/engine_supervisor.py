"""The running engine: watched, and restarted with growing pauses for as long as it dies."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from s3lora_serve.errors import EngineDead

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from s3lora_serve.engine.port import Engine, EngineKind

    Down = Callable[[str], None]
    Up = Callable[[Engine], Awaitable[None]]

log = logging.getLogger(__name__)

BACKOFF = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # seconds before each attempt; the last one repeats
CLOSE_SECONDS = 30.0  # for a dead engine to free what it holds; then it is left behind


class EngineSupervisor:
    """Holds one engine and replaces it when it has died. Made running by ``start``, ended by ``close``.

    An engine that dies again within the longest pause counts as a failed attempt, so that one request which
    kills it each time does not keep the machine busy with starts.
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[Engine]],
        *,
        backoff: Sequence[float] = BACKOFF,
        poll_seconds: float = 0.1,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``start`` makes a new engine each time; ``sleep`` waits between attempts (tests watch it)."""
        self._start = start
        self._backoff = tuple(backoff)
        self._poll_seconds = poll_seconds
        self._sleep = sleep
        self._down: Down | None = None
        self._up: Up | None = None
        self._engine: Engine | None = None
        self._kind: EngineKind | None = None  # of the one that runs or ran last
        self._alive = False
        self._failures = 0  # replacements since an engine last lived for long
        self._restarts = 0
        self._reason = "it was not started"
        self._watch: asyncio.Task[None] | None = None

    def subscribe(self, *, down: Down, up: Up) -> None:
        """Call ``down(reason)`` when an engine is lost and ``up(engine)`` when there is another one.

        ``up`` brings back what the old engine held; ``alive`` turns True once it has returned, and what it
        raises counts as a failed start. Neither is called for the first start. Replaces earlier subscribers.
        """
        self._down, self._up = down, up

    @property
    def current(self) -> Engine:
        """The running engine, from its start on. Raises EngineDead while there is none."""
        if self._engine is None:
            hint = "it is being restarted: try again in a moment" if self._watch else ""
            raise EngineDead(f"the engine does not run: {self._reason}", hint=hint)
        return self._engine

    @property
    def kind(self) -> EngineKind:
        """What it keeps running, also while that is being restarted. Raises EngineDead before the start."""
        return self._kind or self.current.kind

    @property
    def alive(self) -> bool:
        """Whether there is an engine that has back what the one before it held."""
        return self._alive

    @property
    def restarts(self) -> int:
        """How often a dead engine was replaced."""
        return self._restarts

    @property
    def down_reason(self) -> str:
        """Why there is no engine; empty while ``alive``."""
        return "" if self._alive else self._reason

    async def start(self) -> None:
        """Start the first engine and watch it. What its start raises leaves unchanged."""
        self._engine = engine = await self._start()
        self._kind = engine.kind
        self._alive = True
        self._watch = asyncio.create_task(self._keep(engine), name="engine-host")

    async def close(self) -> None:
        """Stop watching and close the engine, or give up the start that is under way."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        engine, self._engine = self._engine, None
        self._alive, self._reason = False, "it was stopped"
        if engine is not None:
            await engine.close()

    async def _keep(self, engine: Engine) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await self._until_dead(engine)
            if clock() - began >= self._backoff[-1]:
                self._failures = 0
            await self._lose(engine, "it died; its log names the cause")
            engine = await self._replace()

    async def _until_dead(self, engine: Engine) -> None:
        while await engine.healthy():
            await asyncio.sleep(self._poll_seconds)

    async def _lose(self, engine: Engine, reason: str) -> None:
        """Say at once that the engine is gone, then free what is left of it."""
        self._engine, self._alive, self._reason = None, False, reason
        log.error("the engine is lost: %s", reason)
        if self._down is not None:
            try:
                self._down(reason)
            except Exception:  # a subscriber's defect must not keep the engine down
                log.exception("the subscriber failed on the engine's loss")
        try:
            # Before Python 3.12, wait_for loses a cancellation that comes as its call ends: that of `close`.
            async with asyncio.timeout(CLOSE_SECONDS):
                await engine.close()
        except Exception:  # it is dead anyway, and the next one is needed
            log.exception("the lost engine could not be closed")

    async def _replace(self) -> Engine:
        """Another engine, holding again what the lost one held, however many attempts it takes."""
        while True:
            pause = self._backoff[min(self._failures, len(self._backoff) - 1)]
            self._failures += 1
            await self._sleep(pause)
            try:
                engine = await self._start()
            except Exception as error:  # whatever it is, the next attempt may do
                self._reason = f"it could not be restarted: {error}"
                log.error("attempt %d: %s", self._failures, self._reason)
                continue
            self._engine = engine
            self._restarts += 1
            try:
                await self._bring_back(engine)
            except Exception as error:
                await self._lose(engine, f"it could not be brought back: {error}")
                continue
            self._alive = True
            log.warning("the engine runs again, after attempt %d", self._failures)
            return engine

    async def _bring_back(self, engine: Engine) -> None:
        """Let the subscriber load again what the lost engine held. Raises EngineDead if this one dies."""
        if self._up is None:
            return
        back = asyncio.ensure_future(self._up(engine))
        dead = asyncio.ensure_future(self._until_dead(engine))
        try:
            await asyncio.wait({back, dead}, return_when=asyncio.FIRST_COMPLETED)
            if not back.done():
                raise EngineDead("it died meanwhile")
            if back.cancelled():
                raise EngineDead("bringing it back was cancelled")
            back.result()
        finally:
            for task in (back, dead):
                task.cancel()
            await asyncio.gather(back, dead, return_exceptions=True)
