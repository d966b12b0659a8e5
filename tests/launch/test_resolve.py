"""Settings become the values that the parts take, each at one place."""

from __future__ import annotations

import sys
from threading import Event
from time import sleep

import pytest
from tiny_model import write_base

from s3lora_serve.config import (
    AdaptiveRule,
    Config,
    LimitsConfig,
    PlannerConfig,
    PolicyConfig,
)
from s3lora_serve.demo import ADAPTERS, adapter_path
from s3lora_serve.demo.base_shapes import demo_shapes
from s3lora_serve.demo.demo_base import NAME
from s3lora_serve.engine.vllm.module_table.table_process import TableAbandoned
from s3lora_serve.engine.vllm.vllm_features import reads_module_patterns
from s3lora_serve.errors import AdapterError, BaseModelUnavailable, ConfigError
from s3lora_serve.launch.resolve import (
    to_base_model,
    to_desired,
    to_limits,
    to_policy,
    to_served,
    to_source,
)
from s3lora_serve.spectral.prune_policy import Adaptive, Alignment, PrunePolicy, Threshold, Top
from s3lora_serve.storage.daemon_threads import DaemonCall


@pytest.mark.parametrize(
    ("config", "policy"),
    [
        (PolicyConfig(), PrunePolicy()),
        (PolicyConfig(top=3, scorer="svd"), PrunePolicy(scorer="svd", rule=Top(3))),
        (PolicyConfig(top=0, action="reject"), PrunePolicy(rule=Top(0), action="reject")),
        (PolicyConfig(threshold=0.5, action="reject"), PrunePolicy(rule=Threshold(0.5), action="reject")),
        (
            PolicyConfig(adaptive=AdaptiveRule(z=2, max_share=0.1), scorer="random", seed=7),
            PrunePolicy(scorer="random", rule=Adaptive(z=2, max_share=0.1), seed=7),
        ),
    ],
    ids=["default", "top", "none", "threshold", "adaptive"],
)
def test_a_policy_keeps_its_meaning(config, policy):
    """Scorer, rule, action and seed arrive as they were configured; the defaults of both types agree."""
    assert to_policy(config) == policy


def test_limits_are_bytes():
    """MiB in the file are bytes inside."""
    limits = to_limits(LimitsConfig(max_adapter_mib=1.5, max_files=3), max_rank=8)
    assert (limits.fetch.max_bytes, limits.fetch.max_files, limits.verify.max_rank) == (1572864, 3, 8)


@pytest.mark.parametrize(
    ("text", "reads"), [("alpha_pattern: dict[str, float]", True), ("r: int", False)], ids=["0.32", "0.26"]
)
def test_an_engine_that_ignores_patterns_is_noticed(tmp_path, monkeypatch, text, reads):
    """Whether the installed vLLM scales modules one by one is read from its source, without importing it."""
    (tmp_path / "vllm" / "lora").mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").write_text("raise ImportError('not to be imported')")
    (tmp_path / "vllm" / "lora" / "peft_helper.py").write_text(text)
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert reads_module_patterns() is reads
    assert to_limits(LimitsConfig(), max_rank=8).verify.per_module_scaling is reads


def test_demo_sources_are_folders_of_the_package():
    """demo://name is the committed adapter; every other source is left as it is."""
    assert to_source(f"demo://{ADAPTERS[0]}").text == str(adapter_path(ADAPTERS[0]))
    assert to_source("hf://org/name@v1").text == "hf://org/name@v1"


def _no_progress(_: str, __: float) -> None: ...


@pytest.mark.parametrize("base", ["/not/there", "./cfg", "../cfg", "~/cfg"])
def test_a_path_is_never_looked_up_on_a_hub(tmp_path, monkeypatch, base):
    """A base model that starts as a path is looked for on this machine only, and named when missing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        to_base_model(base, None, _no_progress)
    expected = base.replace("~", str(tmp_path)).removeprefix("./")
    assert caught.value.message == f"base model: there is no folder {expected}"


@pytest.mark.parametrize("base", ["a/b/c", "a b", "hf://org/name"])
def test_what_is_neither_an_id_nor_a_folder_is_refused(base):
    """No hub is asked for what cannot be the id of a model."""
    with pytest.raises(ConfigError, match="neither 'demo', a Hugging Face id"):
        to_base_model(base, None, _no_progress)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    """'~' is the home folder, also where no shell wrote it out; clients see the folder's name only."""
    write_base(tmp_path / "base")
    monkeypatch.setenv("HOME", str(tmp_path))
    base = to_base_model("~/base", None, _no_progress)
    assert (base.location, base.name) == (str(tmp_path / "base"), "base")


