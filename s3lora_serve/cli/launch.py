"""From a configuration to a listening server and back; what is acquired is given back on every way out."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from s3lora_serve.cli.admit import admit_fleet
from s3lora_serve.cli.banner import show_planners
from s3lora_serve.cli.console import Stages, say
from s3lora_serve.cli.listening import bound, listen
from s3lora_serve.cli.resolve import to_engine_settings
from s3lora_serve.errors import EngineError

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from s3lora_serve.cli.admit import Fleet
    from s3lora_serve.config import Config, ServerConfig
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.engine.vllm_settings import VllmSettings
    from s3lora_serve.runtime.service import PlannerService

    StartEngine = Callable[[VllmSettings, Callable[[str], None]], Awaitable[Engine]]

GRACE_SECONDS = 30  # for running requests after a signal; a second signal does not wait


async def launch(config: Config, environ: Mapping[str, str], start: StartEngine | None = None) -> None:
    """Serve until a signal comes. ``start`` makes the engine, by default vLLM.

    Raises ConfigError before anything heavy is begun, AdapterError if a planner was refused, EngineError if
    the engine fails or one planner cannot be served.
    """
    key = config.server.api_key(environ)
    with bound(config.server.host, config.server.port) as listening:
        fleet = admit_fleet(config)
        settings = to_engine_settings(config, fleet.base)
        with Stages("engine", keep=True) as stage:
            engine = await (start or _start_vllm)(settings, stage)
            stage.note = (
                f"{engine.version}, {settings.max_loras} adapters up to rank {settings.max_lora_rank}"
            )
        try:
            service = await _bring_up(engine, fleet, config)
            await _serve(service, engine, config.server, key, listening)
        finally:
            await engine.close()


async def _start_vllm(settings: VllmSettings, say_stage: Callable[[str], None]) -> Engine:
    from s3lora_serve.engine.vllm import VllmEngine

    return await VllmEngine.start(settings, say_stage)


async def _bring_up(engine: Engine, fleet: Fleet, config: Config) -> PlannerService:
    from s3lora_serve.runtime.service import PlannerService

    descriptions = {name: planner.description for name, planner in config.planners.items()}
    with Stages("load", keep=True) as stage:
        service = PlannerService(
            engine,
            fleet.revisions,
            base_model=fleet.base.name,
            descriptions=descriptions,
            watch=lambda planner: stage(f"{planner.name}: {planner.state}"),
        )
        await service.start()
        down = [planner for planner in service.planners() if not planner.up]
        if down:
            reasons = "".join(f"\n  {planner.name}: {planner.reason}" for planner in down)
            raise EngineError(f"{len(down)} of {len(service.planners())} planners cannot be served:{reasons}")
        stage.note = f"{len(service.planners())} planners loaded and proved to change the answers"
    return service


async def _serve(
    service: PlannerService, engine: Engine, settings: ServerConfig, key: str | None, listening: socket.socket
) -> None:
    from s3lora_serve.server.app import create_app

    url = _url(listening)
    server = _Server(
        uvicorn.Config(
            create_app(service, engine, settings, key),
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        ),
        lambda: show_planners(service.planners(), url, settings.api_key_env if key else None),
    )
    listen(listening)
    with _signals(server.stop):
        await server.serve(sockets=[listening])
    say("stopped")


class _Server(uvicorn.Server):
    """uvicorn, with our signals, and a word when it listens."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises each signal again when it has stopped, which would cut the engine's shutdown short.
        yield

    def stop(self) -> None:
        """End running requests and leave; at once when called again."""
        self.force_exit = self.should_exit
        if not self.should_exit:
            say(f"stopping: running requests have {GRACE_SECONDS} s; a second signal does not wait")
        self.should_exit = True


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # where it can be asked from this machine
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
