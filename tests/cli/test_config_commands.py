"""`s3lora config`: is a planners.yaml right, and what is right."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from tiny_model import write_adapter, write_base

from s3lora_serve.adapters.served.served_class import ServedClass

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def _nothing_kept(tmp_path, monkeypatch):
    """vLLM said nothing of any base model yet."""
    monkeypatch.setattr("s3lora_serve.adapters.served.table_cache.cache_folder", lambda: tmp_path / "kept")


def test_check_shows_what_a_file_resolves_to(s3lora):
    """Each planner with its source and the policy in words, the base model, the store and the address."""
    done = s3lora("config", "check", CONFIGS / "planners.yaml")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert done.code == 0
    assert lines == [
        "planner source policy",
        "hotpot-planner demo://hotpot-planner prune top 10 by mas-svd",
        "gsm8k-planner demo://gsm8k-planner prune adaptive z 3.5, at most 25% by mas-svd",
        "base model demo",
        f"store {CONFIGS.parent / '.s3lora/store'}",
        f"state {CONFIGS.parent / '.s3lora/state.db'}",
        "listens on 127.0.0.1:8000, API key from S3LORA_API_KEY",
        "stops within 120 s of a signal; requests are cut then",
        "orders on 127.0.0.1:8001, token from S3LORA_ADMIN_TOKEN",
        "ranks 4 slots take 19 MiB up to rank 8, 37 MiB up to rank 16, 75 MiB up to rank 32, 149 MiB up to"
        " rank 64, 298 MiB up to rank 128, 596 MiB up to rank 256, 745 MiB up to rank 320, 1.2 GiB up to"
        " rank 512, without embeddings and heads",
        "guard hotpot-planner, gsm8k-planner: no guard",
        "exam hotpot-planner, gsm8k-planner: no exam",
        f"{CONFIGS / 'planners.yaml'} is valid",
    ]


def test_check_lists_every_problem(s3lora, tmp_path):
    """The command prints all problems with their lines, on stderr, and exits with 2."""
    path = tmp_path / "planners.yaml"
    path.write_text("base_model: gpt2\nplanners:\n  a: {source: 'hf://o/a', polcy: {}}\nport: 1\n")
    done = s3lora("config", "check", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"error: {path} has 2 problems:",
        "  line 3, planners.a.polcy: unknown key; did you mean policy?",
        "  line 4, port: unknown key here; did you mean server.port?",
    ]


def test_check_of_a_missing_file(s3lora, tmp_path):
    """The path and the reason are named."""
    done = s3lora("config", "check", tmp_path / "none.yaml")
    assert done.code == 2
    assert done.err == f"error: cannot read {tmp_path / 'none.yaml'}: No such file or directory\n"


def test_schema_prints_a_valid_schema(s3lora):
    """The output is a JSON Schema that accepts the demo's configuration."""
    done = s3lora("config", "schema")
    schema = json.loads(done.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load((CONFIGS / "planners.yaml").read_text()), schema)
    assert schema == json.loads((CONFIGS / "planners.schema.json").read_text())


def test_check_knows_the_demo_adapters(s3lora, tmp_path):
    """A demo adapter that the package does not carry is a problem of the file, named before any start."""
    path = tmp_path / "planners.yaml"
    path.write_text("base_model: demo\nplanners:\n  a: {source: 'demo://nope'}\n  b: {source: 'demo://x'}\n")
    done = s3lora("config", "check", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"error: {path} has 2 problems:",
        "  line 3, planners.a.source: no demo adapter 'nope'; choose gsm8k-planner or hotpot-planner",
        "  line 4, planners.b.source: no demo adapter 'x'; choose gsm8k-planner or hotpot-planner",
    ]


def test_check_writes_no_escape_to_the_terminal(s3lora, tmp_path):
    """Not even a bidirectional mark, which is a character that a path may hold."""
    path = tmp_path / "planners.yaml"
    path.write_text('base_model: gpt2\nplanners: {a: {source: "hf://o/a"}}\nstore: {path: "a\\u202eb"}\n')
    done = s3lora("config", "check", path)
    assert done.code == 0
    assert "a\\u202eb" in done.out
    assert "\u202e" not in done.out


def written(tmp_path, engine, base="./base"):
    """A planners.yaml over a small base model."""
    if not (tmp_path / "base").exists():
        write_base(tmp_path / "base")
        write_adapter(tmp_path / "one")
    path = tmp_path / "planners.yaml"
    path.write_text(f"base_model: {base}\nplanners: {{one: {{source: one}}}}\nengine: {engine}\n")
    return path


def ranks(done):
    """What is said of them."""
    assert done.code == 0
    return [line.removeprefix("ranks").strip() for line in done.out.splitlines() if line.startswith("ranks")]


def test_check_says_what_each_step_up_of_the_rank_costs(s3lora, tmp_path):
    """Buffers of every slot grow with it, whatever the adapters' ranks; float32 takes twice as much."""
    chosen, price = ranks(s3lora("config", "check", written(tmp_path, "{max_loras: 1000}")))
    assert chosen == "engine.max_lora_rank is not set: a start takes the smallest that fits its planners"
    # 14 linear layers of a small Llama: 2·(4·(32+32) + 2·(32+64) + (64+32)) values for each rank and slot
    assert price.startswith("1000 slots take 33 MiB up to rank 16, 66 MiB up to rank 32, ")
    (price,) = ranks(
        s3lora("config", "check", written(tmp_path, "{max_loras: 1000, max_lora_rank: 256, dtype: float32}"))
    )
    assert price == (
        "1000 slots take 1.0 GiB up to rank 256, 1.3 GiB up to rank 320, 2.1 GiB up to rank 512,"
        " without embeddings and heads"
    )


def test_check_takes_the_engines_own_figure_once_it_was_asked(s3lora, tmp_path, monkeypatch):
    """It counts embeddings and heads where it gives them adapters."""
    served = ServedClass("vLLM", "LlamaForCausalLM", shapes={}, elements=1 << 20)
    monkeypatch.setattr("s3lora_serve.adapters.served.table_cache.TableCache.find", lambda *_: served)
    monkeypatch.setattr(
        "s3lora_serve.engine.vllm.module_table.table_process.installed_engine", lambda: "vLLM"
    )
    (price,) = ranks(s3lora("config", "check", written(tmp_path, "{max_loras: 1, max_lora_rank: 512}")))
    assert price == "1 slots take 1.0 GiB up to rank 512"


def test_check_fetches_nothing_to_know_what_ranks_cost(s3lora, tmp_path):
    """A model that is not on this machine costs what it costs."""
    (price,) = ranks(s3lora("config", "check", written(tmp_path, "{max_lora_rank: 16}", "no-org/no-model")))
    assert price == "what ranks cost is not known before the base model's config.json is on this machine"
