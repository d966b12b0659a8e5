"""Adopting an engine's layers: once, after vLLM wrapped them and before it compiles or captures anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from s3lora_serve.engine.vllm.plugins.gpu_lora import adoption
from s3lora_serve.engine.vllm.plugins.gpu_lora.augmented import adopted, augment, give_back, ring
from s3lora_serve.engine.vllm.plugins.gpu_lora.finished_activation import FinishedActivation
from s3lora_serve.engine.vllm.plugins.gpu_lora.self_check import check_all
from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import shape_table

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Adoption:
    """What the kernels serve of one engine; ``reasons``: how many layers stay with vLLM's kernels, by why."""

    mode: str
    adopted: int = 0
    wrapped: int = 0
    fused: int = 0
    refusal: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """One line for the log and for status."""
        if self.refusal is not None:
            return f"LoRA by vLLM's own kernels: {self.refusal}"
        line = f"LoRA by our kernels in {self.adopted} of {self.wrapped} layers, {self.fused} in one launch"
        for why, count in self.reasons.items():
            line += f"; {count} by vLLM's: {why}"
        return line

    def facts(self) -> dict[str, Any]:
        """Plain values, which can be sent from a worker to the server."""
        return {**asdict(self), "line": self.line()}


def adopt(manager: Any, config: Any, mode: str, version: str) -> Adoption:
    """Adopt every layer of the manager that may be; what fails the check goes back to vLLM's kernels."""
    from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
    from vllm.model_executor.layers.activation import SiluAndMul

    wrapped = {n: m for n, m in manager.modules.items() if isinstance(m, BaseLinearLayerWithLoRA)}
    refusal = adoption.engine_refusal(mode, config, torch.device(manager.device), version)
    if refusal is not None:
        return Adoption(mode, wrapped=len(wrapped), refusal=refusal)
    lora, slots, table = config.lora_config, manager.lora_slots, shape_table()
    why: dict[str, str] = {}
    layers: dict[str, Any] = {}
    for name, layer in wrapped.items():
        if adopted(layer):  # known by two names
            continue
        said = adoption.layer_refusal(layer, slots, lora.lora_dtype)
        if said is not None:
            why[name] = said
            continue
        augment(layer, slots, lora.max_lora_rank, adoption.OPS.get(_kind(name), "any"), len(layers) + 1)
        layers[name] = layer
    known = _known(config)
    fused = {
        n: known and adoption.can_fuse(m.s3lora_op, tuple(m.output_slices), m.s3lora_weight.shape[1], table)
        for n, m in layers.items()
    }
    activations = _activations(manager.model, SiluAndMul, {id(m) for m in layers.values()}) if known else {}
    deferred = {n: id(m) in activations for n, m in layers.items()}
    with torch.no_grad():
        failed = check_all(layers, fused, deferred)
    for name, said in failed.items():
        give_back(layers.pop(name), slots, lora, manager.model.config)
        why[name] = said
    kinds: dict[str, list[Any]] = {}
    for name, layer in layers.items():
        layer.s3lora_whole = _reduced(layer)
        if fused[name]:
            kinds.setdefault(_kind(name), []).append(layer)
        if deferred[name]:
            layer.s3lora_deferred = True
            activations[id(layer)].act_fn = FinishedActivation(layer)
    for same in kinds.values():
        ring(same)
    if torch.device(manager.device).type == "cuda":
        torch.cuda.empty_cache()  # the weights that the augmented ones replaced
    one_launch = sum(layer.s3lora_fused for layer in layers.values())
    if not layers:
        return Adoption(mode, wrapped=len(wrapped), refusal=next(iter(why.values()), "no layer is wrapped"))
    return Adoption(mode, len(layers), len(wrapped), one_launch, None, _grouped(why.values()))


def _grouped(reasons: Iterable[str]) -> dict[str, int]:
    """How many layers have a reason; those that differ in brackets, by their figures, are one."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for reason in reasons:
        counts[first.setdefault(reason.partition(" (")[0], reason)] += 1
    return dict(counts)


def _kind(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _known(config: Any) -> bool:
    """Whether the model is one whose forward was read."""
    return any(
        name in adoption.ONCE_IN_ORDER for name in getattr(config.model_config, "architectures", None) or ()
    )


def _activations(model: Any, silu_and_mul: type, layers: set[int]) -> dict[int, Any]:
    """id of a gate and up projection -> the module that has it and its activation."""
    found = {}
    for module in model.modules():
        projection: Any = getattr(module, "gate_up_proj", None)
        if (
            id(projection) in layers
            and len(projection.output_slices) == 2
            and type(getattr(module, "act_fn", None)) is silu_and_mul
        ):
            found[id(projection)] = module
    return found


def _reduced(layer: Any) -> bool:
    """Whether its output goes to the other GPUs as it is, which wants rows without gaps."""
    base = layer.base_layer
    return bool(
        layer.tp_size > 1
        and (getattr(base, "reduce_results", False) or getattr(base, "gather_output", False))
    )
