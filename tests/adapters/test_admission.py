"""An adapter becomes a revision, or is refused and leaves nothing behind."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
import torch
from adapter_web import adapter_web
from adapters_factory import adapter_limits
from peft_builder import BASE, K0, Q0, factors, write_folder
from safetensors.torch import load_file

from s3lora_serve.adapters import admission
from s3lora_serve.adapters.admission import admit, inspect
from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.adapters.store import Revision, RevisionStore
from s3lora_serve.errors import AdapterError, FormatError, LimitError, PolicyRejection, SourceError
from s3lora_serve.spectral.prune_policy import Adaptive, PrunePolicy, Threshold, Top

if TYPE_CHECKING:
    from pathlib import Path

TOP3 = PrunePolicy(rule=Top(3))
NOTHING = PrunePolicy(rule=Top(0))


@pytest.fixture
def store(tmp_path: Path) -> RevisionStore:
    """An empty store."""
    return RevisionStore(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A PEFT folder whose modules all differ."""
    return str(write_folder(tmp_path / "source"))


def put(store: RevisionStore, source: str | Path, policy: PrunePolicy = TOP3, **changes: object) -> Revision:
    """Admit with the tiny base model."""
    return admit(
        str(source), **{"base": BASE, "policy": policy, "limits": adapter_limits(), "store": store, **changes}
    )


def test_the_highest_scores_are_dropped(store: RevisionStore, source: str):
    """Exactly those that the plan names, and the lineage tells the whole story."""
    revision = put(store, source)
    report, plan, adapter = inspect(source, policy=TOP3, base=BASE, limits=adapter_limits())
    lineage = revision.lineage
    assert (lineage.pruned, lineage.plan, lineage.report) == (plan.pruned, plan, report)
    assert len(plan.pruned) == 3
    assert lineage.kept == 11
    assert (lineage.policy, lineage.action, lineage.scorer) == (TOP3.to_json(), "prune", "mas-svd")
    assert (lineage.base_model, lineage.base_digest) == ("tiny-llama", BASE.digest)
    assert lineage.source.startswith("file://")
    assert read_peft(revision.path).modules.keys() == adapter.modules.keys() - set(plan.pruned)
    assert not revision.fully_pruned


def test_what_is_kept_is_kept_to_the_bit(store: RevisionStore, tmp_path: Path):
    """bfloat16 in, the same bytes out."""
    tensors = factors(dtype=torch.bfloat16)
    revision = put(store, write_folder(tmp_path / "bf16", tensors))
    kept = load_file(revision.path / "adapter_model.safetensors")
    assert kept.keys() < tensors.keys()
    assert all(
        torch.equal(tensor.view(torch.int16), tensors[name].view(torch.int16))
        for name, tensor in kept.items()
    )


def test_admitting_twice_scores_once(store: RevisionStore, source: str, monkeypatch: pytest.MonkeyPatch):
    """The same revision, read through but not scored again."""
    first = put(store, source)
    monkeypatch.setattr(admission, "score", lambda *args, **kw: pytest.fail("it was scored again"))
    assert put(store, source) == first


def test_the_same_content_from_elsewhere_is_the_same_revision(store: RevisionStore, tmp_path: Path):
    """Names of folders, tensors and adapters do not matter; the first lineage stays."""
    first = put(store, write_folder(tmp_path / "one"))
    second = put(store, write_folder(tmp_path / "two", factors(infix=".default"), peft_version="0.4.0"))
    assert second == first
    assert second.lineage.source.endswith("/one")


@pytest.mark.parametrize(
    "other",
    [
        {"policy": PrunePolicy(rule=Top(2))},
        {"policy": PrunePolicy(rule=Top(3), scorer="svd")},
        {"policy": PrunePolicy(rule=Top(3), action="observe")},
        {"base": BaseModelSpec("larger", {**BASE.shapes, "model.layers.2.mlp.up_proj": (24, 16)})},
    ],
)
def test_another_policy_or_base_is_another_revision(
    store: RevisionStore, source: str, other: dict[str, object]
):
    """vLLM caches by name and path: what decided the content is part of its identity."""
    assert put(store, source, **other).digest != put(store, source).digest


def test_the_digest_is_the_same_everywhere(tmp_path: Path, source: str):
    """Two stores, two times, one digest; the name that the base model goes by does not matter."""
    one = put(RevisionStore(tmp_path / "a"), source)
    two = put(RevisionStore(tmp_path / "b"), source, base=BaseModelSpec("other-name", BASE.shapes))
    assert one.digest == two.digest
    assert one.lineage.created_at != two.lineage.created_at


def test_a_new_scorer_version_is_a_new_revision(
    store: RevisionStore, source: str, monkeypatch: pytest.MonkeyPatch
):
    """A score that can change must not hide behind a cached admission."""
    first = put(store, source)
    monkeypatch.setattr(admission, "SCORER_VERSION", "next")
    assert put(store, source).digest != first.digest


