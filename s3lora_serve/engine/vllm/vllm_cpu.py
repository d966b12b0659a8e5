"""What vLLM's CPU platform does not choose by itself: the weights' type, and what to leave out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# vLLM's arguments that turn speculative decoding on; 0.32 has four spellings, 0.26 the first.
_SPECULATION = ("speculative_config", "spec_method", "spec_model", "spec_tokens")


def on_cpu() -> bool:
    """Whether the installed vLLM computes on the CPU. Imports vLLM."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def set_cpu_environment() -> None:
    """Set what the engine's processes read, before they are started; what the operator set stays.

    LoRA on the CPU is always eager. All that ``torch.compile`` still got were helpers of the sampler, which
    needed a C++ compiler and made the first request wait for it.
    """
    os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")


def cpu_dtype(dtype: str) -> str:
    """The dtype for the CPU engine: ``auto`` is float32 on a processor that cannot compute in bfloat16.

    vLLM takes the checkpoint's own type everywhere, and a processor without such instructions converts every
    weight at every step (benchmarks/demo_start has the figures).
    """
    return "float32" if dtype == "auto" and not computes_bfloat16(_capabilities()) else dtype


def computes_bfloat16(capabilities: Mapping[str, Any]) -> bool:
    """Whether a processor has instructions for products in bfloat16.

    ``capabilities`` is what ``torch.cpu.get_capabilities`` says. True for architectures that are not known
    here, since vLLM's own choice then stands.
    """
    match capabilities.get("architecture"):
        case "x86_64":
            return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        case "arm64" | "aarch64":
            return bool(capabilities.get("bf16") or capabilities.get("sve_bf16"))
        case _:
            return True


def refuse_speculation(extra_args: Iterable[str]) -> None:
    """Raise ConfigError if an argument asks the CPU engine for speculative decoding.

    With vLLM 0.32 on the CPU, n-gram speculation gives wrong answers to requests that share a step with
    others, with and without adapters; alone they are right.
    """
    if given := [name for name in extra_args if name in _SPECULATION]:
        raise ConfigError(
            f"engine.extra_args.{given[0]}: vLLM's speculative decoding writes wrong text on the CPU when"
            " requests run beside each other",
            hint="leave it out; it is accepted on a GPU",
        )


def _capabilities() -> Mapping[str, Any]:
    import torch

    known = getattr(torch.cpu, "get_capabilities", None)  # since 2.10; the CPU engine needs 2.13
    return known() if known is not None else {}
