"""A base model of two layers and adapters for it, as files: enough for every check, made in milliseconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN, LAYERS = 32, 2
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
MODULES = [f"model.layers.{i}.self_attn.{p}" for i in range(LAYERS) for p in PROJECTIONS]
SHARP = "model.layers.1.self_attn.v_proj"  # what tests make sharp: the one that mas-svd prunes first


def write_base(folder: Path) -> Path:
    """The configuration of a small Llama; admission needs no weights."""
    folder.mkdir(parents=True)
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 128,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_adapter(folder: Path, *, seed: int = 0, rank: int = 8, sharp: tuple[str, ...] = ()) -> Path:
    """A PEFT adapter of all attention projections; modules in ``sharp`` have rank one, so their SSI is 1."""
    folder.mkdir(parents=True)
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in MODULES:
        a = torch.randn(rank, HIDDEN, generator=random)
        b = torch.randn(HIDDEN, rank, generator=random)
        if name in sharp:
            a[1:], b[:, 1:] = 0, 0
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.{name}.lora_B.weight"] = b
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": 16,
        "target_modules": list(PROJECTIONS),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
