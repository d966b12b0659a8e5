"""Whether an adapter fits, by the engine's own class: each kind is served, or refused with its cause."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from adapter_kind import Kind, experts, lora
from adapter_kinds import KINDS
from llama_kinds import ATTENTION
from peft_builder import BASE, factors, write_folder
from safetensors.torch import load_file
from served_bases import ENGINE, facts_of, served_base

from s3lora_serve.adapters.peft.peft_format import read_peft, write_peft
from s3lora_serve.adapters.served.fit import Fit
from s3lora_serve.adapters.served.served_class import ServedClass
from s3lora_serve.adapters.verify import VerifyLimits, check_adapter
from s3lora_serve.errors import AdapterError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

    from s3lora_serve.adapters.peft.peft_format import PeftAdapter

LIMITS = VerifyLimits(512, per_module_scaling=True)


def folder_of(kind: Kind, place: Path) -> Path:
    """It as files."""
    config = {"r": kind.rank, "base_model_name_or_path": kind.base, "target_modules": None, **kind.config}
    return write_folder(place, kind.tensors, **config)


def admitted(kind: Kind, place: Path) -> PeftAdapter:
    """It, checked as admission does."""
    return check_adapter(read_peft(folder_of(kind, place)), served_base(kind.base), LIMITS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.refused], ids=lambda kind: kind.what)
def test_a_kind_that_the_engine_serves_is_served(kind: Kind, tmp_path: Path):
    """Its notes say what was mapped or left out, and nothing else."""
    adapter = admitted(kind, tmp_path)
    assert len(adapter.modules) >= 1
    if kind.note:
        assert kind.note in " ".join(adapter.warnings)
    else:
        assert adapter.warnings == ()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.refused], ids=lambda kind: kind.what)
def test_a_kind_that_it_would_ignore_or_reject_is_refused(kind: Kind, tmp_path: Path):
    """The refusal names the cause: nothing is served as something else than it is."""
    with pytest.raises(AdapterError) as caught:
        admitted(kind, tmp_path)
    assert kind.refused in caught.value.message


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.refused], ids=lambda kind: kind.what)
def test_what_is_published_of_a_served_kind_is_read_the_same(kind: Kind, tmp_path: Path):
    """Embeddings keep their names, names stay the adapter's own: vLLM maps them itself."""
    adapter = admitted(kind, tmp_path / "in")
    (tmp_path / "out").mkdir()
    write_peft(tmp_path / "out", adapter, ())
    again = read_peft(tmp_path / "out")
    assert again.modules.keys() == adapter.modules.keys()
    assert again.embeddings == adapter.embeddings
    assert not again.base_layers


def test_a_pruned_expert_is_zero_while_others_of_its_layer_stay(tmp_path: Path):
    """vLLM asserts all projections of all experts; a zero update is none."""
    kind = Kind("", "qwen3moe", {**lora(*ATTENTION), **experts(0, 1, 2, 3)})
    adapter = admitted(kind, tmp_path / "in")
    one = "model.layers.0.mlp.experts.2.up_proj"
    original = folder_of(kind, tmp_path / "original")
    for name, drop in (("one", {one}), ("all", {name for name in adapter.modules if "experts" in name})):
        (tmp_path / name).mkdir()
        write_peft(tmp_path / name, adapter, drop)
    some = load_file(tmp_path / "one" / "adapter_model.safetensors")
    assert len(some) == len(load_file(original / "adapter_model.safetensors"))
    for factor in "AB":
        assert not some[f"base_model.model.{one}.lora_{factor}.weight"].any()
        assert some[f"base_model.model.{one.replace('2.up', '1.up')}.lora_{factor}.weight"].any()
    assert one in json.loads((tmp_path / "one" / "adapter_config.json").read_bytes())["target_modules"]
    assert not [
        name for name in load_file(tmp_path / "all" / "adapter_model.safetensors") if "experts" in name
    ]


def test_a_class_that_needs_a_package_says_which(tmp_path: Path):
    """The name of a Python class tells an operator nothing."""
    served = ServedClass.of(
        ENGINE, {"architecture": "Qwen3_5ForConditionalGeneration", "missing": "torchvision"}
    )
    base = replace(BASE, ask=lambda: served)
    with pytest.raises(UnsupportedError, match="needs torchvision to serve Qwen3_5") as caught:
        Fit(read_peft(write_folder(tmp_path)), base)
    assert "install torchvision" in caught.value.hint


def test_a_class_that_was_dropped_names_the_last_release(tmp_path: Path):
    """It is the one way to serve it."""
    served = ServedClass.of(
        ENGINE, {"architecture": "MotifForCausalLM", "last_release": "0.10.2", "failed": "…"}
    )
    with pytest.raises(UnsupportedError, match=r"0\.10\.2 was the last release"):
        Fit(read_peft(write_folder(tmp_path)), replace(BASE, ask=lambda: served))


def test_where_the_engine_could_not_say_the_names_of_transformers_decide(tmp_path: Path):
    """And the note says so, with the reason in a few words."""
    served = ServedClass.of(ENGINE, {"architecture": "X", "lora": True, "trouble": "y" * 1000})
    fit = Fit(read_peft(write_folder(tmp_path)), replace(BASE, ask=lambda: served))
    assert "not with its own: those could not be had on this machine (yyy" in fit.notes[0]
    assert len(fit.notes[0]) < 450


def test_a_vouched_base_model_is_not_asked_about(tmp_path: Path):
    """The demo starts without another process; only a module that it is not known for needs the engine."""

    def never() -> ServedClass:
        raise AssertionError("asked")

    base = replace(BASE, vouched=True, ask=never)
    assert Fit(read_peft(write_folder(tmp_path / "plain")), base).notes == ()
    head = factors({**BASE.shapes, "lm_head": (32, 16)})
    with pytest.raises(AssertionError, match="asked"):
        Fit(read_peft(write_folder(tmp_path / "head", head)), base)


@pytest.mark.parametrize("base", ["gpt2", "falcon", "bloom"])
def test_classes_without_adapters_are_known_as_such(base: str):
    """They resolve, and would be refused only when the engine starts."""
    assert facts_of(base)["lora"] is False
