"""What tells two base models of one shape apart: the digest of their files, or why there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from evidence_files import weights_of as tensors_of
from evidence_files import write_checkpoint
from peft_builder import BASE

from s3lora_serve.adapters.evidence import checkpoints
from s3lora_serve.adapters.evidence.base_weights import BaseWeights, weights_of
from s3lora_serve.adapters.evidence.checkpoints import Checkpoint
from s3lora_serve.adapters.fetch.hub import HubFolder
from s3lora_serve.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of the tiny base model."""
    return write_checkpoint(tmp_path / "model", tensors_of(BASE.shapes, seed=1))


def test_one_shape_and_other_weights_are_told_apart(folder: Path, tmp_path: Path):
    """Equal files have one digest wherever they lie; one changed number is another."""
    tensors = tensors_of(BASE.shapes, seed=1)
    same = write_checkpoint(tmp_path / "same", tensors)
    next(iter(tensors.values()))[0, 0] += 1
    other = write_checkpoint(tmp_path / "other", tensors)
    first, again, changed = (weights_of(replace(BASE, location=str(at))) for at in (folder, same, other))
    assert first == again == BaseWeights(Checkpoint.open(str(folder)).digest)
    assert changed.digest not in (None, first.digest)


def test_a_model_on_the_hub_is_the_snapshot_of_its_revision(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """As the engine finds it: by id and revision."""
    asked = []

    def snapshot(repo: str, revision: str | None, *_: str) -> HubFolder:
        asked.append((repo, revision))
        return HubFolder(folder, "hf://org/tiny@abc")

    monkeypatch.setattr(checkpoints, "hub_checkpoint", snapshot)
    found = weights_of(replace(BASE, location="org/tiny", revision="v1"))
    assert found.digest == Checkpoint.open(str(folder)).digest
    assert asked == [("org/tiny", "v1")]


def test_what_cannot_be_hashed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No error: a base model may be in another format. The reason names no place of this machine."""
    assert weights_of(BASE) == BaseWeights(None, "where tiny-llama lies is not known")
    (tmp_path / "empty").mkdir()
    found = weights_of(replace(BASE, location=str(tmp_path / "empty")))
    assert (found.digest, str(tmp_path) in found.reason) == (None, False)
    assert found.reason.startswith("checkpoint tiny-llama has no model.safetensors")

    def gone(*_: str) -> HubFolder:
        raise SourceError("the Hub does not answer")

    monkeypatch.setattr(checkpoints, "hub_checkpoint", gone)
    found = weights_of(replace(BASE, location="org/tiny"))
    assert found == BaseWeights(None, "checkpoint tiny-llama: the Hub does not answer")
