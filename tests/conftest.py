"""What tests of several parts share: the demo base model, adapters for it, and one real engine.

The engine starts when the first test asks for it (20 to 30 s on two cores) and serves them all. Leave it as
you found it: unload your slots. ``S3LORA_DEMO_BASE`` names a ready folder of the base
model; without it the model is downloaded once into the user's cache.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
from typing import TYPE_CHECKING

# Before anything imports torch: on a busy machine its threads wait for each other at every matrix product.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The engine must do without a C++ compiler, which the CPU image does not have.
os.environ["CXX"] = "/nowhere/no-compiler"

import httpx
import pytest
import pytest_asyncio
from adapters_factory import write_adapter
from engine_factory import engine_settings
from hypothesis import HealthCheck, settings

from s3lora_serve.demo.demo_base import prepare_demo_base
from s3lora_serve.engine.port import Slot
from s3lora_serve.engine.vllm.module_table import table_process
from s3lora_serve.engine.vllm.vllm_engine import VllmEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytest_plugins = ["quick_loop", "command_fixtures", "fleet_fixtures"]  # quick_loop first: it sets the width
# A shell ignores Ctrl-C for what it starts in the background, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite(
    "contract", "slot_contract", "stream_contract", "answer_contract", "token_contract"
)

# A busy machine says nothing about an example's time. Based on the current profile, which is "ci" in CI.
settings.register_profile(
    "unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _warnings_are_heard() -> None:
    """Whatever ran before in this process: an engine that starts hushes every logger below errors."""
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def _vllm_is_not_asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the names of modules: it takes half a minute, and says another thing with each release."""
    if request.node.get_closest_marker("engine") is None and "module_table" not in request.node.nodeid:
        monkeypatch.setattr(table_process, "ask_vllm", lambda *_: {"trouble": "not asked", "passing": True})


@pytest.fixture(scope="session")
def demo_base() -> Path:
    """Folder of the demo base model, SmolLM2-135M-Instruct."""
    return prepare_demo_base()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def vllm_engine(demo_base: Path) -> AsyncIterator[VllmEngine]:
    """The real engine. Tests that use it carry ``@pytest.mark.engine``."""
    engine = await VllmEngine.start(engine_settings(demo_base))
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``adapter(seed=1, ...)``: folder of a random adapter; equal arguments share one folder."""
    made: dict[str, Path] = {}

    def make(**options: object) -> Path:
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = write_adapter(tmp_path_factory.mktemp("adapter"), **options)
        return made[key]

    return make


_slot_ids = itertools.count(
    1_000_000
)  # far from those that a service under test hands out on the shared engine


@pytest.fixture(scope="session")
def new_slot() -> Callable[[Path], Slot]:
    """``new_slot(folder)``: a slot with an unused id and name."""

    def make(folder: Path) -> Slot:
        number = next(_slot_ids)
        return Slot(name=f"test@{number:012d}", id=number, path=folder)

    return make


@pytest.fixture(scope="session")
def client_of() -> Callable[..., httpx.AsyncClient]:
    """``client_of(app)``: an HTTP client that calls an ASGI app in this process."""

    def make(app: object, **options: object) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app)
        return httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60, **options)

    return make
