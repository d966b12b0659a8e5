"""A wrapped layer's weights as the kernels read them: one matrix with every slot's A below W, and every
slot's B.

A layer has slices (q, k and v are three, gate and up two), S slots and R rows a slot. In one piece of memory
lie

    weight [N + slices·S·R, K]  W, then A slice by slice and slot by slot
    b      [S, R, N]            B transposed, the slices side by side

and vLLM's own tensors become views of it: ``base_layer.weight.data`` and ``lora_a_stacked`` of the first,
``lora_b_stacked`` of the second. So vLLM loads adapters as ever, and nothing is held twice. What a slot's
adapter has of the layer stands in bit masks in ``state``, which the kernels read on the device: swapping,
pruning and evicting change bits and never a captured graph.

The tensors are plain attributes of the layer, since torch.compile takes those as inputs of its graph; no
constant differs between layers of a kind, so that it compiles one of them for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

STATE = 32  # int32 a layer: [live masks 0..3 | number 4 | … | flags 8..11], as fused_linear.py reads them
NUMBER = 4
FLAGS = slice(8, 12)
LEAST_ROWS = 16  # of a slot: the inner size of the smallest matrix product on tensor cores


def adopted(layer: Any) -> bool:
    """Whether the kernels serve this layer."""
    return bool(getattr(layer, "s3lora_adopted", False))


def augment(layer: Any, slots: int, rank: int, op: str, number: int) -> None:
    """Give the layer its augmented weights; vLLM's tensors become views, empty of adapters."""
    base = layer.base_layer
    (n, k), slices = base.weight.shape, tuple(layer.output_slices)
    rows = max(rank, LEAST_ROWS)
    extra = len(slices) * slots * rows
    memory = torch.zeros(
        (n + extra) * k + slots * rows * n, dtype=base.weight.dtype, device=base.weight.device
    )
    weight = memory[: (n + extra) * k].view(n + extra, k)
    b = memory[(n + extra) * k :].view(slots, rows, n)
    weight[:n] = base.weight.data
    base.weight.data = weight[:n]
    starts = [sum(slices[:i]) for i in range(len(slices))]
    layer.lora_a_stacked = tuple(
        weight[n + i * slots * rows : n + (i + 1) * slots * rows].view(slots, 1, rows, k)[:, :, :rank]
        for i in range(len(slices))
    )
    layer.lora_b_stacked = tuple(
        b[:, :rank, start : start + size].transpose(1, 2).unsqueeze(1)
        for start, size in zip(starts, slices, strict=True)
    )
    bias = getattr(base, "bias", None)
    layer.s3lora_bias = None
    if bias is not None:  # nothing is added to s
        layer.s3lora_bias = torch.cat([bias.data, torch.zeros(extra, dtype=bias.dtype, device=bias.device)])
    layer.s3lora_b = b
    layer.s3lora_state = torch.zeros(STATE, dtype=torch.int32, device=weight.device)
    layer.s3lora_state[NUMBER] = number
    layer.s3lora_clear = torch.zeros(
        STATE, dtype=torch.int32, device=weight.device
    )  # of none, until ``ring``
    layer.s3lora_live = [0] * len(slices)  # the host's copy of the masks
    layer.s3lora_ends = (*starts[1:], n, n)[:2]
    layer.s3lora_op = op
    layer.s3lora_fused = False  # whether the one-launch kernel may serve it
    layer.s3lora_deferred = False  # whether the activation adds B s
    layer.s3lora_whole = False  # whether its output must have no gaps between rows
    layer.s3lora_weight = weight
    layer.s3lora_adopted = True  # plugin.py gives vLLM's class the other value: a compiled graph reads one


def ring(layers: Sequence[Any]) -> None:
    """Let the one-launch kernel serve these layers of one kind, each of which zeroes the flags of the one
    before.

    They are in the order in which a forward runs them, once each. One alone would have to zero its own.
    """
    if len(layers) < 2:
        return
    for i, layer in enumerate(layers):
        layer.s3lora_fused = True
        layer.s3lora_clear = layers[i - 1].s3lora_state


def give_back(layer: Any, slots: int, lora_config: Any, model_config: Any) -> None:
    """Undo ``augment``: the layer has vLLM's own tensors again, empty of adapters."""
    base, n = layer.base_layer, layer.base_layer.weight.shape[0]
    base.weight.data = layer.s3lora_weight[:n].clone()
    for name in [name for name in vars(layer) if name.startswith("s3lora_")]:
        delattr(layer, name)
    slices = tuple(layer.output_slices)
    layer.create_lora_weights(slots, lora_config, model_config)
    layer.output_slices = slices


def set_live(layer: Any, slot: int, present: Sequence[bool]) -> None:
    """Say which slices the adapter in a slot has.

    RuntimeError if something replaced the base's weights: what the kernels multiply by would not be what vLLM
    loaded.
    """
    if layer.base_layer.weight.data_ptr() != layer.s3lora_weight.data_ptr():
        raise RuntimeError(
            "gpu_lora: something replaced the base model's weights (a reload, sleep or offload), and the "
            "kernels still read the old ones; restart the engine, with engine.gpu_lora: off if that is meant"
        )
    for i, on in enumerate(present):
        mask = (layer.s3lora_live[i] & ~(1 << slot)) | (int(on) << slot)
        if mask != layer.s3lora_live[i]:
            layer.s3lora_live[i] = mask
            layer.s3lora_state[i].fill_(mask if mask < 1 << 31 else mask - (1 << 32))


def given(lora_a: Any, lora_b: Any, slices: int) -> list[bool]:
    """Which slices an adapter has, from what vLLM hands to ``set_lora``: a matrix, or a list with None for
    none.

    A list of another length covers several slices with one matrix: all count as there, since a slice that is
    not is zero in memory, and right either way.
    """
    a, b = (list(m) if isinstance(m, list | tuple) else [m] * slices for m in (lora_a, lora_b))
    if len(a) != slices or len(b) != slices:
        return [True] * slices
    return [p is not None and q is not None for p, q in zip(a, b, strict=True)]
