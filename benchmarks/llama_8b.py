"""Llama-3.1-8B's shape, for benchmarks of adapters and servers that need none of its weights."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LAYERS, HIDDEN, KV, FFN, VOCABULARY = 32, 4096, 1024, 14336, 128256
RANK = 16  # of adapters for it
SHAPES = {  # projection -> (out, in)
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (FFN, HIDDEN),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}


def write_dummy_base(folder: Path, tokenizer: Path, layers: int = LAYERS) -> None:
    """config.json beside a borrowed tokenizer; no weights: serve it with ``load_format=dummy``."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in tokenizer.iterdir():
        if file.suffix != ".safetensors" and file.name not in ("config.json", "generation_config.json"):
            shutil.copy(file, folder / file.name)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def write_random_adapter(folder: Path, seed: int, layers: int, size: float = 1.0) -> None:
    """A random PEFT LoRA adapter over every projection, bf16.

    Large, so that it shows in the output of dummy weights, which are within ±0.001.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(layers):
        for projection, (out, inp) in SHAPES.items():
            key = f"base_model.model.model.layers.{layer}.{projection}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(RANK, inp, generator=generator).bfloat16()
            tensors[f"{key}.lora_B.weight"] = (size * torch.randn(out, RANK, generator=generator)).bfloat16()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": sorted(p.rsplit(".", 1)[1] for p in SHAPES),
        "base_model_name_or_path": "8b-shaped",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
