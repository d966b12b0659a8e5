"""A PEFT folder becomes one value, and one value becomes one folder, byte for byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft_builder import BASE, K0, Q0, factors, write_folder, write_raw
from safetensors.torch import load_file, save_file

from s3lora_serve.adapters.peft.peft_format import read_peft, write_peft
from s3lora_serve.errors import FormatError, UnsupportedError
from s3lora_serve.storage.hashing_file import HashedFile

A, B = (f"base_model.model.{Q0}.lora_{factor}.weight" for factor in "AB")


def test_modules_are_named_by_their_path_and_scaled(tmp_path: Path):
    """Dotted base-model paths, the file's own dtype and values, scaling alpha/r."""
    tensors = factors(dtype=torch.bfloat16)
    adapter = read_peft(write_folder(tmp_path, tensors))
    assert adapter.modules.keys() == BASE.shapes.keys()
    assert {name: module.shape for name, module in adapter.modules.items()} == dict(BASE.shapes)
    assert adapter.modules[Q0].a.dtype == torch.bfloat16
    assert torch.equal(adapter.modules[Q0].b, tensors[B])
    assert adapter.modules[Q0].scaling == 2.0
    assert adapter.uniform_scaling
    assert adapter.warnings == ()


@pytest.mark.parametrize("infix", ["", ".default", ".planner-2"])
def test_names_with_and_without_the_adapters_name_are_one(tmp_path: Path, infix: str):
    """Both spellings are read, and one is written."""
    adapter = read_peft(write_folder(tmp_path / "in", factors(infix=infix)))
    (tmp_path / "out").mkdir()
    write_peft(tmp_path / "out", adapter, ())
    written = load_file(tmp_path / "out/adapter_model.safetensors")
    assert written.keys() == factors().keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in factors().items())


def test_per_module_ranks_and_alphas_are_resolved(tmp_path: Path):
    """rank_pattern and alpha_pattern decide scaling module by module, by PEFT's rule."""
    ranks = {name: 2 for name in BASE.shapes if "layers.1." in name}
    patterns = {"rank_pattern": {r"model\.layers\.1\..*": 2}, "alpha_pattern": {"q_proj": 3}}
    adapter = read_peft(write_folder(tmp_path, factors(ranks=ranks), **patterns))
    assert adapter.modules[Q0].scaling == 3 / 4
    assert adapter.modules[Q0.replace("0", "1")].scaling == 3 / 2
    assert adapter.modules[K0].scaling == 8 / 4
    assert adapter.modules[K0.replace("0", "1")].scaling == 8 / 2
    assert not adapter.uniform_scaling


def test_tensors_outside_target_modules_are_reported(tmp_path: Path):
    """PEFT would ignore them and vLLM would serve them, so they count, and are not silent."""
    adapter = read_peft(write_folder(tmp_path, target_modules=["q_proj"]))
    assert len(adapter.modules) == len(BASE.shapes)
    (warning,) = adapter.warnings
    assert warning.startswith("12 modules have tensors, so they count, but are no target_modules: ")


@pytest.mark.parametrize("targets", [".*_proj", "all-linear", None, ["all-linear"]])
def test_targets_that_are_no_list_of_names_leave_it_to_the_tensors(tmp_path: Path, targets: object):
    """A pattern from an untrusted file is not run when nothing depends on it."""
    assert read_peft(write_folder(tmp_path, target_modules=targets)).warnings == ()


def test_writing_is_deterministic_and_canonical(tmp_path: Path):
    """Two sources that differ only in spelling give the same bytes."""
    one = read_peft(write_folder(tmp_path / "one", factors()))
    two = read_peft(write_folder(tmp_path / "two", factors(infix=".x"), lora_alpha=8.0, metadata={"a": "b"}))
    for name, adapter in (("p", one), ("q", two)):
        (tmp_path / name).mkdir()
        write_peft(tmp_path / name, adapter, {Q0})
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "p" / file).read_bytes() == (tmp_path / "q" / file).read_bytes()


def test_dropped_modules_leave_no_trace(tmp_path: Path):
    """No tensor, no target, no pattern; the others keep their bytes; the digest is that of the file."""
    adapter = read_peft(write_folder(tmp_path / "in", alpha_pattern={"q_proj": 3}))
    (tmp_path / "out").mkdir()
    written = write_peft(tmp_path / "out", adapter, {Q0, K0})
    again = read_peft(tmp_path / "out")
    assert again.modules.keys() == BASE.shapes.keys() - {Q0, K0}
    for name, module in again.modules.items():
        assert torch.equal(module.a, adapter.modules[name].a)
        assert torch.equal(module.b, adapter.modules[name].b)
        assert module.scaling == adapter.modules[name].scaling
    config = (tmp_path / "out/adapter_config.json").read_text()
    assert Q0 not in config
    assert json.loads(config)["target_modules"] == sorted(again.modules)
    raw = (tmp_path / "out/adapter_model.safetensors").read_bytes()
    assert written == HashedFile(
        tmp_path / "out/adapter_model.safetensors", hashlib.sha256(raw).hexdigest(), len(raw)
    )


