"""adapter_config.json and adapter_model.safetensors as one value: read leniently, written in one form."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from s3lora_serve.adapters.peft.adapter_config import CONFIG_NAME, AdapterConfig
from s3lora_serve.adapters.peft.safetensors_header import (
    LFS_MAGIC,
    SafetensorsHeader,
    lfs_pointer,
    read_header,
)
from s3lora_serve.adapters.peft.saved_parts import part_notes
from s3lora_serve.adapters.peft.tensor_names import (
    Factor,
    is_of_embedding,
    parse_tensor_name,
    saved_base_layer,
    tensor_name,
)
from s3lora_serve.adapters.peft.wrapper_names import unwrapped, unwrapping_note
from s3lora_serve.errors import FormatError
from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.storage.durable import write_synced
from s3lora_serve.storage.hashing_file import HashedFile, HashingWriter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

WEIGHTS_NAME = "adapter_model.safetensors"
_AGAIN = "the file is not whole, or was put together from parts: save the adapter again with save_pretrained"
_LINK_BYTES = 256
_BATCH_BYTES = 1 << 20
# In the order in which safetensors itself lays tensors out: dtypes from this list, names within a dtype.
_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_RANK_OF_DTYPE = {name: index for index, name in enumerate(_DTYPES.values())}


@dataclass(frozen=True)
class PeftAdapter:
    """A LoRA adapter; ``modules`` is keyed by dotted path, factors keep the file's dtype and may map it."""

    config: AdapterConfig
    modules: Mapping[str, LowRank]
    warnings: tuple[str, ...] = ()
    embeddings: frozenset[str] = frozenset()  # of modules; A is [r, words], B [out, r]
    base_layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # shapes of what is left out
    together: tuple[frozenset[str], ...] = ()  # taken whole: what is dropped of it is zero

    @property
    def uniform_scaling(self) -> bool:
        """Whether all modules have one scaling; vLLM 0.26 applies one to all, whatever the patterns say."""
        return len({module.scaling for module in self.modules.values()}) <= 1


def read_peft(folder: Path) -> PeftAdapter:
    """Read and check a private copy of a PEFT folder; its weights are mapped, so the file must not change.

    Writing to the tensors leaves the file as it is. Raises FormatError for unreadable or contradicting files,
    UnsupportedError for features that are not served.
    """
    path = folder / WEIGHTS_NAME
    for needed in (folder / CONFIG_NAME, path):
        if not needed.is_file():
            raise FormatError(
                f"there is no {needed.name} in the folder", hint="name the folder that PEFT saved"
            )
    config = AdapterConfig.parse(_config_bytes(folder / CONFIG_NAME))
    header = read_header(path)
    base_layers = {
        module: tuple(entry.shape)
        for entry in header.entries
        if (module := saved_base_layer(unwrapped(entry.name))) is not None
    }
    factors = _pair_factors(header)
    resolved = config.resolve(factors)
    tensors = _map_tensors(path, header)
    modules = {
        name: _low_rank(name, tensors[pair["A"]], tensors[pair["B"]], resolved[name], config)
        for name, pair in sorted(factors.items())
    }
    embeddings = frozenset(name for name, pair in factors.items() if is_of_embedding(unwrapped(pair["A"])))
    notes = (
        *config.notes,
        *unwrapping_note(entry.name for entry in header.entries),
        *_untargeted(config, modules),
        *part_notes({name: module for name, module in modules.items() if name not in embeddings}),
        *_left_out(base_layers),
    )
    return PeftAdapter(config, modules, notes, embeddings, base_layers)


def write_peft(
    folder: Path, adapter: PeftAdapter, drop: Collection[str], *, original: HashedFile | None = None
) -> HashedFile | None:
    """Write ``adapter`` without ``drop`` into the empty ``folder``, synced; equal input gives equal bytes.

    Factors keep their dtype and bytes. ``original`` may name a private weights file that ``adapter`` was read
    from: if it already is, byte for byte, what would be written, it is moved into place instead. Returns the
    weights file, or None if no module is left. Raises KeyError if ``drop`` names an unknown module.
    """
    if unknown := set(drop) - adapter.modules.keys():
        raise KeyError(f"no such modules in the adapter: {sorted(unknown)}")
    kept = as_written(adapter, drop)
    config = adapter.config.narrowed(kept).canonical()
    write_synced(folder / CONFIG_NAME, config_bytes(config))
    if not kept:
        return None
    tensors, path = _layout(kept, adapter.embeddings), folder / WEIGHTS_NAME
    header = _header_bytes(tensors)
    as_it_was = all(module is adapter.modules[name] for name, module in kept.items())
    if original is not None and as_it_was and _starts_with(original.path, header):
        return _move(original, path)
    with HashingWriter(path, sync=True) as writer:
        for pieces in _in_batches([memoryview(header), *(_bytes_of(tensor) for tensor in tensors.values())]):
            writer.write(*pieces)
        return writer.finish()


def as_written(adapter: PeftAdapter, drop: Collection[str]) -> dict[str, LowRank]:
    """The modules of ``adapter`` without ``drop``, as they are published.

    What the engine takes only whole stays whole as long as any of it stays: the dropped part of it is zero.
    """
    gone = set(drop)
    zero = {name for parts in adapter.together if not parts <= gone for name in parts & gone}
    return {
        name: LowRank(torch.zeros_like(module.a), torch.zeros_like(module.b), module.scaling)
        if name in zero
        else module
        for name, module in adapter.modules.items()
        if name in zero or name not in gone
    }


