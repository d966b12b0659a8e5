"""Known-good adapters in a file, and other adapters held against them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from peft_builder import BASE, K0, Q0, SHAPES, factors, write_folder

from s3lora_serve.adapters.evidence.reference_file import (
    KnownGood,
    compare,
    compare_with,
    looks_of,
    read_reference,
    write_reference,
)
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.errors import ConfigError, PolicyRejection
from s3lora_serve.spectral.prune_policy import AnomalyBar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from s3lora_serve.spectral.lowrank import LowRank


def modules(folder: Path, *, seed: int, **options: object) -> Mapping[str, LowRank]:
    """A random adapter's."""
    config = {"r": options.get("rank", 4), "rank_pattern": options.get("ranks", {})}
    return read_peft(write_folder(folder / f"{seed}", factors(seed=seed, **options), **config)).modules


@pytest.fixture
def reference(tmp_path: Path) -> KnownGood:
    """Of five random adapters."""
    return KnownGood.fit({str(seed): looks_of(modules(tmp_path, seed=seed)) for seed in range(5)}, BASE)


@pytest.fixture
def file(tmp_path: Path, reference: KnownGood) -> Path:
    """The same, written."""
    path = tmp_path / "benign.json"
    write_reference(path, reference, [{"source": "a", "sha256": "0" * 64}])
    return path


def test_what_is_written_is_read(file: Path, reference: KnownGood):
    """With what it was made of for people; the digest is of the statistics and ranks alone."""
    assert read_reference(file) == reference
    data = json.loads(file.read_text())
    assert data.pop("made_of") == [{"source": "a", "sha256": "0" * 64}]
    assert data["base"] == {"name": BASE.name, "digest": BASE.digest}
    assert data["ranks"] == {name.rpartition(".")[2]: [4] for name in sorted(SHAPES)}
    data["base"] = None
    file.write_text(json.dumps(data))
    assert read_reference(file) == replace(reference, base=None)
    assert read_reference(file).digest == reference.digest
    file.write_text(json.dumps(data | {"ranks": data["ranks"] | {"q_proj": [4, 8]}}))
    assert read_reference(file).digest != reference.digest
    data["statistics"][next(iter(data["statistics"]))]["mean"] += 1
    file.write_text(json.dumps(data))
    assert read_reference(file).digest != reference.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 8}, "down_proj has rank 8, and rank 4 in the 5 adapters of the reference"),
        ({"ranks": {Q0: 2}}, "q_proj has rank 2 and 4, and rank 4 in the 5 adapters of the reference"),
    ],
    ids=["all", "one module"],
)
def test_an_adapter_of_another_rank_cannot_be_compared(
    tmp_path: Path, reference: KnownGood, options: dict[str, object], message: str
):
    """Its statistics are of another kind, whatever the score would be."""
    with pytest.raises(PolicyRejection) as caught:
        compare(modules(tmp_path, seed=99, **options), AnomalyBar("-", 1e9), reference)
    assert caught.value.message.endswith(f"known-good adapters of policy.anomaly: {message}")
    assert "s3lora reference ADAPTER..." in caught.value.command


@pytest.mark.parametrize("place", [0, 2, 3])
def test_adapters_of_different_ranks_make_no_reference(tmp_path: Path, place: int):
    """The odd one is named wherever it stands, with both ranks."""
    ranks = [8 if seed == place else 4 for seed in range(4)]
    looks = {f"a{seed}": looks_of(modules(tmp_path, seed=seed, rank=rank)) for seed, rank in enumerate(ranks)}
    usual = "a1" if place == 0 else "a0"
    with pytest.raises(ConfigError) as caught:
        KnownGood.fit(looks)
    assert caught.value.message == f"a{place} has rank 8 in down_proj, and {usual} has rank 4"


