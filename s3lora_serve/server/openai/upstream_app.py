"""The application of the engine that runs now: another one after each restart, each with its own lifespan."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError

from s3lora_serve.server.openai.engine_refusal import refused_fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette

    from s3lora_serve.engine.port import Engine
    from s3lora_serve.service.planner_service import PlannerService

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1  # as often as the engine's host looks


@dataclass(frozen=True, eq=False)
class UpstreamApp:
    """One engine and its application."""

    engine: Engine
    app: Starlette
    begun: asyncio.Future[None]  # done once the application can be asked
    gone: asyncio.Event  # set once the engine has stopped


def _app_of(engine: Engine) -> Starlette:
    """The engine's application, which refuses fields in our words."""
    app = engine.openai_app()
    if app.exception_handlers.get(RequestValidationError) is not refused_fields:
        app.add_exception_handler(RequestValidationError, refused_fields)  # type: ignore[arg-type]
        app.middleware_stack = None  # it is built with the handlers that there are, at the first request
    return app


class UpstreamApps:
    """Gives each request the application, and keeps that in its lifespan from the engine's start to its end.

    vLLM's logs statistics from its lifespan and frees what it holds at the end of it.
    """

    def __init__(self, service: PlannerService) -> None:
        self._service = service
        self._serving = False
        self._stopped = asyncio.Event()
        self._current: UpstreamApp | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def current(self) -> UpstreamApp:
        """That of the engine that runs now. Raises EngineDead while there is none."""
        engine = self._service.engine
        if self._current is None or self._current.engine is not engine:
            begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._current = UpstreamApp(engine, _app_of(engine), begun, asyncio.Event())
            # In no request's context: it outlives the one that asked first.
            task = asyncio.create_task(self._accompany(self._current), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        current = self._current
        await asyncio.shield(current.begun)  # others wait for it, too
        return current

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """The server's own: while it serves, so do the applications."""
        self._serving = True
        try:
            await self.current()
            yield
        finally:
            self._serving = False
            self._stopped.set()
            await asyncio.gather(*self._tasks)
            self._stopped.clear()
            self._current = None

    async def _accompany(self, running: UpstreamApp) -> None:
        """Enter the lifespan, and leave it in the same task once the engine or the server has stopped."""
        try:
            async with AsyncExitStack() as owned:
                if self._serving:
                    await owned.enter_async_context(running.app.router.lifespan_context(running.app))
                running.begun.set_result(None)
                while not self._stopped.is_set() and await running.engine.healthy():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_POLL_SECONDS):
                            await self._stopped.wait()
                running.gone.set()
        except Exception as error:
            if not running.begun.done():
                running.begun.set_exception(error)
            else:  # an engine that died may fail to clean up
                log.exception("the lifespan of the engine's application failed at its end")
        finally:
            running.begun.cancel()
            running.gone.set()
