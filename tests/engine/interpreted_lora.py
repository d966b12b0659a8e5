"""Runs the GPU LoRA kernels in Triton's interpreter, and prints what came out: one JSON object a case.

A program of its own, since Triton reads ``TRITON_INTERPRET`` once, when it is first imported. Shapes are
tiny, and the table of tile shapes (``S3LORA_GPU_LORA_TABLE``) fits them.
"""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import torch

from s3lora_serve.engine.vllm.plugins.gpu_lora import linear_op, scratch
from s3lora_serve.engine.vllm.plugins.gpu_lora.augmented import FLAGS, augment, ring, set_live
from s3lora_serve.engine.vllm.plugins.gpu_lora.fused_linear import fused_linear
from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import shape_table

K = 256
SLICES = {"qkv": (64, 32, 32), "o": (64,), "down": (64,), "gate_up": (64, 64)}


class Linear:
    """A wrapped layer as vLLM makes it, given augmented weights; ``have[slice]``: the slots that have the
    module."""

    def __init__(self, op, slots, rank, number=1, dtype=torch.float32, bias=False, seed=0):
        torch.manual_seed(seed)
        self.op, self.slots, self.rank, sizes = op, slots, rank, SLICES[op]
        n = sum(sizes)
        weight = torch.nn.Parameter(torch.randn(n, K).to(dtype) * K**-0.5, requires_grad=False)
        base = SimpleNamespace(weight=weight, bias=torch.randn(n).to(dtype) if bias else None)
        self.layer = SimpleNamespace(base_layer=base, output_slices=sizes)
        self.w = weight.data.clone()
        augment(self.layer, slots, rank, op, number)
        self.layer.s3lora_deferred = op == "gate_up"
        self.layer.s3lora_fused = op != "gate_up"
        self.have = [set() for _ in sizes]

    def load(self, slot, without=()):
        """A random adapter in a slot, as vLLM's set_lora writes it; NaN in the modules that it lacks."""
        for i, (a, b) in enumerate(zip(self.layer.lora_a_stacked, self.layer.lora_b_stacked, strict=True)):
            a[slot], b[slot] = torch.randn(a[slot].shape) * K**-0.5, torch.randn(b[slot].shape)
            if i in without:
                a[slot], b[slot] = float("nan"), float("nan")
            else:
                self.have[i].add(slot)
        set_live(self.layer, slot, [i not in without for i in range(len(self.have))])

    def truth(self, x, slot):
        """In float64, from vLLM's own views."""
        y = x.double() @ self.w.double().t()
        if self.layer.base_layer.bias is not None:
            y += self.layer.base_layer.bias.double()
        start = 0
        for i, (a, b) in enumerate(zip(self.layer.lora_a_stacked, self.layer.lora_b_stacked, strict=True)):
            for s in self.have[i]:
                rows = (slot[: len(x)] == s).nonzero()[:, 0]
                y[rows, start : start + b.shape[2]] += (
                    x[rows].double() @ a[s, 0].double().t() @ b[s, 0].double().t()
                )
            start += b.shape[2]
        if self.op == "gate_up":
            gate, up = y.chunk(2, 1)
            return torch.nn.functional.silu(gate) * up
        return y

    def run(self, x, slot, no_lora=False):
        layer, flag = self.layer, torch.tensor([no_lora])
        y = torch.ops.s3lora.linear(
            x, layer.s3lora_weight, layer.s3lora_bias, layer.s3lora_b, layer.s3lora_state,
            layer.s3lora_clear, slot, flag, *layer.s3lora_ends, self.op, layer.s3lora_fused,
            layer.s3lora_deferred,
        )  # fmt: skip
        if layer.s3lora_deferred:
            y = torch.ops.s3lora.activation(y, layer.s3lora_b, layer.s3lora_state, slot, flag)
        return y

    def error(self, m, pattern, no_lora=False, dtype=torch.float32):
        """‖y − truth‖ / ‖truth‖, for the whole batch and its worst token; inf where a number is none."""
        x = torch.randn(m, K).to(dtype)
        slot = torch.tensor(
            [pattern[i % len(pattern)] for i in range(m)] + [-1, self.slots, 9999, -7], dtype=torch.int32
        )
        self.layer.s3lora_state[FLAGS] = 0
        y, truth = self.run(x, slot, no_lora).double(), self.truth(x, slot)
        off = (y - truth).nan_to_num(nan=1e30)
        return float((off.norm(dim=1) / truth.norm(dim=1)).max())


