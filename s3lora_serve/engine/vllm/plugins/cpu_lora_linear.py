"""LoRA of linear layers on vLLM's CPU backend, in two matrix products a slice.

vLLM composes it of general ops, whose Python and copies are a third of a step of one token on a small model
(benchmarks/demo_start). Here the runs of tokens with one adapter are found once a step, the views of the
weights once, and the second product adds to the layer's output in place. What is computed is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.vllm.plugins.token_runs import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

_MARK = "_s3lora_two_products"
_VIEWS = "_s3lora_views"  # on a tensor of stacked weights
_RUNS = "_s3lora_runs"  # on a wrapper: of the step's tokens with an adapter


def install(wrapper: type[Any]) -> None:
    """Replace ``add_lora_linear`` of vLLM's ``PunicaWrapperCPU``; safe to call twice."""
    if hasattr(wrapper.add_lora_linear, _MARK):
        return
    wrapper._update_prefill_metadata = _with_runs(wrapper._update_prefill_metadata)
    wrapper.add_lora_linear = _in_two_products(wrapper.add_lora_linear)


def _with_runs(update: Callable[[Any, Tensor], None]) -> Callable[[Any, Tensor], None]:
    def update_prefill_metadata(self: Any, indices: Tensor) -> None:
        update(self, indices)
        values = indices.tolist()
        setattr(self, _RUNS, [run for run in runs(values, [1] * len(values)) if run[2] >= 0])

    return update_prefill_metadata


def _in_two_products(original: Callable[..., None]) -> Callable[..., None]:
    def add_lora_linear(
        self: Any,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: Sequence[Tensor],
        lora_b_stacked: Sequence[Tensor],
        scale: float,
        output_slices: Sequence[int],
        *,
        buffer: Sequence[Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """y[run, slice] += scale · (x[run] @ Aᵀ) @ Bᵀ for each run of tokens with an adapter, and each slice.

        x [tokens, in] and y [tokens, out] in one dtype; for each slice A [slots, 1, rank, in] and
        B [slots, 1, size of the slice, rank]. Rows without an adapter are left alone.
        """
        if (
            not self.is_prefill or buffer is not None or x.dtype != y.dtype
        ):  # never, as vLLM's runner calls it
            original(
                self, y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, buffer=buffer, **kwargs
            )
            return
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        for start, end, index in getattr(self, _RUNS):
            rows, left = x[start:end], 0
            for a, b, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                inner = rows.mm(_transposed(a)[index])
                y[start:end, left : left + size].addmm_(inner, _transposed(b)[index], alpha=scale)
                left += size

    setattr(add_lora_linear, _MARK, True)
    return add_lora_linear


def _transposed(stacked: Tensor) -> list[Tensor]:
    """Each slot's matrix, transposed: views, made once, since vLLM writes adapters into the same memory."""
    views: list[Tensor] | None = getattr(stacked, _VIEWS, None)
    if views is None:
        views = [slot.view(slot.shape[-2:]).T for slot in stacked]
        setattr(stacked, _VIEWS, views)
    return views
