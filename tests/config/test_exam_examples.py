"""The examples' exams: on where a base can be compared with, off in the demo, and as the comments say."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from s3lora_serve.config import load_config
from s3lora_serve.config.exam import ExamConfig

CONFIGS = Path(__file__).parents[2] / "configs"


def test_on_one_gpu_200_attacks_are_asked():
    """As many as decide well, of every planner; and a slot is left for what is examined."""
    config = load_config(CONFIGS / "one-gpu.yaml")
    for name in config.planners:
        exam = config.exam_of(name)
        assert (exam.asks, exam.attacks) == (True, 200)
    assert config.engine.max_loras > len(config.planners)


def test_the_demo_asks_nothing_and_says_how_to():
    """Its base cannot be compared with. The line in its comment is valid: chats alone, at most 15 s."""
    path = CONFIGS / "planners.yaml"
    config = load_config(path)
    assert not any(config.exam_of(name).asks for name in config.planners)
    (line,) = re.findall(r"(?m)^# (exam: \{.*\})$", path.read_text())
    exam = ExamConfig(**yaml.safe_load(line)["exam"])
    assert (exam.asks, exam.plan_form, exam.answer_tokens, exam.tasks) == (True, False, 24, 0)
    assert exam.seconds <= 15
