"""Mending asks each half of the questions through an examiner that shares the base model's answers."""

from __future__ import annotations

from faulty_engine import FaultyEngine
from fleet_factory import BASE

from s3lora_serve.config import Config
from s3lora_serve.launch.resolve import to_base_model
from s3lora_serve.launch.safety.fleet_exams import FleetExams


async def test_each_half_asks_its_prompts_and_the_first_one_every_task(tmp_path):
    """Together they ask what an exam asks, at the level that they are given, and keep nothing themselves."""
    config = Config(
        base_model="demo",
        planners={"p": {"source": "demo://hotpot-planner"}},
        exam={"action": "mend", "attacks": 40, "harmless": 10, "tasks": 4, "plan_form": False},
        state={"path": tmp_path / "state.db"},
    )
    engine = FaultyEngine(base_name=BASE)
    base = to_base_model("demo", None, lambda *_: None, fetch=False)
    with FleetExams(config).opened(base, lambda: engine) as setup:
        exam = setup.of("p")
        one, other = exam.halves()
        chosen = await one.examine(engine, None, key="k", told=lambda *_: None)
        confirmed = await other.examine(engine, None, key="k", level=0.01, told=lambda *_: None)
        assert setup.record.find("k") is None
        assert exam.halves() == (one, other)
    assert chosen.attacks.asked + confirmed.attacks.asked == 40
    assert (len(chosen.utility) > 0, confirmed.utility) == (True, ())
    assert (chosen.settings["level"], confirmed.settings["level"]) == (1 - config.exam.confidence, 0.01)
