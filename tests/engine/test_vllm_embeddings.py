"""Updates of the output head and of the embedding, as the module table serves them, in the real engine."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import torch
from adapter_kind import RANK
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3lora_serve.engine.port import Slot
    from s3lora_serve.engine.vllm.vllm_engine import VllmEngine

WIDTH, WORDS = 576, 49_152  # of the demo's base model
IDS = list(range(100, 140))
FACTORS = {
    "lm_head": ("lm_head.lora_A.weight", WIDTH, "lm_head.lora_B.weight", WORDS),
    "embed_tokens": (
        "model.embed_tokens.lora_embedding_A",
        WORDS,
        "model.embed_tokens.lora_embedding_B",
        WIDTH,
    ),
}


@pytest.mark.engine
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("module", FACTORS)
async def test_they_change_what_the_adapter_says_and_nothing_else(
    vllm_engine: VllmEngine, new_slot: Callable[[Path], Slot], tmp_path: Path, module: str
):
    """Also where the base model is asked in the same batch."""
    a, inner, b, outer = FACTORS[module]
    random = torch.Generator().manual_seed(1)
    tensors = {
        f"base_model.model.{a}": torch.randn(RANK, inner, generator=random) / 20,
        f"base_model.model.{b}": torch.randn(outer, RANK, generator=random) / 20,
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": [module]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    alone, slot = await vllm_engine.score(IDS, None), new_slot(tmp_path)
    await vllm_engine.load(slot)
    try:
        changed, beside = await asyncio.gather(vllm_engine.score(IDS, slot), vllm_engine.score(IDS, None))
    finally:
        await vllm_engine.unload(slot)
    assert beside == pytest.approx(alone, abs=1e-3)
    assert max(abs(x - y) for x, y in zip(changed, alone, strict=True)) > 0.1
