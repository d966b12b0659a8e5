"""PEFT folders made by hand: a tiny Llama-shaped base model, adapters that fit it, and ways to spoil them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from s3lora_serve.adapters.base_model import BaseModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HIDDEN, KEYS, INNER, LAYERS = 16, 8, 24, 2
SHAPES = {  # (out, in)
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEYS, HIDDEN),
    "self_attn.v_proj": (KEYS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}
BASE = BaseModelSpec(
    "tiny-llama",
    {f"model.layers.{layer}.{name}": shape for layer in range(LAYERS) for name, shape in SHAPES.items()},
)
Q0, K0 = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"
CONFIG: Mapping[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "org/tiny-llama",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}


def factors(
    shapes: Mapping[str, tuple[int, int]] = BASE.shapes,
    *,
    ranks: Mapping[str, int] | None = None,
    rank: int = 4,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    infix: str = "",
) -> dict[str, torch.Tensor]:
    """Tensor name → random factor for every module of ``shapes``; ``infix`` is e.g. ``.default``."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (out, inputs) in shapes.items():
        r = (ranks or {}).get(name, rank)
        a = torch.randn(r, inputs, generator=generator) / 4
        b = torch.randn(out, r, generator=generator) / 4
        tensors[f"base_model.model.{name}.lora_A{infix}.weight"] = a.to(dtype)
        tensors[f"base_model.model.{name}.lora_B{infix}.weight"] = b.to(dtype)
    return tensors


def write_folder(
    folder: Path,
    tensors: Mapping[str, torch.Tensor] | None = None,
    *,
    without: tuple[str, ...] = (),
    metadata: Mapping[str, str] | None = None,
    **config: Any,
) -> Path:
    """A PEFT folder; ``config`` overrides CONFIG key by key and ``without`` leaves keys out."""
    folder.mkdir(parents=True, exist_ok=True)
    merged = {key: value for key, value in {**CONFIG, **config}.items() if key not in without}
    (folder / "adapter_config.json").write_text(json.dumps(merged, indent=2))
    tensors = factors() if tensors is None else tensors
    save_file(
        dict(tensors), folder / "adapter_model.safetensors", metadata=dict(metadata or {"format": "pt"})
    )
    return folder


def write_raw(
    folder: Path, header: bytes, data: bytes = b"", *, length: int | None = None, **config: Any
) -> Path:
    """A PEFT folder whose weights file has this header and these bytes, whether or not they make sense."""
    write_folder(folder, **config)
    claimed = len(header) if length is None else length
    (folder / "adapter_model.safetensors").write_bytes(claimed.to_bytes(8, "little") + header + data)
    return folder
