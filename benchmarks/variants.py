"""New adapters for the demo's base model, as many as are asked for: a demo planner with a little noise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from s3lora_serve import demo

if TYPE_CHECKING:
    from pathlib import Path

NOISE = 0.01  # over each matrix's own spread: enough for another digest, too little for other plans


def write_variant(
    folder: Path, seed: int, *, planner: str = "hotpot-planner", layers: int | None = None
) -> Path:
    """Write ``planner``'s adapter with noise of this seed into ``folder``; ``layers``: the first so many."""
    from pathlib import Path

    source = Path(demo.__file__).parent / "adapters" / planner
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, tensor in load_file(source / "adapter_model.safetensors").items():
        if layers is None or int(name.split(".layers.")[1].split(".")[0]) < layers:
            noise = torch.randn(tensor.shape, generator=generator) * tensor.float().std() * NOISE
            tensors[name] = (tensor.float() + noise).to(tensor.dtype).contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
    return folder
