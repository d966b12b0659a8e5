"""`s3lora inspect` and `prune` by measurements, checkpoints and known-good adapters; `s3lora reference`."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from adapters_factory import adapter_limits
from evidence_files import POINTS, weights_of, weights_sha256, write_checkpoint, write_sweep
from tiny_model import HIDDEN, MODULES, write_adapter, write_base

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.fetch.reach import EVERYWHERE
from s3lora_serve.cli.adapters.policy_options import PolicyOptions
from s3lora_serve.config import load_config
from s3lora_serve.control.operation import Wanted
from s3lora_serve.errors import ConfigError, PolicyRejection
from s3lora_serve.launch.admit_all import StoreAdmission
from s3lora_serve.launch.reload import read_again
from s3lora_serve.launch.resolve import BaseModel, to_desired, to_served
from s3lora_serve.spectral.prune_policy import Alignment, AnomalyBar, PrunePolicy, Top
from s3lora_serve.spectral.scorers import SCORERS
from s3lora_serve.spectral.validated import Validated

WEIGHTS = dict.fromkeys(MODULES, (HIDDEN, HIDDEN))


@pytest.fixture
def base(tmp_path):
    """The small base model, with weights."""
    folder = write_base(tmp_path / "base")
    return write_checkpoint(folder, weights_of(WEIGHTS, seed=1))


@pytest.fixture
def before(tmp_path):
    """The same model before it was aligned."""
    return write_checkpoint(tmp_path / "before", weights_of(WEIGHTS, seed=2), shards=2)


@pytest.fixture
def adapter(tmp_path):
    """An adapter of eight modules."""
    return write_adapter(tmp_path / "adapter")


@pytest.fixture
def sweep(tmp_path, adapter, base):
    """What was measured of it; the safest tau above a floor of 0.95 prunes two modules."""
    spec = BaseModelSpec.from_pretrained(base)
    return write_sweep(tmp_path / "run" / "sweep.json", weights_sha256(adapter), spec)


@pytest.fixture
def good(tmp_path):
    """Four known-good adapters."""
    return [write_adapter(tmp_path / f"good{seed}", seed=10 + seed) for seed in range(4)]


def test_inspect_and_prune_go_by_a_sweep(s3lora, adapter, base, sweep, tmp_path):
    """The same modules, for the reason that both show; the lineage holds what was measured."""
    options = ["--base", base, "--sweep", sweep.parent, "--task", "tasks", "--floor", 0.95]
    shown = json.loads(s3lora("inspect", adapter, "--json", *options).out)
    assert shown["plan"]["reason"].startswith("tau 0.25: least attack success (0.200, unpruned 0.500)")
    done = s3lora("prune", adapter, *options, "--out", tmp_path / "pruned")
    assert done.out.endswith("2 of 8 modules pruned\n")
    lineage = json.loads((tmp_path / "pruned/lineage.json").read_text())
    assert lineage["pruned"] == shown["plan"]["pruned"]
    assert len(lineage["policy"]["validated"]["points"]) == len(POINTS)


def test_a_sweep_of_another_adapter_is_refused_by_both(s3lora, base, sweep, tmp_path):
    """Exit code 1: the adapter was not measured; nothing is written."""
    other = write_adapter(tmp_path / "other", seed=5)
    options = ["--base", base, "--sweep", sweep, "--task", "tasks", "--floor", 0.95]
    for command in (["inspect", other], ["prune", other, "--out", tmp_path / "new"]):
        done = s3lora(*command, *options)
        assert (done.code, done.out) == (1, "")
        assert f"error: {sweep} did not measure an adapter" in done.err
        assert (
            "hint: measure this adapter; then name the sweep's folder in policy.validated.sweep"
            f" run: s3lora sweep {other} --base {base} --scorer mas-svd"
            " --attack <your attack file> --plans <your plans file> --out NEW"
        ) in " ".join(done.err.split())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("scorer", ["e-diem", "safelora"])
def test_the_base_model_stands_for_the_aligned_one(s3lora, adapter, base, before, scorer):
    """Unless --aligned names another; without either it says what to give."""
    options = ["--json", "--scorer", scorer, "--alignment-base", before]
    done = s3lora("inspect", adapter, *options, "--base", base)
    named = s3lora("inspect", adapter, *options, "--aligned", base)
    assert done.code == 0, done.err
    reports = [json.loads(found.out)["report"] for found in (done, named)]
    assert reports[0] == reports[1]
    assert reports[0]["scorer"] == scorer
    assert any(row["score"] is not None for row in reports[0]["modules"])
    without = s3lora("inspect", adapter, *options)
    assert without.code == 2
    assert "policy.alignment.aligned is not set" in without.err
    assert "run:   s3lora inspect ADAPTER --aligned MODEL (or --base MODEL)" in without.err


def test_a_folder_needs_no_dot_on_a_command_line(s3lora, adapter, base, before, monkeypatch):
    """As for --base: what is there is a folder."""
    monkeypatch.chdir(base.parent)
    done = s3lora("inspect", adapter, "--scorer", "safelora", "--alignment-base", "before", "--base", "base")
    assert done.code == 0, done.err


def test_prune_by_checkpoints_warns_and_counts_them(s3lora, adapter, base, before, tmp_path):
    """Their digests are in the policy, their places beside it."""
    options = ["--scorer", "safelora", "--top", 2, "--alignment-base", before, "--out", tmp_path / "pruned"]
    assert s3lora("prune", adapter, "--base", base, *options).code == 0
    lineage = json.loads((tmp_path / "pruned/lineage.json").read_text())
    assert set(lineage["policy"]["alignment"]) == {"base", "aligned"}
    assert all(text.startswith("sha256:") for text in lineage["policy"]["alignment"].values())
    assert lineage["evidence"]["alignment.base"] == before.as_uri()


def test_a_reference_is_made_and_held_against(s3lora, adapter, good, base, tmp_path):
    """Each good adapter's score against the others is shown; one more like them is within the bar."""
    file = tmp_path / "benign.json"
    done = s3lora("reference", *good, "--out", file, "--base", base)
    assert done.code == 0, done.err
    *rows, last = done.out.splitlines()
    assert last == f"{file}: 20 statistics of 4 adapters"
    assert [row.split()[1] for row in rows] == [str(folder) for folder in good]
    assert all(float(row.split()[0]) > 0 for row in rows)
    assert [entry["sha256"] for entry in json.loads(file.read_text())["made_of"]] == [
        weights_sha256(folder) for folder in good
    ]
    shown = s3lora("inspect", adapter, "--reference", file, "--max-anomaly", 50)
    assert "is within 50 (most unlike, in σ: " in shown.out
    odd = write_adapter(tmp_path / "odd", sharp=tuple(MODULES[:4]))
    facts = json.loads(s3lora("inspect", odd, "--json", "--reference", file).out)
    assert (facts["anomaly"]["exceeded"], facts["anomaly"]["max"]) == (True, 3.0)
    pruned = s3lora("prune", odd, "--base", base, "--reference", file, "--out", tmp_path / "pruned")
    assert pruned.code == 0
    assert "note: it is unlike the known-good adapters: anomaly score " in pruned.err