def say(name, began, **facts):
    print(json.dumps({"case": name, "seconds": round(time.perf_counter() - began, 2), **facts}), flush=True)


def errors():
    """Every traffic at every number of tokens, then other ranks, slots and types."""
    traffics = {
        "base": [-1],
        "one": [1],
        "one beside base": [1, -1, -1],
        "half pruned": [2],
        "mixed": [0, 1, -1, 2, 3, -1],
    }
    for op in SLICES:
        linear = Linear(op, 4, 16)
        for slot in range(4):
            linear.load(slot, without=(0,) if slot == 2 else ())
        for traffic, pattern in traffics.items():
            for m in (1, 5, 16, 17, 40) if op == "qkv" else (5, 40):
                began = time.perf_counter()
                say(f"{op}, {traffic}, {m} tokens", began, error=linear.error(m, pattern))
    for slots, rank in ((1, 16), (1, 8), (4, 8), (8, 16), (8, 64)):
        linear = Linear("qkv", slots, rank)
        for slot in range(slots):
            linear.load(slot, without=(1,) if slot == 1 else ())
        for m in (5, 16, 17):
            began = time.perf_counter()
            say(f"{slots} slots, rank {rank}, {m} tokens", began, error=linear.error(m, [*range(slots), -1]))
    for m in (5, 17):
        began = time.perf_counter()
        linear = Linear("qkv", 4, 16, bias=True)
        linear.load(0)
        say(f"bias, {m} tokens", began, error=linear.error(m, [0, -1]))
        say(f"bias, base, {m} tokens", began, error=linear.error(m, [-1], no_lora=True))
        linear = Linear("gate_up", 4, 16, dtype=torch.float16)
        linear.load(1)
        say(f"float16 gate_up, {m} tokens", began, error=linear.error(m, [1, -1], dtype=torch.float16))
        linear = Linear("qkv", 4, 16, dtype=torch.float16)
        linear.load(1)
        say(f"float16 qkv, {m} tokens", began, error=linear.error(m, [1, -1], dtype=torch.float16))


def flags():
    """Layers of one kind in turn, each of which zeroes the flags of the one before."""
    began, layers = time.perf_counter(), [Linear("o", 4, 16, number=i + 1, seed=i) for i in range(3)]
    ring([each.layer for each in layers])
    for each in layers:
        each.load(0), each.load(1)
    x, worst = torch.randn(5, K), 0.0
    for slot in ([0, 0, 0, 0, 0], [0, 1, 0, 1, -1], [-1] * 5, [1, 1, 1, 1, 1]):
        slots = torch.tensor(slot, dtype=torch.int32)
        for each in layers:
            truth = each.truth(x, slots)
            worst = max(
                worst, float(((each.run(x, slots) - truth).norm() / truth.norm()).nan_to_num(nan=1e30))
            )
    say("three layers in turn, four steps", began, error=worst, failed=scratch.failed_layer())


def bound():
    """A wait that cannot end well: of units that never come, and of a layer that ran twice."""
    for name, before in (("units that never come", -1000), ("a layer that ran twice", 4)):
        began, linear = time.perf_counter(), Linear("o", 4, 16, number=7)
        linear.load(0)
        layer, x = linear.layer, torch.randn(5, K)
        layer.s3lora_state[FLAGS] = before
        y, error = torch.zeros(5, 64), torch.zeros(1, dtype=torch.int32)
        fused_linear(
            x, layer.s3lora_weight, None, layer.s3lora_b, y, torch.zeros(4 * 16 * 4 * 16), layer.s3lora_state,
            layer.s3lora_clear, torch.zeros(5, dtype=torch.int32), error, layer.s3lora_ends, 1,
            shape_table().fused_for("o", 5), spins=5,
        )  # fmt: skip
        say(name, began, failed=int(error), all_nan=bool(y.isnan().all()))


if __name__ == "__main__":
    linear_op.define("CPU")
    errors()
    flags()
    bound()
