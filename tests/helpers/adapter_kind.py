"""One kind of adapter: its tensors, as PEFT names them, its configuration, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from served_bases import CONFIGS

if TYPE_CHECKING:
    from collections.abc import Mapping

RANK = 4


@dataclass(frozen=True)
class Kind:
    """One kind, on one of ``served_bases``. ``refused`` is a part of the refusal; empty: it is served."""

    what: str
    base: str
    tensors: Mapping[str, torch.Tensor]
    refused: str = ""
    why: str = ""  # for the page, where it is refused or needs a word
    config: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""  # a part of the warning that it is served with
    rank: int = RANK  # of config
    other: str = ""  # what vLLM 0.26 makes of it, where that is known to differ

    @property
    def architecture(self) -> str:
        """The class that it is served by."""
        return str(CONFIGS[self.base]["architectures"][0])

    @property
    def older(self) -> str:
        """With vLLM 0.26: what the files alone refuse is refused there too, the rest was not tried."""
        return self.other or ("refused" if self.refused and self.base == "llama" else "not tried")


def lora(*names: str, rank: int = RANK, kind: str = "", dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Factors for modules given as ``name:OUTxIN``; ``kind`` is what stands between factor and ``weight``."""
    generator = torch.Generator().manual_seed(7)
    found = {}
    for text in names:
        name, _, shape = text.rpartition(":")
        out, inner = (int(part) for part in shape.split("x"))
        a = torch.randn(rank, inner, generator=generator) / 4
        b = torch.randn(out, rank, generator=generator) / 4
        found[f"base_model.model.{name}.lora_A{kind}.weight"] = a.to(dtype)
        found[f"base_model.model.{name}.lora_B{kind}.weight"] = b.to(dtype)
    return found


def embedding(name: str, words: int, width: int) -> dict[str, Any]:
    """Factors of an embedding, as PEFT names them."""
    return {
        f"base_model.model.{name}.lora_embedding_A": torch.randn(RANK, words),
        f"base_model.model.{name}.lora_embedding_B": torch.randn(width, RANK),
    }


def whole(name: str, *shape: int) -> dict[str, Any]:
    """A tensor beside the update."""
    return {f"base_model.model.{name}": torch.ones(*shape)}


def experts(*numbers: int, skip: str = "", rank: int = RANK) -> dict[str, Any]:
    """Every projection of these experts of the first layer of qwen3moe, but ``skip``."""
    shapes = {"gate_proj": "32x64", "up_proj": "32x64", "down_proj": "64x32"}
    return lora(
        *(
            f"model.layers.0.mlp.experts.{number}.{name}:{shape}"
            for number in numbers
            for name, shape in shapes.items()
            if name != skip
        ),
        rank=rank,
    )