def test_a_reference_as_json(s3lora, good, tmp_path):
    """All of stdout, with a row an adapter."""
    found = json.loads(s3lora("reference", *good, "--out", tmp_path / "benign.json", "--json").out)
    assert [row["source"] for row in found["adapters"]] == [str(folder) for folder in good]
    assert found["reference"]["adapters"] == 4
    assert found["reference"]["ranks"]["q_proj"] == [8]


def test_three_adapters_make_a_reference_without_scores(s3lora, good, tmp_path):
    """The two others of each are too few to hold it against."""
    done = s3lora("reference", *good[:3], "--out", tmp_path / "benign.json")
    assert done.code == 0
    assert [row.split()[0] for row in done.out.splitlines()[:3]] == ["-", "-", "-"]


def test_what_makes_no_reference_writes_none(s3lora, good, base, tmp_path):
    """Too few, the same twice, an empty name, a missing adapter, other ranks, a place taken or not there."""
    new = tmp_path / "new.json"
    odd = write_adapter(tmp_path / "rank4", seed=20, rank=4)
    ranks = f"error: {odd} has rank 4 in k_proj, and {good[0]} has rank 8"
    for sources, destination, code, message in (
        (good[:2], new, 2, "error: 2 adapters make no reference; at least 3 are needed"),
        ([*good, good[0]], new, 2, f"error: {good[0]} has the same weights as {good[0]}"),
        ([*good[:2], odd], new, 2, ranks),
        ([*good, ""], new, 2, "error: adapter 5 of 5 is empty"),
        ([*good, tmp_path / "absent"], new, 1, "error: "),
        (good, base / "config.json", 2, f"error: {base / 'config.json'} exists already"),
        (good, tmp_path / "no" / "where.json", 2, f"error: there is no folder {tmp_path / 'no'}"),
    ):
        done = s3lora("reference", *sources, "--out", destination)
        assert (done.code, done.out) == (code, "")
        assert done.err.startswith(message)
        assert not new.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sweep", "run"], "--sweep needs --task"),
        (["--sweep", "run", "--task", "t"], "--sweep needs --floor"),
        (["--task", "t"], "--task needs --sweep"),
        (["--floor", 1], "--floor needs --sweep"),
        (["--sweep", "run", "--task", "t", "--floor", 2], "--floor should be less than or equal to 1"),
        (
            ["--sweep", "run", "--task", "t", "--floor", 1, "--utility", "loss"],
            "--utility should be 'valid', 'tool_choice', 'rouge_l' or 'meteor'",
        ),
        (
            ["--sweep", "run", "--task", "t", "--floor", 1, "--top", 3],
            "give one of top, threshold, adaptive, validated, not top and validated",
        ),
        (["--sweep", " "], "--sweep is empty"),
        (["--aligned", "x"], "--aligned needs --alignment-base"),
        (["--alignment-base", "x"], "alignment is for the scorers e-diem and safelora; mas-svd reads none"),
        (
            ["--scorer", "e-diem"],
            "scorer e-diem compares with what alignment changed; set --alignment-base to the model before it"
            " was aligned",
        ),
        (["--max-anomaly", 2], "--max-anomaly needs --reference"),
        (["--reference", "x", "--max-anomaly", 0], "--max-anomaly should be greater than 0"),
    ],
)
def test_options_that_need_one_another_say_so(s3lora, adapter, options, message):
    """By their names, as wrong usage."""
    done = s3lora("inspect", adapter, *options)
    assert (done.code, done.out, done.err.splitlines()[0]) == (2, "", f"error: {message}")