def test_a_stricter_limit_is_not_overruled_by_an_earlier_admission(store: RevisionStore, source: str):
    """The engine was restarted with a smaller max_lora_rank."""
    put(store, source)
    with pytest.raises(LimitError, match="has rank 4 > max_lora_rank 2"):
        put(store, source, limits=adapter_limits(max_rank=2))


def test_observing_publishes_everything(store: RevisionStore, source: str):
    """The plan is recorded, and nothing is dropped."""
    revision = put(store, source, PrunePolicy(rule=Top(3), action="observe"))
    assert len(revision.lineage.plan.pruned) == 3
    assert (revision.lineage.pruned, revision.lineage.kept) == ((), 14)
    assert read_peft(revision.path).modules.keys() == BASE.shapes.keys()
    assert revision.lineage.weights_sha256 == revision.lineage.source_sha256


def test_rejecting_names_the_worst(store: RevisionStore, source: str, tmp_path: Path):
    """With their scores, worst first; nothing is published."""
    report, plan, _ = inspect(source, policy=PrunePolicy(rule=Threshold(0.3)), limits=adapter_limits())
    worst = plan.pruned[0]
    with pytest.raises(PolicyRejection) as caught:
        put(store, source, PrunePolicy(rule=Threshold(0.3), action="reject"))
    assert caught.value.message.startswith(f"{len(plan.pruned)} of 14 modules are over the bar (")
    assert f"{worst} ({report[worst].score:.3f})" in caught.value.message
    assert caught.value.message.endswith(f" and {len(plan.pruned) - 3} more")
    assert store.list() == ()
    assert list((tmp_path / "store/staging").iterdir()) == []


@pytest.mark.parametrize("rule", [Threshold(1.0), Adaptive()])
def test_rejecting_lets_in_what_is_under_the_bar(store: RevisionStore, source: str, rule: object):
    """And publishes it whole."""
    assert put(store, source, PrunePolicy(rule=rule, action="reject")).lineage.kept == 14


def test_a_fully_pruned_adapter_is_published_without_weights(store: RevisionStore, source: str):
    """The base model serves it, and the lineage says why."""
    revision = put(store, source, PrunePolicy(rule=Top(99, max_share=1)))
    assert revision.fully_pruned
    assert sorted(path.name for path in revision.path.iterdir()) == ["adapter_config.json", "lineage.json"]
    assert (revision.lineage.kept, len(revision.lineage.pruned), revision.lineage.weights_sha256) == (
        0,
        14,
        None,
    )
    assert store.check(revision.digest) == revision


def test_fully_pruned_adapters_are_told_apart(store: RevisionStore, tmp_path: Path):
    """They serve alike, but have different sources and reports."""
    policy = PrunePolicy(rule=Top(99, max_share=1))
    one = put(store, write_folder(tmp_path / "one", factors(seed=1)), policy)
    two = put(store, write_folder(tmp_path / "two", factors(seed=2)), policy)
    assert one.digest != two.digest


def test_what_would_do_nothing_counts_as_fully_pruned(store: RevisionStore, tmp_path: Path):
    """Pruning every live module leaves zeros, which vLLM would load and the probe would call an error."""
    live = {Q0, K0, "model.layers.1.mlp.up_proj"}
    tensors = {
        name: t if any(module in name for module in live) else t.zero_() for name, t in factors().items()
    }
    revision = put(store, write_folder(tmp_path / "sparse", tensors), PrunePolicy(rule=Top(3, max_share=1)))
    assert set(revision.lineage.plan.pruned) == live
    assert revision.fully_pruned
    assert len(revision.lineage.pruned) == 14


def test_inert_modules_stay_when_live_ones_do(store: RevisionStore, tmp_path: Path):
    """They were in the adapter, and they are harmless."""
    tensors = {name: t.zero_() if K0 in name else t for name, t in factors().items()}
    revision = put(store, write_folder(tmp_path / "sparse", tensors))
    assert revision.lineage.kept == 11
    assert K0 in read_peft(revision.path).modules


def test_a_pin_that_fits_lets_in(store: RevisionStore, source: str):
    """In either case of letters."""
    first = put(store, source)
    pin = first.lineage.source_sha256
    assert put(store, source, expected_sha256=pin.upper()) == first


def test_a_pin_that_does_not_fit_refuses(store: RevisionStore, source: str):
    """Even if the adapter was admitted before without a pin."""
    found = put(store, source).lineage.source_sha256
    with pytest.raises(SourceError) as caught:
        put(store, source, expected_sha256="0" * 64)
    assert f"its weights have sha256 {found}, but {'0' * 64} is expected" in caught.value.message


