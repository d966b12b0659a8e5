"""Which engines and which of their layers the kernels may serve, and why not the others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from packaging.version import Version

from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import shape_table

if TYPE_CHECKING:
    from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import ShapeTable

FIRST, FIRST_UNREAD = Version("0.26"), Version("0.34")  # releases whose names were checked: names.py
MOST_SLOTS = 32  # bits of a mask
RANKS = (1, 8, 16, 32, 64)
SERVED = torch.bfloat16
TILE = 128  # every slice is a multiple of the widest tile

# A module's name in vLLM -> its operation in the shape table.
OPS = {"qkv_proj": "qkv", "o_proj": "o", "gate_up_proj": "gate_up", "down_proj": "down"}

# Models whose forward runs each layer once and in order, which the flags of the one-launch kernel stand on.
ONCE_IN_ORDER = frozenset(
    {
        "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
        "GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM",
    }
)  # fmt: skip

# (where in vLLM's configuration, values that are fine, what another means); any place may be missing.
_WRONG: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("lora_config.fully_sharded_loras", (False,), "fully sharded adapters"),
    ("lora_config.enable_tower_connector_lora", (False,), "adapters of towers and connectors"),
    ("parallel_config.enable_dbo", (False,), "micro-batches, which run two forwards at once"),
    ("parallel_config.ubatch_size", (0, 1), "micro-batches, which run two forwards at once"),
    ("model_config.enable_sleep_mode", (False,), "sleep mode, which replaces weights"),
    ("cache_config.cpu_offload_gb", (0,), "offloaded weights"),
    ("offload_config.uva.cpu_offload_gb", (0,), "offloaded weights"),
    ("offload_config.prefetch.offload_group_size", (0,), "offloaded weights"),
    ("weight_transfer_config", (None,), "weights that are sent while it runs"),
)
_ENVIRONMENT = (
    ("VLLM_LORA_ENABLE_DUAL_STREAM", "a second stream for LoRA"),
    ("VLLM_BATCH_INVARIANT", "batch-invariant mode, since results depend on the number of tokens"),
)


def engine_refusal(mode: str, config: Any, device: torch.device, version: str) -> str | None:
    """Why no layer of this engine may be adopted; None if they may.

    ``config`` is vLLM's VllmConfig, with LoRA. In mode "auto" the table must have been measured on this
    device and release; in mode "on" the self-check that follows decides.
    """
    lora = config.lora_config
    wrong = [said for place, good, said in _WRONG if _value(config, place, good) not in good]
    wrong += [
        f"{name}=1: {said}" for name, said in _ENVIRONMENT if os.environ.get(name, "0") not in ("", "0")
    ]
    if wrong:
        return f"not with {wrong[0]}"
    if (unread := release_refusal(version)) is not None:
        return unread
    if lora.max_loras > MOST_SLOTS or lora.max_loras & (lora.max_loras - 1):
        return f"{lora.max_loras} slots: a power of two up to {MOST_SLOTS} is needed (engine.max_loras)"
    if lora.max_lora_rank not in RANKS:
        return f"rank {lora.max_lora_rank}: {', '.join(map(str, RANKS))} are served (engine.max_lora_rank)"
    if device.type != "cuda":
        return f"the device is {device.type}"
    if torch.cuda.get_device_capability(device)[0] < 9:
        return f"{torch.cuda.get_device_name(device)} is older than Hopper"
    name = torch.cuda.get_device_name(device)
    if mode == "auto" and not shape_table().measured_on(name, version):
        return f"not measured on {name} with vLLM {version}; engine.gpu_lora: on tries it"
    return None


def release_refusal(version: str) -> str | None:
    """Why nothing may be replaced in this release of vLLM; None if its names were read."""
    if FIRST <= Version(Version(version).base_version) < FIRST_UNREAD:
        return None
    return f"vLLM {version} was not read: {FIRST} to below {FIRST_UNREAD} were"


def layer_refusal(layer: Any, slots: int, lora_dtype: torch.dtype) -> str | None:
    """Why vLLM's own kernels must serve this wrapped layer; None if ours may."""
    from vllm.model_executor.layers import linear

    base: Any = getattr(layer, "base_layer", None)
    plain = (
        linear.QKVParallelLinear,
        linear.MergedColumnParallelLinear,
        linear.ColumnParallelLinear,
        linear.RowParallelLinear,
        linear.ReplicatedLinear,
    )
    if type(base) not in plain:
        return f"{type(base).__name__} is another kind of layer"
    if type(base.quant_method) is not linear.UnquantizedLinearMethod:
        return f"quantised ({type(base.quant_method).__name__})"
    weight, bias = base.weight, getattr(base, "bias", None)
    if not weight.dtype == lora_dtype == SERVED or (bias is not None and bias.dtype != SERVED):
        return f"its weights are {weight.dtype}, its adapters {lora_dtype}: {SERVED} is served"
    return shape_refusal(tuple(layer.output_slices), tuple(weight.shape), slots, weight.is_contiguous())


def shape_refusal(
    slices: tuple[int, ...], weight: tuple[int, ...], slots: int, contiguous: bool
) -> str | None:
    """Why a layer of this shape cannot be tiled."""
    n, k = weight
    if len(slices) > 3 or sum(slices) != n:
        return f"slices {slices} of {n} outputs: up to three that cover them are served"
    if any(size % TILE for size in slices):
        return f"slices {slices}: multiples of {TILE} are served"
    if k % 16 or not contiguous:
        return f"{k} inputs, {'' if contiguous else 'not '}contiguous: contiguous multiples of 16 are served"
    return None


def can_fuse(op: str, slices: tuple[int, ...], k: int, table: ShapeTable) -> bool:
    """Whether the one-launch kernel has a shape for the layer."""
    return any(row.op == op and row.fits(k, slices) for row in table.fused)


def _value(config: Any, place: str, good: tuple[Any, ...]) -> Any:
    for name in place.split("."):
        if config is None or not hasattr(config, name):
            return good[0]
        config = getattr(config, name)
    return config if config is not None else good[0]