def test_the_help_names_every_scorer(s3lora):
    """It cannot read the table without importing torch."""
    for command in ("inspect", "prune"):
        shown = s3lora(command, "--help").out
        assert [name for name in SCORERS if name not in shown] == []


def test_options_and_settings_make_one_policy(tmp_path):
    """What is tried on a command line can be written down, and is the same then."""
    (tmp_path / "before").mkdir()
    made = PolicyOptions(
        "safelora", top=3, alignment_base=str(tmp_path / "before"), reference="/b.json", max_anomaly=2.0
    ).policy()
    assert made == PrunePolicy(
        "safelora",
        Top(3),
        alignment=Alignment(str(tmp_path / "before")),
        anomaly=AnomalyBar("/b.json", 2.0),
    )
    swept = PolicyOptions("svd", sweep="run", task="t", floor=0.5, utility="rouge_l").policy()
    assert swept.rule == Validated("run", "t", 0.5, "rouge_l")


def served(base) -> BaseModel:
    """The small base model as a server has it."""
    return BaseModel(str(base), "base", None, BaseModelSpec.from_pretrained(base))


def test_the_served_model_is_the_aligned_one_by_default(base, monkeypatch):
    """At its revision; one that is named stays, and the demo is its folder."""
    policy = PrunePolicy("safelora", alignment=Alignment("org/before"))
    model = BaseModel("org/chat", "org/chat", "v1", SimpleNamespace())
    assert to_served(policy, model).alignment == Alignment("org/before", "org/chat", None, "v1")
    assert to_served(policy, None) == policy
    named = PrunePolicy("safelora", alignment=Alignment("org/before", "org/other"))
    assert to_served(named, model) == named
    assert to_served(PrunePolicy(), model) == PrunePolicy()
    monkeypatch.setenv("S3LORA_DEMO_BASE", str(base))
    demo = PrunePolicy("safelora", alignment=Alignment("org/before", "demo"))
    assert to_served(demo, model).alignment == Alignment("org/before", str(base))


