"""What planners.yaml says of the watchdog reaches it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from s3lora_serve.config import Config
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import EngineError
from s3lora_serve.launch.launch import launch


async def test_the_watchdog_has_the_configured_limits(tmp_path, monkeypatch):
    """The limit for steps and that for loads; they stand in two sections."""
    made = {}

    class Supervisor:
        def __init__(self, start, **settings):
            made.update(settings)

        async def start(self):
            raise EngineError("far enough")

    monkeypatch.setattr("s3lora_serve.serving.engine_supervisor.EngineSupervisor", Supervisor)
    monkeypatch.setattr(
        "s3lora_serve.launch.launch.admit_fleet", lambda *_: SimpleNamespace(base=None, max_lora_rank=16)
    )
    monkeypatch.setattr("s3lora_serve.launch.launch.to_engine_settings", lambda *_: None)
    config = Config.model_validate(
        {
            "base_model": "demo",
            "planners": {"one": {"source": "demo://hotpot-planner"}},
            "engine": {"watchdog_seconds": 90},
            "slots": {"load_seconds": 1200},
            "server": {"port": 0},
            "admin": {"port": 0},
            "store": {"path": str(tmp_path / "store")},
            "state": {"path": str(tmp_path / "state.db")},
        }
    )
    with pytest.raises(EngineError, match="far enough"):
        await launch(config, tmp_path / "planners.yaml", {}, engine=EngineKind.FAKE)
    assert made == {"watchdog_seconds": 90, "load_seconds": 1200}
