"""Names of training wrappers are taken off with a note, in tensors and in the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from peft_builder import Q0, factors, write_folder

from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.adapters.peft.wrapper_names import unwrapped
from s3lora_serve.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = f"base_model.model.{Q0}.lora_A.weight"
LAYER = "base_model.model.model.layers.0."


@pytest.mark.parametrize(
    "name",
    [
        f"{LAYER}_checkpoint_wrapped_module.self_attn.q_proj.lora_A.weight",
        f"{LAYER}_fsdp_wrapped_module._checkpoint_wrapped_module.self_attn.q_proj.lora_A.weight",
        f"_orig_mod.{PLAIN}",
        f"base_model.model._orig_mod.{Q0}.lora_A.weight",
        f"module.{PLAIN}",
        f"module._orig_mod.{PLAIN}",
        f"_forward_module.{PLAIN}",
        f"pretrained_model.{PLAIN}",
        f"base_model.model.{PLAIN}",
        PLAIN,
    ],
)
def test_wrappers_are_taken_off(name: str):
    """Whatever put them there; a name without them stays as it is."""
    assert unwrapped(name) == PLAIN


@pytest.mark.parametrize(
    "name", ["module", "_orig_mod._orig_mod", "module.q_proj", "", "a.module.b", "x._orig_modest"]
)
def test_other_names_are_left_or_stay_unreadable(name: str):
    """Nothing is made of a name that is none, and a module's own name is no wrapper's."""
    assert unwrapped(name) in (name, "q_proj")


def test_a_wrapped_adapter_is_read_with_a_note(tmp_path: Path):
    """The same modules, ranks and scalings; targets and patterns may name wrappers too."""
    plain = factors(ranks={Q0: 2})
    wrapped = {
        name.replace("layers.0.", "layers.0._checkpoint_wrapped_module."): t for name, t in plain.items()
    }
    patterns = {
        "rank_pattern": {r"layers\.0\._checkpoint_wrapped_module\.self_attn\.q_proj": 2},
        "alpha_pattern": {"layers.0._checkpoint_wrapped_module.self_attn.k_proj": 3},
    }
    found = read_peft(write_folder(tmp_path / "a", wrapped, **patterns))
    bare = {
        "rank_pattern": {r"layers\.0\.self_attn\.q_proj": 2},
        "alpha_pattern": {"layers.0.self_attn.k_proj": 3},
    }
    expected = read_peft(write_folder(tmp_path / "b", plain, **bare))
    assert found.modules.keys() == expected.modules.keys()
    assert [m.scaling for m in found.modules.values()] == [m.scaling for m in expected.modules.values()]
    assert all(torch.equal(found.modules[n].b, expected.modules[n].b) for n in found.modules)
    assert "14 tensors have names of training wrappers" in found.warnings[0]
    assert expected.warnings == ()


def test_two_tensors_that_become_one_are_refused(tmp_path: Path):
    """Which of them was meant is lost."""
    tensors = factors()
    tensors[f"module.{PLAIN}"] = tensors[PLAIN].clone()
    with pytest.raises(FormatError, match="has two lora_A tensors"):
        read_peft(write_folder(tmp_path, tensors))


def test_two_patterns_that_become_one_are_refused(tmp_path: Path):
    """Likewise."""
    with pytest.raises(FormatError, match="two keys are one without"):
        read_peft(write_folder(tmp_path, rank_pattern={"_orig_mod.q_proj": 2, "q_proj": 4}))
