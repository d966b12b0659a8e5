"""What is not let in, with its reason; vLLM loads most of this without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from peft_builder import BASE, Q0, factors, write_folder

from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.adapters.verify import LARGEST, VerifyLimits, check_adapter
from s3lora_serve.errors import BaseModelMismatch, FormatError, LimitError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

A, B = (f"base_model.model.{Q0}.lora_{factor}.weight" for factor in "AB")
LIMITS = VerifyLimits(16, per_module_scaling=True)
FIRST = min(BASE.shapes)


def test_a_fitting_adapter_is_let_in(tmp_path: Path):
    """An adapter without a fault passes."""
    folder = write_folder(tmp_path)
    check_adapter(read_peft(folder), BASE, VerifyLimits(4, per_module_scaling=True))


def test_ranks_over_the_engines_are_refused(tmp_path: Path):
    """Per module: a pattern must not smuggle a higher rank past the default's."""
    folder = write_folder(tmp_path, factors(ranks={Q0: 5}), rank_pattern={Q0: 5})
    with pytest.raises(LimitError) as caught:
        check_adapter(read_peft(folder), BASE, VerifyLimits(4, per_module_scaling=True))
    assert caught.value.message == f"{Q0} has rank 5 > max_lora_rank 4; raise engine.max_lora_rank to 8"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", [A, B])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float, dtype: torch.dtype, name: str):
    """One NaN in one factor turns every answer into noise."""
    tensors = factors(dtype=dtype)
    tensors[name][1, 2] = value
    folder = write_folder(tmp_path, tensors)
    with pytest.raises(FormatError) as caught:
        check_adapter(read_peft(folder), BASE, LIMITS)
    factor = name.removeprefix("base_model.model.").removesuffix(".weight")
    assert caught.value.message == f"{factor} holds NaN or infinity"


@pytest.mark.parametrize("largest", [torch.finfo(torch.float16).max, -torch.finfo(torch.float16).max])
def test_the_largest_finite_values_are_let_in(tmp_path: Path, largest: float):
    """The check is for infinity, not for size."""
    tensors = factors(dtype=torch.float16)
    tensors[A][0, 0] = largest
    check_adapter(read_peft(write_folder(tmp_path, tensors)), BASE, LIMITS)


@pytest.mark.parametrize(
    ("config", "scale", "dtype", "message"),
    [
        ({"lora_alpha": 1e308}, 1.0, torch.float32, f"{FIRST}: its scaling is 2.5e+307 > 3.4e+38"),
        ({"lora_alpha": 1e38}, 1e3, torch.float32, f"{FIRST}: its scaling·B is "),
        ({}, 1e30, torch.float32, f"{FIRST}: its update's norm is "),
        ({}, 1e200, torch.float64, f"{FIRST}.lora_A holds "),
    ],
)
def test_updates_that_overflow_float32_are_refused(
    tmp_path: Path, config: dict[str, object], scale: float, dtype: torch.dtype, message: str
):
    """Finite in the file, infinite in the engine: the first module is named, with its value and the limit."""
    tensors = {name: t * scale for name, t in factors(dtype=dtype).items()}
    with pytest.raises(FormatError) as caught:
        check_adapter(read_peft(write_folder(tmp_path, tensors, **config)), BASE, LIMITS)
    assert caught.value.message.startswith(message)
    assert caught.value.message.endswith("3.4e+38, the largest float32")


def test_a_norm_below_a_pessimistic_bound_is_computed(tmp_path: Path):
    """Large factors that hardly meet make an update within range, which is let in."""
    a, b = torch.zeros(4, 16), torch.zeros(16, 4)
    a[0], b[:, 1], b[0, 0] = 1e19, 1e19, 1e18
    assert 2 * 1e19 * 1e19 * 8 * 8 > LARGEST > 2 * 1e19 * 1e18 * 4
    check_adapter(read_peft(write_folder(tmp_path, {A: a, B: b})), BASE, LIMITS)


@pytest.mark.parametrize("half", ["lora_A", "lora_B"])
def test_adapters_without_any_update_are_refused(tmp_path: Path, half: str):
    """Untrained adapters have B = 0; they would serve the base model unnoticed."""
    tensors = {name: t.zero_() if half in name else t for name, t in factors().items()}
    with pytest.raises(
        FormatError, match="every update of its 14 modules is zero: it would serve the base model"
    ):
        check_adapter(read_peft(write_folder(tmp_path, tensors)), BASE, LIMITS)


