"""Random LoRA adapters for the demo base model, as PEFT folders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from s3lora_serve.adapters.admission import AdapterLimits
from s3lora_serve.adapters.verify import VerifyLimits
from s3lora_serve.config import LEAST_RANK, LimitsConfig

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

LAYERS = 30
SHAPES: Mapping[str, tuple[int, int]] = {  # SmolLM2-135M, (out, in)
    "q_proj": (576, 576),
    "k_proj": (192, 576),
    "v_proj": (192, 576),
    "o_proj": (576, 576),
}


def write_adapter(
    folder: Path,
    *,
    seed: int = 0,
    rank: int = 8,
    strength: float = 0.05,
    projections: Collection[str] = ("q_proj", "v_proj"),
    layers: Collection[int] = range(LAYERS),
    hidden: int = 576,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` into ``folder`` and return it.

    ``strength`` scales B: 0 is an adapter without effect, 0.05 moves log-probabilities by whole nats.
    ``layers`` may name layers that the model does not have; ``hidden`` other than 576 gives the shapes of
    some other model.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in layers:
        for name in projections:
            out, _ = SHAPES[name]
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            a = torch.randn(rank, hidden, generator=generator) / hidden**0.5
            b = torch.randn(out, rank, generator=generator) * strength
            tensors[f"{prefix}.lora_A.weight"] = a.to(dtype)  # [r, in]
            tensors[f"{prefix}.lora_B.weight"] = b.to(dtype)  # [out, r]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "demo",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(projections),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def adapter_limits(max_rank: int = LEAST_RANK) -> AdapterLimits:
    """What a server admits whose planners.yaml sets no limits."""
    return AdapterLimits(LimitsConfig(), VerifyLimits(max_rank, per_module_scaling=True))
