"""The kinds of adapters of a plain class, Llama's: what decides are their files."""

from __future__ import annotations

import torch
from adapter_kind import Kind, embedding, lora, whole

L0 = "model.layers.0."
Q, K, V, OUT = (f"{L0}self_attn.{x}_proj" for x in "qkvo")
ATTENTION = (f"{Q}:64x64", f"{V}:32x64")
ALL = (*ATTENTION, f"{K}:32x64", f"{OUT}:64x64", f"{L0}mlp.gate_proj:96x64", f"{L0}mlp.down_proj:64x96")
LAST = "language_model.model.layers.1.self_attn."
_OTHER = "its shapes are another model's"
_LEFT = "PEFT stores it beside the factors, and vLLM leaves it out"

LLAMA = (
    Kind("attention only (PEFT's default)", "llama", lora(*ATTENTION)),
    Kind("all linear layers", "llama", lora(*ALL), config={"target_modules": "all-linear"}),
    Kind("target_modules as a pattern", "llama", lora(*ATTENTION), config={"target_modules": ".*(q|v)_proj"}),
    Kind("rank-stabilised scaling (rsLoRA)", "llama", lora(*ATTENTION), config={"use_rslora": True}),
    Kind("names with the adapter's name (`.default`)", "llama", lora(*ATTENTION, kind=".default")),
    Kind("bfloat16 factors", "llama", lora(*ATTENTION, dtype=torch.bfloat16)),
    Kind("float16 factors", "llama", lora(*ATTENTION, dtype=torch.float16)),
    Kind("float64 factors", "llama", lora(*ATTENTION, dtype=torch.float64)),
    Kind(
        "ranks and alphas by module (rank_pattern, alpha_pattern)",
        "llama",
        {**lora(ATTENTION[0]), **lora(ATTENTION[1], rank=2)},
        config={"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 8}},
        other="refused where scalings differ: it applies one to all",
    ),
    Kind(
        "rank 24", "llama", lora(*ATTENTION, rank=24), rank=24, why="`engine.max_lora_rank` 32, unset chosen"
    ),
    Kind("rank 256", "llama", lora(*ATTENTION, rank=256), rank=256, why="`engine.max_lora_rank` 256"),
    Kind(
        "rank 600",
        "llama",
        lora(*ATTENTION, rank=600),
        "no engine takes a higher rank",
        "vLLM takes 512",
        rank=600,
    ),
    Kind("an update of lm_head", "llama", lora(*ATTENTION, "lm_head:128x64")),
    Kind(
        "an update of lm_head with its base layer saved beside it",
        "llama",
        {**lora(*ATTENTION, "lm_head:128x64"), **whole("lm_head.base_layer.weight", 128, 64)},
        note="the base model's own weights of lm_head",
    ),
    Kind(
        "an update of embed_tokens", "llama", {**lora(*ATTENTION), **embedding("model.embed_tokens", 128, 64)}
    ),
    Kind(
        "an update of a resized vocabulary",
        "llama",
        {**lora("lm_head:128x64"), **whole("lm_head.base_layer.weight", 136, 64)},
        "was resized",
        "the base model has another vocabulary",
    ),
    Kind(
        "lm_head or embed_tokens saved whole",
        "llama",
        {**lora(*ATTENTION), **whole("model.embed_tokens.weight", 128, 64)},
        "whole embedding table",
        _LEFT,
    ),
    Kind("an input of another size", "llama", lora(f"{Q}:64x32"), "updates a 64×32 layer", _OTHER),
    Kind("an output of another size", "llama", lora(f"{V}:64x64"), "updates a 64×64 layer", _OTHER),
    Kind(
        "more layers than the base model",
        "llama",
        lora("model.layers.9.self_attn.q_proj:64x64"),
        "no linear layer",
        _OTHER,
    ),
    Kind(
        "parts of a fused name (qkv_proj) of a model without",
        "llama",
        lora(f"{L0}self_attn.qkv_proj:128x64"),
        "has no linear layer",
        "the base model has q_proj, k_proj, v_proj",
    ),
    Kind(
        "factors that are all zero",
        "llama",
        {k: t * 0 for k, t in lora(*ATTENTION).items()},
        "is zero",
        "it would serve the base model",
    ),
    Kind(
        "NaN in a factor",
        "llama",
        {k: t / 0 * 0 for k, t in lora(*ATTENTION).items()},
        "NaN or infinity",
        "training diverged",
    ),
    Kind(
        "one factor without the other",
        "llama",
        dict(list(lora(*ATTENTION).items())[:3]),
        "but no lora_B",
        "the file is not whole",
    ),
    Kind("DoRA", "llama", lora(*ATTENTION), "use_dora", "vLLM ignores the magnitudes", {"use_dora": True}),
    Kind("QALoRA", "llama", lora(*ATTENTION), "use_qalora", "vLLM ignores the pooling", {"use_qalora": True}),
    Kind(
        "biases", "llama", lora(*ATTENTION), "bias is", "not applied; train with bias='none'", {"bias": "all"}
    ),
    Kind(
        "whole modules beside it (modules_to_save)",
        "llama",
        lora(*ATTENTION),
        "modules_to_save",
        _LEFT,
        {"modules_to_save": ["lm_head"]},
    ),
    Kind(
        "retrained tokens",
        "llama",
        lora(*ATTENTION),
        "trainable_token_indices",
        _LEFT,
        {"trainable_token_indices": [1]},
    ),
    Kind(
        "PiSSA, OLoRA, CorDA, unconverted",
        "llama",
        lora(*ATTENTION),
        "init_lora_weights",
        "the update is relative to altered base weights; convert it with PEFT",
        {"init_lora_weights": "pissa"},
    ),
    Kind(
        "IA³, LoHa, prefix tuning",
        "llama",
        lora(*ATTENTION),
        "only LORA is served",
        "no LoRA",
        {"peft_type": "LOHA"},
    ),
    Kind(
        "a setting of a newer PEFT",
        "llama",
        lora(*ATTENTION),
        "unknown setting",
        "it may change the update",
        {"next_lora": True},
    ),
)
