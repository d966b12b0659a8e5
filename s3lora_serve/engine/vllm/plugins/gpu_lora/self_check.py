"""The check at the start: what each adopted layer gives, against float32 and against vLLM's own kernels.

One batch a layer, with random adapters in its slots, base tokens, an empty slot and pruned slices; and for
the first layer of each operation every number of tokens at which the table changes its mind, which compiles
every variant before traffic. A layer passes if its error, over all tokens and in its worst one, is at most
vLLM's and a little.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from s3lora_serve.engine.vllm.plugins.gpu_lora.augmented import FLAGS
from s3lora_serve.engine.vllm.plugins.gpu_lora.scratch import failed_layer
from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import shape_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import ShapeTable

TOKENS = 16  # of the batch that every layer gets
# Relative errors in bfloat16 are 2e-3 to 4e-3; a slot, slice or row that is wrong gives 1e-1 and more.
ALLOWED = 1.25
SLACK = 1e-3


@dataclass(frozen=True)
class Errors:
    """‖y − float32‖ / ‖float32‖ over all tokens, and in the worst one."""

    whole: float
    worst: float

    def within(self, other: Errors) -> bool:
        return self.whole <= ALLOWED * other.whole + SLACK and self.worst <= ALLOWED * other.worst + 4 * SLACK


def check_layer(layer: Any, tokens: Sequence[int], fused: bool, deferred: bool) -> str | None:
    """Why the layer must not be served by the kernels; None if it may. Its slots are empty afterwards.

    Whatever torch, Triton or vLLM raise while they compile or run is such a reason, but for an error of CUDA
    itself, after which nothing runs any more.
    """
    try:
        _fill(layer)
        for m in tokens:
            if said := _compare(layer, m, fused, deferred):
                return said
    except Exception as error:
        if "CUDA error" in str(error):
            raise
        first = (str(error).splitlines() or ["no text"])[0]
        return f"it does not run ({type(error).__name__}: {first})"
    finally:
        _empty(layer)
    return None


def tokens_of(table: ShapeTable, op: str) -> tuple[int, ...]:
    """The numbers of tokens, one in each range of the table, that compile all of an operation's variants."""
    ends = {row.tokens for row in table.fused if row.op == op}
    ends |= {
        row.tokens for row in (*table.expand, *table.silu) if row.op in (op, "any") and row.tokens is not None
    }
    return (1, *sorted(ends), max(ends, default=1) + 1)


def _fill(layer: Any) -> None:
    """Random adapters in every slot but the last; the first slot's adapter lacks the last slice."""
    w, generator = layer.s3lora_weight, torch.Generator(layer.s3lora_weight.device).manual_seed(1)
    slots = layer.lora_a_stacked[0].shape[0]
    full = max(1, slots - 1)
    for a, b in zip(layer.lora_a_stacked, layer.lora_b_stacked, strict=True):
        a[:full] = (
            torch.randn(a[:full].shape, generator=generator, device=w.device, dtype=w.dtype)
            * a.shape[-1] ** -0.5
        )
        b[:full] = torch.randn(b[:full].shape, generator=generator, device=w.device, dtype=w.dtype) * 0.05
    masks = [(1 << full) - 1] * len(layer.lora_a_stacked)
    if len(masks) > 1:
        masks[-1] &= ~1
    for i, mask in enumerate(masks):
        layer.s3lora_state[i] = mask if mask < 1 << 31 else mask - (1 << 32)


def _empty(layer: Any) -> None:
    for stacked in (*layer.lora_a_stacked, *layer.lora_b_stacked):
        stacked.zero_()
    layer.s3lora_state[:4] = 0
    layer.s3lora_state[FLAGS] = 0


def _compare(layer: Any, m: int, fused: bool, deferred: bool) -> str | None:
    w, slots = layer.s3lora_weight, layer.lora_a_stacked[0].shape[0]
    generator = torch.Generator(w.device).manual_seed(m)
    x = torch.randn((m, w.shape[1]), generator=generator, device=w.device, dtype=w.dtype)
    slot = torch.arange(m, device=w.device) % (slots + 1) - 1  # base tokens among them
    if m == 1:
        slot[:] = 0
    meta = layer.punica_wrapper.token_mapping_meta
    meta.prepare_tensors(slot)
    try:
        ours = _ours(layer, x, meta, fused, deferred)
        if failed := failed_layer():
            return f"the one-launch kernel waited in vain (in layer {failed})"
        truth = _truth(layer, x, slot, deferred)
        found = _errors(ours, truth)
        stock = _errors(_stock(layer, x, deferred), truth)
    finally:
        meta.prepare_tensors(torch.full_like(slot, -1))
    if found.within(stock):
        return None
    return (
        f"its output fails the check (error {found.whole:.2g}, of the worst token {found.worst:.2g}, against "
        f"float32 at {m} tokens; vLLM's kernels {stock.whole:.2g} and {stock.worst:.2g})"
    )


