"""What each key of adapter_config.json means for the served update: part of it, harmless, or refused.

Checked against the fields of PEFT's LoraConfig, releases 0.4 to 0.21. A key that is in none of the tables is
from a newer PEFT or another tool: it is ignored while its value is empty, and refused by name once it is set,
because what it does is unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import FormatError, UnsupportedError
from s3lora_serve.storage.canonical_json import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

# These decide ΔW and which tensors belong to it; AdapterConfig holds them.
UNDERSTOOD = frozenset(
    {
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "fan_in_fan_out",
        "target_modules",
        "base_model_name_or_path",
    }
)

# Whatever their value, a saved adapter computes the same. Training-time choices, bookkeeping, and settings of
# features that are only active through another key (PEFT itself ignores eva_config unless init_lora_weights
# is "eva").
HARMLESS = frozenset(
    {
        "auto_mapping",
        "base_model_class",
        "corda_config",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "merge_weights",
        "parent_library",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "velora_config",  # compresses activations in the backward pass only
    }
)

REFUSED: Mapping[str, str] = {
    "alora_invocation_tokens": "activated LoRA applies the update to some tokens only",
    "arrow_config": "Arrow routes between adapters at every token",
    "enable_lora": "the fused-projection LoRA of PEFT before 0.4 has another tensor layout",
    "ensure_weight_tying": "it ties the adapters of embeddings and heads, which the engine does not",
    "kasa_config": "KaSA truncates the base weights and inserts a diagonal between A and B",
    "layer_replication": "it changes the base model's layers",
    "lora_bias": "LoRA biases are not served",
    "megatron_config": "Megatron's parallel layers shard the factors",
    "modules_to_save": "whole modules (heads, embeddings) beside the update are not served",
    "monteclora_config": "MonteCLoRA samples the update at every pass",
    "target_parameters": "updates of bare parameters (experts) are not served",
    "trainable_token_indices": "retrained token embeddings are not served",
    "use_bdlora": "block-diagonal LoRA has another tensor layout",
    "use_dora": "DoRA rescales the base weights, which the engine ignores",
    "use_qalora": "QALoRA pools its inputs, which the engine ignores",
}

# These only choose the factors' starting values. PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA instead move part of
# the base weights into the factors, so the saved update is relative to a base model that is not the one
# served.
PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica"})
_CONVERT = "convert it with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)"


def refuse_unsupported(raw: Mapping[str, Any]) -> None:
    """Raise UnsupportedError, naming the key, if a setting changes the update in a way that is not served."""
    peft_type = raw.get("peft_type")
    if peft_type is None:
        raise FormatError(
            "adapter_config.json has no peft_type", hint="save the adapter with PEFT's save_pretrained"
        )
    if peft_type != "LORA":
        raise UnsupportedError(f"peft_type is {excerpt(peft_type)}; only LORA is served")
    if raw.get("task_type") not in (None, "CAUSAL_LM"):
        raise UnsupportedError(f"task_type is {excerpt(raw['task_type'])}; planners are CAUSAL_LM")
    if raw.get("bias", "none") not in (None, "none"):
        raise UnsupportedError(
            f"bias is {excerpt(raw['bias'])}: trained biases are not served", hint="train with bias='none'"
        )
    for key, why in REFUSED.items():
        if raw.get(key):
            raise UnsupportedError(f"{key} is {excerpt(raw[key])}: {why}")
    init = raw.get("init_lora_weights")
    if not (
        init is None or isinstance(init, bool) or (isinstance(init, str) and init.lower() in PLAIN_INITS)
    ):
        raise UnsupportedError(
            f"init_lora_weights is {excerpt(init)}: the update is relative to altered base weights",
            hint=_CONVERT,
        )
    known = UNDERSTOOD | HARMLESS | REFUSED.keys() | {"peft_type", "task_type", "bias", "init_lora_weights"}
    for key in sorted(raw.keys() - known):
        if raw[key]:
            raise UnsupportedError(
                f"{excerpt(key)} is {excerpt(raw[key])}: an unknown setting, which may change the update",
                hint="remove it from adapter_config.json if it does not",
            )
