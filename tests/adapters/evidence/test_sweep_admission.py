"""Admission by a recorded sweep: what it decides, whose it must be, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from admitting import VALIDATED, nothing_published, put
from evidence_files import POINTS, weights_of, weights_sha256, write_checkpoint, write_sweep
from peft_builder import BASE

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.evidence import checkpoints
from s3lora_serve.adapters.evidence.base_weights import weights_of as weights_of_base
from s3lora_serve.adapters.evidence.checkpoints import Checkpoint
from s3lora_serve.errors import ConfigError, PolicyRejection, S3LoRAError
from s3lora_serve.spectral.prune_policy import Alignment, PrunePolicy, Threshold, Top
from s3lora_serve.spectral.validated import Validated

if TYPE_CHECKING:
    from s3lora_serve.adapters.store import RevisionStore


def test_a_sweep_decides_how_many_are_pruned(
    store: RevisionStore, source: Path, sweep: Path, served: BaseModelSpec
):
    """The two highest scores at the safest tau above the floor, and the lineage holds what decided it."""
    revision = put(store, source, PrunePolicy(rule=Validated(str(sweep), **VALIDATED)), base=served)
    top2 = put(store, source, PrunePolicy(rule=Top(2)))
    lineage = revision.lineage
    assert lineage.pruned == top2.lineage.pruned
    assert lineage.plan.reason.startswith("tau 0.25: least attack success (0.200, unpruned 0.500)")
    assert lineage.policy["validated"]["sweep"] == f"suite:{'5' * 64}"
    assert lineage.policy["validated"]["base"] == f"sha256:{weights_of_base(served).digest}"
    assert [p["tau"] for p in lineage.policy["validated"]["points"]] == [p[0] for p in POINTS]
    assert lineage.evidence == {"sweep": str(sweep)}
    assert lineage.warnings == ()
    assert store.check(revision.digest) == revision


def test_where_a_sweep_lies_is_no_part_of_the_identity(
    store: RevisionStore, source: Path, sweep: Path, served: BaseModelSpec, tmp_path: Path
):
    """Two machines agree; other measurements are another revision, though they may choose the same."""
    policy = PrunePolicy(rule=Validated(str(sweep), **VALIDATED))
    moved = PrunePolicy(rule=Validated(str(tmp_path / "elsewhere"), **VALIDATED))
    first = put(store, source, policy, base=served)
    shutil.copytree(sweep.parent, tmp_path / "elsewhere")
    assert put(store, source, moved, base=served) == first
    points = (*POINTS[:2], (0.25, 2, 0.19, 0.76))
    write_sweep(sweep, weights_sha256(source), served, points=points)
    again = put(store, source, policy, base=served)
    assert again.lineage.pruned == first.lineage.pruned
    assert again.digest != first.digest


def test_a_floor_that_no_tau_meets_publishes_the_adapter_whole(
    store: RevisionStore, source: Path, served: BaseModelSpec, tmp_path: Path
):
    """With a warning that names what was missing."""
    points = (POINTS[0], (0.1, 1, 0.0, 0.1))
    path = write_sweep(tmp_path / "sweep.json", weights_sha256(source), served, points=points)
    lineage = put(store, source, PrunePolicy(rule=Validated(str(path), **VALIDATED)), base=served).lineage
    assert (lineage.kept, lineage.pruned, lineage.plan.abstained) == (14, (), True)
    (warning,) = lineage.warnings
    assert warning.startswith("nothing is pruned by policy.validated: abstained: no tau keeps valid on tasks")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"sha256": "0" * 64}, PolicyRejection),
        ({"base": BaseModelSpec("other", {"q": (1, 1)})}, PolicyRejection),
        ({"scorer": "svd"}, PolicyRejection),
        ({"rows": []}, ConfigError),
        ({"task": "others"}, ConfigError),
        ({"points": (POINTS[0], (0.5, 15, 0.0, 0.8))}, PolicyRejection),
    ],
    ids=["adapter", "base", "scorer", "empty", "task", "modules"],
)
def test_a_sweep_of_something_else_publishes_nothing(
    store: RevisionStore, source: Path, tmp_path: Path, changes: dict, error: type[S3LoRAError]
):
    """The refusal names the file or what it is of; no revision, no key, no staging."""
    given = {"sha256": weights_sha256(source), "base": BASE, **changes}
    path = write_sweep(tmp_path / "sweep.json", **given)
    with pytest.raises(error) as caught:
        put(store, source, PrunePolicy(rule=Validated(str(path), **VALIDATED)))
    assert caught.value.hint
    assert nothing_published(tmp_path)


def test_a_sweep_on_other_weights_of_the_same_shape_publishes_nothing(
    store: RevisionStore, source: Path, sweep: Path, served: BaseModelSpec, tmp_path: Path
):
    """The refusal names both, and how the right sweep is made; so it is where one of them is not known."""
    policy = PrunePolicy(rule=Validated(str(sweep), **VALIDATED))
    folder = write_checkpoint(tmp_path / "tuned", weights_of(BASE.shapes, seed=8))
    tuned = replace(BASE, location=str(folder))
    measured, other = (str(weights_of_base(base).digest)[:12] for base in (served, tuned))
    with pytest.raises(PolicyRejection) as caught:
        put(store, source, policy, base=tuned)
    assert caught.value.message == (
        f"{sweep} was measured on 'tiny-llama' with weights {measured}; those of 'tiny-llama' are {other}"
    )
    assert caught.value.hint.startswith("measure it on the base model that is served; then name")
    assert caught.value.command.startswith(f"s3lora sweep ADAPTER --base {folder} --scorer mas-svd")
    with pytest.raises(PolicyRejection, match=r"those of 'tiny-llama' cannot be compared \(where tiny-llama"):
        put(store, source, policy, base=BASE)
    write_sweep(sweep, weights_sha256(source), BASE)
    with pytest.raises(PolicyRejection, match="with weights that it does not name; those of"):
        put(store, source, policy, base=served)
    assert nothing_published(tmp_path)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.gguf"])
def test_weights_that_nobody_could_hash_are_let_in_with_a_warning(
    store: RevisionStore, source: Path, tmp_path: Path, file: str
):
    """In another format than safetensors they had no digest in the sweep and have none here."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / file).write_bytes(b"weights")
    base = replace(BASE, location=str(tmp_path / "odd"))
    path = write_sweep(tmp_path / "sweep.json", weights_sha256(source), base)
    rule = Validated(str(path), **VALIDATED, base=base.location)  # as the server fills it in
    lineage = put(store, source, PrunePolicy(rule=rule), base=base).lineage
    assert "base" not in lineage.policy["validated"]
    (warning,) = lineage.warnings
    assert "measured on the weights of 'tiny-llama' is not known: checkpoint tiny-llama has no" in warning
    assert str(tmp_path) not in warning


