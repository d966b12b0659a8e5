"""The kinds of adapter folders that people have, on a small Llama, and what becomes of each.

The rows have the columns of the table of adapters in docs/compatibility.md: ``what``, ``architecture``,
``refused`` (a part of the refusal; empty: it is served), ``why``, ``note`` (a part of a warning) and
``older`` (by vLLM 0.26). What is decided here is decided by the files alone, before any engine.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from peft_builder import CONFIG, Q0, SHAPES, factors, write_folder
from safetensors.torch import save_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class FolderKind:
    """One kind. ``make`` writes it below an empty folder and returns what is to be admitted."""

    what: str
    make: Callable[[Path], Path]
    refused: str = ""
    why: str = ""
    note: str = ""
    architecture: str = "LlamaForCausalLM"
    base: str = "llama"

    @property
    def older(self) -> str:
        """With vLLM 0.26, which is asked nothing here."""
        return "refused" if self.refused else "served as by 0.32"


def _tensors(change: Callable[[str], str]) -> Callable[[Path], Path]:
    return lambda folder: write_folder(folder, {change(name): tensor for name, tensor in factors().items()})


def _config(**config: object) -> Callable[[Path], Path]:
    return lambda folder: write_folder(folder, **config)


def _beside(name: str, *shape: int) -> Callable[[Path], Path]:
    return lambda folder: write_folder(folder, {**factors(), name: torch.ones(*shape)})


def _ranks(rank: int, **ranks: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        by_name = {
            f"model.layers.{n}.{name}": ranks.get(name.split(".")[1], rank) for name in SHAPES for n in (0, 1)
        }
        return write_folder(folder, factors(ranks=by_name), r=rank, rank_pattern=ranks)

    return make


def _hub_download(folder: Path) -> Path:
    made = write_folder(folder / "made")
    snapshot, blobs = (folder / "models--acme--lora" / name for name in ("snapshots/c0ffee", "blobs"))
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in made.iterdir():
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        file.rename(blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def _with_links(folder: Path) -> Path:
    made = write_folder(folder)
    (made / "README.md").symlink_to("/etc/hostname")
    (made / "training_args.bin").write_bytes(b"?")
    return made


def _linked(folder: Path) -> Path:
    made = write_folder(folder / "made")
    (made / "adapter_model.safetensors").rename(folder / "elsewhere")
    (made / "adapter_model.safetensors").symlink_to(folder / "elsewhere")
    return made


def _files(*names: str, config: dict[str, object] | None = None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(config or dict(CONFIG)))
        for name in names:
            (folder / name).write_bytes(b"?")
        return folder

    return make


def _mlx(folder: Path) -> Path:
    made = _files(config={"fine_tune_type": "lora", "lora_parameters": {"scale": 2.0}})(folder)
    save_file({f"{Q0}.lora_a": torch.ones(16, 2)}, made / "adapters.safetensors")
    return made


def _part(folder: Path) -> Path:
    tensors = factors()
    for name, tensor in tensors.items():
        if "lora_B" in name:
            tensor[tensor.shape[0] // 8 :] = 0
    return write_folder(folder, tensors)


def _lfs(folder: Path) -> Path:
    made = write_folder(folder)
    (made / "adapter_model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    return made


def _link_texts(folder: Path) -> Path:
    made = write_folder(folder)
    for file in made.iterdir():
        file.write_text("../../blobs/" + "0" * 64)
    return made


LAYER0 = "base_model.model.model.layers.0."
FOLDER_KINDS = (
    FolderKind("a folder of `hf download` (links into `blobs/`)", _hub_download),
    FolderKind("links and pickles beside the two files", _with_links, note="is a pickle: ignored"),
    FolderKind("links that lead elsewhere", _linked, "symbolic link", "copy the file itself"),
    FolderKind(
        "a pickle (`adapter_model.bin`)",
        _files("adapter_model.bin"),
        "is a pickle",
        "`s3lora convert` makes safetensors",
    ),
    FolderKind("MLX-LM", _mlx, "MLX's own format", "`s3lora convert` makes a PEFT folder"),
    FolderKind(
        "shards", _files("adapter_model-00001-of-00002.safetensors"), "several parts", "save it as one file"
    ),
    FolderKind("a merged model", _files("model.safetensors"), "a whole model", "name the adapter"),
    FolderKind("GGUF", _files("lora.gguf"), "llama.cpp's format", "name the PEFT adapter"),
    FolderKind("a folder of checkpoints", _files("checkpoint-10"), "there is no", "name one of its folders"),
    FolderKind("a Git LFS pointer", _lfs, "Git LFS pointer", "git lfs pull"),
    FolderKind(
        "a download copied without its links",
        _link_texts,
        "the text of a link",
        "copy it with links followed",
    ),
    FolderKind(
        "names of activation checkpointing, FSDP, torch.compile",
        _tensors(lambda name: name.replace(LAYER0, f"{LAYER0}_checkpoint_wrapped_module.")),
        note="names of training wrappers",
    ),
    FolderKind(
        "names of DDP (`module.`)", _tensors(lambda name: f"module.{name}"), note="names of training wrappers"
    ),
    FolderKind(
        "PEFT around PEFT",
        _tensors(lambda name: f"base_model.model.{name}"),
        note="names of training wrappers",
    ),
    FolderKind(
        "a bare state_dict (no `base_model.model.`)",
        _tensors(lambda name: name.removeprefix("base_model.model.")),
        "a bare state_dict's",
        "save it with save_pretrained",
    ),
    FolderKind(
        "kohya, diffusers",
        _tensors(lambda name: name.replace("lora_A", "lora_down").replace("lora_B", "lora_up")),
        "kohya's or diffusers'",
        "for image models",
    ),
    FolderKind("another `task_type`", _config(task_type="SEQ_2_SEQ_LM"), note="a label that nothing reads"),
    FolderKind(
        "LoftQ",
        _config(init_lora_weights="loftq"),
        "altered base weights",
        "serve it on the base that LoftQ saved",
    ),
    FolderKind("one process's part of each lora_B", _part, note="as if one of 8 processes"),
    FolderKind(
        "an output head saved beside it",
        _beside("base_model.model.lm_head.weight", 32, 16),
        "a whole weight",
        "merge it",
    ),
    FolderKind("rank 1", _ranks(1), note="the policy selects nothing", why="with a note, unpruned: SSI is 1"),
    FolderKind(
        "ranks that differ",
        _ranks(4, q_proj=2),
        note="share above 1/rank",
        why="with a note on how they are compared",
    ),
)
