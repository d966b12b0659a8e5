"""More planners than slots, on the real engine: each answers from its own adapter."""

from __future__ import annotations

import pytest
from adapters_factory import adapter_limits, write_adapter
from fleet_factory import KEY

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.fetch.reach import EVERYWHERE
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.config import ServerConfig
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.operation import Wanted
from s3lora_serve.fleet.planner import DesiredPlanner
from s3lora_serve.launch.admit_all import StoreAdmission
from s3lora_serve.launch.resolve import BaseModel
from s3lora_serve.server.app import create_app
from s3lora_serve.service.planner_service import PlannerService
from s3lora_serve.serving.engine_supervisor import EngineSupervisor
from s3lora_serve.spectral.prune_policy import PrunePolicy

BASE = "smollm2"  # the shared engine's served_name (tests/conftest.py)
ASK = {
    "messages": [{"role": "user", "content": "Who directed Inception?"}],
    "max_tokens": 6,
    "temperature": 0,
}


class TwoSlots:
    """The shared engine, with two slots to give, which others go on to use."""

    capacity = 2

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def close(self):
        """Nothing: it is not ours."""


@pytest.mark.engine
async def test_planners_that_take_turns_in_two_slots(vllm_engine, demo_base, client_of, tmp_path):
    """Three planners answer in turn, each from its own revision, and the pinned one is never unloaded.

    The engine itself never lists more than two adapters of theirs.
    """
    base = BaseModel(str(demo_base), BASE, None, BaseModelSpec.from_pretrained(demo_base))
    admission = StoreAdmission(base, adapter_limits(), RevisionStore(tmp_path / "store"), EVERYWHERE)
    desired, revisions = {}, {}
    for seed, name in enumerate(("kept", "one", "two"), start=20):
        source = tmp_path / name
        source.mkdir()
        write_adapter(source, seed=seed)
        desired[name] = DesiredPlanner.of(str(source), PrunePolicy(), pinned=name == "kept")
        revisions[name] = admission.admit(name, Wanted(source=str(source)), lambda stage, done: None)

    async def start():
        return TwoSlots(vllm_engine)

    before = await vllm_engine.loaded()
    host = EngineSupervisor(start)
    await host.start()
    with Journal(tmp_path / "state.db") as journal:
        service = PlannerService(host, journal, admission, base_model=BASE, first_slot_id=4_000_000)
        await service.start(desired, revisions)
        await service.commit()
        kept = service.get("kept").slot
        app = create_app(service, ServerConfig(), KEY)
        async with client_of(app, headers={"authorization": f"Bearer {KEY}"}) as http:
            for name in ("one", "two", "kept") * 2:
                answer = await http.post("/v1/chat/completions", json={**ASK, "model": name})
                assert (answer.status_code, answer.json()["model"]) == (200, name)
                assert answer.headers["x-s3lora-revision"] == revisions[name].digest
                assert len(await vllm_engine.loaded() - before) == 2
        assert service.get("kept").slot == kept
        # One at the start, when kept came last, and one for each answer of the others.
        assert "s3lora_evictions_total 5.0" in service.metrics.exposition().decode()
        for planner in service.planners():
            if planner.slot is not None:
                await vllm_engine.unload(planner.slot)
        await service.close()
    await host.close()
    assert await vllm_engine.loaded() == before
