"""Puts the GPU LoRA plugin into the installed vLLM, in Triton's interpreter, and prints what it did.

vLLM's own linear and LoRA classes, a manager and a punica wrapper with what the plugin reads of them; the
kernels of vLLM that the self-check asks are stood in for by two products, since they do not run without a
GPU.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from types import SimpleNamespace

import torch
from torch import nn
from vllm.config import DeviceConfig, VllmConfig, set_current_vllm_config
from vllm.config.lora import LoRAConfig
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.lora.layers import (
    MergedColumnParallelLinearWithLoRA,
    MergedQKVParallelLinearWithLoRA,
    RowParallelLinearWithLoRA,
)
from vllm.lora.ops.triton_ops.lora_kernel_metadata import LoRAKernelMeta
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.linear import MergedColumnParallelLinear, QKVParallelLinear, RowParallelLinear

from s3lora_serve.engine.vllm.plugins.gpu_lora import adopt as adopting
from s3lora_serve.engine.vllm.plugins.gpu_lora import adoption, expand_silu, plugin

HIDDEN, FFN, SLOTS, RANK, LAYERS = 256, 256, 4, 8, 2
HALF = torch.float16  # of bfloat16, the type of real models, the interpreter makes no products


class StandIn:
    """vLLM's GPU wrapper: its metadata are vLLM's, its two kernels plain products."""

    def __init__(self):
        self.token_mapping_meta = LoRAKernelMeta.make(SLOTS, 512, "cpu")

    def add_lora_linear(self, y, x, a_stacked, b_stacked, scale, slices):
        if (
            self.token_mapping_meta.no_lora_flag_cpu.item()
        ):  # vLLM leaves the last batch's slots in the mapping
            return
        slot, start = self.token_mapping_meta.token_lora_mapping[: len(x)], 0
        for a, b, size in zip(a_stacked, b_stacked, slices, strict=True):
            assert a.is_contiguous() and b.is_contiguous()  # noqa: PT018
            for s in range(SLOTS):
                rows = (slot == s).nonzero()[:, 0]
                delta = x[rows].float() @ a[s, 0].float().t() @ b[s, 0].float().t() * scale
                y[rows, start : start + size] = (y[rows, start : start + size].float() + delta).to(y.dtype)
            start += size


class Mlp(nn.Module):
    """As vLLM's models have it."""

    def __init__(self, wrap):
        super().__init__()
        self.gate_up_proj = wrap(
            MergedColumnParallelLinearWithLoRA,
            MergedColumnParallelLinear(HIDDEN, [FFN] * 2, bias=False, params_dtype=HALF, disable_tp=True),
        )
        self.down_proj = wrap(
            RowParallelLinearWithLoRA,
            RowParallelLinear(FFN, HIDDEN, bias=False, params_dtype=HALF, disable_tp=True),
        )
        self.act_fn = SiluAndMul()

    def forward(self, x):
        y, _ = self.gate_up_proj(x)
        y, _ = self.down_proj(self.act_fn(y))
        return y


class Model(nn.Module):
    """Two layers: a biased qkv, whose three slices are summed in place of attention, o, and an MLP."""

    def __init__(self, config, punica):
        super().__init__()
        self.config = None

        def wrap(kind, base):
            nn.init.normal_(base.weight, std=HIDDEN**-0.5)
            if getattr(base, "bias", None) is not None:
                nn.init.normal_(base.bias)
            base.cpu_linear = nn.functional.linear  # what vLLM sets up when it has loaded weights
            layer = kind(base)
            layer.create_lora_weights(SLOTS, config, None)
            layer.set_mapping(punica)
            return layer

        self.qkv_proj, self.o_proj, self.mlp = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in range(LAYERS):
            qkv = QKVParallelLinear(HIDDEN, 128, 2, 1, bias=True, params_dtype=HALF, disable_tp=True)
            self.qkv_proj.append(wrap(MergedQKVParallelLinearWithLoRA, qkv))
            row = RowParallelLinear(HIDDEN, HIDDEN, bias=False, params_dtype=HALF, disable_tp=True)
            self.o_proj.append(wrap(RowParallelLinearWithLoRA, row))
            self.mlp.append(Mlp(wrap))

    def layers(self):
        """name -> wrapped layer, as a manager lists them."""
        found = {}
        for i in range(LAYERS):
            found[f"layers.{i}.qkv_proj"], found[f"layers.{i}.o_proj"] = self.qkv_proj[i], self.o_proj[i]
            found[f"layers.{i}.gate_up_proj"] = self.mlp[i].gate_up_proj
            found[f"layers.{i}.down_proj"] = self.mlp[i].down_proj
        return found

    def forward(self, x):
        for i in range(LAYERS):
            y, _ = self.qkv_proj[i](x)
            q, k, v = y.split([256, 128, 128], 1)
            y, _ = self.o_proj[i](q + torch.cat([k, v], 1))
            x = x + y
            x = x + self.mlp[i](x)
        return x