def test_weights_are_read_once_and_for_validated_policies_alone(
    store: RevisionStore,
    source: Path,
    sweep: Path,
    served: BaseModelSpec,
    monkeypatch: pytest.MonkeyPatch,
):
    """Hashing a large model takes its time: other policies must not pay for it, nor the second admission."""
    read, digest = [], hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, name: read.append(file.name) or digest(file, name)
    )
    checkpoints._hashed.cache_clear()
    put(store, source, PrunePolicy(rule=Top(3)), base=served)
    put(store, source, PrunePolicy(rule=Threshold(0.5)), base=served)
    weights = str(Path(str(served.location)) / "model.safetensors")
    assert weights not in map(str, read)
    for floor in (0.95, 0.5):
        put(store, source, PrunePolicy(rule=Validated(str(sweep), "tasks", floor)), base=served)
    assert list(map(str, read)).count(weights) == 1


def test_a_sweep_with_other_alignment_checkpoints_publishes_nothing(
    store: RevisionStore, source: Path, served: BaseModelSpec, pair: Alignment, tmp_path: Path
):
    """Other checkpoints rank other modules; with those of the sweep it is admitted."""
    digests = {
        "base": Checkpoint.open(pair.base).digest,
        "aligned": Checkpoint.open(str(pair.aligned)).digest,
    }
    path = tmp_path / "sweep.json"
    policy = PrunePolicy("e-diem", Validated(str(path), **VALIDATED), alignment=pair)
    given = {"sha256": weights_sha256(source), "base": served, "scorer": "e-diem"}
    for alignment, says in (
        (
            {**digests, "base": "0" * 64},
            f"was swept with {'0' * 12} and {digests['aligned'][:12]} (before and",
        ),
        (None, "was swept with checkpoints that it does not name (before and"),
    ):
        write_sweep(path, **given, alignment=alignment)
        with pytest.raises(PolicyRejection) as caught:
            put(store, source, policy, base=served)
        assert says in caught.value.message
        assert f"not with {digests['base'][:12]} and {digests['aligned'][:12]}" in caught.value.message
        assert "--scorer e-diem --alignment-base BEFORE" in caught.value.command
    assert nothing_published(tmp_path)
    write_sweep(path, **given, alignment=digests)
    assert len(put(store, source, policy, base=served).lineage.pruned) == 2
