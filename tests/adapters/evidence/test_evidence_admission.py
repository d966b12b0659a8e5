"""Admission by policies that refer to files: the outcome, its identity, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapters_factory import adapter_limits
from evidence_files import POINTS, weights_of, weights_sha256, write_checkpoint, write_sweep
from peft_builder import BASE, K0, Q0, factors, write_folder
from transformers import LlamaConfig

from s3lora_serve.adapters.admission import admit, inspect
from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.evidence import checkpoints
from s3lora_serve.adapters.evidence.base_weights import weights_of as weights_of_base
from s3lora_serve.adapters.evidence.checkpoints import AlignmentDifference, Checkpoint
from s3lora_serve.adapters.evidence.reference_file import KnownGood, looks_of, write_reference
from s3lora_serve.adapters.lineage import Lineage
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.adapters.store import Revision, RevisionStore
from s3lora_serve.errors import BaseModelMismatch, ConfigError, PolicyRejection, S3LoRAError
from s3lora_serve.spectral.prune_policy import Alignment, AnomalyBar, PrunePolicy, Threshold, Top, plan
from s3lora_serve.spectral.scorers import score
from s3lora_serve.spectral.validated import Validated

VALIDATED = {"task": "tasks", "floor": 0.95}


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


def odd_folder(folder: Path) -> Path:
    """An adapter unlike the good ones: its q_proj modules have rank one and thirty times the size."""
    tensors = factors(seed=99)
    for name, tensor in tensors.items():
        if "q_proj" in name:
            part = tensor if "lora_A" in name else tensor.T
            part[1:] = 0
            part *= 30
    return write_folder(folder, tensors)


def put(store: RevisionStore, source: Path, policy: PrunePolicy, **changes: object) -> Revision:
    """Admit with the tiny base model."""
    return admit(
        str(source), **{"base": BASE, "policy": policy, "limits": adapter_limits(), "store": store, **changes}
    )


def nothing_published(tmp_path: Path) -> bool:
    """Whether the store is as it was made."""
    return sorted(path.name for path in (tmp_path / "store").rglob("*")) == [
        "keys",
        "lock",
        "revisions",
        "staging",
    ]


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


@pytest.mark.parametrize("scorer", ["e-diem", "safelora"])
def test_checkpoints_are_scored_with(store: RevisionStore, source: Path, pair: Alignment, scorer: str):
    """As the scorer scores with both checkpoints' difference in memory; places are replaced by digests."""
    revision = put(store, source, PrunePolicy(scorer, Top(3), alignment=pair))
    before, after = (Checkpoint.open(str(place)) for place in (pair.base, pair.aligned))
    modules = read_peft(source).modules
    differences = dict(AlignmentDifference(before, after, BASE))
    expected = score(modules, scorer, alignment=differences)
    assert {n: row.score for n, row in revision.lineage.report.rows.items()} == {
        n: row.score for n, row in expected.rows.items()
    }
    assert revision.lineage.pruned == plan(expected, PrunePolicy(scorer, Top(3))).pruned
    assert revision.lineage.policy["alignment"] == {
        "base": f"sha256:{before.digest}",
        "aligned": f"sha256:{after.digest}",
    }
    assert revision.lineage.evidence == {"alignment.base": before.uri, "alignment.aligned": after.uri}


def test_other_weights_are_another_revision(store: RevisionStore, source: Path, pair: Alignment):
    """Under the same names and places too; the same weights from elsewhere are the same one."""
    policy = PrunePolicy("safelora", Threshold(2.0), alignment=pair)  # prunes nothing, whatever the weights
    first = put(store, source, policy)
    assert put(store, source, policy) == first
    moved = shutil.move(str(pair.base), f"{pair.base}-moved")
    elsewhere = Alignment(moved, pair.aligned)
    assert put(store, source, PrunePolicy("safelora", Threshold(2.0), alignment=elsewhere)) == first
    write_checkpoint(tmp := first.path.parent.parent.parent / "before", weights_of(BASE.shapes, seed=7))
    assert str(tmp) == pair.base
    assert put(store, source, policy).digest != first.digest


def _without_k(folder: Path) -> None:
    weights = weights_of({name: shape for name, shape in BASE.shapes.items() if name != K0}, seed=3)
    write_checkpoint(folder, weights)


def _other_shapes(folder: Path) -> None:
    write_checkpoint(folder, weights_of({**BASE.shapes, Q0: (8, 8)}, seed=3))


def _not_finite(folder: Path) -> None:
    weights = weights_of(BASE.shapes, seed=3)
    weights[f"{Q0}.weight"][0, 0] = torch.nan
    write_checkpoint(folder, weights)


def _gone(folder: Path) -> None:
    shutil.rmtree(folder)


def _the_same(folder: Path) -> None:
    write_checkpoint(folder, weights_of(BASE.shapes, seed=1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_gone, "there is no such folder"),
        (_without_k, f"has no weight of {K0}"),
        (_other_shapes, f"{Q0} is 8×8, but in tiny-llama it is 16×16"),
        (_not_finite, f"policy.alignment: {Q0}: "),
        (_the_same, "hold the same weights"),
    ],
)
def test_checkpoints_that_do_not_fit_publish_nothing(
    store: RevisionStore, source: Path, pair: Alignment, tmp_path: Path, spoil, message: str
):
    """Each is an error of the configuration that names the checkpoint or the module."""
    spoil(tmp_path / "before")
    with pytest.raises(ConfigError) as caught:
        put(store, source, PrunePolicy("e-diem", alignment=pair))
    assert message in caught.value.message
    assert nothing_published(tmp_path)


