"""What is let in: files, ranks, values, and shapes that fit the base model; vLLM serves misfits silently."""

from __future__ import annotations

import difflib
import math
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from s3lora_serve.adapters.peft.adapter_config import CONFIG_NAME
from s3lora_serve.adapters.peft.peft_format import WEIGHTS_NAME, PeftAdapter
from s3lora_serve.errors import BaseModelMismatch, FormatError, LimitError, UnsafeFileError, UnsupportedError
from s3lora_serve.spectral.threads import spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.spectral.lowrank import LowRank

MAX_CONFIG_BYTES = 1 << 20
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
LARGEST = float(torch.finfo(torch.float32).max)  # what any dtype that an engine computes in can hold
_HEADS = ("lm_head", "embed_tokens", "embed_out", "wte", "wpe", "score", "classifier")


@dataclass(frozen=True)
class AdapterLimits:
    """Limits above which an adapter is refused."""

    max_rank: int = 16
    max_bytes: int = 2 << 30  # of all files that are copied
    max_files: int = 64  # in the source's folder, copied or not
    per_module_scaling: bool = True  # whether the engine reads rank_pattern and alpha_pattern


def check_files(folder: Path, limits: AdapterLimits) -> None:
    """Check names, kinds, number and sizes of the files in ``folder`` (not below it); opens none of them.

    Raises UnsafeFileError, LimitError or FormatError.
    """
    entries = sorted(folder.iterdir())
    check_listing([entry.name for entry in entries], limits)
    total = 0
    for entry in entries:
        status = entry.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise symlink(entry.name)
        if entry.name in (CONFIG_NAME, WEIGHTS_NAME):
            if not stat.S_ISREG(status.st_mode):
                raise UnsafeFileError(f"{entry.name} is not a regular file")
            total += status.st_size
    if total > limits.max_bytes:
        raise LimitError(f"the adapter has {total} bytes > {limits.max_bytes}; raise limits.max_adapter_mib")


def check_listing(names: list[str], limits: AdapterLimits) -> None:
    """Check what a folder says it holds, before anything is read.

    Raises UnsafeFileError if a name leaves the folder or the weights are a pickle, LimitError for too many
    files, FormatError if a needed file is absent.
    """
    if len(names) > limits.max_files:
        raise LimitError(f"the folder holds {len(names)} files > {limits.max_files}; raise limits.max_files")
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise UnsafeFileError(f"the name {name!r} leaves the adapter's folder")
    if WEIGHTS_NAME not in names:
        if pickle := next((name for name in names if is_pickle(name)), None):
            raise UnsafeFileError(
                f"{pickle} is a pickle, which can run code when it is opened; it was not",
                hint="save the adapter with safe_serialization=True where running its code is harmless",
            )
        raise FormatError(
            f"there is no {WEIGHTS_NAME} in the folder", hint=f"it holds {', '.join(names) or 'nothing'}"
        )
    if CONFIG_NAME not in names:
        raise FormatError(f"there is no {CONFIG_NAME} in the folder")


def is_pickle(name: str) -> bool:
    """Whether a file of this name is opened by unpickling."""
    return Path(name).suffix.lower() in PICKLES


def symlink(name: str) -> UnsafeFileError:
    """The refusal of a symbolic link in an adapter's folder."""
    return UnsafeFileError(
        f"{name} is a symbolic link",
        hint="copy the file itself into the folder; for the Hub's cache use hf://",
    )


def check_adapter(adapter: PeftAdapter, base: BaseModelSpec | None, limits: AdapterLimits) -> None:
    """Check ranks, values and the fit to ``base`` (skipped if None); reads every weight once.

    Raises LimitError, BaseModelMismatch, UnsupportedError or FormatError, naming the module.
    """
    for name, module in adapter.modules.items():
        if module.rank > limits.max_rank:
            raise LimitError(
                f"{name} has rank {module.rank} > max_lora_rank {limits.max_rank}; raise engine.max_lora_rank"
            )
        if base is not None:
            _check_fit(name, module, base)
    if not (limits.per_module_scaling or adapter.uniform_scaling):
        scalings = sorted({module.scaling for module in adapter.modules.values()})
        raise UnsupportedError(
            f"its modules have {len(scalings)} different scalings, {scalings[0]:g} to {scalings[-1]:g}, "
            "and this engine applies one to all",
            hint="use an engine that reads rank_pattern and alpha_pattern (vLLM 0.32)",
        )
    if not any(flag for flags in spread(_live_flags, list(adapter.modules.items())) for flag in flags):
        raise FormatError(
            f"every update of its {len(adapter.modules)} modules is zero: it would serve the base model",
            hint="was it saved before training?",
        )


def _check_fit(name: str, module: LowRank, base: BaseModelSpec) -> None:
    expected = base.shapes.get(name)
    if expected is None:
        if name.rpartition(".")[2] in _HEADS:
            raise UnsupportedError(
                f"{name} is an output head or an embedding; only linear layers inside the model are served"
            )
        near = difflib.get_close_matches(name, base.shapes, n=1)
        raise BaseModelMismatch(
            f"{base.name} has no linear layer {name}",
            hint=f"nearest: {near[0]}" if near else "is it an adapter of another model?",
        )
    if module.shape != expected:
        raise BaseModelMismatch(
            f"{name} updates a {module.shape[0]}×{module.shape[1]} layer, "
            f"but in {base.name} it is {expected[0]}×{expected[1]}",
            hint="it was trained on another base model",
        )


def _live_flags(modules: Sequence[tuple[str, LowRank]]) -> list[bool]:
    """Whether each module changes anything; raises FormatError for what is not finite or too large."""
    return [_is_live(name, module) for name, module in modules]


def _is_live(name: str, module: LowRank) -> bool:
    """Whether the update differs from zero; what it needs on its way through an engine fits float32."""
    a, b = (_largest(f"{name}.lora_{x}", factor) for x, factor in (("A", module.a), ("B", module.b)))
    scaling = abs(module.scaling)
    # Engines multiply B by the scaling when they load it. The norm is computed only if a bound leaves doubt.
    needed = {"scaling": scaling, "scaling·B": scaling * b}
    if max(needed.values()) <= LARGEST:
        bound = scaling * b * a * math.sqrt(module.a.numel()) * math.sqrt(module.b.numel())
        needed["update's norm"] = bound if bound <= LARGEST else _norm(module, a, b)
    for what, value in needed.items():
        if not value <= LARGEST:
            raise FormatError(
                f"{name}: its {what} is {value:.3g} > {LARGEST:.3g}, the largest float32",
                hint="training diverged, or lora_alpha is wrong",
            )
    return min(a, b, scaling) != 0


def _largest(name: str, factor: Tensor) -> float:
    """The largest magnitude in a factor. aminmax needs one pass and no temporaries, unlike isfinite."""
    low, high = (float(bound) for bound in torch.aminmax(factor))
    if not (low > float("-inf") and high < float("inf")):  # NaN fails both comparisons
        raise FormatError(f"{name} holds NaN or infinity", hint="training diverged, or the file is damaged")
    if (largest := max(-low, high)) > LARGEST:
        raise FormatError(
            f"{name} holds {largest:.3g} > {LARGEST:.3g}, the largest float32",
            hint="engines compute in 16 or 32 bits",
        )
    return largest


def _norm(module: LowRank, a: float, b: float) -> float:
    """‖ΔW‖ of factors whose largest magnitudes are ``a`` and ``b``; nothing overflows on the way."""
    return abs(module.scaling) * b * a * float(torch.linalg.vector_norm(module.unit().row_norms()))
