"""The two opaque operations that torch.compile sees: a LoRA linear, and the activation that ends one.

Inside, a kernel is chosen by the number of tokens, which a captured graph fixes; which adapters a batch uses
the kernels read on the device. Outputs lie in rows as wide as the augmented weight, whichever kernel wrote
them.
"""

# No postponed annotations: torch reads them when it infers the schema of an operation.

import torch

from s3lora_serve.engine.vllm.plugins.gpu_lora.scratch import numbers_for, scratch
from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import shape_table


def linear(
    x: torch.Tensor,  # [M, K]
    weight: torch.Tensor,  # [N + slices·S·R, K]
    bias: torch.Tensor | None,  # [N + slices·S·R]
    b: torch.Tensor,  # [S, R, N]
    state: torch.Tensor,
    clear: torch.Tensor,
    slot: torch.Tensor,  # [≥ M] int32
    no_lora: torch.Tensor,  # [1] bool, in the host's memory
    e1: int,
    e2: int,
    op: str,
    fused: bool,
    deferred: bool,
) -> torch.Tensor:
    """[M, N], or with ``deferred`` [M, N + slices·S·R] whose last columns are s, for the activation to
    finish."""
    from s3lora_serve.engine.vllm.plugins.gpu_lora.expand_add import expand_add
    from s3lora_serve.engine.vllm.plugins.gpu_lora.fused_linear import fused_linear

    (m, k), (slots, rows, n), table = x.shape, b.shape, shape_table()
    x = x if x.stride(1) == 1 else x.contiguous()
    y = x.new_empty((m, weight.shape[0]))
    slices = [size for size in (e1, e2 - e1, n - e2) if size]
    shape = table.fused_for(op, m) if fused else None
    if no_lora.item():
        _product(x, weight[:n], None if bias is None else bias[:n], y[:, :n])
    elif shape is not None and shape.fits(k, tuple(slices)):
        own = scratch(x.device, numbers_for(table, slots, rows))
        fused_linear(
            x, weight, bias, b, y, own.sums, state, clear, slot, own.error, (e1, e2), len(slices), shape
        )  # fmt: skip
    else:
        if table.two_products_from is not None and m >= table.two_products_from:
            _product(x, weight[:n], None if bias is None else bias[:n], y[:, :n])
            torch.mm(x, weight[n:].t(), out=y[:, n:])
        else:
            _product(x, weight, bias, y)
        if not deferred:
            expand_add(y, b, state, slot, (e1, e2), table.expand_for(op, m))
    return y if deferred else y[:, :n]


def linear_shape(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    b: torch.Tensor,
    state: torch.Tensor,
    clear: torch.Tensor,
    slot: torch.Tensor,
    no_lora: torch.Tensor,
    e1: int,
    e2: int,
    op: str,
    fused: bool,
    deferred: bool,
) -> torch.Tensor:
    """What ``linear`` gives, without values."""
    y = x.new_empty((x.shape[0], weight.shape[0]))
    return y if deferred else y[:, : b.shape[2]]


def activation(
    y: torch.Tensor, b: torch.Tensor, state: torch.Tensor, slot: torch.Tensor, no_lora: torch.Tensor
) -> torch.Tensor:
    """silu(gate) · up [M, N / 2] of what a deferred ``linear`` gave."""
    from s3lora_serve.engine.vllm.plugins.gpu_lora.expand_silu import expand_silu

    return expand_silu(y, b, state, slot, not no_lora.item(), shape_table().silu_for(y.shape[0]))


def activation_shape(
    y: torch.Tensor, b: torch.Tensor, state: torch.Tensor, slot: torch.Tensor, no_lora: torch.Tensor
) -> torch.Tensor:
    """What ``activation`` gives, without values."""
    return y.new_empty((y.shape[0], b.shape[2] // 2))


def _product(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor) -> None:
    if bias is None:
        torch.mm(x, w.t(), out=out)
    else:
        torch.addmm(bias, x, w.t(), out=out)


_library: torch.library.Library | None = None


def define(dispatch_key: str) -> None:
    """Make ``torch.ops.s3lora.linear`` and ``.activation``; once a process."""
    global _library
    if _library is not None:
        return
    _library = torch.library.Library("s3lora", "FRAGMENT")
    for name, function, shape in (
        ("linear", linear, linear_shape),
        ("activation", activation, activation_shape),
    ):
        _library.define(name + torch.library.infer_schema(function, mutates_args=()))
        _library.impl(name, function, dispatch_key=dispatch_key)
        _library._register_fake(name, shape)