@pytest.mark.parametrize("alignment", [None, Alignment("./before")])
def test_a_scorer_without_its_checkpoints_says_what_to_set(
    store: RevisionStore, source: Path, tmp_path: Path, alignment: Alignment | None
):
    """Neither is guessed."""
    with pytest.raises(ConfigError, match=r"policy.alignment.aligned is not set|no checkpoints are named"):
        put(store, source, PrunePolicy("safelora", alignment=alignment))
    assert nothing_published(tmp_path)


def test_an_adapter_of_another_base_is_refused_before_it_is_scored(
    store: RevisionStore, tmp_path: Path, pair: Alignment
):
    """The fit to the served model is checked first, and is the adapter's fault."""
    other = write_folder(tmp_path / "other", factors({"model.layers.7.self_attn.q_proj": (16, 16)}))
    with pytest.raises(BaseModelMismatch):
        put(store, other, PrunePolicy("safelora", alignment=pair))


def test_an_adapter_like_the_good_ones_is_let_in(store: RevisionStore, source: Path, benign: Path):
    """The outcome is in the lineage, and survives its file; the reference counts by its content."""
    policy = PrunePolicy(rule=Top(1), anomaly=AnomalyBar(str(benign), action="reject"))
    revision = put(store, source, policy)
    found = revision.lineage.anomaly
    assert found is not None
    assert (found["exceeded"], found["max"], found["action"]) == (False, 3.0, "reject")
    assert found["score"] == pytest.approx(sum(map(abs, found["z"].values())) / len(found["z"]))
    assert revision.lineage.policy["anomaly"]["reference"].startswith("sha256:")
    assert revision.lineage.evidence == {"reference": str(benign)}
    assert revision.lineage.warnings == ()
    assert Lineage.from_json(json.loads(json.dumps(revision.lineage.to_json()))) == revision.lineage
    moved = benign.rename(benign.with_name("moved.json"))
    assert put(store, source, PrunePolicy(rule=Top(1), anomaly=AnomalyBar(str(moved), action="reject"))) == (
        revision
    )


def test_an_anomaly_is_observed_with_a_warning(store: RevisionStore, benign: Path, tmp_path: Path):
    """It is let in and pruned as ever; what stands out is written down."""
    lineage = put(
        store, odd_folder(tmp_path / "odd"), PrunePolicy(rule=Top(1), anomaly=AnomalyBar(str(benign)))
    ).lineage
    assert lineage.anomaly is not None
    assert lineage.anomaly["exceeded"]
    assert len(lineage.pruned) == 1
    (warning,) = lineage.warnings
    assert warning.startswith("it is unlike the known-good adapters: anomaly score ")
    assert lineage.anomaly["worst"][0] in warning


def test_an_anomaly_is_rejected_if_the_policy_says_so(store: RevisionStore, benign: Path, tmp_path: Path):
    """Whatever the pruning would have done; a larger max lets it in."""
    odd = odd_folder(tmp_path / "odd")
    with pytest.raises(PolicyRejection, match=r"unlike the known-good ones: anomaly score .* exceeds 3 "):
        put(store, odd, PrunePolicy(rule=Top(1), anomaly=AnomalyBar(str(benign), action="reject")))
    assert nothing_published(tmp_path)
    assert put(store, odd, PrunePolicy(anomaly=AnomalyBar(str(benign), max=1e6, action="reject")))


def test_a_reference_of_other_modules_or_ranks_publishes_nothing(
    store: RevisionStore, source: Path, benign: Path, tmp_path: Path
):
    """Also if it is only to be observed: nothing would be."""
    only_q = write_folder(tmp_path / "q", factors({Q0: BASE.shapes[Q0]}))
    with pytest.raises(PolicyRejection, match="cannot be compared with the known-good adapters"):
        put(store, only_q, PrunePolicy(anomaly=AnomalyBar(str(benign))))
    rank2 = write_folder(tmp_path / "rank2", factors(rank=2), r=2)
    with pytest.raises(PolicyRejection, match="down_proj has rank 2, and rank 4 in the 5 adapters"):
        put(store, rank2, PrunePolicy(anomaly=AnomalyBar(str(benign))))
    with pytest.raises(ConfigError, match="cannot read reference"):
        put(store, source, PrunePolicy(anomaly=AnomalyBar(str(tmp_path / "absent.json"))))
    assert nothing_published(tmp_path)


def test_lineages_without_evidence_are_spelled_as_before(store: RevisionStore, source: Path):
    """Releases that know nothing of it read them, and old ones are read by this one."""
    lineage = put(store, source, PrunePolicy()).lineage
    data = lineage.to_json()
    assert data.keys() & {"anomaly", "evidence"} == set()
    assert Lineage.from_json(data) == lineage


def test_inspecting_reads_the_evidence_too(
    source: Path, sweep: Path, served: BaseModelSpec, pair: Alignment, tmp_path: Path
):
    """The same outcome with a base model as without one, where the aligned model's layers stand for it."""
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=50, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(tmp_path / "after")
    policies = [
        PrunePolicy(rule=Validated(str(sweep), **VALIDATED)),
        PrunePolicy("safelora", Top(2), alignment=pair),
    ]
    for policy in policies:
        (report, chosen, _), (same, too, _) = (
            inspect(str(source), policy=policy, base=base, limits=adapter_limits()) for base in (served, None)
        )
        assert (report, chosen) == (same, too)
        assert len(chosen.pruned) == 2
