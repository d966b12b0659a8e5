"""Memory that the layers of an engine share: partial sums of s, and where a kernel says that it failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import ShapeTable

SLICES = 3  # at most


@dataclass(frozen=True)
class Scratch:
    """``sums`` float32 on the device; ``error`` int32 in the host's memory, which a kernel writes to and the
    host reads without waiting for the device: the number of the layer whose wait failed, 0 for none."""

    sums: Tensor
    error: Tensor


_kept: dict[tuple[str, int], Scratch] = {}  # for good: captured graphs hold the addresses


def scratch(device: torch.device, numbers: int) -> Scratch:
    """The memory for ``numbers`` float32 on a device; the same at every call."""
    key = (str(device), numbers)
    if key not in _kept:
        _kept[key] = Scratch(
            torch.zeros(numbers, dtype=torch.float32, device=device),
            torch.zeros(1, dtype=torch.int32, pin_memory=device.type == "cuda"),
        )
    return _kept[key]


def numbers_for(table: ShapeTable, slots: int, rows: int) -> int:
    """How many partial sums the largest one-launch shape writes."""
    most = max((max(row.pieces, row.cuts) * row.tokens for row in table.fused), default=0)
    return max(1, SLICES * most * slots * rows)


def failed_layer() -> int:
    """The number of a layer whose wait failed in this process, counted from 1; 0 for none."""
    return max((int(each.error[0]) for each in _kept.values()), default=0)
