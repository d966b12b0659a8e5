"""A float32 forward of the 8B shape with unmerged adapters: the truth that engines are held against."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from llama_8b import FFN, HIDDEN, KV, LAYERS, VOCABULARY
from spread_weights import fill

if TYPE_CHECKING:
    from torch import Tensor

HEADS, HEAD, THETA = 32, 128, 500000.0
QKV = (("q_proj", 0, HIDDEN), ("k_proj", HIDDEN, HIDDEN + KV), ("v_proj", HIDDEN + KV, HIDDEN + 2 * KV))


class Float32Model:
    """Llama's forward in float32, its weights drawn anew for each layer: those of the engines, by name."""

    def __init__(self, adapters: Path) -> None:
        torch.backends.cuda.matmul.allow_tf32 = False
        self._folder = adapters
        self._loaded: dict[str, dict[str, Tensor]] = {}

    @torch.no_grad()
    def logprobs(self, tokens: Tensor, adapters: list[str | None], start: int) -> tuple[Tensor, Tensor]:
        """Of tokens [requests, length] from ``start`` on: log-probability, and whether it is the
        likeliest."""
        x = _weight("model.embed_tokens.weight", VOCABULARY, HIDDEN)[tokens[:, :-1]]
        cos, sin = _angles(tokens.shape[1] - 1)
        for layer in range(LAYERS):
            x = self._attention(f"model.layers.{layer}.self_attn", x, adapters, cos, sin)
            x = self._mlp(f"model.layers.{layer}.mlp", x, adapters)
        logits = _norm(x[:, start - 1 :]) @ _weight("lm_head.weight", VOCABULARY, HIDDEN).t()
        wanted = tokens[:, start:]
        found = logits.log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
        return found, logits.argmax(-1) == wanted

    def _attention(
        self, name: str, x: Tensor, adapters: list[str | None], cos: Tensor, sin: Tensor
    ) -> Tensor:
        h = _norm(x)
        y = h @ _weight(f"{name}.qkv_proj.weight", HIDDEN + 2 * KV, HIDDEN).t()
        for part, low, high in QKV:
            self._add(y[..., low:high], h, adapters, f"{name}.{part}")
        q, k, v = (t.unflatten(-1, (-1, HEAD)) for t in y.split([HIDDEN, KV, KV], -1))
        q, k = _rotated(q, cos, sin), _rotated(k, cos, sin)
        k, v = (t.repeat_interleave(HEADS // t.shape[2], 2) for t in (k, v))
        scores = torch.einsum("bthd,bshd->bhts", q, k) * HEAD**-0.5
        length = x.shape[1]
        scores.masked_fill_(
            torch.ones(length, length, device=x.device, dtype=torch.bool).triu(1), float("-inf")
        )
        out = torch.einsum("bhts,bshd->bthd", scores.softmax(-1), v).flatten(2)
        y = out @ _weight(f"{name}.o_proj.weight", HIDDEN, HIDDEN).t()
        self._add(y, out, adapters, f"{name}.o_proj")
        return x + y

    def _mlp(self, name: str, x: Tensor, adapters: list[str | None]) -> Tensor:
        h = _norm(x)
        y = h @ _weight(f"{name}.gate_up_proj.weight", 2 * FFN, HIDDEN).t()
        self._add(y[..., :FFN], h, adapters, f"{name}.gate_proj")
        self._add(y[..., FFN:], h, adapters, f"{name}.up_proj")
        h = torch.nn.functional.silu(y[..., :FFN]) * y[..., FFN:]
        y = h @ _weight(f"{name}.down_proj.weight", HIDDEN, FFN).t()
        self._add(y, h, adapters, f"{name}.down_proj")
        return x + y

    def _add(self, y: Tensor, x: Tensor, adapters: list[str | None], module: str) -> None:
        for name in {each for each in adapters if each is not None}:
            tensors = self._of(name)
            a = tensors.get(f"base_model.model.{module}.lora_A.weight")
            if a is not None:
                b = tensors[f"base_model.model.{module}.lora_B.weight"]
                rows = torch.tensor([i for i, each in enumerate(adapters) if each == name], device=x.device)
                y[rows] += x[rows] @ a.float().t() @ b.float().t()

    def _of(self, name: str) -> dict[str, Tensor]:
        if name not in self._loaded:
            self._loaded[name] = load_file(self._folder / name / "adapter_model.safetensors", device="cuda")
        return self._loaded[name]


def _weight(name: str, *shape: int) -> Tensor:
    return fill(torch.empty(*shape, device="cuda", dtype=torch.bfloat16), name).float()


def _norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


def _angles(length: int) -> tuple[Tensor, Tensor]:
    steps = THETA ** (-torch.arange(0, HEAD, 2, device="cuda", dtype=torch.float32) / HEAD)
    angles = torch.arange(length, device="cuda").float()[:, None] * steps
    return angles.cos()[None, :, None], angles.sin()[None, :, None]


def _rotated(v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = v.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
