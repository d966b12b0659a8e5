"""vLLM plugin: LoRA linears by our kernels where they were measured or asked for; entry point ``register``.

vLLM calls it in every process that it starts. What it replaces is in ``names.py``; without
``S3LORA_GPU_LORA`` in the environment it replaces nothing.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from s3lora_serve.engine.vllm.plugins.gpu_lora.adoption import release_refusal
from s3lora_serve.engine.vllm.plugins.gpu_lora.augmented import adopted, given, set_live

if TYPE_CHECKING:
    from collections.abc import Callable

MODE = "S3LORA_GPU_LORA"  # "auto", "on" or "off", in the environment of the server and of what it starts
_MARK = "_s3lora_gpu_lora"
_RELOADS = ("reload_weights", "update_weights", "start_weight_update")

_last: list[Any] = []  # the Adoption of this process's engine


def register() -> None:
    """Replace what ``names.py`` lists, on CUDA, in releases that were read; safe to call twice."""
    mode = os.environ.get(MODE, "off")
    if mode == "off":
        return
    import vllm
    from vllm.platforms import current_platform

    if current_platform.is_cuda() and release_refusal(vllm.__version__) is None:
        install(mode, "CUDA")


def install(mode: str, dispatch_key: str) -> None:
    """Replace the names for engines of this process; ``dispatch_key``: of the devices that it runs on.

    KeyError or ImportError if this vLLM lacks one, before anything is replaced.
    """
    from vllm.config import VllmConfig
    from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
    from vllm.lora.layers.column_parallel_linear import MergedColumnParallelLinearWithLoRA
    from vllm.lora.model_manager import LoRAModelManager
    from vllm.lora.ops.triton_ops.lora_kernel_metadata import LoRAKernelMeta

    from s3lora_serve.engine.vllm.plugins.gpu_lora import linear_op

    replaced: list[tuple[type, str, Callable[..., Any]]] = [
        (LoRAModelManager, "__init__", functools.partial(_adopting, mode=mode)),
        (BaseLinearLayerWithLoRA, "_apply_sync", _applying),
        (BaseLinearLayerWithLoRA, "_apply_lora_to_output", _refusing_views),
        (BaseLinearLayerWithLoRA, "reset_lora", _resetting),
        (BaseLinearLayerWithLoRA, "set_lora", _setting),
        (MergedColumnParallelLinearWithLoRA, "set_lora", _setting),
        (LoRAKernelMeta, "prepare_tensors", _clearing),
        (VllmConfig, "compute_hash", functools.partial(_telling, mode=mode)),
    ]
    if hasattr(LoRAModelManager.__dict__["__init__"], _MARK):
        return
    stock = [owner.__dict__[name] for owner, name, _ in replaced]
    linear_op.define(dispatch_key)
    BaseLinearLayerWithLoRA.s3lora_adopted = False
    for (owner, name, around), original in zip(replaced, stock, strict=True):
        new = around(original)
        setattr(new, _MARK, True)
        setattr(owner, name, new)


def _adopting(stock: Callable[..., None], mode: str) -> Callable[..., None]:
    signature = inspect.signature(stock)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        import vllm
        from vllm.logger import init_logger

        from s3lora_serve.engine.vllm.plugins.gpu_lora.adopt import adopt

        stock(self, *args, **kwargs)
        config = signature.bind(self, *args, **kwargs).arguments["vllm_config"]
        try:
            found = adopt(self, config, mode, vllm.__version__)
        except Exception as error:
            raise_if_failed(error)
            raise
        _last[:] = [found]
        _watch_worker()
        log = init_logger("vllm.plugins.s3lora_gpu_lora")
        (log.info if found.refusal is None and not found.reasons else log.warning)("%s", found.line())

    return __init__


def _applying(stock: Callable[..., Any]) -> Callable[..., Any]:
    def _apply_sync(self: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if not self.s3lora_adopted:
            y: torch.Tensor = stock(self, x, bias)
            return y
        meta = self.punica_wrapper.token_mapping_meta
        flat = x if x.ndim == 2 else x.flatten(0, -2)
        e1, e2 = self.s3lora_ends
        y = torch.ops.s3lora.linear(
            flat, self.s3lora_weight, None if bias is None else self.s3lora_bias, self.s3lora_b,
            self.s3lora_state, self.s3lora_clear, meta.token_lora_mapping, meta.no_lora_flag_cpu,
            e1, e2, self.s3lora_op, self.s3lora_fused, self.s3lora_deferred,
        )  # fmt: skip
        if self.s3lora_whole:
            y = y.contiguous()
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], y.shape[-1])

    return _apply_sync


def _refusing_views(stock: Callable[..., Any]) -> Callable[..., Any]:
    def _apply_lora_to_output(self: Any, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        if self.s3lora_adopted:
            raise RuntimeError("gpu_lora: vLLM ran an adopted layer by another way; use engine.gpu_lora: off")
        y: torch.Tensor = stock(self, x, output)
        return y

    return _apply_lora_to_output


def _resetting(stock: Callable[..., None]) -> Callable[..., None]:
    def reset_lora(self: Any, index: int) -> None:
        stock(self, index)
        if adopted(self):
            set_live(self, index, [False] * len(self.s3lora_live))

    return reset_lora


def _setting(stock: Callable[..., None]) -> Callable[..., None]:
    def set_lora(self: Any, index: int, lora_a: Any, lora_b: Any) -> None:
        stock(self, index, lora_a, lora_b)
        if adopted(self):
            set_live(self, index, given(lora_a, lora_b, len(self.s3lora_live)))

    return set_lora


def _clearing(stock: Callable[..., None]) -> Callable[..., None]:
    def prepare_tensors(self: Any, token_lora_mapping: torch.Tensor) -> None:
        """Tokens behind the batch's, which pad a captured graph, are base traffic: vLLM leaves old slots
        there."""
        stock(self, token_lora_mapping)
        tokens = 0 if self.no_lora_flag_cpu.item() else token_lora_mapping.shape[0]
        self.token_lora_mapping[tokens:].fill_(-1)

    return prepare_tensors


def _telling(stock: Callable[..., str], mode: str) -> Callable[..., str]:
    def compute_hash(self: Any, *args: Any, **kwargs: Any) -> str:
        """Graphs that vLLM compiled without these kernels, or with others, must not be taken from its
        cache."""
        text: str = stock(self, *args, **kwargs)
        found = _last[-1].line() if _last else ""
        return hashlib.sha256(f"{text} {mode} {_sources()} {found}".encode()).hexdigest()[: len(text)]

    return compute_hash


@functools.cache
def _sources() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _watch_worker() -> None:
    """In a worker: name a failed wait, refuse what replaces weights, and answer what is adopted."""
    import sys

    module = sys.modules.get("vllm.v1.worker.gpu_worker")
    if module is None or hasattr(module.Worker, "s3lora_gpu_lora"):
        return
    worker = module.Worker
    worker.s3lora_gpu_lora = lambda self: _last[-1].facts()
    if not _last[-1].adopted:
        return
    for name in ("execute_model", "sample_tokens"):
        setattr(worker, name, _naming(getattr(worker, name)))
    for name in _RELOADS:
        if hasattr(worker, name):
            setattr(worker, name, _refusing_reload(name))


def _naming(stock: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(stock)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            result = stock(self, *args, **kwargs)
        except Exception as error:
            raise_if_failed(error)
            raise
        raise_if_failed(None)
        return result

    return step


def raise_if_failed(cause: Exception | None) -> None:
    """RuntimeError if a kernel's wait failed in this process: the device has trapped, so no token of it was
    read."""
    from s3lora_serve.engine.vllm.plugins.gpu_lora.scratch import failed_layer

    if number := failed_layer():
        raise RuntimeError(
            f"gpu_lora: the one-launch kernel of adopted layer {number} waited in vain for its shrink; the "
            "engine ends before a wrong token leaves. Start it with engine.gpu_lora: off, and report this"
        ) from cause


def _refusing_reload(name: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            f"gpu_lora: {name} would replace weights that the kernels read; use engine.gpu_lora: off"
        )

    return refuse
