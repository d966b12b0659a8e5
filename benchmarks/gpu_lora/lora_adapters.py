"""The 8B-shaped base model and the adapters of the benchmark: random, the same for every engine."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from llama_8b import HIDDEN, LAYERS, RANK, SHAPES
from lora_cells import FOUR, SHARES

B_SPREAD = 0.12  # of B; A has 1/sqrt(inputs), so that an adapter changes outputs by a good part of their size
MODULES = [f"model.layers.{layer}.{name}" for layer in range(LAYERS) for name in SHAPES]


def kept_of(share: int, scattered: bool) -> set[str]:
    """The modules that are left when ``share`` per cent are pruned: at random, or whole layers spread
    evenly."""
    if scattered:
        pruned = random.Random(share).sample(MODULES, len(MODULES) * share // 100)
        return set(MODULES) - set(pruned)
    kept = [
        layer
        for layer in range(LAYERS)
        if (layer * (100 - share)) // 100 != ((layer + 1) * (100 - share)) // 100
    ]
    return {module for module in MODULES if int(module.split(".")[2]) in kept}


def all_adapters() -> dict[str, tuple[int, set[str]]]:
    """name -> (seed, modules)."""
    found = {name: (seed, set(MODULES)) for seed, name in enumerate(FOUR)}
    for share in SHARES:
        found[f"scattered{share}"] = (0, kept_of(share, scattered=True))
        found[f"layers{share}"] = (0, kept_of(share, scattered=False))
    found["one-module"] = (0, {MODULES[-1]})  # vLLM refuses an adapter without any
    return found


def write_adapters(folder: Path, device: str) -> None:
    """PEFT folders of all adapters that are not there yet."""
    for name, (seed, kept) in all_adapters().items():
        if (folder / name / "adapter_config.json").exists():
            continue
        generator, tensors = torch.Generator(device).manual_seed(seed), {}
        for module in MODULES:
            out, inputs = SHAPES[module.split(".", 3)[3]]
            a = torch.empty(RANK, inputs, device=device).normal_(0, inputs**-0.5, generator=generator)
            b = torch.empty(out, RANK, device=device).normal_(0, B_SPREAD, generator=generator)
            if module in kept:
                tensors[f"base_model.model.{module}.lora_A.weight"] = a.bfloat16().cpu()
                tensors[f"base_model.model.{module}.lora_B.weight"] = b.bfloat16().cpu()
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / name / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK, "bias": "none",
            "target_modules": sorted({module.rsplit(".", 1)[1] for module in kept}),
            "base_model_name_or_path": "8b-shaped",
        }  # fmt: skip
        (folder / name / "adapter_config.json").write_text(json.dumps(config))


def write_base(folder: Path) -> None:
    """config.json of Llama-3.1-8B's shape alone: no tokenizer, no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": SHAPES["mlp.up_proj"][0], "num_hidden_layers": LAYERS, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu", "torch_dtype": "bfloat16",
        "bos_token_id": 128000, "eos_token_id": 128001, "tie_word_embeddings": False,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
