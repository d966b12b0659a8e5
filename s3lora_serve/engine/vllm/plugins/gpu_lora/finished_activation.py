"""The module that stands in for a model's ``SiluAndMul`` behind an adopted gate and up projection."""

from __future__ import annotations

from typing import Any

import torch


class FinishedActivation(torch.nn.Module):
    """silu(gate) · up of a deferred projection's output, its adapters added on the way."""

    def __init__(self, projection: Any) -> None:
        super().__init__()
        self.s3lora_b = projection.s3lora_b
        self.s3lora_state = projection.s3lora_state
        self.punica_wrapper = projection.punica_wrapper

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        meta = self.punica_wrapper.token_mapping_meta
        flat = y if y.ndim == 2 else y.flatten(0, -2)
        out: torch.Tensor = torch.ops.s3lora.activation(
            flat, self.s3lora_b, self.s3lora_state, meta.token_lora_mapping, meta.no_lora_flag_cpu
        )
        return out if y.ndim == 2 else out.view(*y.shape[:-1], out.shape[-1])
