"""The running engine: watched, and restarted with growing pauses for as long as it dies or hangs."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from s3lora_serve.config import EngineConfig, SlotsConfig
from s3lora_serve.engine.freed_memory import give_back_memory
from s3lora_serve.errors import EngineDead
from s3lora_serve.serving.engine_watch import EngineWatch
from s3lora_serve.serving.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from s3lora_serve.engine.port import Engine, EngineKind

    Down = Callable[[str], None]
    Up = Callable[[Engine], Awaitable[None]]

log = logging.getLogger(__name__)

BACKOFF = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # seconds before each attempt; the last one repeats
CLOSE_SECONDS = 30.0  # for a dead engine to free what it holds; then it is left behind


@dataclass(frozen=True)
class Restart:
    """How far a lost engine's replacement has come."""

    stage: str  # what is being done; names no planner
    attempt: int  # 0: the lost engine is still being closed
    began_at: float = field(default_factory=time.time)  # the loss, Unix seconds
    began: float = field(default_factory=time.monotonic)  # the loss, on the clock that only goes forward

    @property
    def seconds(self) -> float:
        """Since the loss."""
        return time.monotonic() - self.began


class EngineSupervisor:
    """Holds one engine and replaces one that has died or hangs. Runs from ``start`` until ``close``.

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
        watchdog_seconds: float = EngineConfig().watchdog_seconds,
        load_seconds: float = SlotsConfig().load_seconds,
    ) -> None:
        """``start`` makes a new engine each time; ``sleep`` waits between attempts (tests watch it).

        An engine hangs that gives no sign of life for ``watchdog_seconds``, ``load_seconds`` more while an
        adapter goes in or out: ``serving/watchdog.py`` has the rule.
        """
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
        self._watchdog_seconds = watchdog_seconds
        self._load_seconds = load_seconds
        self._restart: Restart | None = None
        self._told: Callable[[], None] = lambda: None

    def subscribe(self, *, down: Down, up: Up, told: Callable[[], None] = lambda: None) -> None:
        """Call ``down(reason)`` when an engine is lost and ``up(engine)`` when there is another one; ``told``
        at each stage of a restart.

        ``up`` brings back what the old engine held; ``alive`` turns True once it has returned, and what it
        raises counts as a failed start. Neither is called for the first start. Replaces earlier subscribers.
        """
        self._down, self._up, self._told = down, up, told

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

    @property
    def restart(self) -> Restart | None:
        """How far the restart has come that is under way; None while there is none."""
        return self._restart

    def stage(self, what: str) -> None:
        """Note and log what the restart is at; without one in progress nothing happens."""
        if self._restart is None:
            return
        self._restart = replace(self._restart, stage=what, attempt=self._failures)
        log.warning("the engine restarts, %.0f s so far: %s", self._restart.seconds, what)
        self._told()

    async def start(self) -> None:
        """Start the first engine and watch it. What its start raises leaves unchanged."""
        self._engine = engine = await self._start()
        self._kind = engine.kind
        self._alive = True
        self._watch = asyncio.create_task(self._keep(self._watched(engine)), name="engine-host")

    async def close(self) -> None:
        """Stop watching and close the engine, or give up the start that is under way."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        engine, self._engine = self._engine, None
        self._alive, self._reason, self._restart = False, "it was stopped", None
        if engine is not None:
            await engine.close()

    def _watched(self, engine: Engine) -> EngineWatch:
        watchdog = Watchdog(self._watchdog_seconds, self._load_seconds)
        return EngineWatch(engine, watchdog, self._poll_seconds)

    async def _keep(self, watch: EngineWatch) -> None:
        while True:
            await self._until_lost(watch)
            del watch  # what the lost engine held is free while the next one starts
            watch = await self._replace()

    async def _until_lost(self, watch: EngineWatch) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        # Without a subscriber the first start is not over: adapters are loaded, grammars compiled.
        reason = await watch.until_lost(lambda: self._up is None)
        if clock() - began >= self._backoff[-1]:
            self._failures = 0
        await self._lose(watch.engine, reason)

    async def _lose(self, engine: Engine, reason: str) -> None:
        """Say at once that the engine is gone, then free what is left of it."""
        self._engine, self._alive, self._reason = None, False, reason
        self._restart = self._restart or Restart("closing the old engine", self._failures)
        log.error("the engine is lost: %s", reason)
        if self._down is not None:
            try:
                self._down(reason)
            except Exception:  # a subscriber's defect must not keep the engine down
                log.exception("the subscriber failed on the engine's loss")
        self.stage("closing the old engine")
        try:
            # Before Python 3.12, wait_for loses a cancellation that comes as its call ends: that of `close`.
            async with asyncio.timeout(CLOSE_SECONDS):
                await engine.close()
        except Exception:  # it is dead anyway, and the next one is needed
            log.exception("the lost engine could not be closed")

    async def _replace(self) -> EngineWatch:
        """Another engine, holding again what the lost one held, however many attempts it takes."""
        while True:
            pause = self._backoff[min(self._failures, len(self._backoff) - 1)]
            self._failures += 1
            if pause:
                self.stage(f"attempt {self._failures}: waiting {pause:g} s")
            await self._sleep(pause)
            self.stage(f"attempt {self._failures}: starting the engine")
            try:
                engine = await self._start()
            except Exception as error:  # whatever it is, the next attempt may do
                self._reason = f"it could not be restarted: {error}"
                log.error("attempt %d: %s", self._failures, self._reason)
                continue
            self._engine = engine
            self._restarts += 1
            watch = self._watched(engine)
            try:
                await self._bring_back(watch)
            except Exception as error:
                await self._lose(engine, f"it could not be brought back: {error}")
                continue
            self._alive = True
            done, self._restart = self._restart, None
            seconds = done.seconds if done else 0.0
            log.warning("the engine runs again, after attempt %d and %.0f s", self._failures, seconds)
            self._told()
            give_back_memory()
            return watch

    async def _bring_back(self, watch: EngineWatch) -> None:
        """Let the subscriber load again what the lost engine held. Raises EngineDead if this one is lost."""
        if self._up is None:
            return
        back = asyncio.ensure_future(self._up(watch.engine))
        lost = asyncio.ensure_future(watch.until_lost(lambda: True))
        try:
            await asyncio.wait({back, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not back.done():
                raise EngineDead(f"meanwhile {lost.result()}")
            if back.cancelled():
                raise EngineDead("bringing it back was cancelled")
            back.result()
        finally:
            for task in (back, lost):
                task.cancel()
            await asyncio.gather(back, lost, return_exceptions=True)
