"""Two checkpoints and their difference: read when asked for, and refused by name when they do not fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from evidence_files import weights_of, write_checkpoint
from peft_builder import BASE, HIDDEN, K0, KEYS, Q0
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.evidence import checkpoints
from s3lora_serve.adapters.evidence.checkpoints import AlignmentDifference, Checkpoint
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

BEFORE, AFTER = weights_of(BASE.shapes, seed=1), weights_of(BASE.shapes, seed=2)


def difference(before: Path, after: Path, spec: BaseModelSpec = BASE) -> AlignmentDifference:
    """Of two folders."""
    return AlignmentDifference(Checkpoint.open(str(before)), Checkpoint.open(str(after)), spec)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A model before and after alignment, the second in three files."""
    return write_checkpoint(tmp_path / "before", BEFORE), write_checkpoint(
        tmp_path / "after", AFTER, shards=3
    )


def test_every_module_is_the_aligned_weight_minus_the_base_one(pair: tuple[Path, Path]):
    """Single file and shards alike."""
    found = difference(*pair)

    assert set(found) == set(BASE.shapes)
    assert len(found) == len(BASE.shapes)
    assert all(torch.equal(found[name], AFTER[f"{name}.weight"] - BEFORE[f"{name}.weight"]) for name in found)


def test_bfloat16_is_subtracted_in_float32(tmp_path: Path):
    """The difference of two close 16-bit numbers has digits that 16 bits would drop."""
    before = weights_of(BASE.shapes, seed=1, dtype=torch.bfloat16)
    after = {name: (weight.float() * 1.01).to(torch.bfloat16) for name, weight in before.items()}
    found = difference(write_checkpoint(tmp_path / "b", before), write_checkpoint(tmp_path / "a", after))[Q0]

    assert found.dtype == torch.float32
    assert torch.equal(found, after[f"{Q0}.weight"].float() - before[f"{Q0}.weight"].float())


def test_float64_stays_float64(tmp_path: Path):
    """Nothing is narrowed."""
    tensors = weights_of({Q0: (4, 4)}, seed=1, dtype=torch.float64)
    wide, narrow = (
        write_checkpoint(tmp_path / name, {k: t.to(dtype) for k, t in tensors.items()})
        for name, dtype in (("wide", torch.float64), ("narrow", torch.float32))
    )
    assert difference(narrow, wide)[Q0].dtype == torch.float64


def test_nothing_is_read_until_it_is_asked_for(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    """A model may be larger than the memory: a module is read when it is scored, once."""
    read: list[str] = []
    weight = Checkpoint.weight
    monkeypatch.setattr(Checkpoint, "weight", lambda self, name: read.append(name) or weight(self, name))
    found = difference(*pair)
    found.check(dict.fromkeys(BASE.shapes))

    assert read == []
    assert found[K0].shape == (KEYS, HIDDEN)
    assert read == [K0, K0]


def test_conv1d_is_turned_to_out_by_in(tmp_path: Path):
    """GPT-2 stores [in, out], and its square layers do not show it: the architecture says so."""
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50, n_positions=8)
    models = []
    for seed, name in enumerate(("before", "after")):
        torch.manual_seed(seed)
        models.append(GPT2LMHeadModel(config))
        models[-1].save_pretrained(tmp_path / name)
    spec = BaseModelSpec.from_pretrained(tmp_path / "after")
    found = difference(tmp_path / "before", tmp_path / "after", spec)
    found.check(spec.shapes)
    square, wide = "transformer.h.0.attn.c_proj", "transformer.h.0.mlp.c_fc"

    for name in (square, wide):
        b, a = (model.get_submodule(name).weight.detach() for model in models)
        assert torch.equal(found[name], (a - b).T)
        assert tuple(found[name].shape) == spec.shapes[name]


def test_a_checkpoint_of_the_bare_model_is_understood(tmp_path: Path):
    """Without the prefix that its weights have inside the language model, as gpt2's own is saved."""
    bare = {name.partition(".")[2]: weight for name, weight in AFTER.items()}
    found = difference(write_checkpoint(tmp_path / "b", BEFORE), write_checkpoint(tmp_path / "a", bare))

    assert torch.equal(found[Q0], AFTER[f"{Q0}.weight"] - BEFORE[f"{Q0}.weight"])


def test_a_module_that_no_base_model_has_is_no_key(pair: tuple[Path, Path]):
    """It is a mapping over the base model's linear layers."""
    with pytest.raises(KeyError):
        difference(*pair)["model.norm"]


