"""The application over the session's real engine, behind uvicorn, for clients that block or await

The engine lives in the session's event loop, and so does the server. A client that blocks would stop both, so
tests with such clients run in a thread while the loop runs (``tests/langchain/conftest.py``). The other ways
cost more: a second engine, in another process or loop, takes 24 s to start and 2.5 GB.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn
from adapters_factory import adapter_limits
from engine_factory import BASE_NAME, Shared

from planners import ToolSpec
from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.fetch.reach import EVERYWHERE
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.config import PlansConfig, ServerConfig
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.operation import Wanted
from s3lora_serve.fleet.planner import DesiredPlanner
from s3lora_serve.launch.admit_all import StoreAdmission
from s3lora_serve.launch.resolve import BaseModel
from s3lora_serve.server.app import create_app
from s3lora_serve.service.planner_service import PlannerService
from s3lora_serve.serving.engine_supervisor import EngineSupervisor
from s3lora_serve.spectral.prune_policy import PrunePolicy

if TYPE_CHECKING:
    from pathlib import Path

PLANNER = "hotpot"
SOURCE = "demo://hotpot-planner"
KEY = "a-key-for-tests"
TOOLS = (
    ToolSpec(name="Search", description="search the web"),
    ToolSpec(name="LLM", description="ask a language model"),
)


@dataclass(frozen=True)
class LiveServer:
    """A server that answers at ``url`` while ``loop`` runs."""

    url: str  # of /v1
    service: PlannerService
    loop: asyncio.AbstractEventLoop
    planner: str = PLANNER
    base: str = BASE_NAME
    key: str = KEY


@asynccontextmanager
async def live_real(engine, base_folder: Path, root: Path, *, first_slot_id: int = 3_000_000):
    """The demo's search planner, served; its slot is unloaded in the end."""
    base = BaseModel(str(base_folder), BASE_NAME, None, BaseModelSpec.from_pretrained(base_folder))
    admission = StoreAdmission(base, adapter_limits(), RevisionStore(root / "store"), EVERYWHERE)
    desired = {PLANNER: DesiredPlanner.of(SOURCE, PrunePolicy(), tools=TOOLS)}
    revision = await asyncio.to_thread(
        admission.admit, PLANNER, Wanted(source=SOURCE), lambda stage, done: None
    )

    async def start():
        return Shared(engine)

    host, journal = EngineSupervisor(start), Journal(root / "state.db")
    service = PlannerService(host, journal, admission, base_model=BASE_NAME, first_slot_id=first_slot_id)
    await host.start()
    await service.start(desired, {PLANNER: revision})
    await service.commit()
    slot = service.get(PLANNER).active.slot
    try:
        async with _listening(create_app(service, ServerConfig(), KEY, PlansConfig(seconds=600))) as url:
            yield LiveServer(f"{url}/v1", service, asyncio.get_running_loop())
    finally:
        await service.close()
        await host.close()
        journal.close()
        await engine.unload(slot)


@asynccontextmanager
async def _listening(app):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        # Without its lifespan: vLLM's deletes the application's state when it ends, and other tests use it.
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        running = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
