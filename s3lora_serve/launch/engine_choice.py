"""Which engine serves: vLLM, or the fake one, whose store and state are separate from real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3lora_serve.config import Config, ExamConfig, PlannerConfig
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.engine.vllm.vllm_settings import VllmSettings

# Of the fake: a plan takes half a second, so that a stream looks like one; words, where none is configured.
SECONDS_PER_TOKEN, MAX_MODEL_LEN = 0.02, 2048


async def start_engine(kind: EngineKind, settings: VllmSettings, say: Callable[[str], None]) -> Engine:
    """Start an engine of that kind; ``say`` is told of each long step. Raises ConfigError, EngineError."""
    if kind is EngineKind.FAKE:
        return _start_fake(settings)
    return await start_vllm(settings, say)


async def start_vllm(settings: VllmSettings, say: Callable[[str], None]) -> Engine:
    """Start vLLM."""
    from s3lora_serve.engine.vllm.vllm_engine import VllmEngine

    return await VllmEngine.start(settings, say)


def _start_fake(settings: VllmSettings) -> Engine:
    from s3lora_serve.config import LEAST_RANK
    from s3lora_serve.engine.fake.fake_engine import FakeEngine

    return FakeEngine(
        base_name=settings.base_name,
        max_loras=settings.engine.max_loras,
        max_lora_rank=settings.engine.max_lora_rank or LEAST_RANK,
        max_model_len=settings.engine.max_model_len or MAX_MODEL_LEN,
        seconds_per_token=SECONDS_PER_TOKEN,
    )


def to_own(path: Path, kind: EngineKind) -> Path:
    """Where this kind of engine has what planners.yaml places at ``path``: the fake one in ``fake`` beside.

    So one planners.yaml serves for both, and neither finds what the other one left.
    """
    return path if kind is EngineKind.VLLM else path.parent / kind / path.name


def for_engine(config: Config, kind: EngineKind) -> Config:
    """The settings with which this kind of engine serves.

    Raises ConfigError where others than this machine could reach a fake one: clients there cannot know.
    """
    from planners.loopback import is_loopback

    if kind is EngineKind.VLLM:
        return config
    for setting, host in (("server.host", config.server.host), ("admin.host", config.admin.host)):
        if not is_loopback(host):
            raise ConfigError(
                f"{setting} is {host}, which others can reach, and engine {kind} answers this machine only",
                hint=f"set {setting} to 127.0.0.1, or serve with vLLM: without --engine {kind}",
            )
    return config.model_copy(
        update={
            # What is made up decides about nothing.
            "exam": _observing(config.exam),
            "planners": {name: _of_planner(planner) for name, planner in config.planners.items()},
            "store": config.store.model_copy(update={"path": to_own(config.store.path, kind)}),
            "state": config.state.model_copy(update={"path": to_own(config.state.path, kind)}),
        }
    )


def _observing(exam: ExamConfig) -> ExamConfig:
    return exam.model_copy(update={"action": "observe"}) if exam.asks else exam


def _of_planner(planner: PlannerConfig) -> PlannerConfig:
    exam = planner.exam
    return planner if exam is None else planner.model_copy(update={"exam": _observing(exam)})