def adapter(seed, without=()):
    """What a manager hands to set_lora, by layer: matrices, or lists of them with None for a pruned
    module."""
    generator, found = torch.Generator().manual_seed(seed), {}

    def pair(inputs, out):
        return (
            (torch.randn(RANK, inputs, generator=generator) * inputs**-0.5).to(HALF),
            (torch.randn(out, RANK, generator=generator) * 0.3).to(HALF),
        )

    for i in range(LAYERS):
        for name, inputs, sizes in (
            ("qkv_proj", HIDDEN, (256, 128, 128)), ("o_proj", HIDDEN, (HIDDEN,)),
            ("gate_up_proj", HIDDEN, (FFN, FFN)), ("down_proj", FFN, (HIDDEN,)),
        ):  # fmt: skip
            pairs = [pair(inputs, size) for size in sizes]
            a, b = ([None if (name, j) in without else p[k] for j, p in enumerate(pairs)] for k in (0, 1))
            found[f"layers.{i}.{name}"] = (a, b) if len(sizes) > 1 else (a[0], b[0])
    return found


def load(layers, slot, weights):
    """As LoRAModelManager.activate_adapter does it."""
    for name, layer in layers.items():
        a, b = weights[name]
        if a is None:
            layer.reset_lora(slot)
        else:
            layer.set_lora(slot, a, b)


def step(model, punica, x, slots):
    punica.token_mapping_meta.prepare_tensors(torch.tensor(slots))
    with torch.no_grad():
        return model(x)


def same(a, b):
    return float((a.float() - b.float()).norm() / b.float().norm())


def main(broken):
    config = VllmConfig(device_config=DeviceConfig("cpu"))
    config.lora_config = lora = LoRAConfig(max_lora_rank=RANK, max_loras=SLOTS, lora_dtype=HALF)
    told = []
    adoption.engine_refusal = lambda *_: None  # what a GPU would say
    adoption.SERVED = HALF
    adopting.adoption.ONCE_IN_ORDER = frozenset({"Tiny"})
    if broken:
        expand_silu.expand_silu_kernel = Broken(expand_silu.expand_silu_kernel)
    with set_current_vllm_config(config):
        group = tempfile.mkstemp()[1]
        init_distributed_environment(1, 0, f"file://{group}", 0, backend="gloo")
        initialize_model_parallel(1)
        torch.manual_seed(0)
        punica = StandIn()
        model = Model(lora, punica)
        layers = model.layers()
        weights = [
            adapter(0),
            adapter(1, without={("qkv_proj", 1), ("gate_up_proj", 0), ("o_proj", 0)}),
            adapter(2),
        ]
        x, slots = torch.randn(6, HIDDEN).to(HALF), [0, 1, -1, 2, 1, -1]
        for slot, each in enumerate(weights):
            load(layers, slot, each)
        stock = step(model, punica, x, slots)
        base = step(model, punica, x, [-1] * 6)
        plugin.install("on", "CPU")
        plugin.install("on", "CPU")  # nothing twice
        manager = SimpleNamespace(
            modules=layers,
            device="cpu",
            lora_slots=SLOTS,
            model=SimpleNamespace(modules=model.modules, config=None),
        )
        vllm_config = SimpleNamespace(lora_config=lora, model_config=SimpleNamespace(architectures=["Tiny"]))
        found = adopting.adopt(manager, vllm_config, "on", "0.32.0")
        told.append(found.facts())
        empty = step(model, punica, x, slots)
        for slot, each in enumerate(weights):
            load(layers, slot, each)
        ours = step(model, punica, x, slots)
        ours_base = step(model, punica, x, [-1] * 6)
        padded = punica.token_mapping_meta.token_lora_mapping.unique().tolist()
        load(layers, 1, weights[2])  # another adapter in slot 1, then the first one again
        load(layers, 1, weights[1])
        again = step(model, punica, x, slots)
        layer = layers["layers.1.o_proj"]
        hash_ = config.compute_hash()
        plugin._last[:] = [found]
        facts = {
            "line": found.line(), **found.facts(),
            "against_stock": same(ours, stock), "base_against_stock": same(ours_base, base),
            "empty_is_base": same(empty, base), "after_a_swap": same(again, ours),
            "stock_moves": same(stock, base),
            "padded": padded, "hash_tells": hash_ != config.compute_hash(),
            "activation": type(model.mlp[0].act_fn).__name__,
            "views": layer.lora_a_stacked[0].data_ptr() >= layer.s3lora_weight.data_ptr(),
        }  # fmt: skip
        layer.base_layer.weight.data = layer.base_layer.weight.data.clone()
        try:
            layer.set_lora(0, *weights[0]["layers.1.o_proj"])
        except RuntimeError as error:
            facts["replaced"] = str(error)
    print(json.dumps(facts))


class Broken:
    """A kernel that computes something else: the silu of a model without adapters."""

    def __init__(self, kernel):
        self._kernel = kernel

    def __getitem__(self, grid):
        run = self._kernel[grid]
        return lambda *args, **kwargs: run(*args[:-1], False, **kwargs)


if __name__ == "__main__":
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    main(broken=sys.argv[1:] == ["broken"])
