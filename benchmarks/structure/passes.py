"""What one swap, rollback, plan and chat pass through: files entered, and changes of file on the way.

The product serves the demo planners over the fake engine, in this process, behind both of its applications.
Every call of a product function is noted that the request causes, in every thread: ``files`` are the files
that they stand in, ``changes`` how often a call is in another file than the call before it in its thread.
What goes on beside it, such as the engine's watch and the end of the request before, has another context and
is not noted, so that a busy machine gives the same figures. Each request runs once before, so that imports
and caches are not counted, and then ``ROUNDS`` times: the least of each figure counts.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections import defaultdict
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from s3lora_serve.config import load_config
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.operation import Step
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.launch.admit_all import admit_fleet
from s3lora_serve.launch.engine_choice import start_engine
from s3lora_serve.launch.resolve import to_engine_settings
from s3lora_serve.server.admin.admin_app import create_admin_app
from s3lora_serve.server.app import create_app
from s3lora_serve.service.planner_service import PlannerService
from s3lora_serve.serving.engine_supervisor import EngineSupervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import FrameType

ROOT = Path(__file__).parents[2]
PACKAGES = (f"{ROOT / 's3lora_serve'}/", f"{ROOT / 'planners'}/")
ROUNDS = 5
PLANNER, OTHER, TOKEN = "hotpot-planner", "demo://gsm8k-planner", "t" * 32
CHAT = {"model": PLANNER, "messages": [{"role": "user", "content": "Who was born first?"}], "max_tokens": 8}
PLAN = {"planner": PLANNER, "task": "Who was born first?", "max_steps": 2}


# The list of what one request has called: threads and tasks that it begins inherit it, and no others have it.
_NOTED: ContextVar[Calls | None] = ContextVar("noted", default=None)


class Calls:
    """The files of the product's functions that were called, in order, by thread."""

    def __init__(self) -> None:
        self._threads: defaultdict[int, list[str]] = defaultdict(list)

    def add(self, file: str) -> None:
        """Note a call in the thread that it happens in."""
        self._threads[threading.get_ident()].append(file)

    @property
    def files(self) -> set[str]:
        """Every file once."""
        return {file for files in self._threads.values() for file in files}

    @property
    def changes(self) -> int:
        """How often a call is in another file than the one before it; a thread's first call is one."""
        return sum(1 + sum(a != b for a, b in pairwise(files)) for files in self._threads.values())


class Pass(NamedTuple):
    """What one request passed through."""

    files: int
    changes: int


@contextmanager
def noted() -> Iterator[Calls]:
    """Every call of a function of the product that is caused here, while this is open."""
    calls = Calls()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGES) and _NOTED.get() is calls:
            calls.add(frame.f_code.co_filename)

    threading.setprofile_all_threads(note) if sys.version_info >= (3, 12) else threading.setprofile(note)
    sys.setprofile(note)
    before = _NOTED.set(calls)
    try:
        yield calls
    finally:
        _NOTED.reset(before)
        sys.setprofile(None)
        threading.setprofile_all_threads(None) if sys.version_info >= (3, 12) else threading.setprofile(None)


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[PlannerService, httpx.AsyncClient, httpx.AsyncClient]]:
    """The service, and clients of the application and of the operators' one."""
    config = load_config(ROOT / "configs/planners.yaml")
    config = config.model_copy(
        update={
            "store": config.store.model_copy(update={"path": folder / "store"}),
            "state": config.state.model_copy(update={"path": folder / "state.db"}),
        }
    )
    kind = EngineKind.FAKE
    with Journal(config.state.path, engine=kind) as journal:
        fleet = admit_fleet(config, journal.planners(), kind)
        settings = to_engine_settings(config, fleet.base, fleet.max_lora_rank)
        host = EngineSupervisor(lambda: start_engine(kind, settings, lambda _: None))
        await host.start()
        service = PlannerService(host, journal, fleet.admission, base_model=fleet.base.name)
        await service.start(fleet.desired, fleet.revisions)
        await service.commit()
        public = _client(create_app(service, config.server, None))
        operators = _client(create_admin_app(service, TOKEN), authorization=f"Bearer {TOKEN}")
        try:
            async with public, operators:
                yield service, public, operators
        finally:
            await service.close()
            await host.close()


def _client(app: Any, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers)


async def order(
    service: PlannerService, operators: httpx.AsyncClient, what: str, body: dict[str, Any]
) -> None:
    """Give an order about the planner, and wait for its end; looking whether it has ended is not counted."""
    answer = await operators.post(f"/admin/planners/{PLANNER}/{what}", json=body)
    id_ = answer.raise_for_status().json()["id"]
    note, ended = sys.getprofile(), False
    while not ended:
        await asyncio.sleep(0.01)
        sys.setprofile(None)
        operation = service.control.operation(id_)
        ended = operation.step.ended
        sys.setprofile(note)
    if operation.step is not Step.DONE:
        raise SystemExit(f"{what}: {operation.error}")


async def ask(clients: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    """Send a request that must be answered."""
    (await clients.post(path, json=body)).raise_for_status()


async def passes() -> dict[str, Pass]:
    """Each of the four, by name."""
    found: dict[str, Pass] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with served(Path(folder)) as (service, clients, operators):
            requests = {
                "swap": lambda: order(service, operators, "swap", {"source": OTHER}),
                "rollback": lambda: order(service, operators, "rollback", {}),
                "plan": lambda: ask(clients, "/v1/plans", PLAN),
                "chat": lambda: ask(clients, "/v1/chat/completions", CHAT),
            }
            for count in range(1 + ROUNDS):
                for name, request in requests.items():
                    # Threads that are there already would not be noted: each request gets new ones.
                    asyncio.get_running_loop().set_default_executor(_new_threads())
                    with noted() as calls:
                        await request()
                    now = Pass(len(calls.files), calls.changes)
                    if count:
                        least = found.get(name, now)
                        found[name] = Pass(min(least.files, now.files), min(least.changes, now.changes))
    return found


def _new_threads() -> Any:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(8)
