"""Tiny base models of public architectures, and what vLLM 0.32.0 said of their modules."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.served.served_class import ServedClass

if TYPE_CHECKING:
    from collections.abc import Mapping

RELEASE = "0.32.0"
ENGINE = f"vLLM {RELEASE}"
TABLES = Path(__file__).parents[1] / "adapters" / "served" / "tables"
_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "max_position_embeddings": 4096,
}
_TWO = _SIZES | {"num_hidden_layers": 2}

CONFIGS: dict[str, Mapping[str, Any]] = {
    "llama": _TWO
    | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False},
    "qwen2": _TWO
    | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": _TWO | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32},
    "mistral": _TWO | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "head_dim": 16},
    "phi3": _TWO | {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "pad_token_id": 0},
    "qwen3moe": _TWO
    | {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "moe_intermediate_size": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "tie_word_embeddings": False,
    },
    "qwen35": {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5",
        "tie_word_embeddings": False,
        "image_token_id": 120,
        "video_token_id": 121,
        "vision_start_token_id": 122,
        "vision_end_token_id": 123,
        "text_config": _SIZES
        | {
            "model_type": "qwen3_5_text",
            "num_hidden_layers": 2,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_value_head_dim": 16,
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "model_type": "qwen3_5_vision",
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": 16,
        },
    },
    "gemma3": {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "mm_tokens_per_image": 4,
        "image_token_index": 120,
        "boi_token_index": 121,
        "eoi_token_index": 122,
        "text_config": _TWO | {"model_type": "gemma3_text", "sliding_window": 64},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "image_size": 32,
            "patch_size": 8,
        },
    },
    "gemma4": {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "model_type": "gemma4",
        "text_config": _TWO
        | {
            "model_type": "gemma4_text",
            "layer_types": ["sliding_attention", "full_attention"],
            "global_head_dim": 16,
            "hidden_size_per_layer_input": 0,
            "num_kv_shared_layers": 0,
        },
        "vision_config": {
            "model_type": "gemma4_vision",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_hidden_layers": 1,
        },
    },
    "mixtral": _TWO
    | {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
    },
    "nemotronh": {
        "architectures": ["NemotronHForCausalLM"],
        "model_type": "nemotron_h",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "layers_block_type": ["linear_attention", "full_attention", "moe"],
        "mamba_head_dim": 16,
        "mamba_num_heads": 4,
        "mamba_hidden_act": "silu",
        "ssm_state_size": 16,
        "moe_intermediate_size": 32,
        "moe_shared_expert_intermediate_size": 32,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_groups": 1,
        "vocab_size": 128,
        "tie_word_embeddings": False,
    },
    "gpt2": {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "vocab_size": 128,
    },
    "falcon": {
        "architectures": ["FalconForCausalLM"],
        "model_type": "falcon",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 128,
        "multi_query": True,
        "parallel_attn": True,
        "bias": False,
        "alibi": False,
        "new_decoder_architecture": False,
    },
    "bloom": {
        "architectures": ["BloomForCausalLM"],
        "model_type": "bloom",
        "hidden_size": 64,
        "n_layer": 2,
        "n_head": 4,
        "vocab_size": 128,
    },
}
CONFIGS["qwen35-towers"] = CONFIGS["qwen35"]
# Of the engine, beside the configuration.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {"qwen35-towers": {"enable_tower_connector_lora": True}}


def facts_of(base: str) -> dict[str, Any]:
    """What vLLM said of it."""
    found: dict[str, Any] = json.loads((TABLES / f"{base}.json").read_bytes())
    return found


@cache
def served_base(base: str) -> BaseModelSpec:
    """The base model with vLLM's names behind it, as a server has it once vLLM was asked."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(dict(CONFIGS[base])))
        spec = BaseModelSpec.from_pretrained(folder)
    served = ServedClass.of(ENGINE, facts_of(base))
    return replace(spec, name=base, location=None, engine=ENGINE, ask=lambda: served)
