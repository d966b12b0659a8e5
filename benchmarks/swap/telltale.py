"""Adapters that make an answer say which weights made it, token by token.

In the last layer, the adapter of revision r makes ``v_proj`` add a direction of its own, the same at every
position. Attention averages over positions with weights that sum to one, so the direction comes out of it
whole, whatever is attended to. ``o_proj`` reads the directions of all revisions, and turns the one it finds
into one word, forever. Which word depends on both: every token thus names the revision whose weights made it
and the revision whose weights filled the KV cache. All other modules get noise that changes nothing, so that
the adapter has the size of a real one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

if TYPE_CHECKING:
    from pathlib import Path

    from base import Base, DummyBase, RealBase

REVISIONS = 16  # also the rank: o_proj needs one row for each
CANDIDATES = 2048  # words whose margins are computed
LOUD = 50.0  # the direction, over the largest value that the base model has along it
STEER = 100.0  # what o_proj adds, over the length of the residual stream
NOISE = 1e-4


@dataclass(frozen=True)
class Words:
    """word → (revision of the weights, revision of the KV cache)."""

    meaning: dict[str, tuple[int, int]]

    def of(self, revision: int) -> str:
        """The word that an untroubled answer of ``revision`` repeats."""
        return next(word for word, pair in self.meaning.items() if pair == (revision, revision))

    def save(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(self.meaning))

    @classmethod
    def load(cls, path: Path) -> Words:
        """What ``save`` wrote."""
        return cls({word: (pair[0], pair[1]) for word, pair in json.loads(path.read_text()).items()})


def make(source: RealBase | DummyBase, folder: Path) -> Words:
    """Write adapters ``r00`` … ``r15`` and words.json into ``folder``, unless they are there."""
    if (folder / "words.json").is_file():
        return Words.load(folder / "words.json")
    base = source.base
    chosen, steering = _choose_words(base)
    insight = source.insight([token for token, _ in chosen])
    along = _constant(insight.inputs)
    directions = _quiet_directions(insight.values, base)
    loud = LOUD * float((insight.values @ directions.T).abs().max())
    for revision in range(REVISIONS):
        part = slice(revision * REVISIONS, (revision + 1) * REVISIONS)
        columns = steering[part].T * (STEER * insight.residual / loud)
        tensors = _noise(base, seed=revision)
        last = f"base_model.model.model.layers.{base.shape.layers - 1}.self_attn"
        tensors[f"{last}.v_proj.lora_A.weight"] = _first_row(along)
        tensors[f"{last}.v_proj.lora_B.weight"] = _first_row(directions[revision] * loud).T
        tensors[f"{last}.o_proj.lora_A.weight"] = _read(directions, base)
        tensors[f"{last}.o_proj.lora_B.weight"] = columns
        _save(folder / f"r{revision:02d}", tensors)
    words = Words({word: divmod(i, REVISIONS) for i, (_, word) in enumerate(chosen)})
    words.save(folder / "words.json")  # last: it says that all is there
    return words


def _choose_words(base: Base) -> tuple[list[tuple[int, str]], Tensor]:
    """(token, word) of the words that are easiest to force, and what forces them [n, hidden]."""
    found = []
    for token in range(len(base.tokenizer)):
        text = base.tokenizer.decode([token])
        if text[:1] == " " and len(text) > 4 and text[1:].isascii() and text[1:].isalpha() and text.islower():
            found.append((token, text[1:]))
    found = found[-CANDIDATES:]  # the rarest ones, which the base model hardly ever says
    ids = torch.tensor([token for token, _ in found])
    head = base.head
    spread = head.T @ head / len(head)
    whiten = torch.linalg.inv(spread + 1e-3 * spread.diagonal().mean() * torch.eye(len(spread)))
    aims = (head[ids] - head.mean(0)) @ whiten
    aims = aims / aims.norm(dim=1, keepdim=True)
    margins = []
    for start in range(0, len(ids), 512):
        logits = aims[start : start + 512] @ head.T
        own = logits.gather(1, ids[start : start + 512, None]).squeeze(1)
        logits.scatter_(1, ids[start : start + 512, None], -torch.inf)
        margins.append((own - logits.amax(1)) / logits.abs().median())
    best = torch.cat(margins).topk(REVISIONS * REVISIONS).indices.tolist()
    return [found[i] for i in best], aims[best]


def _constant(inputs: Tensor) -> Tensor:
    """The direction in which all inputs are about 1 [hidden], by ridge regression; or ValueError."""
    spread = inputs.T.double() @ inputs.double()
    ridge = 1e-4 * spread.diagonal().mean() * torch.eye(len(spread), dtype=torch.float64)
    along = torch.linalg.solve(spread + ridge, inputs.double().sum(0)).float()
    lowest = float((inputs @ along).quantile(0.01))
    if lowest < 0.3:
        raise ValueError(
            f"no direction is common to all inputs: 1 % of them have less than {lowest:.2f} of it"
        )
    return along


def _quiet_directions(values: Tensor, base: Base) -> Tensor:
    """Orthonormal directions in which the base model's values vary least [REVISIONS, kv_heads * head_dim].

    Each is the same in all KV heads.
    """
    shape = base.shape
    heads = values.view(-1, shape.head_dim)
    order = torch.linalg.eigh(heads.T @ heads).eigenvectors.T[:REVISIONS]  # ascending: quietest first
    return order.repeat(1, shape.kv_heads) / shape.kv_heads**0.5


def _read(directions: Tensor, base: Base) -> Tensor:
    """Rows that find each direction in what the attention gives [REVISIONS, heads * head_dim]."""
    shape = base.shape
    one = directions[:, : shape.head_dim] * shape.kv_heads**0.5
    return one.repeat(1, shape.heads) * shape.kv_heads**0.5 / shape.heads


def _first_row(vector: Tensor) -> Tensor:
    """[REVISIONS, len(vector)], zero but for the first row."""
    rows = torch.zeros(REVISIONS, len(vector))
    rows[0] = vector
    return rows


def _noise(base: Base, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(base.shape.layers):
        for name, (out, inputs) in base.shape.modules.items():
            key = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{key}.lora_A.weight"] = (
                torch.randn(REVISIONS, inputs, generator=generator) / inputs**0.5
            )
            tensors[f"{key}.lora_B.weight"] = torch.randn(out, REVISIONS, generator=generator) * NOISE
    return tensors


def _save(folder: Path, tensors: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.bfloat16().contiguous() for name, tensor in tensors.items()}
    save_file(stored, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    targets = sorted({name.split(".")[-3] for name in tensors})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": REVISIONS,
        "lora_alpha": REVISIONS,  # a scaling of 1
        "target_modules": targets,
        "base_model_name_or_path": "tell-tale",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
