"""An event loop whose clock jumps to the next timer: hours pass in no time, and each run is the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from s3lora_serve.storage.daemon_threads import DaemonThreads

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

    import pytest


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time stands still while there is anything to do."""

    now = 1000.0

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        elif not self._ready and not self._stopping:
            waiting = "".join(f"\n  {task!r}" for task in asyncio.all_tasks(self))
            raise RuntimeError(f"nothing will ever happen; those who wait:{waiting}")
        super()._run_once()


def run_virtually(
    scenario: Coroutine[Any, Any, None], monkeypatch: pytest.MonkeyPatch, rng: random.Random
) -> None:
    """Run to the end; threads become calls in the loop, after as many turns of it as ``rng`` says."""
    loop = VirtualLoop()

    async def in_loop(
        self: DaemonThreads, call: Callable[..., Any], /, *args: Any, queued: object = None, **options: Any
    ) -> Any:
        for _ in range(rng.randrange(1, 4)):
            await asyncio.sleep(0)
        result = call(*args, **options)
        for _ in range(rng.randrange(3)):
            await asyncio.sleep(0)
        return result

    with monkeypatch.context() as patch, asyncio.Runner(loop_factory=lambda: loop) as runner:
        patch.setattr(DaemonThreads, "run", in_loop)
        patch.setattr("time.monotonic", loop.time)
        runner.run(scenario)
