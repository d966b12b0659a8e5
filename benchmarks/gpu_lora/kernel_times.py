"""Microseconds a layer of each kernel on one GPU, under CUDA graphs over distinct weights; no vLLM is needed.

    python benchmarks/gpu_lora/kernel_times.py [--tokens 1 16 32 128] [--pieces 1 2 4] [--meet 4 5 6 7]
    [--slots 4]

For each operation of Llama-3.1-8B: cuBLAS on W; on the augmented weight; and the LoRA linear as the shape
table has it, with one adapter, every slot in turn, and everything pruned; then the one-launch kernel at other
``pieces`` and ``meet``. Each is checked against float32 first.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
from llama_8b import FFN, HIDDEN, KV

from s3lora_serve.engine.vllm.plugins.gpu_lora import linear_op
from s3lora_serve.engine.vllm.plugins.gpu_lora.augmented import FLAGS, augment, ring, set_live
from s3lora_serve.engine.vllm.plugins.gpu_lora.fused_linear import fused_linear
from s3lora_serve.engine.vllm.plugins.gpu_lora.scratch import failed_layer, numbers_for, scratch
from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import FusedShape, shape_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

OPS = {
    "qkv": (HIDDEN, (HIDDEN, KV, KV)),
    "o": (HIDDEN, (HIDDEN,)),
    "gate_up": (HIDDEN, (FFN, FFN)),
    "down": (FFN, (HIDDEN,)),
}
LAYERS, RANK, WORST = 8, 16, 1e-2


def layers_of(op: str, slots: int) -> list[SimpleNamespace]:
    """Distinct layers of an operation, an adapter in every slot."""
    k, slices = OPS[op]
    found = []
    for number in range(LAYERS):
        weight = torch.nn.Parameter(
            torch.empty(sum(slices), k, device="cuda", dtype=torch.bfloat16), requires_grad=False
        )
        layer = SimpleNamespace(base_layer=SimpleNamespace(weight=weight, bias=None), output_slices=slices)
        augment(layer, slots, RANK, op, number + 1)
        layer.s3lora_weight.normal_(0, 0.02)
        layer.s3lora_b.normal_(0, 0.05)
        layer.s3lora_deferred = op == "gate_up"
        found.append(layer)
    if op != "gate_up":
        ring(found)
    return found


def linear(layer: SimpleNamespace, x: Tensor, slot: Tensor, flag: Tensor) -> Tensor:
    """As the plugin runs it."""
    y: Tensor = torch.ops.s3lora.linear(
        x, layer.s3lora_weight, None, layer.s3lora_b, layer.s3lora_state, layer.s3lora_clear, slot, flag,
        *layer.s3lora_ends, layer.s3lora_op, layer.s3lora_fused, layer.s3lora_deferred,
    )  # fmt: skip
    if layer.s3lora_deferred:
        y = torch.ops.s3lora.activation(y, layer.s3lora_b, layer.s3lora_state, slot, flag)
    return y


def truth(layer: SimpleNamespace, x: Tensor, slot: Tensor) -> Tensor:
    y, start = x.float() @ layer.base_layer.weight.float().t(), 0
    for i, (a, b) in enumerate(zip(layer.lora_a_stacked, layer.lora_b_stacked, strict=True)):
        for s in range(a.shape[0]):
            rows = (slot[: len(x)] == s).nonzero()[:, 0]
            if layer.s3lora_live[i] >> s & 1:
                y[rows, start : start + b.shape[2]] += (
                    x[rows].float() @ a[s, 0].float().t() @ b[s, 0].float().t()
                )
        start += b.shape[2]
    if layer.s3lora_deferred:
        gate, up = y.chunk(2, 1)
        return torch.nn.functional.silu(gate) * up
    return y


def microseconds(run: Callable[[int], object]) -> float:
    """Median over replays of a graph of all layers, a layer."""
    for i in range(LAYERS):
        run(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(LAYERS):
            run(i)
    times = []
    for _ in range(25):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / LAYERS)
    return median(times[5:])


class Timed:
    """An operation's layers at a number of tokens."""

    def __init__(self, layers: list[SimpleNamespace], tokens: int, slots: int) -> None:
        self._layers, self._slots = layers, slots
        self._x = torch.randn(tokens, layers[0].s3lora_weight.shape[1], device="cuda", dtype=torch.bfloat16)
        self._y = torch.empty(tokens, layers[0].s3lora_weight.shape[0], device="cuda", dtype=torch.bfloat16)
        self._own = scratch(self._x.device, numbers_for(shape_table(), slots, RANK))
        self._flag = torch.tensor([False])

    def live(self, on: bool) -> None:
        """Every slot's adapter has every slice, or none; flags as at the start."""
        for layer in self._layers:
            layer.s3lora_state[FLAGS] = 0
            for slot in range(self._slots):
                set_live(layer, slot, [on] * len(layer.output_slices))

    def product(self, augmented: bool) -> float:
        weights = [each.s3lora_weight if augmented else each.base_layer.weight for each in self._layers]
        return microseconds(lambda i: self._x @ weights[i].t())

    def error(self, slot: Tensor) -> float:
        """Of the worst token, against float32."""
        right = truth(self._layers[0], self._x, slot)
        off = linear(self._layers[0], self._x, slot, self._flag).float() - right
        return float((off.norm(dim=1) / right.norm(dim=1)).nan_to_num(nan=1e9).max())

    def lora(self, slot: Tensor, on: bool) -> float:
        self.live(on)
        return microseconds(lambda i: linear(self._layers[i], self._x, slot, self._flag))

    def fused(self, slot: Tensor, shape: FusedShape) -> float:
        """The one-launch kernel with other settings."""
        self.live(True)

        def run(i: int) -> None:
            layer = self._layers[i]
            fused_linear(
                self._x, layer.s3lora_weight, None, layer.s3lora_b, self._y, self._own.sums,
                layer.s3lora_state, layer.s3lora_clear, slot, self._own.error, layer.s3lora_ends,
                len(layer.output_slices), shape,
            )  # fmt: skip

        return microseconds(run)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 16, 32, 128])
    parser.add_argument("--pieces", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--meet", type=int, nargs="+", default=[5, 6, 7])
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--ops", nargs="+", choices=tuple(OPS), default=list(OPS))
    asked = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    linear_op.define("CUDA")
    most, wrong = max(asked.tokens), 0
    one = torch.zeros(most, dtype=torch.int32, device="cuda")
    turns = torch.arange(most, dtype=torch.int32, device="cuda") % asked.slots
    for op in asked.ops:
        layers = layers_of(op, asked.slots)
        for tokens in asked.tokens:
            timed = Timed(layers, tokens, asked.slots)
            line = f"{op} {tokens}: cuBLAS {timed.product(False):.1f}, augmented {timed.product(True):.1f}"
            for name, slot, on in (("one", one, True), ("each slot", turns, True), ("pruned", one, False)):
                timed.live(on)
                error = timed.error(slot)
                wrong += error > WORST
                said = f"error {error:.1e}{' WRONG' if error > WORST else ''}"
                line += f", {name} {timed.lora(slot, on):.1f} ({said})"
            print(line, flush=True)
            shape = shape_table().fused_for(op, tokens)
            for pieces in asked.pieces if shape else ():
                for meet in asked.meet:
                    other = replace(shape, pieces=pieces, meet=meet)
                    took = f"one {timed.fused(one, other):.1f}, each slot {timed.fused(turns, other):.1f}"
                    print(f"  pieces {pieces}, meet {meet}, late {other.late}: {took}", flush=True)
    return 1 if wrong or failed_layer() else 0


if __name__ == "__main__":
    sys.exit(main())