def test_the_digest_is_of_the_weights(pair: tuple[Path, Path], tmp_path: Path):
    """Not of where they lie; one changed byte is another checkpoint, even under the same name."""
    before = Checkpoint.open(str(pair[0])).digest
    copy = write_checkpoint(tmp_path / "copy", BEFORE, config={"model_type": "llama"})

    assert Checkpoint.open(str(copy)).digest == before
    assert Checkpoint.open(str(pair[1])).digest != before
    save_file(dict(AFTER), copy / "model.safetensors")
    assert Checkpoint.open(str(copy)).digest != before


def test_files_are_hashed_once_while_they_stay(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    """A server that admits several adapters does not read tens of gigabytes for each."""
    first = Checkpoint.open(str(pair[1])).digest
    monkeypatch.setattr(checkpoints.hashlib, "file_digest", lambda *_: pytest.fail("it was read again"))

    assert Checkpoint.open(str(pair[1])).digest == first


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no model.safetensors and no model.safetensors.index.json: it has neither"),
        ({"pytorch_model.bin": b"x"}, "it has pytorch_model.bin, a pickle"),
        ({"model.safetensors": b"not at all"}, "model.safetensors cannot be read: "),
        (
            {"model.safetensors.index.json": b"{"},
            "index.json cannot be read: JSONDecodeError",
        ),
        ({"model.safetensors.index.json": b"{}"}, "model.safetensors.index.json cannot be read: KeyError"),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "../x.safetensors"}}'},
            "lies in another folder",
        ),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "gone.safetensors"}}'},
            "gone.safetensors is missing, which model.safetensors.index.json names",
        ),
        ({"model.safetensors.index.json": b'{"weight_map": {}}'}, "holds no tensors"),
    ],
    ids=["empty", "pickle", "garbage", "torn", "no map", "outside", "shard", "hollow"],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, files: dict[str, bytes], message: str):
    """With its name and what is wrong with it."""
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        Checkpoint.open(str(tmp_path))
    assert caught.value.message.startswith(f"checkpoint {tmp_path}")
    assert message in caught.value.message
    assert caught.value.hint


def test_a_folder_that_is_not_there_is_not_looked_up_on_a_hub(tmp_path: Path):
    """By its first character, as everywhere in settings."""
    with pytest.raises(ConfigError, match="there is no such folder"):
        Checkpoint.open(str(tmp_path / "absent"))


def test_a_module_that_is_absent_is_named(pair: tuple[Path, Path]):
    """With the checkpoint that lacks it; nothing was scored by then."""
    weights = load_file(pair[0] / "model.safetensors")
    del weights[f"{K0}.weight"]
    save_file(weights, pair[0] / "model.safetensors")
    with pytest.raises(ConfigError, match=f"checkpoint {pair[0]} has no weight of {K0}; it holds 13 tensors"):
        difference(*pair).check({Q0: None, K0: None})


@pytest.mark.parametrize("wrong", ["before", "after"])
def test_a_shape_that_differs_from_the_base_models_is_named(tmp_path: Path, wrong: str):
    """Either checkpoint's: the difference of two models of other sizes is none."""
    small = weights_of({**BASE.shapes, Q0: (HIDDEN, 8)}, seed=1)
    folders = {
        name: write_checkpoint(tmp_path / name, small if name == wrong else BEFORE)
        for name in ("before", "after")
    }
    with pytest.raises(ConfigError) as caught:
        difference(folders["before"], folders["after"]).check({Q0: None})
    assert caught.value.message == f"checkpoint {folders[wrong]}: {Q0} is 16×8, but in tiny-llama it is 16×16"


def test_quantised_weights_are_refused(tmp_path: Path, pair: tuple[Path, Path]):
    """Their numbers are no weights without the scales beside them."""
    packed = {name: weight.to(torch.int8) for name, weight in AFTER.items()}
    with pytest.raises(ConfigError, match=f"{Q0}.weight is I8, not one of F64, F32, F16, BF16"):
        difference(pair[0], write_checkpoint(tmp_path / "packed", packed)).check({Q0: None})


def test_a_layer_that_the_model_has_not_is_refused(pair: tuple[Path, Path]):
    """An adapter of another model."""
    with pytest.raises(ConfigError, match=r"tiny-llama has no linear layer model.layers.9.mlp.up_proj"):
        difference(*pair).check({"model.layers.9.mlp.up_proj": None})


def test_a_file_that_is_damaged_meanwhile_is_an_error_of_ours(pair: tuple[Path, Path]):
    """Whatever the library raises while it reads."""
    found = difference(*pair)
    (pair[0] / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ConfigError, match=r"model.safetensors cannot be read"):
        found[Q0]


def test_an_index_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No model has that many tensors."""
    monkeypatch.setattr(checkpoints, "MAX_INDEX_BYTES", 10)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "b"}}))
    with pytest.raises(ConfigError, match="over 10 bytes"):
        Checkpoint.open(str(tmp_path))
