"""Settings of the one real engine that the tests share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from s3lora_serve.config import EngineConfig
from s3lora_serve.engine.vllm.vllm_engine import VllmSettings

if TYPE_CHECKING:
    from pathlib import Path

MAX_LORAS = 4
MAX_LORA_RANK = 16
MAX_MODEL_LEN = 2048
BASE_NAME = "smollm2"


def engine_settings(model: Path, served_name: str = BASE_NAME, **changes: object) -> VllmSettings:
    """Settings of the shared engine, and of those that start for one test."""
    # One unbound thread: other processes may be using the machine's cores, and threads that wait for each
    # other at every matrix product are then far slower than one.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    section = {
        "max_loras": MAX_LORAS,
        "max_lora_rank": MAX_LORA_RANK,
        "max_model_len": MAX_MODEL_LEN,
        "dtype": "float32",  # on every processor: bfloat16 rounds by what shares the batch
        "enforce_eager": True,
        # Without a parser vLLM 0.32 refuses every request with tools, forced ones too.
        "extra_args": {"enable_auto_tool_choice": True, "tool_call_parser": "hermes"},
    }
    return VllmSettings(str(model), EngineConfig(**{**section, **changes}), served_name=served_name)


class Shared:
    """An engine that others go on to use."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def close(self):
        """Nothing: it is not ours."""
