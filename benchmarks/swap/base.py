"""What must be known of a base model to make tell-tale adapters for it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from prompts import messages
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from llama_8b import HIDDEN, VOCABULARY, write_dummy_base

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = 40  # prompts whose activations are looked at
DUMMY_SEED, DUMMY_BOUND = 1234, 1e-3  # of vLLM's initialize_dummy_weights, the same for every parameter


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama-like model."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int

    @property
    def modules(self) -> dict[str, tuple[int, int]]:
        """(out, in) of each projection of a layer."""
        query, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "self_attn.q_proj": (query, self.hidden),
            "self_attn.k_proj": (kv, self.hidden),
            "self_attn.v_proj": (kv, self.hidden),
            "self_attn.o_proj": (self.hidden, query),
            "mlp.gate_proj": (self.ffn, self.hidden),
            "mlp.up_proj": (self.ffn, self.hidden),
            "mlp.down_proj": (self.hidden, self.ffn),
        }


@dataclass(frozen=True)
class Insight:
    """What the last layer sees, float32."""

    inputs: Tensor  # [n, hidden]: inputs of its attention at n positions of likely texts
    values: Tensor  # [n, kv_heads * head_dim]: what v_proj makes of them
    residual: float  # median length of the residual stream behind it


@dataclass(frozen=True)
class Base:
    """A base model in ``folder``, with ``head`` = rows of the output matrix times the last norm's weight."""

    folder: Path
    shape: Shape
    tokenizer: Any
    head: Tensor  # [vocabulary, hidden] float32

    def prompts(self) -> list[list[int]]:
        """Token ids of sample prompts."""
        return [
            self.tokenizer.apply_chat_template(
                messages(71 * i), add_generation_prompt=True, return_dict=True
            )["input_ids"]
            for i in range(SAMPLES)
        ]


def read_shape(folder: Path) -> Shape:
    """The sizes in a folder's config.json."""
    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=heads,
        kv_heads=config["num_key_value_heads"],
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        ffn=config["intermediate_size"],
    )


class RealBase:
    """A checkpoint in ``folder``, small enough to be run here."""

    load_format: str | None = None

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        norm = self._model.model.norm.weight.detach()
        head = (self._model.lm_head.weight.detach() * norm).float()
        self.base = Base(folder, read_shape(folder), AutoTokenizer.from_pretrained(folder), head)

    def insight(self, words: Sequence[int]) -> Insight:
        """Run sample prompts, each followed by tell-tale words, and look at the last layer."""
        inputs, values, lengths = [], [], []
        layer = self._model.model.layers[-1]

        def saw_values(_: Any, given: tuple[Tensor], out: Tensor) -> None:
            inputs.append(given[0][0])
            values.append(out[0])

        def saw_residual(_: Any, given: tuple[Tensor], __: Tensor) -> None:
            lengths.append(given[0][0].norm(dim=-1))

        hooks = [
            layer.self_attn.v_proj.register_forward_hook(saw_values),
            self._model.model.norm.register_forward_hook(saw_residual),
        ]
        with torch.no_grad():
            for i, prompt in enumerate(self.base.prompts()):
                spoken = [words[(17 * i + j // 6) % len(words)] for j in range(48)]
                self._model(torch.tensor([prompt + spoken]))
        for hook in hooks:
            hook.remove()
        return Insight(torch.cat(inputs), torch.cat(values), float(torch.cat(lengths).median()))


class DummyBase:
    """Llama-3.1-8B's shape with vLLM's dummy weights, which are known: each parameter has the same seed.

    All layers together hardly move the residual stream, so that the last one sees the current token's
    embedding. The weights differ between devices: make the adapters on the device that serves them.
    """

    load_format: str | None = "dummy"

    def __init__(self, folder: Path, tokenizer: Path, layers: int) -> None:
        from transformers import AutoTokenizer

        write_dummy_base(folder, tokenizer, layers)
        self._embedding, self._norm = _dummy(VOCABULARY, HIDDEN), _dummy(HIDDEN)
        # The output matrix has the embedding's shape and seed, hence its values.
        head = self._embedding * self._norm
        self.base = Base(folder, read_shape(folder), AutoTokenizer.from_pretrained(folder), head)

    def insight(self, words: Sequence[int]) -> Insight:
        """The normalised embeddings of all tokens that the clients and the adapters use."""
        seen = sorted({token for prompt in self.base.prompts() for token in prompt} | set(words))
        rows = self._embedding[seen]
        inputs = rows * (rows.pow(2).mean(1, keepdim=True) + 1e-5).rsqrt() * self._norm
        out = self.base.shape.modules["self_attn.v_proj"][0]
        values = inputs @ _dummy(out, self.base.shape.hidden).T
        return Insight(inputs, values, float(rows.norm(dim=1).median()))


def _dummy(*shape: int) -> Tensor:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device=device).manual_seed(DUMMY_SEED)
    made = torch.empty(*shape, dtype=torch.bfloat16, device=device)
    return made.uniform_(-DUMMY_BOUND, DUMMY_BOUND, generator=generator).float().cpu()
