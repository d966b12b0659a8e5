"""Correct and fast LoRA on vLLM's CPU backend; active only for the releases that need it.

vLLM 0.19.1 to 0.32 look the stacked adapter weights up with each token's slot index, and -1 ("no adapter")
wraps around to the last slot: a base-model request that shares a batch with LoRA requests gets another's
adapter. The same lookup copies a whole weight matrix per token (``lora/ops/torch_ops/lora_ops.py``; 0.33
fixed both). Here each op does one GEMM per run of equal indices and leaves the rows of -1 alone, as vLLM's
Triton kernels do.

``register`` is the ``vllm.general_plugins`` entry point: vLLM calls it in every process it starts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from packaging.version import Version

from s3lora_serve.engine.vllm.plugins import cpu_lora_linear
from s3lora_serve.engine.vllm.plugins.token_runs import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import torch
    from torch import Tensor

FIRST_AFFECTED = Version("0.19.1")
FIRST_FIXED = Version("0.33")
_MARK = "_s3lora_segmented"


def register() -> None:
    """Replace the CPU ops if this vLLM needs it; safe to call twice."""
    if needed():
        punica_cpu = _punica_cpu()
        install(punica_cpu)
        cpu_lora_linear.install(punica_cpu.PunicaWrapperCPU)  # most layers; the ops serve the others


def needed() -> bool:
    """Whether this process runs an affected vLLM on its CPU platform."""
    import vllm
    from vllm.platforms import current_platform

    return bool(affected(vllm.__version__) and current_platform.is_cpu())


def active() -> bool:
    """Whether the ops are replaced in this process."""
    return hasattr(_punica_cpu().sgmv_shrink, _MARK)


def affected(version: str) -> bool:
    """Whether this vLLM release has the defect."""
    return FIRST_AFFECTED <= Version(version) < FIRST_FIXED


def install(punica_cpu: ModuleType) -> None:
    """Put the segmented ops into vLLM's ``punica_cpu`` module, which looks them up by name at each call."""
    for op in OPS:
        setattr(op, _MARK, True)
        setattr(punica_cpu, op.__name__, op)


def _punica_cpu() -> ModuleType:
    return import_module("vllm.lora.punica_wrapper.punica_cpu")


# The signatures are vLLM's; x [tokens, in], w [slots, 1, out, in] (or without the 1), y [tokens, ≥ out].


def sgmv_shrink(
    x: Tensor, w: Tensor, y: Tensor, starts: Tensor, lengths: Tensor, indices: Tensor,
    batches: int, max_length: int, tokens: int, scaling: float,
) -> None:  # fmt: skip
    """y[segment] = scaling · x[segment] @ w[index]ᵀ, in y's dtype; segments of index -1 become zero."""
    _shrink(x, w, y, runs(indices.tolist(), lengths.tolist()), scaling)


def bgmv_shrink(x: Tensor, w: Tensor, y: Tensor, indices: Tensor, scaling: float = 1.0) -> None:
    """As ``sgmv_shrink``, with an index per token."""
    _shrink(x, w, y, _rows(indices, x.shape[0]), scaling)


def sgmv_expand(
    x: Tensor, w: Tensor, y: Tensor, starts: Tensor, lengths: Tensor, indices: Tensor,
    batches: int, max_length: int, tokens: int, add_inputs: bool = False,
) -> None:  # fmt: skip
    """y[segment, :out] (+)= x[segment] @ w[index]ᵀ, in y's dtype; segments of index -1 are left alone."""
    _expand(x, w, y, runs(indices.tolist(), lengths.tolist()), 0, None, add_inputs)


def bgmv_expand(x: Tensor, w: Tensor, y: Tensor, indices: Tensor, add_inputs: bool = True) -> None:
    """As ``sgmv_expand``, with an index per token."""
    _expand(x, w, y, _rows(indices, x.shape[0]), 0, None, add_inputs)


def sgmv_expand_slice(
    x: Tensor, w: Tensor, y: Tensor, starts: Tensor, lengths: Tensor, indices: Tensor,
    batches: int, max_length: int, tokens: int, offset: int, size: int, add_inputs: bool = False,
) -> None:  # fmt: skip
    """As ``sgmv_expand``, into y[segment, offset:offset+size]."""
    _expand(x, w, y, runs(indices.tolist(), lengths.tolist()), offset, size, add_inputs)


def bgmv_expand_slice(
    x: Tensor, w: Tensor, y: Tensor, indices: Tensor, offset: int, size: int, add_inputs: bool = True
) -> None:
    """As ``sgmv_expand_slice``, with an index per token."""
    _expand(x, w, y, _rows(indices, x.shape[0]), offset, size, add_inputs)


OPS: tuple[Callable[..., None], ...] = (
    sgmv_shrink, bgmv_shrink, sgmv_expand, bgmv_expand, sgmv_expand_slice, bgmv_expand_slice
)  # fmt: skip


def _rows(indices: Tensor, rows: int) -> Iterator[tuple[int, int, int]]:
    """The runs of a list of one index per row.

    For prompt log-probabilities vLLM asks for the logits of a whole prompt with the sampler's indices, one
    per request of the batch. One index for all means all rows; otherwise it is unknown whose prompt it
    is, and its rows are left alone. (The original op raises there, which ends the engine.) Only an adapter
    of the output head could tell the difference, and admission refuses those.
    """
    values = indices.tolist()
    if len(values) == rows:
        return runs(values, [1] * rows)
    return runs(values[:1], [rows]) if len(set(values)) == 1 else iter(())


def _matrix(w: Tensor, index: int, dtype: torch.dtype) -> Tensor:
    matrix = w[index]  # [1, out, in] or [out, in]
    return (matrix.squeeze(0) if matrix.dim() == 3 else matrix).to(dtype)


def _shrink(x: Tensor, w: Tensor, y: Tensor, runs: Iterator[tuple[int, int, int]], scaling: float) -> None:
    for start, end, index in runs:
        if index < 0:
            y[start:end] = 0
            continue
        product = x[start:end].to(y.dtype) @ _matrix(w, index, y.dtype).T
        y[start:end, : product.shape[1]] = product.mul_(scaling)


def _expand(
    x: Tensor,
    w: Tensor,
    y: Tensor,
    runs: Iterator[tuple[int, int, int]],
    offset: int,
    size: int | None,
    add: bool,
) -> None:
    for start, end, index in runs:
        if index < 0:
            continue
        product = x[start:end].to(y.dtype) @ _matrix(w, index, y.dtype).T
        # Adapter and model may pad their outputs differently, as for an extended vocabulary.
        width = min(product.shape[1], y.shape[1] - offset) if size is None else size
        target = y[start:end, offset : offset + width]
        if add:
            target += product[:, :width]
        else:
            target.copy_(product[:, :width])
