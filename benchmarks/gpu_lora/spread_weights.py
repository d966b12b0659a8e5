"""vLLM plugin of the benchmark: dummy weights with a spread, so that logits and adapters matter; the same
everywhere."""

from __future__ import annotations

import zlib
from typing import Any

import torch

SPREAD = 0.02


def register() -> None:
    """Replace the dummy loader's weights; safe to call twice."""
    from vllm.model_executor.model_loader import dummy_loader

    dummy_loader.DummyModelLoader.load_weights = _load_weights


def _load_weights(self: Any, model: torch.nn.Module, model_config: Any) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.data.fill_(1.0)
        else:
            fill(parameter.data, name)


def fill(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """The weights that a parameter of this name has."""
    return tensor.normal_(
        0, SPREAD, generator=torch.Generator(tensor.device).manual_seed(zlib.crc32(name.encode()))
    )
