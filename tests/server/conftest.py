"""A served fleet over the fake engine."""

from __future__ import annotations

from contextlib import asynccontextmanager

import httpx
import pytest
from control_stub import TOKEN, StubService, operators_client
from fleet_factory import KEY, make_fleet

from s3lora_serve.config import ServerConfig, SwapConfig
from s3lora_serve.server.app import create_app

LOCAL = "http://127.0.0.1:8000"


@pytest.fixture
async def fleet(tmp_path):
    """Planners p and q with adapters, h fully pruned, and bad, which could not be loaded."""
    fleet = make_fleet(tmp_path, "p", "q", "bad", hollow=("h",))
    fleet.engine.fail_load("bad@*", f"no such file: {tmp_path}/my store/bad/adapter_model.safetensors")
    await fleet.start()
    yield fleet
    await fleet.close()


@pytest.fixture
def http(fleet):
    """A client of the application, without a key, as on a laptop."""
    app = create_app(fleet.service, ServerConfig(max_body_mib=0.1), None)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL)


@pytest.fixture
def keyed(fleet):
    """Clients of the application with a key: a function of the headers to send."""
    app = create_app(fleet.service, ServerConfig(host="0.0.0.0"), KEY)

    @asynccontextmanager
    async def client(**headers):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://planner.example", headers=headers
        ) as c:
            yield c

    return client


@pytest.fixture
async def served(tmp_path):
    """p and q with an adapter each, n the next one for p; requests are cut 50 ms after a swap."""
    fleet = make_fleet(tmp_path, "p", "q", hollow=("h",), swap=SwapConfig(drain_seconds=0.05))
    fleet.shelf.put("n")
    await fleet.start()
    yield fleet
    await fleet.close()
    assert fleet.starts.violations == []


@pytest.fixture
def app(served):
    """Its application."""
    return create_app(served.service, ServerConfig(), None)


@pytest.fixture
def http_of():
    """A client of an application on this machine."""
    return lambda app: httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL)


@pytest.fixture
def ended(served, monkeypatch):
    """(planner, role, outcome) of each lease that was given back."""
    leases = []
    monkeypatch.setattr(served.service.metrics.live, "lease", lambda *lease: leases.append(lease))
    return leases


@pytest.fixture
def service(tmp_path):
    """A stub whose store lies in a folder with a space in its name."""
    return StubService(tmp_path / "my store")


@pytest.fixture
def control(service):
    """What the orders arrive at."""
    return service.control


@pytest.fixture
def admin(service):
    """An operator's client with the token."""
    return operators_client(service, authorization=f"Bearer {TOKEN}")
