"""The engine as settings: slots for adapters, ranks, memory, and further arguments of vLLM."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from s3lora_serve.config.section import Section

_KV = "a store of keys and values beside the engine's may mix adapters up (vllm#44250)"
_RANKS = "an adapter would be proved on one rank only, and others would answer"

# vLLM arguments that planners.yaml says elsewhere, or that would break what the runtime promises.
_ELSEWHERE = {
    "model": "set base_model",
    "model_tag": "set base_model",
    "tokenizer": "it is that of base_model",
    "revision": "set base_model_revision",
    "served_model_name": "it is derived from base_model",
    "trust_remote_code": "a base model must not bring code",
    "enable_lora": "it is always on",
    "lora_modules": "list the adapter under planners, so that it is verified first",
    "default_mm_loras": "list the adapter under planners, so that it is verified first",
    "max_loras": "set engine.max_loras",
    "max_lora_rank": "set engine.max_lora_rank",
    "dtype": "set engine.dtype",
    "max_model_len": "set engine.max_model_len",
    "enforce_eager": "set engine.enforce_eager",
    "tensor_parallel_size": "set engine.tensor_parallel_size",
    "gpu_memory_utilization": "set engine.gpu_memory_utilization",
    "host": "set server.host",
    "port": "set server.port",
    "uds": "set server.host and server.port",
    "api_key": "set server.api_key_env",
    "middleware": "the server brings its own",
    "config": "planners.yaml is the only configuration file",
    "headless": "one process owns the engine",
    "api_server_count": "one process owns the engine",
    "kv_transfer_config": _KV,
    "kv_offloading_size": _KV,
    "kv_offloading_backend": _KV,
    "ec_transfer_config": _KV,
    "grpc": "only HTTP is served",
    "grpc_port": "only HTTP is served",
}


def _not_ours(name: str) -> str:
    plain = name.lstrip("-").replace("-", "_").lower()
    instead = _RANKS if plain.startswith("data_parallel") else _ELSEWHERE.get(plain)
    if instead is not None:
        raise ValueError(f"{name} is not allowed; {instead}")
    return name


# vllm/config/lora.py accepts no other max_lora_rank
MaxLoraRank = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]
LEAST_RANK: MaxLoraRank = 16  # of those that are chosen: vLLM's own default


class EngineConfig(Section):
    """The vLLM engine. Unset values are vLLM's own defaults."""

    max_loras: int = Field(
        4, ge=1, description="slots, each for one loaded adapter; at least one more than pinned planners"
    )
    max_lora_rank: MaxLoraRank | None = Field(
        None,
        description="highest rank admitted; every request pays for it, whatever its adapter's rank. Unset:"
        f" the smallest that takes the planners of the start, at least {LEAST_RANK}",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="of the base model's weights; auto: the checkpoint's; float32 on CPUs without bfloat16",
    )
    max_model_len: int | None = Field(None, ge=64, description="prompt plus output, tokens")
    enforce_eager: bool = Field(False, description="no CUDA graphs; LoRA on CPU is always eager")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share the base model")
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1, description="share of each GPU's memory")
    gpu_lora: Literal["auto", "on", "off"] = Field(
        "auto",
        description="LoRA by this package's GPU kernels; auto: on GPUs and vLLM releases where they were "
        "measured; on: wherever they pass their check at the start; off: by vLLM's own kernels",
    )
    cpu_kv_cache_gib: int = Field(1, ge=1, description="KV cache of the CPU engine, GiB")
    watchdog_seconds: float = Field(
        60,
        ge=10,
        le=86_400,
        description="an engine that makes no step for so long, while anything is asked of it, is killed and "
        "restarted; ten times its slowest step so far if that is longer",
    )
    extra_args: dict[Annotated[str, AfterValidator(_not_ours)], Any] = Field(
        default_factory=dict, description="further vLLM engine arguments, by their Python names"
    )