def _ours(layer: Any, x: Tensor, meta: Any, fused: bool, deferred: bool) -> Tensor:
    state = layer.s3lora_state
    state[FLAGS] = 0
    y: Tensor = torch.ops.s3lora.linear(
        x, layer.s3lora_weight, layer.s3lora_bias, layer.s3lora_b, state, torch.zeros_like(state),
        meta.token_lora_mapping, meta.no_lora_flag_cpu, *layer.s3lora_ends, layer.s3lora_op, fused, deferred,
    )  # fmt: skip
    if deferred:
        y = torch.ops.s3lora.activation(
            y, layer.s3lora_b, state, meta.token_lora_mapping, meta.no_lora_flag_cpu
        )
        # The variant without adapters, which a captured graph of base traffic runs.
        torch.ops.s3lora.activation(
            x.new_zeros((x.shape[0], layer.s3lora_weight.shape[0])),
            layer.s3lora_b, state, meta.token_lora_mapping, torch.tensor([True]),
        )  # fmt: skip
    return y


def _masked(layer: Any) -> Iterator[tuple[int, Tensor, Tensor, list[bool]]]:
    """(first output, A, B, which slots have it) of each slice."""
    start = 0
    for i, (a, b) in enumerate(zip(layer.lora_a_stacked, layer.lora_b_stacked, strict=True)):
        mask = int(layer.s3lora_state[i])
        yield start, a[:, 0], b[:, 0], [bool(mask >> s & 1) for s in range(a.shape[0])]
        start += b.shape[2]


def _truth(layer: Any, x: Tensor, slot: Tensor, deferred: bool) -> Tensor:
    """The layer in float32, 1024 outputs at a time, and its activation."""
    n = layer.s3lora_b.shape[2]
    weight, bias, x32 = layer.s3lora_weight[:n], layer.s3lora_bias, x.float()
    y = torch.cat([x32 @ part.float().t() for part in weight.split(1024)], 1)
    if bias is not None:
        y += bias[: y.shape[1]].float()
    for start, a, b, present in _masked(layer):
        for s, there in enumerate(present):
            rows = (slot == s).nonzero()[:, 0]
            if there and len(rows):
                y[rows, start : start + b.shape[1]] += x32[rows] @ a[s].float().t() @ b[s].float().t()
    if not deferred:
        return y
    gate, up = y.chunk(2, 1)
    return torch.nn.functional.silu(gate) * up


def _stock(layer: Any, x: Tensor, deferred: bool) -> Tensor:
    """The layer by vLLM's kernels, which want contiguous A and B."""
    n = layer.s3lora_b.shape[2]
    bias = None if layer.s3lora_bias is None else layer.s3lora_bias[:n]
    y = torch.nn.functional.linear(x, layer.s3lora_weight[:n], bias)
    all_a, all_b = [], []
    for _, a, b, present in _masked(layer):
        on = torch.tensor(present, device=a.device)[:, None, None]
        all_a.append((a * on).unsqueeze(1).contiguous())
        all_b.append((b * on).unsqueeze(1).contiguous())
    _forget_addresses()
    layer.punica_wrapper.add_lora_linear(y, x, tuple(all_a), tuple(all_b), 1.0, tuple(layer.output_slices))
    _forget_addresses()
    if not deferred:
        return y
    gate, up = y.chunk(2, 1)
    return torch.nn.functional.silu(gate.float()).to(y.dtype) * up


def _forget_addresses() -> None:
    """Empty vLLM's tables of strides by address: other matrices may come to lie where a check's lay."""
    tables = sys.modules.get("vllm.lora.ops.triton_ops.utils")
    for name in ("_LORA_A_PTR_DICT", "_LORA_B_PTR_DICT"):
        if tables is not None:
            getattr(tables, name).clear()


def _errors(y: Tensor, truth: Tensor) -> Errors:
    off = y.float() - truth
    rows = off.norm(dim=1) / truth.norm(dim=1).clamp_min(1e-6)
    whole = off.norm() / truth.norm().clamp_min(1e-6)
    # NaN is no error that is small: torch.max and comparisons would let it pass.
    return Errors(*(float(torch.nan_to_num(v, nan=1e9)) for v in (whole, rows.nan_to_num(1e9).max())))


def check_all(layers: dict[str, Any], fused: dict[str, bool], deferred: dict[str, bool]) -> dict[str, str]:
    """name -> reason, of the adopted layers that must go back to vLLM's kernels."""
    seen: set[tuple[Any, ...]] = set()
    failed = {}
    for name, layer in layers.items():
        kind = (
            layer.s3lora_op,
            tuple(layer.s3lora_weight.shape),
            fused[name],
            deferred[name],
            layer.s3lora_bias is None,
        )
        tokens: tuple[int, ...] = (TOKENS,)
        if kind not in seen:
            seen.add(kind)
            tokens = (TOKENS, *(m for m in tokens_of(shape_table(), layer.s3lora_op) if m != TOKENS))
        if why := check_layer(layer, tokens, fused[name], deferred[name]):
            failed[name] = why
    return failed
