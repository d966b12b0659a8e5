"""What the admission tests share: a store, an adapter, its base model, and the files that policies name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from evidence_files import weights_of, weights_sha256, write_checkpoint, write_sweep
from peft_builder import BASE, factors, write_folder

from s3lora_serve.adapters.evidence.reference_file import KnownGood, looks_of, write_reference
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.spectral.prune_policy import Alignment

if TYPE_CHECKING:
    from pathlib import Path

    from s3lora_serve.adapters.base_model import BaseModelSpec


@pytest.fixture
def store(tmp_path: Path) -> RevisionStore:
    """An empty store."""
    return RevisionStore(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A PEFT folder whose modules all differ."""
    return write_folder(tmp_path / "source")


@pytest.fixture
def served(tmp_path: Path) -> BaseModelSpec:
    """The tiny base model with weights."""
    folder = write_checkpoint(tmp_path / "served", weights_of(BASE.shapes, seed=7))
    return replace(BASE, location=str(folder))


@pytest.fixture
def sweep(tmp_path: Path, source: Path, served: BaseModelSpec) -> Path:
    """What was measured of the adapter on it."""
    return write_sweep(tmp_path / "run" / "sweep.json", weights_sha256(source), served)


@pytest.fixture
def pair(tmp_path: Path) -> Alignment:
    """A model before and after alignment."""
    for seed, name in enumerate(("before", "after")):
        write_checkpoint(tmp_path / name, weights_of(BASE.shapes, seed=seed))
    return Alignment(str(tmp_path / "before"), str(tmp_path / "after"))


@pytest.fixture
def benign(tmp_path: Path) -> Path:
    """A reference of five adapters like the source."""
    folders = [write_folder(tmp_path / f"good{seed}", factors(seed=10 + seed)) for seed in range(5)]
    found = KnownGood.fit({str(folder): looks_of(read_peft(folder).modules) for folder in folders})
    write_reference(tmp_path / "benign.json", found, [])
    return tmp_path / "benign.json"
