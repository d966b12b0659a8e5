"""From settings to exams: who is examined by what, and what a verdict is kept under."""

from __future__ import annotations

import json

import pytest

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.config import Config
from s3lora_serve.demo.base_shapes import demo_shapes
from s3lora_serve.engine.fake.fake_engine import FakeEngine
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.engine_choice import for_engine
from s3lora_serve.launch.resolve import BaseModel
from s3lora_serve.launch.safety.base_identity import base_identity
from s3lora_serve.launch.safety.fleet_exams import FleetExams


def config(tmp_path, exam=None, guard=None, **planners):
    """A configuration with these planners' own exams; None: the fleet's."""
    return Config.model_validate(
        {
            "base_model": "org/model",
            "planners": {name: {"source": f"hf://org/{name}", "exam": own} for name, own in planners.items()},
            "exam": exam or {},
            "guard": guard or {},
            "state": {"path": tmp_path / "state.db"},
        }
    )


def base(location="org/model", revision="a" * 40):
    """A base model at a commit."""
    return BaseModel(location, "model", revision, BaseModelSpec("model", demo_shapes()))


def test_each_planner_is_examined_as_its_settings_say(tmp_path):
    """The fleet's settings hold for one that is added; planners with the same ones share an examiner."""
    settings = config(tmp_path, {"action": "refuse"}, p=None, q={"action": "observe", "attacks": 20}, r=None)
    with FleetExams(settings).opened(base(), FakeEngine) as setup:
        p, q, r, added = (setup.of(name) for name in ("p", "q", "r", "added"))
        assert (p.settings.action, q.settings.attacks, added.settings) == ("refuse", 20, p.settings)
        assert p.examiner() is r.examiner() is added.examiner() is not q.examiner()
        assert p.key("f" * 64, "vllm 1") == r.key("f" * 64, "vllm 1") != q.key("f" * 64, "vllm 1")
        assert p.key("f" * 64, "vllm 1") not in (p.key("e" * 64, "vllm 1"), p.key("f" * 64, "vllm 2"))


def test_another_guard_is_no_other_exam(tmp_path):
    """The key stays, since the adapter's own figure decides; what is kept of the guard makes it stale."""
    one, two = (config(tmp_path, {"action": "refuse"}, g, p=None) for g in ({}, {"action": "observe"}))
    with FleetExams(one).opened(base(), FakeEngine) as a, FleetExams(two).opened(base(), FakeEngine) as b:
        assert a.of("p").key("f" * 64, "1") == b.of("p").key("f" * 64, "1")
        assert a.of("p").guard != b.of("p").guard


def test_where_nothing_is_examined(tmp_path):
    """Questions are read, and a file is made, once an order wants an exam; bad ones are then its error."""
    settings = config(tmp_path, {"action": "off", "questions": str(tmp_path / "none")}, p=None)
    with FleetExams(settings).opened(base(), FakeEngine) as setup:
        assert setup.of("p").settings.action == "off"
        with pytest.raises(ConfigError, match="there is no file"):
            setup.of("p").examiner()
    assert not (tmp_path / "exam.db").exists()
    with pytest.raises(ConfigError, match="there is no file"):
        FleetExams(config(tmp_path, {"action": "refuse", "questions": str(tmp_path / "none")}, p=None))


def test_questions_that_change_meanwhile_are_those_of_the_next_start(tmp_path):
    """What serves was examined by those of the start: a verdict's key, and what is asked, hold for a run."""
    (folder := tmp_path / "own").mkdir()
    task = {"task": "Who?", "tools": [{"name": "Search"}], "plan": "Plan: Find.\n#E1 = Search[him]"}
    rows = {"harmless": {"prompt": "Help?"}, "tasks": task, "attacks": {"prompt": "Harm?"}}
    for kind, row in rows.items():
        (folder / f"{kind}.jsonl").write_text(json.dumps({"family": kind, **row}))
    settings, keys = config(tmp_path, {"action": "refuse", "questions": str(folder)}, p=None), []
    for _ in range(2):
        with FleetExams(settings).opened(base(), FakeEngine) as setup:
            keys.append(setup.of("p").key("f" * 64, "1"))
            examiner = setup.of("p").examiner()
            for text in ('{"family": "attacks", "prompt": "Other harm?"}', "rubbish"):
                (folder / "attacks.jsonl").write_text(text)
                assert setup.of("p").key("f" * 64, "1") == keys[-1]
                assert setup.of("p").examiner() is examiner
        (folder / "attacks.jsonl").write_text('{"family": "attacks", "prompt": "Other harm?"}')
    assert keys[0] != keys[1]


def test_weights_that_nothing_names_are_others_at_each_start(tmp_path, monkeypatch):
    """What was found of them is asked anew; a commit keeps its verdicts."""
    settings = config(tmp_path, {"action": "refuse"}, p=None)
    keys = {}
    for what, where in {"a commit": base(), "a branch": base(location=None, revision=None)}.items():
        keys[what] = set()
        for _ in range(2):
            with FleetExams(settings).opened(where, FakeEngine) as setup:
                keys[what].add(setup.of("p").key("f" * 64, "1"))
    assert {what: len(found) for what, found in keys.items()} == {"a commit": 1, "a branch": 2}


def test_what_names_a_base_model(tmp_path, monkeypatch):
    """A folder's files as they are, a commit, or that of this machine's copy; else nothing does."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    copy = tmp_path / "hub" / "models--org--model"
    for path, text in {"refs/main": "b" * 40, f"snapshots/{'b' * 40}/config.json": "{}"}.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_text(text)
    assert base_identity(base()) == f"org/model@{'a' * 40}"
    assert (
        base_identity(base(revision="main")) == base_identity(base(revision=None)) == f"org/model@{'b' * 40}"
    )
    assert base_identity(base(revision="v1")) is None
    folder = base(location=str(copy / "refs"), revision=None)
    first = base_identity(folder)
    (copy / "refs" / "main").write_text("another")
    assert None is not first != base_identity(folder)


def test_made_up_answers_keep_nothing_from_serving(tmp_path):
    """With a fake engine an exam observes; one that is off stays off."""
    settings = for_engine(
        config(tmp_path, {"action": "refuse"}, p=None, q={"action": "mend"}, r={"action": "off"}),
        EngineKind.FAKE,
    )
    assert [settings.exam_of(name).action for name in ("p", "q", "r")] == ["observe", "observe", "off"]
