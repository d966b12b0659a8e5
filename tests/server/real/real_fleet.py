"""A fleet of admitted adapters over the shared real engine, for the tests that need vLLM's own answers.

What the model says is not promised: it depends on the processor and on what shares the batch. So these
tests count tokens that no end token cuts short, dictate a text where one matters, and tell whose adapter
answered by the log-probabilities of dictated tokens, of which another adapter's are nats away.
"""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from adapters_factory import adapter_limits, write_adapter
from engine_factory import Shared
from fleet_factory import KEY

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.fetch.reach import EVERYWHERE
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.config import PlansConfig, ServerConfig
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.operation import Wanted
from s3lora_serve.fleet.planner import DesiredPlanner
from s3lora_serve.launch.admit_all import StoreAdmission
from s3lora_serve.launch.resolve import BaseModel
from s3lora_serve.server.admin.admin_app import create_admin_app
from s3lora_serve.server.app import create_app
from s3lora_serve.service.planner_service import PlannerService
from s3lora_serve.serving.engine_supervisor import EngineSupervisor
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx
    from fastapi import FastAPI

    from s3lora_serve.safety.guard.guards import Guards

BASE = "smollm2"  # the shared engine's served_name (tests/conftest.py)
BEARER = {"authorization": f"Bearer {KEY}"}
QUESTION = {"messages": [{"role": "user", "content": "Who directed Inception?"}], "temperature": 0}
ASK = {**QUESTION, "max_tokens": 12, "ignore_eos": True}  # twelve tokens, whatever they are
DICTATED = {"allowed_token_ids": [198]}  # a line break, again and again: nothing that any adapter expects
NOISE = 1.0  # nats; half of one was measured, and 6 between adapters
ADAPTERS = {
    "p": {"seed": 1, "strength": 0.2},
    "q": {"seed": 2, "strength": 0.2},
    "hollow": {"seed": 3, "layers": range(2)},  # four modules, and the ten sharpest are pruned
    "dud": {"seed": 4, "strength": 1e-12},  # lost in the rounding of float32
    "n": {"seed": 5, "strength": 0.2},
}


_first_ids = itertools.count(2_000_000, 1_000)  # no fleet may use an id that another one had


@dataclass(frozen=True)
class Served:
    """A started service on the shared engine, its application, and strings that no answer may hold."""

    service: PlannerService
    app: FastAPI
    http: httpx.AsyncClient
    admin: httpx.AsyncClient
    sources: Path  # adapter folders by name; n is no planner's yet
    secrets: tuple[str, ...]

    def held(self):
        """Leases and engine requests of p that have not ended."""
        p = self.service.get("p")
        return sum(p.leases.values()), self.service.engine.running(p.slot)


@asynccontextmanager
async def real_fleet(
    vllm_engine, demo_base, client_of, root, *names, guards: Guards | None = None
) -> AsyncIterator[Served]:
    """Planners of these ``names``, whose slots are free again at the end; n is ready to be swapped in."""
    store = RevisionStore(root / "store")
    base = BaseModel(str(demo_base), BASE, None, BaseModelSpec.from_pretrained(demo_base))
    admission = StoreAdmission(base, adapter_limits(), store, EVERYWHERE)
    desired, revisions = {}, {}
    for name, options in ADAPTERS.items():
        source = root / "sources" / name
        source.mkdir(parents=True)
        write_adapter(source, **options)
        if name in names:
            policy = PrunePolicy(rule=Top(max_share=1.0))
            desired[name] = DesiredPlanner.of(str(source), policy)
            wanted = Wanted(source=str(source), policy=policy)
            revisions[name] = admission.admit(name, wanted, lambda stage, done: None)

    async def start():
        return Shared(vllm_engine)

    host, journal = EngineSupervisor(start), Journal(root / "state.db")
    service = PlannerService(
        host, journal, admission, base_model=BASE, first_slot_id=next(_first_ids), guards=guards
    )
    await host.start()
    await service.start(desired, revisions)
    await service.commit()  # although dud failed: the rest is as it should be
    app = create_app(service, ServerConfig(), KEY, PlansConfig(seconds=600))
    admin = client_of(create_admin_app(service, KEY), headers=BEARER)
    http, secrets = client_of(app, headers=BEARER), (str(root), "my store", str(demo_base))
    try:
        yield Served(service, app, http, admin, root / "sources", secrets)
    finally:
        slots = [
            deployment.slot
            for planner in service.planners()
            for deployment in (planner.active, *planner.others)
            if deployment.slot is not None
        ]
        await service.close()
        await host.close()
        journal.close()
        for slot in slots:
            await vllm_engine.unload(slot)


async def told(served, model="p", **more):
    """Log-probabilities of dictated tokens under the model's adapter, and the revision that gave them."""
    body = {"model": model, **ASK, **DICTATED, "logprobs": True, **more}
    answer = await served.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    content = answer.json()["choices"][0]["logprobs"]["content"]
    return [token["logprob"] for token in content], answer.headers.get("x-s3lora-revision")


def distance(one, other):
    """Largest difference of two such answers, in nats."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def counted(served, outcome="ok", name="s3lora_requests_total", planner="p"):
    """One of our counters, now."""
    labels = f'outcome="{outcome}",planner="{planner}"' if outcome else f'planner="{planner}"'
    lines = served.service.metrics.exposition().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{{labels}}} "))


def served_by(*names: str) -> Any:
    """A fixture for one module: the real engine serves these planners, and n is ready to be swapped in."""

    @pytest_asyncio.fixture(scope="module", loop_scope="session")
    async def served(vllm_engine, demo_base, client_of, tmp_path_factory):
        root = tmp_path_factory.mktemp("my store")
        async with real_fleet(vllm_engine, demo_base, client_of, root, *names) as fleet:
            yield fleet

    return served
