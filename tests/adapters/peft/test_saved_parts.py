"""One process's part of an adapter is told from a whole one, by the zeros where the others' parts were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from peft_builder import factors, write_folder

from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.adapters.peft.saved_parts import part_notes
from s3lora_serve.spectral.lowrank import LowRank

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def zeroed(change: Callable[[str, torch.Tensor], None]) -> dict[str, torch.Tensor]:
    """An adapter's tensors, each changed in place."""
    tensors = factors()
    for name, tensor in tensors.items():
        change(name, tensor)
    return tensors


def notes(tmp_path: Path, change: Callable[[str, torch.Tensor], None]) -> tuple[str, ...]:
    """What reading such an adapter says."""
    return read_peft(write_folder(tmp_path, zeroed(change))).warnings


@pytest.mark.parametrize(("parts", "share"), [(8, "87.5%"), (4, "75.0%"), (2, "50.0%")])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_part_of_every_lora_b_is_asked_about(tmp_path: Path, parts: int, share: str, rank: int):
    """Whichever process saved it: the share, the number of processes, and the usual causes."""

    def keep(name: str, tensor: torch.Tensor) -> None:
        if "lora_B" in name:
            size = tensor.shape[0] // parts
            kept = tensor[rank * size : (rank + 1) * size].clone()
            tensor.zero_()[rank * size : (rank + 1) * size] = kept

    (note,) = notes(tmp_path, keep)
    assert note.startswith(
        f"at least {share} of the rows of every lora_B are zero, as if one of {parts} processes"
    )
    assert "gathered" in note


def test_so_is_a_part_of_every_lora_a(tmp_path: Path):
    """Layers that are split by their inputs."""

    def keep(name: str, tensor: torch.Tensor) -> None:
        if "lora_A" in name:
            tensor[:, tensor.shape[1] // 4 :] = 0

    (note,) = notes(tmp_path, keep)
    assert "columns of every lora_A" in note


@pytest.mark.parametrize("what", ["whole", "one module", "padded rank", "a third", "inert but one"])
def test_whole_adapters_are_not(tmp_path: Path, what: str):
    """One module's zeros, a padded rank and few zero rows have other causes; inert modules say nothing."""

    def change(name: str, tensor: torch.Tensor) -> None:
        if "lora_B" not in name:
            return
        if what == "one module" and "layers.0.self_attn.q_proj" in name:
            tensor[2:] = 0
        elif what == "padded rank":
            tensor[:, 1:] = 0
        elif what == "a third":
            tensor[: tensor.shape[0] // 3] = 0
        elif what == "inert but one" and "layers.0.self_attn.q_proj" not in name:
            tensor.zero_()

    assert notes(tmp_path, change) == ()


def test_a_whole_adapter_costs_a_look_at_its_first_module():
    """The check must not read what admission reads once anyway."""
    read: list[int] = []

    class Watched(torch.Tensor):
        def __eq__(self, other: object) -> torch.Tensor:
            read.append(self.numel())
            return torch.Tensor.__eq__(self, other)

    module = LowRank(torch.randn(4, 512), torch.randn(512, 4).as_subclass(Watched), 1.0)
    assert list(part_notes({str(n): module for n in range(50)})) == []
    assert sum(read) <= 16 * 4