@settings(deadline=None, max_examples=50)
@given(
    ranks=st.dictionaries(st.sampled_from(sorted(BASE.shapes)), st.integers(1, 6)),
    alphas=st.dictionaries(st.sampled_from(sorted(BASE.shapes)), st.sampled_from([1, 2.5, 4, 8, 16])),
    drop=st.sets(st.sampled_from(sorted(BASE.shapes))),
    rslora=st.booleans(),
)
def test_writing_changes_no_update(
    ranks: dict[str, int], alphas: dict[str, float], drop: set[str], rslora: bool
):
    """Whatever the ranks, alphas and pruned modules: each kept ΔW = s·B·A has its s, B and A as before."""
    with TemporaryDirectory() as work:
        source, target = (
            write_folder(
                Path(work) / "in",
                factors(ranks=ranks),
                rank_pattern=ranks,
                alpha_pattern=alphas,
                use_rslora=rslora,
            ),
            Path(work) / "out",
        )
        target.mkdir()
        before = read_peft(source)
        if write_peft(target, before, drop) is None:
            assert drop == before.modules.keys()
            return
        after = read_peft(target)
    assert after.modules.keys() == before.modules.keys() - drop
    for name, module in after.modules.items():
        assert module.scaling == before.modules[name].scaling
        assert torch.equal(module.a, before.modules[name].a)
        assert torch.equal(module.b, before.modules[name].b)


@pytest.mark.parametrize("mixed", [False, True])
def test_files_of_the_library_are_already_canonical(tmp_path: Path, mixed: bool):
    """What PEFT's save_pretrained writes is moved into place, not rewritten: same inode, same bytes."""
    tensors = factors(dtype=torch.bfloat16)
    if mixed:
        tensors = {name: t.float() if "lora_A" in name else t.half() for name, t in tensors.items()}
    source = write_folder(tmp_path / "in", tensors) / "adapter_model.safetensors"
    before, inode = source.read_bytes(), source.stat().st_ino
    (tmp_path / "out").mkdir()
    written = write_peft(
        tmp_path / "out", read_peft(tmp_path / "in"), (), original=HashedFile(source, "d" * 64, len(before))
    )
    path = tmp_path / "out/adapter_model.safetensors"
    assert written == HashedFile(path, "d" * 64, len(before))
    assert (path.read_bytes(), path.stat().st_ino) == (before, inode)
    assert not source.exists()


def test_the_written_file_is_what_the_library_would_write(tmp_path: Path):
    """So that publication does not depend on whether the file was moved or rewritten."""
    adapter = read_peft(write_folder(tmp_path / "in", factors(infix=".x")))
    (tmp_path / "out").mkdir()
    write_peft(tmp_path / "out", adapter, ())
    save_file(factors(), tmp_path / "expected", metadata={"format": "pt"})
    assert (tmp_path / "out/adapter_model.safetensors").read_bytes() == (tmp_path / "expected").read_bytes()


def test_dropping_everything_leaves_a_configuration_alone(tmp_path: Path):
    """There is no weights file, since vLLM cannot load an empty one."""
    adapter = read_peft(write_folder(tmp_path / "in"))
    (tmp_path / "out").mkdir()
    assert write_peft(tmp_path / "out", adapter, adapter.modules.keys()) is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["adapter_config.json"]
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["target_modules"] == []


def test_dropping_an_unknown_module_is_an_error(tmp_path: Path):
    """A plan for another adapter must not pass silently."""
    adapter = read_peft(write_folder(tmp_path / "in"))
    with pytest.raises(KeyError, match="no such modules"):
        write_peft(tmp_path, adapter, {"model.layers.9.self_attn.q_proj"})


def test_reading_leaves_the_files_alone(tmp_path: Path):
    """Inputs stay bit-identical, also when the mapped tensors are written to."""
    folder = write_folder(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    read_peft(folder).modules[Q0].a.zero_()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_odd_header_lengths_are_read(tmp_path: Path):
    """Files of other writers need not align their tensors."""
    values = torch.arange(4.0)
    header = json.dumps(
        {
            A: {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
            B: {"dtype": "F32", "shape": [2, 1], "data_offsets": [8, 16]},
        }
    )
    header += " " * (1 - len(header) % 2)
    adapter = read_peft(write_raw(tmp_path, header.encode(), values.numpy().tobytes(), r=1))
    assert adapter.modules[Q0].a.tolist() == [[0.0, 1.0]]
    assert adapter.modules[Q0].b.tolist() == [[2.0], [3.0]]


def test_what_only_the_library_refuses_is_our_error_too(tmp_path: Path):
    """An empty tensor may claim sizes that overflow."""
    header = {
        A: {"dtype": "F32", "shape": [2**39, 2**39, 0], "data_offsets": [0, 0]},
        B: {"dtype": "F32", "shape": [2**39, 0], "data_offsets": [0, 0]},
    }
    with pytest.raises(FormatError, match=r"adapter_model\.safetensors cannot be read: "):
        read_peft(write_raw(tmp_path, json.dumps(header).encode()))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            f"base_model.model.{Q0}.lora_magnitude_vector.weight",
            "is DoRA's magnitudes: the engine would ignore them",
        ),
        (f"base_model.model.{Q0}.lora_magnitude_vector", "is DoRA's magnitudes"),
        (f"base_model.model.{Q0}.lora_B.bias", "is a bias"),
        (f"base_model.model.{Q0}.bias", "is a bias"),
        (
            "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta",
            "is retrained token embeddings",
        ),
        ("base_model.model.model.embed_tokens.weight", "is a whole embedding table"),
        ("base_model.model.lm_head.modules_to_save.default.weight", "is a whole module beside the update"),
        (f"base_model.model.{Q0}.base_layer.weight", "is weights of the base model"),
        (f"base_model.model.{Q0}.lora_diag.default", "is KaSA's diagonal"),
        ("base_model.model.lm_head.weight", "is a whole weight beside the update (an extra head)"),
        ("base_model.model.score.weight", "is a whole weight beside the update (an extra head)"),
    ],
)
def test_tensors_beside_the_factors_are_refused(tmp_path: Path, name: str, message: str):
    """vLLM drops some of these without a word; the message names the tensor."""
    folder = write_folder(tmp_path, {**factors(), name: torch.ones(4)})
    with pytest.raises(UnsupportedError) as caught:
        read_peft(folder)
    assert caught.value.message.startswith(f"tensor {name!r} {message}")