@pytest.mark.parametrize(
    ("config", "tensors"),
    [
        ({"use_dora": True}, None),
        ({"r": 5}, None),
        ({}, {}),
        ({}, {name: t * math.nan for name, t in factors().items()}),
        ({}, factors({"model.layers.0.self_attn.q_proj": (8, 8)})),
    ],
)
def test_a_refusal_leaves_nothing(
    store: RevisionStore, tmp_path: Path, config: dict[str, object], tensors: dict[str, torch.Tensor] | None
):
    """No revision, no key, no staging."""
    folder = write_folder(tmp_path / "bad", tensors, **config)
    with pytest.raises(AdapterError):
        put(store, folder)
    left = sorted(path.name for path in (tmp_path / "store").rglob("*"))
    assert left == ["fleets", "keys", "lock", "revisions", "staging"]


def test_progress_goes_through_the_stages_in_order(store: RevisionStore, source: str):
    """So that a bar can name what it waits for."""
    seen: list[tuple[str, float]] = []
    put(store, source, progress=lambda stage, fraction: seen.append((stage, fraction)))
    stages = list(dict.fromkeys(stage for stage, _ in seen))
    assert stages == ["fetch", "verify", "score", "prune", "publish"]
    assert seen[-1] == ("publish", 1.0)


def test_a_pickle_beside_the_weights_is_a_warning(store: RevisionStore, tmp_path: Path):
    """The Trainer leaves training_args.bin in every folder; it is never opened, and never published."""
    folder = write_folder(tmp_path / "source")
    (folder / "training_args.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    revision = put(store, folder)
    assert revision.lineage.warnings == ("training_args.bin is a pickle: ignored, never opened",)
    assert "training_args.bin" not in {path.name for path in revision.path.iterdir()}


@pytest.mark.parametrize(
    ("declared", "warned"),
    [("org/tiny-llama", False), ("/data/models/Tiny-Llama/", False), (None, False), ("meta/other", True)],
)
def test_a_differing_base_model_name_is_a_warning(
    store: RevisionStore, tmp_path: Path, declared: str | None, warned: bool
):
    """Shapes decide; the name is a hint that they cannot give."""
    revision = put(store, write_folder(tmp_path / "source", base_model_name_or_path=declared))
    expected = (f"it names {declared!r} as its base model; every module fits 'tiny-llama'",) if warned else ()
    assert revision.lineage.warnings == expected


def test_inspecting_publishes_nothing_and_never_rejects(source: str):
    """It is how an operator looks before deciding."""
    policy = PrunePolicy(rule=Threshold(0.25), action="reject")
    report, plan, adapter = inspect(source, policy=policy, limits=adapter_limits())
    assert set(plan.pruned) == set(report.rows) == set(adapter.modules)
    assert float(adapter.modules[Q0].a.sum()) == pytest.approx(
        float(factors()[f"base_model.model.{Q0}.lora_A.weight"].sum())
    )


def test_inspecting_refuses_what_admission_refuses(tmp_path: Path):
    """Except for the fit to a base model that is not at hand."""
    with pytest.raises(FormatError, match="NaN or infinity"):
        inspect(
            str(write_folder(tmp_path, {name: t * math.nan for name, t in factors().items()})),
            policy=TOP3,
            limits=adapter_limits(),
        )


def test_no_credentials_are_published(store: RevisionStore, tmp_path: Path):
    """Lineage is shown to clients."""
    files = {f"/a/{file.name}": file.read_bytes() for file in write_folder(tmp_path / "source").iterdir()}
    with adapter_web(files, signature="sig=SECRET") as web:
        revision = put(store, f"{web.url}/a?sig=SECRET")
    assert revision.lineage.source == f"{web.url}/a"
    for told in (str(tmp_path), "SECRET"):
        assert told not in json.dumps(revision.lineage.to_json())


def test_a_ranking_that_carries_nothing_is_told_wherever_the_plan_is(store: RevisionStore, tmp_path: Path):
    """At rank 1 nothing is pruned by default; plan, lineage and its warnings say why, also once stored."""
    folder = write_folder(tmp_path / "one", factors(rank=1), r=1)
    lineage = store.get(put(store, folder, PrunePolicy()).digest).lineage
    assert (lineage.kept, lineage.pruned, lineage.plan.abstained) == (14, (), True)
    assert lineage.plan.cautions == lineage.warnings
    assert "every module has rank 1" in lineage.warnings[0]


def test_a_bar_that_says_nothing_does_not_let_in_what_is_to_be_rejected(store: RevisionStore, tmp_path: Path):
    """An operator who refuses what is over a bar must not get what cannot be held against it."""
    folder = write_folder(tmp_path / "one", factors(rank=1), r=1)
    with pytest.raises(PolicyRejection, match=r"says nothing of it .* rank 1") as caught:
        put(store, folder, PrunePolicy(rule=Threshold(0.9), action="reject"))
    assert "observe" in caught.value.hint