def config_bytes(config: Mapping[str, object]) -> bytes:
    """adapter_config.json as it is published, from ``AdapterConfig.canonical()``."""
    return (json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def _config_bytes(path: Path) -> bytes:
    raw = path.read_bytes()
    if raw.startswith(LFS_MAGIC):
        raise lfs_pointer(path.name)
    if raw.startswith(b"../") and len(raw) < _LINK_BYTES:
        raise FormatError(
            f"{path.name} is the text of a link, not the file: the folder was copied without its files",
            hint="copy it with its links followed (cp -L), or name the repository itself",
        )
    return raw


def _map_tensors(path: Path, header: SafetensorsHeader) -> dict[str, Tensor]:
    """Tensor name → tensor, mapped from the file. The library may be stricter than our own check."""
    try:
        with safe_open(path, framework="pt") as file:
            return {entry.name: file.get_tensor(entry.name) for entry in header.entries}
    except (SafetensorError, RuntimeError, OverflowError) as error:
        raise FormatError(f"{path.name} cannot be read: {error}", hint=_AGAIN) from error


def _pair_factors(header: SafetensorsHeader) -> dict[str, dict[Factor, str]]:
    """Module → factor → tensor name, each module with exactly one A and one B."""
    factors: dict[str, dict[Factor, str]] = {}
    for entry in header.entries:
        bare = unwrapped(entry.name)
        if saved_base_layer(bare) is not None:
            continue
        module, factor = parse_tensor_name(bare)
        pair = factors.setdefault(module, {})
        if factor in pair:
            raise FormatError(
                f"{module} has two lora_{factor} tensors: {pair[factor]!r} and {entry.name!r}",
                hint="save one adapter alone: save_pretrained(selected_adapters=[…])",
            )
        pair[factor] = entry.name
    for module, pair in factors.items():
        if missing := {"A", "B"} - pair.keys():
            raise FormatError(
                f"{module} has lora_{next(iter(pair))} but no lora_{missing.pop()}", hint=_AGAIN
            )
        if is_of_embedding(unwrapped(pair["A"])) != is_of_embedding(unwrapped(pair["B"])):
            raise FormatError(
                f"{module} has one factor of an embedding and one of a linear layer", hint=_AGAIN
            )
    if not factors:
        raise FormatError(
            f"{WEIGHTS_NAME} holds no LoRA factors",
            hint="the adapter is empty; it would serve the base model",
        )
    return factors


def _low_rank(name: str, a: Tensor, b: Tensor, resolved: tuple[int, float], config: AdapterConfig) -> LowRank:
    for factor, tensor in (("A", a), ("B", b)):
        if tensor.ndim != 2 or 0 in tensor.shape:
            raise FormatError(
                f"{name}: lora_{factor} has shape {list(tensor.shape)}; a linear layer's factor is a matrix",
                hint="convolutions are not served; an empty factor was not gathered before saving (ZeRO-3)",
            )
    if a.shape[0] != b.shape[1]:
        raise FormatError(
            f"{name}: lora_A {list(a.shape)} and lora_B {list(b.shape)} disagree on the rank", hint=_AGAIN
        )
    rank, alpha = resolved
    if a.shape[0] != rank:
        raise FormatError(
            f"{name}: its tensors have rank {a.shape[0]}, but {CONFIG_NAME} gives it {rank}",
            hint="r or rank_pattern is wrong",
        )
    return LowRank(a, b, config.scaling(rank, alpha))


def _untargeted(config: AdapterConfig, modules: Mapping[str, LowRank]) -> Iterator[str]:
    """PEFT would not load these and vLLM would: say so. The tensors decide, as in vLLM."""
    stray = [name for name in modules if config.targets(name) is False]
    if stray:
        yield f"{len(stray)} modules have tensors, so they count, but are no target_modules: {stray[0]}, ..."


def _left_out(base_layers: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    if base_layers:
        yield (
            f"the base model's own weights of {', '.join(sorted(base_layers))} are in the file too; they are"
            " left out, as vLLM reads none"
        )


def _layout(modules: Mapping[str, LowRank], embeddings: Collection[str]) -> dict[str, Tensor]:
    """Tensor name → tensor, in file order."""
    factors: tuple[Factor, Factor] = ("A", "B")
    tensors = {
        tensor_name(name, key, embedding=name in embeddings): module.a if key == "A" else module.b
        for name, module in modules.items()
        for key in factors
    }
    return dict(sorted(tensors.items(), key=lambda item: (_RANK_OF_DTYPE[_DTYPES[item[1].dtype]], item[0])))


def _header_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """The header that safetensors' own writer gives these tensors, so that its files need no rewriting."""
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, tensor in tensors.items():
        stop = start + tensor.numel() * tensor.element_size()
        table[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    raw = json.dumps(table, separators=(",", ":")).encode("ascii")
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _starts_with(path: Path, header: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(header)) == header


def _move(original: HashedFile, path: Path) -> HashedFile:
    with original.path.open("rb") as file:
        os.fsync(file.fileno())
    original.path.replace(path)
    return HashedFile(path, original.sha256, original.bytes)


def _in_batches(pieces: Iterable[memoryview]) -> Iterator[list[memoryview]]:
    """The same pieces in lists of about a megabyte: each write wakes the thread that hashes."""
    batch: list[memoryview] = []
    for piece in pieces:
        batch.append(piece)
        if sum(map(len, batch)) >= _BATCH_BYTES:
            yield batch
            batch = []
    yield batch


def _bytes_of(tensor: Tensor) -> memoryview:
    """The tensor's bytes without a copy (for a contiguous CPU tensor, which mapped ones are)."""
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy().data