def test_alpha_zero_is_no_update_either(tmp_path: Path):
    """ΔW = s·B·A with s = 0."""
    with pytest.raises(FormatError, match="every update of its 14 modules is zero"):
        check_adapter(read_peft(write_folder(tmp_path, lora_alpha=0)), BASE, LIMITS)


def test_one_live_module_is_enough(tmp_path: Path):
    """Some modules may have learnt nothing."""
    tensors = {name: t if name in (A, B) else t.zero_() for name, t in factors().items()}
    check_adapter(read_peft(write_folder(tmp_path, tensors)), BASE, LIMITS)


@pytest.mark.parametrize(
    ("shapes", "message", "hint"),
    [
        (
            {"model.layers.2.self_attn.q_proj": (16, 16)},
            "tiny-llama has no linear layer model.layers.2.self_attn.q_proj",
            "nearest: model.layers.",
        ),
        (
            {"model.layers.0.self_attn.w_proj": (16, 16)},
            "tiny-llama has no linear layer model.layers.0.self_attn.w_proj",
            "nearest: model.layers.0.",
        ),
        (
            {"transformer.h.0.attn.c_attn": (48, 16)},
            "tiny-llama has no linear layer transformer.h.0.attn.c_attn",
            "",
        ),
        ({Q0: (16, 12)}, f"{Q0} updates a 16×12 layer, but in tiny-llama it is 16×16", "another base model"),
        ({Q0: (12, 16)}, f"{Q0} updates a 12×16 layer, but in tiny-llama it is 16×16", "another base model"),
        (
            {"model.layers.0.mlp.up_proj": (16, 24)},
            "model.layers.0.mlp.up_proj updates a 16×24 layer, but in tiny-llama it is 24×16",
            "",
        ),
    ],
)
def test_adapters_of_another_base_model_are_refused(
    tmp_path: Path, shapes: dict[str, tuple[int, int]], message: str, hint: str
):
    """vLLM loads a smaller adapter into a larger layer and serves it."""
    with pytest.raises(BaseModelMismatch) as caught:
        check_adapter(read_peft(write_folder(tmp_path, factors(shapes))), BASE, LIMITS)
    assert caught.value.message == message
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["lm_head", "model.embed_tokens"])
def test_heads_and_embeddings_are_refused(tmp_path: Path, name: str):
    """An update of the output head is an extra head by another name."""
    with pytest.raises(UnsupportedError) as caught:
        check_adapter(read_peft(write_folder(tmp_path, factors({name: (99, 16)}))), BASE, LIMITS)
    assert caught.value.message.startswith(f"{name} is an output head or an embedding")


def test_without_a_base_model_the_fit_is_not_checked(tmp_path: Path):
    """For inspecting an adapter whose base is not at hand; everything else still is."""
    check_adapter(read_peft(write_folder(tmp_path, factors({"x.y": (3, 5)}))), None, LIMITS)


def test_different_scalings_need_an_engine_that_reads_them(tmp_path: Path):
    """vLLM 0.26 applies one scaling to all modules: it would serve another update than was trained."""
    adapter = read_peft(write_folder(tmp_path, alpha_pattern={"q_proj": 2}))
    check_adapter(adapter, BASE, LIMITS)
    with pytest.raises(UnsupportedError) as caught:
        check_adapter(adapter, BASE, VerifyLimits(16, per_module_scaling=False))
    assert caught.value.message == (
        "its modules have 2 different scalings, 0.5 to 2, and this engine applies one to all"
    )


def test_patterns_with_one_common_scaling_need_no_such_engine(tmp_path: Path):
    """EVA gives modules different ranks and adjusts alpha with them."""
    ranks = {name: 2 for name in BASE.shapes if "k_proj" in name}
    folder = write_folder(
        tmp_path, factors(ranks=ranks), rank_pattern={"k_proj": 2}, alpha_pattern={"k_proj": 4}
    )
    check_adapter(read_peft(folder), BASE, VerifyLimits(16, per_module_scaling=False))
