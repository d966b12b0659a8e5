"""A server whose policies refer to sweeps, checkpoints and known-good adapters: orders, applies, restarts."""

from __future__ import annotations

import json

import pytest
from evidence_files import POINTS, weights_of, weights_sha256, write_checkpoint, write_sweep
from fake_command import run, serving, write_fleet
from tiny_model import HIDDEN, MODULES, write_adapter

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.evidence.reference_file import KnownGood, looks_of, write_reference
from s3lora_serve.adapters.peft.peft_format import read_peft

pytestmark = pytest.mark.process

POLICY = "{validated: {sweep: run, task: tasks, floor: 0.95}, anomaly: {reference: benign.json, max: 50}}"
CONFIG = f"""\
base_model: ./base
planners:
  one: {{source: one, policy: {POLICY}}}
  two: {{source: two, policy: {{top: 1}}}}
engine: {{max_loras: 4, max_lora_rank: 8}}
server: {{port: 0}}
admin: {{port: 0}}
swap: {{drain_seconds: 5}}
sources: {{allow: [.]}}
store: {{path: store}}
state: {{path: state.db}}
"""
CHAT = {"messages": [{"role": "user", "content": "Who wrote Hamlet?"}], "max_tokens": 16}


@pytest.fixture
def folder(tmp_path):
    """Two planners and two adapters more; what the first one's policy refers to; a model before alignment."""
    write_fleet(tmp_path, CONFIG, "one", "two", "new", "newer")
    looks = {}
    for seed in range(4):
        good = write_adapter(tmp_path / f"good{seed}", seed=10 + seed)
        looks[good.name] = looks_of(read_peft(good).modules)
    write_reference(tmp_path / "benign.json", KnownGood.fit(looks), [])
    shapes = dict.fromkeys(MODULES, (HIDDEN, HIDDEN))
    write_checkpoint(tmp_path / "base", weights_of(shapes, seed=1))
    write_checkpoint(tmp_path / "before", weights_of(shapes, seed=2))
    measure(tmp_path, "one")
    return tmp_path


def measure(folder, name: str, **changes: object) -> None:
    """Record a sweep of this adapter."""
    spec = BaseModelSpec.from_pretrained(folder / "base")
    write_sweep(folder / "run" / "sweep.json", weights_sha256(folder / name), spec, **changes)


def edit(folder, after: str) -> None:
    """Give the first planner another policy."""
    (folder / "planners.yaml").write_text(CONFIG.replace(POLICY, after))


def shown(server) -> dict[str, object]:
    """What the first planner serves, once it has answered."""
    answer, headers = server.ask("/v1/chat/completions", {"model": "one", **CHAT})
    assert answer["choices"][0]["message"]["content"]
    found = server.ask("/v1/planners/one")[0]
    assert found["revision"].startswith(headers["x-s3lora-revision"])
    return found


def test_orders_go_by_the_declared_evidence_and_fail_without_harm(nursery, folder):
    """What was not measured is refused, the one before serves on; once measured, it is swapped in."""
    with serving(nursery, folder) as server:
        first = shown(server)
        assert len(first["pruned_modules"]) == 2
        assert first["plan"]["reason"].startswith("tau 0.25: least attack success")
        assert first["lineage"]["policy"]["validated"]["sweep"] == f"suite:{'5' * 64}"
        assert first["lineage"]["anomaly"]["exceeded"] is False
        assert str(folder) not in json.dumps(first)

        new = {"source": str(folder / "new")}
        failed = server.done(server.order("planners/one/swap", new))
        assert (failed["step"], failed["error"]["code"]) == ("failed", "policy_rejected")
        assert "did not measure an adapter" in failed["error"]["message"]
        assert failed["error"]["hint"] == (
            "measure this adapter; then name the sweep's folder in policy.validated.sweep"
        )
        assert str(folder) not in json.dumps(failed)
        assert shown(server) == first

        bar = {"reference": str(folder / "benign.json"), "max": 0.001, "action": "reject"}
        odd = server.done(server.order("planners/one/swap", {**new, "policy": {"anomaly": bar}}))
        assert "unlike the known-good ones" in odd["error"]["message"]
        aligned = {"scorer": "e-diem", "alignment": {"base": str(folder / "gone")}}
        gone = server.done(server.order("planners/one/swap", {**new, "policy": aligned}))
        assert (gone["error"]["code"], "no such folder" in gone["error"]["message"]) == ("config_error", True)
        assert shown(server) == first

        measure(folder, "new", points=(*POINTS[:2], (0.25, 3, 0.0, 0.8)))
        assert server.done(server.order("planners/one/swap", new))["step"] == "done"
        assert len(shown(server)["pruned_modules"]) == 3
        assert server.done(server.order("planners/one/rollback", {}))["step"] == "done"
        assert shown(server)["revision"] == first["revision"]


