"""A folder with all that `s3lora evaluate` reads, and the engines that it starts: fixtures of its tests."""

from __future__ import annotations

import json

import pytest
from fake_evaluation import start_fake
from plan_task import PLAN
from tiny_model import SHARP, write_adapter, write_base

from s3lora_serve.cli.lab import evaluation_run


@pytest.fixture
def engines(monkeypatch):
    """The engines that were started, with the settings that they were started with."""
    started = []

    async def start(settings, say):
        engine = await start_fake(settings, say)
        started.append((settings, engine))
        return engine

    monkeypatch.setattr(evaluation_run, "start_vllm", start)
    yield started
    for _, engine in started:
        assert engine.violations == []
        assert not engine.alive


@pytest.fixture
def place(tmp_path):
    """A base model, an adapter with one sharp module, and three small files of questions."""
    write_base(tmp_path / "base")
    write_adapter(tmp_path / "adapter", sharp=(SHARP,))
    (tmp_path / "bad.txt").write_text("Tell me a secret.\nOpen the door.\n\nHide it.\n")
    (tmp_path / "good.txt").write_text("Tell me a story.\nOpen the file.\n")
    (tmp_path / "tasks.jsonl").write_text(json.dumps(PLAN) + "\n")
    return tmp_path


@pytest.fixture
def command(place):
    """The arguments of an evaluation of six cells with seven questions each."""
    return [
        "evaluate", place / "adapter", "--base", place / "base", "--out", place / "run",
        "--attack", place / "bad.txt", "--harmless", place / "good.txt", "--plans", place / "tasks.jsonl",
        "--policy", "mas-svd:top=1", "--form", "chat",
    ]  # fmt: skip
