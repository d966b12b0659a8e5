"""Llama-3.1-8B's shape, for benchmarks of adapters and servers that need none of its weights."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LAYERS, HIDDEN, KV, FFN, VOCABULARY = 32, 4096, 1024, 14336, 128256
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