def test_ranks_may_differ_between_projections(tmp_path: Path):
    """As a rank_pattern makes them: all adapters of the reference have the same."""
    looks = {f"{n}": looks_of(modules(tmp_path, seed=n, ranks={Q0: 2, K0: 8})) for n in range(3)}
    good = KnownGood.fit(looks)
    assert (good.ranks["q_proj"], good.ranks["k_proj"], good.ranks["v_proj"]) == ((2, 4), (4, 8), (4,))
    assert compare(modules(tmp_path, seed=9, ranks={Q0: 2, K0: 8}), AnomalyBar("-"), good).found.score > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranks": None}, "it does not record the ranks of its adapters"),
        ({"ranks": {"q_proj": [4]}}, "are not those of its projections"),
        ({"ranks": {name.rpartition(".")[2]: [0] for name in SHAPES}}, "are not those of its projections"),
        ({"ranks": {name.rpartition(".")[2]: [] for name in SHAPES}}, "are not those of its projections"),
        ({"base": "tiny"}, "has no name and digest"),
    ],
    ids=["before ranks were recorded", "projections", "zero", "none", "base"],
)
def test_a_file_without_ranks_is_refused(file: Path, changes: dict[str, object], message: str):
    """With the command that makes a new one."""
    data = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
    with pytest.raises(ConfigError) as caught:
        read_reference(file)
    assert caught.value.message.startswith(f"reference {file}: ")
    assert message in caught.value.message
    assert "s3lora reference ADAPTER... --out FILE" in caught.value.command


def test_one_more_like_them_is_within(tmp_path: Path, file: Path):
    """And the sentence says by how much."""
    outcome = compare_with(modules(tmp_path, seed=99), AnomalyBar(str(file)))
    assert 0 < outcome.found.score < 3
    assert not outcome.exceeded
    assert outcome.sentence.startswith(
        f"anomaly score {outcome.found.score:.2f} is within 3 (most unlike, in"
    )


def test_one_unlike_them_exceeds(tmp_path: Path, reference: KnownGood):
    """A module of rank one among ones of rank four; what stands out is named, with its direction."""
    tensors = factors(seed=99)
    for name, tensor in tensors.items():
        if "q_proj" in name:
            part = tensor if "lora_A" in name else tensor.T
            part[1:] = 0
            part *= 30
    odd = read_peft(write_folder(tmp_path / "odd", tensors)).modules
    outcome = compare(odd, AnomalyBar("-", 3.0), reference)
    assert outcome.exceeded
    assert outcome.found.worst[0].startswith("q_proj.")
    assert (
        f"anomaly score {outcome.found.score:.2f} exceeds 3 (most unlike, in σ: q_proj." in outcome.sentence
    )
    assert outcome.to_json() == {
        "score": outcome.found.score,
        "max": 3.0,
        "action": "observe",
        "exceeded": True,
        "worst": list(outcome.found.worst),
        "z": dict(outcome.found.z),
    }


def test_an_adapter_of_other_modules_cannot_be_compared(tmp_path: Path, reference: KnownGood):
    """The error names what is missing, and how to make a reference for its kind."""
    only_q = read_peft(write_folder(tmp_path / "q", factors({Q0: BASE.shapes[Q0]}))).modules
    with pytest.raises(PolicyRejection, match=r"cannot be compared .* lacks down_proj.energy") as caught:
        compare(only_q, AnomalyBar("-"), reference)
    assert "s3lora reference ADAPTER..." in caught.value.command


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "Expecting property name"),
        (b"[]", "not a reference of known-good adapters"),
        (b"{}", "not a reference of known-good adapters"),
        (b'{"format": 9}', "format 9 is not 1"),
        (b'{"format": 1, "adapters": 3, "statistics": {}}', "says nothing"),
    ],
)
def test_what_is_no_reference_is_refused(tmp_path: Path, content: bytes, message: str):
    """By its name, with the command that makes one."""
    path = tmp_path / "benign.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_reference(path)
    assert caught.value.message.startswith(f"reference {path}: ")
    assert message in caught.value.message
    assert "s3lora reference" in caught.value.command


def test_a_missing_file_and_a_pipe_are_named(tmp_path: Path):
    """Neither is waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"cannot read reference .*absent.json: No such file"):
        read_reference(tmp_path / "absent.json")
    with pytest.raises(ConfigError, match="pipe is not a regular file"):
        read_reference(tmp_path / "pipe")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, reference: KnownGood):
    """Neither half a reference nor what was to become one."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_reference(tmp_path / "taken", reference, [])
    assert [path.name for path in tmp_path.glob("*taken*")] == ["taken"]