@pytest.mark.parametrize(
    "name", ["lora_A", "model.x.lora_A.weight", f"base_model.model.{Q0}.lora_C.weight", "a/../b"]
)
def test_foreign_names_are_refused(tmp_path: Path, name: str):
    """What is not named as PEFT names it cannot be placed."""
    with pytest.raises((FormatError, UnsupportedError)) as caught:
        read_peft(write_folder(tmp_path, {**factors(), name: torch.ones(4)}))
    assert repr(name) in caught.value.message


def test_endless_names_are_refused(tmp_path: Path):
    """Names end up in patterns, messages and files."""
    name = f"base_model.model.{'a' * 600}.lora_A.weight"
    with pytest.raises(FormatError, match="has 631 characters > 512"):
        read_peft(write_folder(tmp_path, {name: torch.ones(4, 4)}))


def spoilt(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The usual factors with ``a`` or ``b`` of Q0 replaced, or left out if None."""
    tensors = factors()
    for key, value in changes.items():
        name = {"a": A, "b": B}[key]
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    return tensors


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (spoilt(a=None), f"{Q0} has lora_B but no lora_A"),
        (spoilt(b=None), f"{Q0} has lora_A but no lora_B"),
        (spoilt(a=torch.ones(3, 16)), f"{Q0}: lora_A [3, 16] and lora_B [16, 4] disagree on the rank"),
        (spoilt(a=torch.ones(4)), f"{Q0}: lora_A has shape [4]; a linear layer's factor is a matrix"),
        (spoilt(a=torch.ones(4, 16, 1, 1)), f"{Q0}: lora_A has shape [4, 16, 1, 1]; a linear layer's"),
        (spoilt(a=torch.ones(0, 16), b=torch.ones(16, 0)), f"{Q0}: lora_A has shape [0, 16]"),
        (
            spoilt(a=torch.ones(2, 16), b=torch.ones(16, 2)),
            f"{Q0}: its tensors have rank 2, but adapter_config.json gives it 4",
        ),
        (
            {**factors(), A.replace("A.weight", "A.default.weight"): torch.ones(4, 16)},
            f"{Q0} has two lora_A tensors: ",
        ),
        ({}, "adapter_model.safetensors holds no LoRA factors"),
        ({A: torch.ones(4, 16, dtype=torch.int8)}, f"adapter_model.safetensors: tensor {A!r} has dtype 'I8'"),
        (
            {A: torch.ones(4, 16).to(torch.float8_e4m3fn)},
            f"adapter_model.safetensors: tensor {A!r} has dtype 'F8_E4M3'",
        ),
    ],
)
def test_factors_that_do_not_pair_up_are_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
):
    """Each module has one A [r, in] and one B [out, r], of the configured rank."""
    with pytest.raises(FormatError) as caught:
        read_peft(write_folder(tmp_path, tensors))
    assert caught.value.message.startswith(message)


def test_a_rank_pattern_that_disagrees_with_the_tensors_is_refused(tmp_path: Path):
    """Scaling hangs on the rank: a wrong pattern would serve another update than was trained."""
    folder = write_folder(tmp_path, rank_pattern={"q_proj": 8})
    with pytest.raises(
        FormatError, match=f"{Q0}: its tensors have rank 4, but adapter_config.json gives it 8"
    ):
        read_peft(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_files_and_lfs_pointers_are_refused(tmp_path: Path, name: str):
    """The usual ways in which a clone goes wrong."""
    folder = write_folder(tmp_path)
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    with pytest.raises(FormatError, match=f"{name} is a Git LFS pointer, not the file itself") as caught:
        read_peft(folder)
    assert "git lfs pull" in caught.value.hint
    (folder / name).unlink()
    with pytest.raises(FormatError, match=f"there is no {name} in the folder"):
        read_peft(folder)
