"""The kinds of adapters that people have, and what becomes of each: the table of docs/compatibility.md."""

from __future__ import annotations

from adapter_kind import Kind, experts, lora
from llama_kinds import ATTENTION, L0, LLAMA, Q

OTHERS = (
    Kind(
        "fused layers (Phi-3: qkv_proj, gate_up_proj)",
        "phi3",
        lora(f"{L0}self_attn.qkv_proj:128x64", f"{L0}mlp.gate_up_proj:192x64"),
    ),
    Kind(
        "split names on a fused model (Phi-3)",
        "phi3",
        lora(*ATTENTION),
        "no linear layer",
        "the served class has one fused layer",
    ),
    Kind("attention of a mixture of experts (Qwen3-MoE)", "qwen3moe", lora(*ATTENTION)),
    Kind("all projections of all experts", "qwen3moe", {**lora(*ATTENTION), **experts(0, 1, 2, 3)}),
    Kind("the router of experts", "qwen3moe", lora(*ATTENTION, f"{L0}mlp.gate:4x64")),
    Kind(
        "one projection of experts",
        "qwen3moe",
        lora(f"{L0}mlp.experts.0.gate_proj:32x64"),
        "lacks 11",
        "vLLM takes all projections of all experts or none",
    ),
    Kind(
        "some experts",
        "qwen3moe",
        experts(0, 2),
        "lacks 6",
        "vLLM takes all projections of all experts or none",
    ),
    Kind(
        "experts of different ranks",
        "qwen3moe",
        {**experts(0, 1, 2), **experts(3, rank=2)},
        "stacks them",
        "vLLM stacks the experts of a layer",
        {"rank_pattern": {"experts.3.gate_proj": 2, "experts.3.up_proj": 2, "experts.3.down_proj": 2}},
    ),
    Kind(
        "experts as one parameter (target_parameters)",
        "qwen3moe",
        lora(*ATTENTION),
        "target_parameters",
        "its factors are three-dimensional",
        {"target_parameters": ["mlp.experts.down_proj"]},
    ),
    Kind(
        "Qwen3.5, names of the class with images",
        "qwen35",
        lora("model.language_model.layers.1.self_attn.q_proj:128x64"),
        note="have other names in Qwen3_5ForConditionalGeneration",
    ),
    Kind(
        "Qwen3.5, linear attention",
        "qwen35",
        lora(
            "model.language_model.layers.0.linear_attn.in_proj_qkv:128x64",
            "model.language_model.layers.0.linear_attn.out_proj:64x64",
        ),
        note="have other names",
    ),
    Kind(
        "Qwen3.5, names of the text class",
        "qwen35",
        lora("model.layers.1.self_attn.q_proj:128x64"),
        "would be ignored: it is language_model.model.layers.1",
        "vLLM would ignore every one of them",
    ),
    Kind(
        "Qwen3.5, its vision tower",
        "qwen35",
        lora("model.visual.blocks.0.attn.proj:32x32"),
        "gives no adapters",
        "ignored without `enable_tower_connector_lora`",
    ),
    Kind(
        "Qwen3.5, its vision tower, with `enable_tower_connector_lora`",
        "qwen35-towers",
        lora("model.visual.blocks.0.attn.proj:32x32"),
        why="experimental in vLLM; by its module table only",
        note="have other names",
    ),
    Kind(
        "Gemma 3 with images, new names",
        "gemma3",
        lora("model.language_model.layers.0.self_attn.q_proj:64x64"),
        note="have other names in Gemma3ForConditionalGeneration",
    ),
    Kind(
        "Gemma 3 with images, old names",
        "gemma3",
        lora("language_model.model.layers.0.self_attn.q_proj:64x64"),
    ),
    Kind(
        "Gemma 3 with images, its vision tower",
        "gemma3",
        lora("model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj:32x32"),
        "no adapters",
        "vLLM ignores it",
    ),
    Kind(
        "Gemma 4 with images, names of the class with images",
        "gemma4",
        lora("model.language_model.layers.1.self_attn.q_proj:64x64"),
        note="have other names in Gemma4ForConditionalGeneration",
    ),
    Kind(
        "Gemma 4 with images, names of the text class", "gemma4", lora(f"{Q}:64x64"), note="have other names"
    ),
    Kind(
        "Gemma 4 with images, its vision tower",
        "gemma4",
        lora("model.vision_tower.encoder.layers.0.self_attn.q_proj.linear:32x32"),
        "gives no adapters",
        "ignored without `enable_tower_connector_lora`",
    ),
    Kind(
        "Mixtral, all experts (w1, w2, w3)",
        "mixtral",
        lora(
            *(
                f"{L0}block_sparse_moe.experts.{n}.{w}"
                for n in (0, 1)
                for w in ("w1:96x64", "w2:64x96", "w3:96x64")
            )
        ),
    ),
    Kind(
        "Mixtral, all experts (gate, up, down)",
        "mixtral",
        lora(
            *(
                f"{L0}block_sparse_moe.experts.{n}.{name}_proj:{shape}"
                for n in (0, 1)
                for name, shape in {"gate": "96x64", "up": "96x64", "down": "64x96"}.items()
            )
        ),
        note="have other names in MixtralForCausalLM",
    ),
    Kind(
        "one module under two names",
        "mixtral",
        lora(f"{L0}block_sparse_moe.experts.0.w1:96x64", f"{L0}block_sparse_moe.experts.0.gate_proj:96x64"),
        "one would be lost",
        "vLLM keeps one of them",
    ),
    Kind(
        "Nemotron-H, names of its remote code (`backbone.`)",
        "nemotronh",
        lora("backbone.layers.1.mixer.q_proj:64x64"),
        note="not with its own",
    ),
    Kind(
        "Nemotron-H, names of transformers",
        "nemotronh",
        lora("model.layers.1.mixer.q_proj:64x64"),
        note="not with its own",
    ),
    Kind(
        "GPT-2",
        "gpt2",
        lora("transformer.h.0.attn.c_attn:192x64"),
        "its class has no LoRA",
        "no LoRA in its class",
        {"fan_in_fan_out": True},
    ),
    Kind(
        "Falcon",
        "falcon",
        lora("transformer.h.0.self_attention.dense:64x64"),
        "its class has no LoRA",
        "no LoRA in its class",
    ),
    Kind(
        "BLOOM",
        "bloom",
        lora("transformer.h.0.self_attention.dense:64x64"),
        "its class has no LoRA",
        "no LoRA in its class",
    ),
)
KINDS = (*LLAMA, *OTHERS)
