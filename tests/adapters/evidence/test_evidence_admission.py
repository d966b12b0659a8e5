"""Admission by policies that name checkpoints or known-good adapters: outcome, identity, what is refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from adapters_factory import adapter_limits
from admitting import VALIDATED, nothing_published, put
from evidence_files import weights_of, write_checkpoint
from peft_builder import BASE, K0, Q0, factors, write_folder
from transformers import LlamaConfig

from s3lora_serve.adapters.admission import inspect
from s3lora_serve.adapters.evidence.checkpoints import AlignmentDifference, Checkpoint
from s3lora_serve.adapters.lineage import Lineage
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.errors import BaseModelMismatch, ConfigError, PolicyRejection
from s3lora_serve.spectral.prune_policy import Alignment, AnomalyBar, PrunePolicy, Threshold, Top, plan
from s3lora_serve.spectral.scorers import score
from s3lora_serve.spectral.validated import Validated

if TYPE_CHECKING:
    from pathlib import Path

    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.adapters.store import RevisionStore


def odd_folder(folder: Path) -> Path:
    """An adapter unlike the good ones: its q_proj modules have rank one and thirty times the size."""
    tensors = factors(seed=99)
    for name, tensor in tensors.items():
        if "q_proj" in name:
            part = tensor if "lora_A" in name else tensor.T
            part[1:] = 0
            part *= 30
    return write_folder(folder, tensors)


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
        store, odd_folder(tmp_path / "odd"), PrunePolicy(rule=Top(2), anomaly=AnomalyBar(str(benign)))
    ).lineage
    assert lineage.anomaly is not None
    assert lineage.anomaly["exceeded"]
    assert len(lineage.pruned) == 2
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
