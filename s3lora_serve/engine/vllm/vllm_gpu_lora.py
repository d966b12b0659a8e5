"""What the GPU workers say of the LoRA kernels that they run (plugins/gpu_lora/)."""

from __future__ import annotations

from typing import Any

from s3lora_serve.engine.vllm import vllm_cpu
from s3lora_serve.engine.vllm.plugins.gpu_lora.adoption import release_refusal
from s3lora_serve.engine.vllm.vllm_client import while_alive
from s3lora_serve.errors import EngineError

METHOD = "s3lora_gpu_lora"  # of vLLM's worker, put there by plugins/gpu_lora/plugin.py


async def lora_kernels(client: Any, mode: str, version: str) -> str | None:
    """What serves LoRA in this engine of vLLM ``version`` and why, in one line; None on a CPU.

    EngineError if the workers did not load the plugin: nobody would know which kernels answer.
    """
    if vllm_cpu.on_cpu():
        return None
    stock = "engine.gpu_lora is off" if mode == "off" else release_refusal(version)
    if stock is not None:
        return f"LoRA by vLLM's own kernels: {stock}"
    try:
        facts = await while_alive(client, client.collective_rpc(METHOD))
    except Exception as error:
        raise EngineError(
            f"the engine's workers do not say which LoRA kernels they run: {error}",
            hint="install this package where vLLM runs; if VLLM_PLUGINS is set, add s3lora_gpu_lora; or set "
            "engine.gpu_lora: off",
        ) from error
    # Ranks of a pipeline have different layers, and each its own line then.
    return " | ".join(dict.fromkeys(str(each["line"]) for each in facts)) or "no worker answered"
