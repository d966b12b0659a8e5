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

_MERGE = (
    "merge it into its base model (PEFT's merge_and_unload) and serve that as base_model, or train it without"
)
_TRAIN = "train it as plain LoRA, without this setting"
# The next step, where it is another one than merging.
NEXT: Mapping[str, str] = {
    "alora_invocation_tokens": _TRAIN,
    "arrow_config": "serve each adapter that it routes between as a planner",
    "enable_lora": "train it again with a current PEFT",
    "ensure_weight_tying": "train it without an update of embeddings",
    "megatron_config": "export it to plain PEFT with the tools of what trained it",
    "modules_to_save": "if those modules were not trained, save it without them; otherwise " + _MERGE,
    "monteclora_config": _TRAIN,
    "target_parameters": "train it with target_modules",
    "use_bdlora": _TRAIN,
}

# These only choose the factors' starting values. PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA instead move part of
# the base weights into the factors, so the saved update is relative to a base model that is not the one
# served.
PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica"})
_CONVERTED = ("pissa", "olora", "corda", "lora_ga")  # those that PEFT converts
_CONVERT = (
    "convert it with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...), which needs the"
    " adapter as it was before training"
)
_LOFTQ = (
    "serve it on the base model that LoftQ quantised and saved with it, with init_lora_weights: true in"
    " adapter_config.json; PEFT cannot convert it"
)


def refuse_unsupported(raw: Mapping[str, Any]) -> None:
    """Raise UnsupportedError, naming the key, if a setting changes the update in a way that is not served."""
    peft_type = raw.get("peft_type")
    if peft_type is None and {"lora_parameters", "fine_tune_type"} & raw.keys():
        raise UnsupportedError(
            "adapter_config.json is MLX's, not PEFT's",
            hint="convert the MLX folder: its adapters.safetensors with this configuration",
            command="s3lora convert SOURCE NEW_FOLDER",
        )
    if peft_type is None:
        raise FormatError(
            "adapter_config.json has no peft_type", hint="save the adapter with PEFT's save_pretrained"
        )
    if peft_type != "LORA":
        raise UnsupportedError(f"peft_type is {excerpt(peft_type)}; only LORA is served", hint=_MERGE)
    if raw.get("bias", "none") not in (None, "none"):
        raise UnsupportedError(
            f"bias is {excerpt(raw['bias'])}: trained biases are not served", hint="train with bias='none'"
        )
    for key, why in REFUSED.items():
        if raw.get(key):
            raise UnsupportedError(f"{key} is {excerpt(raw[key])}: {why}", hint=NEXT.get(key, _MERGE))
    init = raw.get("init_lora_weights")
    if not (
        init is None or isinstance(init, bool) or (isinstance(init, str) and init.lower() in PLAIN_INITS)
    ):
        raise UnsupportedError(
            f"init_lora_weights is {excerpt(init)}: the update is relative to altered base weights",
            hint=_next_of_init(init),
        )
    known = UNDERSTOOD | HARMLESS | REFUSED.keys() | {"peft_type", "task_type", "bias", "init_lora_weights"}
    for key in sorted(raw.keys() - known):
        if raw[key]:
            raise UnsupportedError(
                f"{excerpt(key)} is {excerpt(raw[key])}: an unknown setting, which may change the update",
                hint="remove it from adapter_config.json if it does not",
            )


def label_notes(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """What is said of labels that nothing reads here; an adapter of another task shows by its modules."""
    task = raw.get("task_type")
    if task in (None, "CAUSAL_LM"):
        return ()
    return (f"task_type is {excerpt(task)}, a label that nothing reads here: it is served as CAUSAL_LM",)


def _next_of_init(init: object) -> str:
    if not isinstance(init, str):
        return _TRAIN
    if init.lower() == "loftq":
        return _LOFTQ
    return _CONVERT if init.lower().startswith(_CONVERTED) else _TRAIN