CONFIG = """\
base_model: ./base
planners:
  one: {{source: adapter}}
policy: {policy}
store: {{path: store}}
"""


def test_orders_are_admitted_as_declarations_are(adapter, base, before, sweep, tmp_path):
    """With the planner's own policy or the order's: the one revision of both ways."""
    path = tmp_path / "planners.yaml"
    admission = _admission(base, tmp_path)
    for policy in (
        "{validated: {sweep: run, task: tasks, floor: 0.95}}",
        "{scorer: safelora, top: 2, alignment: {base: ./before}}",
    ):
        path.write_text(CONFIG.format(policy=policy))
        desired = to_desired(load_config(path))["one"]
        declared = admission.admit("one", Wanted(desired.source, policy=desired.policy), _quiet)
        ordered = (
            PolicyOptions("safelora", top=2, alignment_base=str(before)).policy()
            if "safelora" in policy
            else None
        )
        again = admission.admit("one", Wanted(str(adapter), policy=ordered or desired.policy), _quiet)
        assert again == declared
        assert len(declared.lineage.pruned) == 2


def test_a_declaration_changes_with_what_it_refers_to(base, before, adapter, sweep, tmp_path):
    """Another floor, file or model is another declaration, which an apply admits again."""
    path, declared = tmp_path / "planners.yaml", set()
    (tmp_path / "benign.json").touch()
    policies = [
        "{validated: {sweep: run, task: tasks, floor: 0.95}}",
        "{validated: {sweep: run, task: tasks, floor: 0.9}}",
        "{validated: {sweep: run/sweep.json, task: tasks, floor: 0.9}}",
        "{scorer: safelora, alignment: {base: ./before}}",
        "{scorer: safelora, alignment: {base: org/before}}",
        "{scorer: safelora, alignment: {base: org/before, aligned: org/chat}}",
        "{anomaly: {reference: benign.json}}",
        "{anomaly: {reference: benign.json, action: reject}}",
        "{}",
    ]
    for policy in policies:
        path.write_text(CONFIG.format(policy=policy))
        running = load_config(path)
        found = read_again(path, running)["one"]
        assert found == to_desired(running)["one"]
        declared.add(found.declared)
    assert len(declared) == len(policies)


def test_a_declaration_names_the_served_model_where_it_counts(base, before, adapter, tmp_path):
    """Scores against another model are others, though its shapes are the same; other policies do not care."""
    path = tmp_path / "planners.yaml"

    def declared(policy: str, model: str) -> str:
        path.write_text(CONFIG.format(policy=policy).replace("./base", model))
        return to_desired(load_config(path))["one"].declared

    aligned = "{scorer: safelora, alignment: {base: ./before}}"
    assert declared(aligned, "./base") != declared(aligned, "org/chat")
    assert declared("{}", "./base") == declared("{}", "org/chat")


def test_a_policy_whose_file_went_is_refused_and_nothing_changes(adapter, base, sweep, tmp_path):
    """The store keeps what it has; the file again, and it is admitted."""
    admission = _admission(base, tmp_path)
    policy = PrunePolicy(rule=Validated(str(sweep), "tasks", 0.95))
    first = admission.admit("one", Wanted(str(adapter), policy=policy), _quiet)
    moved = sweep.rename(sweep.with_suffix(".away"))
    with pytest.raises(ConfigError, match="cannot read sweep"):
        admission.admit("one", Wanted(str(adapter), policy=policy), _quiet)
    other = write_adapter(tmp_path / "other", seed=9)
    moved.rename(sweep)
    with pytest.raises(PolicyRejection):
        admission.admit("one", Wanted(str(other), policy=policy), _quiet)
    assert admission.store.list() == (first,)
    assert admission.admit("one", Wanted(str(adapter), policy=policy), _quiet) == first
    assert admission.restore(first.digest) == first


def _admission(base, tmp_path) -> StoreAdmission:
    from s3lora_serve.adapters.store import RevisionStore

    return StoreAdmission(served(base), adapter_limits(), RevisionStore(tmp_path / "store"), EVERYWHERE)


def _quiet(_: str, __: float) -> None: ...
