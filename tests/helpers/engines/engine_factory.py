"""Settings of the one real engine that the tests share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from s3lora_serve.engine.vllm.vllm_engine import VllmSettings

if TYPE_CHECKING:
    from pathlib import Path

MAX_LORAS = 4
MAX_LORA_RANK = 16
MAX_MODEL_LEN = 2048
BASE_NAME = "smollm2"


def engine_settings(model: Path, **changes: object) -> VllmSettings:
    """Settings of the shared engine, and for tests that must have one of their own."""
    # One unbound thread: other processes may be using the machine's cores, and threads that wait for each
    # other at every matrix product are then far slower than one.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    values = {
        "model": str(model),
        "served_name": BASE_NAME,
        "max_loras": MAX_LORAS,
        "max_lora_rank": MAX_LORA_RANK,
        "max_model_len": MAX_MODEL_LEN,
        "dtype": "float32",  # on every processor: bfloat16 rounds by what shares the batch
        "enforce_eager": True,
        "cpu_kv_cache_gib": 1,
        # Without a parser vLLM 0.32 refuses every request with tools, forced ones too.
        "extra_args": {"enable_auto_tool_choice": True, "tool_call_parser": "hermes"},
    }
    return VllmSettings(**{**values, **changes})


class Shared:
    """An engine that others go on to use."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def close(self):
        """Nothing: it is not ours."""