def test_an_apply_carries_policies_with_evidence(nursery, folder):
    """Whole or not at all: a file that is missing, then measurements of another adapter, then checkpoints."""
    with serving(nursery, folder) as server:
        first = shown(server)
        edit(folder, "{validated: {sweep: nowhere, task: tasks, floor: 0.95}}")
        with pytest.raises(OSError, match="HTTP Error 422"):
            server.order("apply", {})
        (folder / "elsewhere").mkdir()
        measure(folder, "two")
        (folder / "run" / "sweep.json").rename(folder / "elsewhere" / "sweep.json")
        measure(folder, "one")
        edit(folder, "{validated: {sweep: elsewhere, task: tasks, floor: 0.95}}")
        failed = server.done(server.order("apply", {}))
        assert (failed["step"], failed["error"]["code"]) == ("failed", "policy_rejected")
        assert shown(server) == first

        edit(folder, "{scorer: safelora, top: 3, alignment: {base: ./before}}")
        done = server.done(server.order("apply", {}))
        assert done["step"] == "done", done["error"]
        (change,) = done["details"]["changes"]
        assert (change["before"]["policy"]["validated"]["task"], change["after"]["policy"]["scorer"]) == (
            "tasks",
            "safelora",
        )
        after = shown(server)
        assert (after["lineage"]["scorer"], len(after["pruned_modules"])) == ("safelora", 3)
        assert set(after["lineage"]["policy"]["alignment"]) == {"base", "aligned"}
        assert server.done(server.order("apply", {}))["details"]["changes"] == []


def test_a_restart_serves_what_was_admitted(nursery, folder):
    """What the evidence says since does not matter while the declaration is the same; a new one reads it."""
    with serving(nursery, folder) as server:
        first = shown(server)
    measure(folder, "two")
    with serving(nursery, folder) as server:
        assert shown(server)["revision"] == first["revision"]
    edit(folder, "{validated: {sweep: run, task: tasks, floor: 0.5}}")
    refused = run(nursery, folder)
    assert refused.code == 1
    assert "one: " in refused.err
    assert "did not measure an adapter" in refused.err
    measure(folder, "one")
    with serving(nursery, folder) as server:
        assert len(shown(server)["pruned_modules"]) == 4


def test_another_base_model_of_the_same_shape_is_not_served_by_it(nursery, folder):
    """The sweep was measured on other weights: the declaration names another base, so it is read again."""
    with serving(nursery, folder) as server:
        assert str(folder) not in json.dumps(shown(server))
    other = folder / "elsewhere" / "base"
    write_checkpoint(other, weights_of(dict.fromkeys(MODULES, (HIDDEN, HIDDEN)), seed=3))
    (other / "config.json").write_text((folder / "base" / "config.json").read_text())
    (folder / "planners.yaml").write_text(CONFIG.replace("./base", "./elsewhere/base"))
    refused = run(nursery, folder)
    assert refused.code == 1
    assert "sweep.json was measured on 'base' with weights" in refused.err