def test_a_declaration_is_what_the_file_says():
    """Each planner with its own policy or the fleet's, its pin and what clients read, in the file's order."""
    config = Config(
        base_model="demo",
        planners={
            "b": PlannerConfig(source="demo://x", pinned=True, description="first"),
            "a": PlannerConfig(source="hf://o/a@v1", sha256="0" * 64, policy=PolicyConfig(threshold=0.5)),
        },
        policy=PolicyConfig(top=3),
    )
    desired = to_desired(config)
    assert list(desired) == ["b", "a"]
    assert (desired["b"].source, desired["b"].policy) == ("demo://x", PrunePolicy(rule=Top(3)))
    assert (desired["b"].pinned, desired["b"].description) == (True, "first")
    assert (desired["a"].sha256, desired["a"].policy.rule) == ("0" * 64, Threshold(0.5))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"description": "another"}, True),
        ({"pinned": True}, True),
        ({"policy": PolicyConfig(top=10)}, True),
        ({"source": "demo://y"}, False),
        ({"sha256": "0" * 64}, False),
        ({"policy": PolicyConfig(top=3)}, False),
    ],
)
def test_a_declaration_changes_with_what_is_served(change, same):
    """Source, digest and effective policy decide which revision is meant; what clients read does not."""

    def declared(**planner):
        config = Config(base_model="demo", planners={"a": PlannerConfig(**{"source": "demo://x", **planner})})
        return to_desired(config)["a"].declared

    assert (declared(**change) == declared()) is same


def test_the_demos_shapes_are_had_without_the_model(tmp_path, monkeypatch):
    """Nothing is fetched for a base model that is not run, and where no weights are is said as it is."""
    monkeypatch.delenv("S3LORA_DEMO_BASE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = to_base_model("demo", None, _no_progress, fetch=False)
    assert (base.name, base.spec.name, base.given) == (NAME, NAME, "demo")
    assert (base.location, base.spec.location, base.spec.shapes) == (None, None, demo_shapes())
    assert not (tmp_path / "cache").exists()
    policy = PrunePolicy(alignment=Alignment(base=str(tmp_path)))
    with pytest.raises(BaseModelUnavailable, match=f"compares with the weights of {NAME}"):
        to_served(policy, base)


def test_a_given_demo_model_is_read(tmp_path, monkeypatch):
    """``S3LORA_DEMO_BASE`` may name another model: its shapes are those that count."""
    monkeypatch.setenv("S3LORA_DEMO_BASE", str(write_base(tmp_path / "given")))
    base = to_base_model("demo", None, _no_progress, fetch=False)
    assert (base.location, base.spec.location) == (str(tmp_path / "given"),) * 2
    assert base.spec.shapes["model.layers.0.self_attn.q_proj"] == (32, 32)
    assert base.spec.shapes != demo_shapes()


def test_a_model_of_the_hub_is_not_fetched_for_its_shapes(monkeypatch):
    """The error says how its configuration is had; a network is not asked."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(ConfigError, match="base model 'no-org/no-model'") as caught:
        to_base_model("no-org/no-model", None, _no_progress, fetch=False)
    assert caught.value.hint.startswith(
        "fetch its configuration once: hf download no-org/no-model config.json"
    )


def test_a_question_to_the_engine_ends_with_the_order_that_waits_for_it(tmp_path, monkeypatch):
    """A cancelled order leaves no process behind; nothing is admitted without an answer."""
    asked = Event()

    def ask(_config, _arguments, left):
        asked.set()
        while not left():
            sleep(0.005)
        raise TableAbandoned

    monkeypatch.setattr("s3lora_serve.engine.vllm.module_table.table_process.ask_vllm", ask)
    monkeypatch.setattr("s3lora_serve.adapters.served.table_cache.cache_folder", lambda: tmp_path / "kept")
    spec = to_base_model(str(write_base(tmp_path / "base")), None, _no_progress).spec
    call = DaemonCall("order", lambda: spec.served)
    assert asked.wait(10)
    call.give_up()
    assert call.wait(10)
    with pytest.raises(AdapterError, match="was given up"):
        call.result()
