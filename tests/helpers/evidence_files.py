"""What policies refer to, as files: sweeps, checkpoints of base models, references of known-good adapters."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from s3lora_serve.adapters.evidence.base_weights import weights_of as weights_of_base
from s3lora_serve.spectral.scorers import SCORER_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# tau, modules pruned, attack success, utility
POINTS = ((0.0, 0, 0.5, 0.8), (0.1, 1, 0.4, 0.8), (0.25, 2, 0.2, 0.76), (0.5, 4, 0.1, 0.4))


def weights_sha256(adapter: Path) -> str:
    """By which a sweep finds an adapter."""
    return hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()


def write_sweep(
    path: Path,
    sha256: str,
    base: Any,
    *,
    scorer: str = "mas-svd",
    seed: int = 0,
    points: Sequence[tuple[float, int, float | None, float]] = POINTS,
    task: str = "tasks",
    **changes: Any,
) -> Path:
    """A sweep.json of one adapter; the first point is the unpruned one. ``changes`` replace whole keys."""
    rows = [
        {
            "adapter": "mine",
            "label": f"{scorer} {tau:.0%}" if tau else "none",
            "scorer": scorer if tau else None,
            "tau": tau if tau else None,
            "seed": seed,
            "modules_pruned": pruned,
            "attack_success": attack,
            "over_refusal": 0.0,
            "utility": {task: {"valid": utility, "tool_choice": utility, "loss": 1.5}},
        }
        for tau, pruned, attack, utility in points
    ]
    whole = {
        "adapter": "mine", "label": "base", "scorer": None, "tau": None, "seed": 0, "modules_pruned": 99,
        "attack_success": 0.0, "over_refusal": 0.0, "utility": {task: {"valid": 0.0, "loss": 9.0}},
    }  # fmt: skip
    data = {
        "format": 1,
        "suite": "5" * 64,
        "scorer_version": SCORER_VERSION,
        "base": {"name": base.name, "digest": base.digest, "weights": weights_of_base(base).digest},
        "alignment": None,
        "adapters": {"mine": {"source": "local:mine", "sha256": sha256, "modules": 14, "group": None}},
        "rows": [*rows[:1], whole, *rows[1:]],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**data, **changes}))
    return path


def weights_of(
    shapes: Mapping[str, tuple[int, int]], *, seed: int, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """Tensor name → random weight of every module."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}.weight": torch.randn(*shape, generator=generator).to(dtype) for name, shape in shapes.items()
    }


def write_checkpoint(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    *,
    shards: int = 1,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """A model's safetensors files, in ``shards`` with an index if several, and its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    weight_map = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[number::shards])
        save_file(part, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
