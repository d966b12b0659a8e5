"""The names of vLLM that the plugin replaces or reads, and a check of a release's sources for them.

The check reads the source alone, so it tells of releases that are not installed or do not run here.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Name:
    """A function or class in a file of vLLM: ``parameters`` it must have, ``uses`` names that its body must
    read."""

    file: str
    name: str
    parameters: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()


_BASE = "lora/layers/base_linear.py"
_COLUMN = "lora/layers/column_parallel_linear.py"
_ROW = "lora/layers/row_parallel_linear.py"
_MANAGER = "lora/model_manager.py"
_META = "lora/ops/triton_ops/lora_kernel_metadata.py"
_MLP = ("gate_up_proj", "act_fn", "down_proj")
NAMES: tuple[Name, ...] = (
    Name(_MANAGER, "LoRAModelManager._create_lora_modules", ("self",), ("register_module",)),
    Name(
        _MANAGER, "LoRAModelManager.__init__", ("model", "lora_config", "device", "vllm_config"),
        ("_create_lora_modules", "lora_config", "device", "modules"),
    ),
    Name(_MANAGER, "LoRAModelManager.activate_adapter", (), ("set_lora", "reset_lora")),
    Name(_BASE, "BaseLinearLayerWithLoRA._apply_sync", ("self", "x", "bias")),
    Name(_BASE, "BaseLinearLayerWithLoRA.apply", ("self", "x", "bias"), ("_apply_sync",)),
    Name(_BASE, "BaseLinearLayerWithLoRA._apply_lora_to_output", ("self", "x", "output")),
    Name(_BASE, "BaseLinearLayerWithLoRA.reset_lora", ("self", "index"), ("lora_a_stacked",)),
    Name(
        _BASE, "BaseLinearLayerWithLoRA.set_lora", ("self", "index", "lora_a", "lora_b"),
        ("lora_a_stacked", "lora_b_stacked"),
    ),
    Name(
        _BASE, "BaseLinearLayerWithLoRA.create_lora_weights",
        ("self", "max_loras", "lora_config", "model_config"), ("output_slices",),
    ),
    Name(
        _COLUMN, "MergedColumnParallelLinearWithLoRA.set_lora",
        ("self", "index", "lora_a", "lora_b"), ("lora_a_stacked", "lora_b_stacked"),
    ),
    Name(
        _COLUMN, "ColumnParallelLinearWithLoRA.forward", ("self", "input_"), ("apply",)
    ),
    Name(_ROW, "RowParallelLinearWithLoRA.forward", ("self", "input_"), ("apply",)),
    Name(_META, "LoRAKernelMeta.prepare_tensors", ("self", "token_lora_mapping")),
    Name(
        _META, "LoRAKernelMeta.make", (), ("token_lora_mapping", "no_lora_flag_cpu")
    ),
    Name("lora/punica_wrapper/punica_gpu.py", "PunicaWrapperGPU.__init__", (), ("token_mapping_meta",)),
    Name(
        "lora/punica_wrapper/punica_gpu.py", "PunicaWrapperGPU.add_lora_linear",
        ("y", "x", "lora_a_stacked", "lora_b_stacked", "scale", "output_slices"),
    ),
    Name("lora/ops/triton_ops/utils.py", "_get_lora_a_ptr", (), ("_LORA_A_PTR_DICT",)),
    Name("lora/ops/triton_ops/utils.py", "_get_lora_b_ptr", (), ("_LORA_B_PTR_DICT",)),
    Name("model_executor/layers/activation.py", "SiluAndMul"),
    Name("model_executor/layers/linear.py", "UnquantizedLinearMethod"),
    Name("model_executor/models/llama.py", "LlamaMLP.forward", ("x",), _MLP),
    Name("model_executor/models/qwen2.py", "Qwen2MLP.forward", ("x",), _MLP),
    Name("config/vllm.py", "VllmConfig.compute_hash", ("self",)),
    Name("v1/worker/gpu_worker.py", "Worker.execute_model", ("self",)),
    Name("v1/worker/gpu_worker.py", "Worker.sample_tokens", ("self",)),
    Name("v1/worker/gpu_worker.py", "Worker.reload_weights", ("self",)),
)  # fmt: skip


def missing(read: Callable[[str], str | None]) -> list[str]:
    """What a release lacks of ``NAMES``; ``read`` gives the text of a file below ``vllm/``, None if there is
    none."""
    found = []
    trees: dict[str, ast.Module | None] = {}
    for name in NAMES:
        if name.file not in trees:
            text = read(name.file)
            trees[name.file] = None if text is None else ast.parse(text)
        tree = trees[name.file]
        node = None if tree is None else _node(tree, name.name.split("."))
        if node is None:
            found.append(f"{name.file}: no {name.name}")
            continue
        has = {arg.arg for arg in _arguments(node)}
        used = {
            n.attr if isinstance(n, ast.Attribute) else n.id
            for n in ast.walk(node)
            if isinstance(n, ast.Attribute | ast.Name)
        }
        used |= {n.arg for n in ast.walk(node) if isinstance(n, ast.keyword) and n.arg}
        found += [f"{name.file}: {name.name} takes no {p}" for p in name.parameters if p not in has]
        found += [f"{name.file}: {name.name} reads no {u}" for u in name.uses if u not in used]
    return found


def _node(tree: ast.AST, path: list[str]) -> ast.AST | None:
    for part in path:
        inner = next(
            (
                n
                for n in ast.iter_child_nodes(tree)
                if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == part
            ),
            None,
        )
        if inner is None:
            return None
        tree = inner
    return tree


def _arguments(node: ast.AST) -> list[ast.arg]:
    if not isinstance(node, ast.FunctionDef):
        return []
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
