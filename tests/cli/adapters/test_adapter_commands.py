"""`s3lora inspect`, `prune` and `verify` on small adapters."""

from __future__ import annotations

import json
import os

import pytest
from peft_builder import factors, write_folder
from safetensors import safe_open
from safetensors.torch import save_file
from silence import silence
from tiny_model import MODULES, SHARP, write_adapter, write_base
from torch import ones

from s3lora_serve.adapters.fetch import sources
from s3lora_serve.adapters.verify import RANKS
from s3lora_serve.cli.adapters.adapter_options import LimitOptions
from s3lora_serve.config import LimitsConfig


@pytest.fixture
def base(tmp_path):
    """The small base model."""
    return write_base(tmp_path / "base")


@pytest.fixture
def adapter(tmp_path):
    """An adapter with one sharp module."""
    return write_adapter(tmp_path / "adapter", sharp=(SHARP,))


def test_inspect_shows_the_sharpest_first(s3lora, adapter):
    """The table is by SSI, says what would be pruned, and nothing is written anywhere."""
    before = sorted(adapter.iterdir())
    done = s3lora("inspect", adapter, "--top", 1)
    rows = [line for line in done.out.splitlines() if "self_attn" in line]
    assert done.code == 0
    assert len(rows) == len(MODULES)
    assert SHARP in rows[0]
    assert "1.000" in rows[0]
    assert "prune" in rows[0]
    assert [row for row in rows[1:] if "prune" in row] == []
    assert sorted(adapter.iterdir()) == before


def test_inspect_limits_its_rows(s3lora, adapter):
    """--limit keeps the highest; 0 means all."""

    def rows(limit: int) -> int:
        return sum(
            "self_attn" in line for line in s3lora("inspect", adapter, "--limit", limit).out.splitlines()
        )

    assert rows(3) == 3
    assert "5 more modules, none of which scores higher" in s3lora("inspect", adapter, "--limit", 3).err
    assert rows(0) == len(MODULES)


def test_inspect_says_why_less_is_pruned_than_was_asked_for(s3lora, tmp_path):
    """A note beside the table, and the plan's cautions in JSON."""
    adapter = write_folder(tmp_path / "one", factors(rank=1), r=1)
    assert (
        "note: the policy selects nothing: top 10: every module has rank 1" in s3lora("inspect", adapter).err
    )
    plan = json.loads(s3lora("inspect", adapter, "--json").out)["plan"]
    assert (plan["pruned"], plan["abstained"], len(plan["cautions"])) == ([], True, 1)


def test_inspect_json_is_all_of_stdout(s3lora, adapter):
    """What a script reads is one JSON object: policy, plan, and a row a module."""
    done = s3lora("inspect", adapter, "--json", "--top", 2)
    facts = json.loads(done.out)
    assert done.code == 0
    assert facts["source"] == str(adapter)
    assert facts["plan"]["pruned"][0] == SHARP
    assert len(facts["plan"]["pruned"]) == 2
    assert sorted(row["module"] for row in facts["report"]["modules"]) == sorted(MODULES)


def test_inspect_draws(s3lora, adapter, tmp_path):
    """--plot writes a PNG; where it was written is said on stderr."""
    picture = tmp_path / "ssi.png"
    done = s3lora("inspect", adapter, "--json", "--plot", picture)
    json.loads(done.out)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"wrote {picture}" in done.err


def test_inspect_knows_three_rules(s3lora, adapter):
    """--threshold prunes what is above it, --adaptive what stands out, --top the highest."""

    def pruned(*options: object) -> list[str]:
        return json.loads(s3lora("inspect", adapter, "--json", *options).out)["plan"]["pruned"]

    assert pruned("--threshold", 0.99) == [SHARP]
    assert pruned("--adaptive") == [SHARP]
    assert len(pruned("--top", 3)) == 3
    assert len(pruned()) == len(MODULES) // 2, "the default is the ten highest, but at most half"
    assert len(pruned("--top", 8, "--top-share", 1)) == len(MODULES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--top", 1, "--threshold", 1],
            "error: give one of top, threshold, adaptive, validated, not top and threshold",
        ),
        (
            ["--scorer", "magic"],
            "error: --scorer should be 'mas-svd', 'svd', 'spsvd', 'reference', 'e-diem', 'safelora'"
            " or 'random'",
        ),
        (["--top", -1], "error: --top should be greater than or equal to 0"),
        (["--plot", "x.txt"], "error: --plot x.txt has no picture's ending"),
    ],
)
def test_wrong_options_are_exit_code_2(s3lora, adapter, options, message):
    """What is wrong about an option is said, and it is not the adapter's fault."""
    done = s3lora("inspect", adapter, *options)
    assert done.code == 2
    assert done.err.splitlines()[0] == message


def test_a_refused_adapter_is_exit_code_1(s3lora, tmp_path):
    """A pickle is refused by every command, with the reason and without a traceback."""
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    (tmp_path / "adapter_config.json").write_text("{}")
    for command in (["inspect", tmp_path], ["verify", tmp_path, "--base", write_base(tmp_path / "base")]):
        done = s3lora(*command)
        assert (done.code, done.out) == (1, "")
        assert "error: adapter_model.bin is a pickle" in done.err
        assert "Traceback" not in done.err


def test_verify_accepts_what_fits(s3lora, adapter, base):
    """The answer names the base model, the modules and the digest that a configuration can pin."""
    done = s3lora("verify", adapter, "--base", base)
    assert done.code == 0
    first, digest = done.out.splitlines()
    assert first == "ok: 8 modules up to rank 8 fit base"
    assert len(digest.removeprefix("sha256 ")) == 64


def test_verify_notes_what_the_server_would(s3lora, tmp_path, base):
    """Another base model's name, and the max_lora_rank that it needs where one is set."""
    done = s3lora("verify", write_adapter(tmp_path / "high", rank=24), "--base", base)
    said = " ".join(done.err.split())
    assert done.code == 0
    assert "it names 'tiny' as its base model; every module fits 'base'" in said
    assert (
        "where planners.yaml sets engine.max_lora_rank, it must be 32 or more; unset, a server takes" in said
    )


def test_verify_has_the_limits_of_a_server_that_sets_none():
    """One set of limits: what `verify` lets in, a server does."""
    limits = LimitOptions().limits()
    assert limits.fetch == LimitsConfig()
    assert limits.verify.max_rank == max(RANKS)


def test_verify_holds_the_digest(s3lora, adapter, base):
    """The digest that verify prints is the one that --sha256 accepts; another one is refused."""
    digest = s3lora("verify", adapter, "--base", base).out.split()[-1]
    assert s3lora("verify", adapter, "--base", base, "--sha256", digest).code == 0
    done = s3lora("verify", adapter, "--base", base, "--sha256", "0" * 64)
    assert done.code == 1
    assert digest in done.err


def test_verify_refuses_a_rank_over_the_engines(s3lora, adapter, base):
    """--max-rank is the engine's limit."""
    done = s3lora("verify", adapter, "--base", base, "--max-rank", 4)
    assert done.code == 1
    assert "rank 8" in done.err


def test_an_unknown_demo_adapter_is_named(s3lora):
    """demo:// names an adapter that the package carries; another name is a mistake of usage."""
    done = s3lora("inspect", "demo://nothing")
    assert done.code == 2
    assert "nothing" in done.err
    assert "gsm8k-planner" in done.err


def test_prune_writes_what_the_server_would_publish(s3lora, adapter, base, tmp_path):
    """The sharp module is gone from weights and configuration, the others stay, the lineage is there."""
    pruned = tmp_path / "pruned"
    done = s3lora("prune", adapter, "--base", base, "--out", pruned, "--top", 1)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{pruned}: revision ")
    assert done.out.endswith("1 of 8 modules pruned\n")
    with safe_open(pruned / "adapter_model.safetensors", "pt") as file:
        names = set(file.keys())
    assert {name for name in names if SHARP in name} == set()
    assert len(names) == 2 * (len(MODULES) - 1)
    assert json.loads((pruned / "lineage.json").read_text())["pruned"] == [SHARP]
    assert s3lora("verify", pruned, "--base", base).out.startswith("ok: 7 modules")
    assert list(tmp_path.glob(".s3lora-prune-*")) == []


def test_prune_overwrites_nothing(s3lora, adapter, base, tmp_path):
    """An existing folder, or a missing place for a new one, is refused before any work."""
    assert s3lora("prune", adapter, "--base", base, "--out", base).code == 2
    assert s3lora("prune", adapter, "--base", base, "--out", tmp_path / "a" / "b").code == 2


def test_prune_twice_gives_the_same_bytes(s3lora, adapter, base, tmp_path):
    """The published weights and configuration are a function of adapter and policy."""
    for name in ("one", "two"):
        assert s3lora("prune", adapter, "--base", base, "--out", tmp_path / name, "--top", 2).code == 0
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    ("options", "option"),
    [
        (["--max-rank", 4], "--max-rank"),
        (["--max-files", 1], "--max-files"),
        (["--max-mib", 1], "--max-mib"),
    ],
)
def test_a_limit_is_named_as_the_option_that_raises_it(s3lora, adapter, base, tmp_path, options, option):
    """No command that reads no configuration points to a setting of one; raising the option lets it in."""
    if option == "--max-mib":
        weights = adapter / "adapter_model.safetensors"
        os.truncate(weights, 2**20 + 1)
    commands = {
        "inspect": [],
        "verify": ["--base", base],
        "prune": ["--base", base, "--out", tmp_path / "pruned"],
    }
    for command, more in commands.items():
        done = s3lora(command, adapter, *more, *options)
        assert done.code == 1
        assert f"raise {option}" in done.err
        assert "limits." not in done.err
        assert "engine." not in done.err


def test_a_source_that_hangs_is_given_up(s3lora, adapter, monkeypatch):
    """After --fetch-seconds, which the hint names."""
    with silence() as gate:
        monkeypatch.setattr(sources, "opened", gate)
        done = s3lora("inspect", adapter, "--fetch-seconds", 0.1)
    assert (done.code, "was not fetched within 0.1 s (--fetch-seconds)" in done.err) == (1, True)
    assert "limits." not in done.err


def test_a_raised_limit_lets_in(s3lora, adapter):
    """--max-files is read: more files than the default are let in if it says so."""
    for number in range(70):
        (adapter / f"note{number}.txt").write_text("")
    assert s3lora("inspect", adapter).code == 1
    assert s3lora("inspect", adapter, "--max-files", 80).code == 0


@pytest.mark.parametrize(
    "options", [["--max-rank", 0], ["--max-rank", -5], ["--max-mib", 0], ["--max-files", 0]]
)
def test_a_limit_that_nothing_can_keep_is_wrong_usage(s3lora, adapter, options):
    """No adapter has rank 0 or less: that is the caller's mistake, not the adapter's."""
    assert s3lora("inspect", adapter, *options).code == 2


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_word_is_refused(s3lora, adapter, base, tmp_path, empty):
    """An unset shell variable must neither read the current folder nor skip the check of the fit."""
    for arguments, name in (
        (["inspect", empty], "source"),
        (["inspect", adapter, "--base", empty], "--base"),
        (["verify", adapter, "--base", empty], "--base"),
        (["prune", empty, "--base", base, "--out", tmp_path / "new"], "source"),
    ):
        done = s3lora(*arguments)
        assert (done.code, done.out, done.err) == (2, "", f"error: {name} is empty\n")


@pytest.mark.parametrize("digest", ["", "0" * 63, "g" * 64])
def test_what_is_no_digest_is_wrong_usage(s3lora, adapter, base, digest):
    """A pin that no file can match is told apart from a file that does not match."""
    done = s3lora("verify", adapter, "--base", base, "--sha256", digest)
    assert done.code == 2
    assert done.err.splitlines()[0] == f"error: --sha256 {digest!r} is not a SHA-256"


def test_prune_says_where_it_cannot_write(s3lora, adapter, base):
    """A place that takes no new folder is one line, before the base model is prepared."""
    done = s3lora("prune", adapter, "--base", base, "--out", "/proc/pruned")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: cannot write /proc/pruned: ")
    assert len(done.err.splitlines()) == 1


def test_prune_says_that_a_name_is_too_long(s3lora, adapter, base, tmp_path):
    """What the file system does not take is no traceback either."""
    done = s3lora("prune", adapter, "--base", base, "--out", tmp_path / ("x" * 300))
    assert done.code == 2
    assert "File name too long" in done.err
    assert "Traceback" not in done.err


def test_convert_writes_a_peft_folder_and_names_the_next_step(s3lora, tmp_path):
    """Of MLX here; its weights' sha256 is told, and nothing is overwritten."""
    (tmp_path / "mlx").mkdir()
    config = {"fine_tune_type": "lora", "lora_parameters": {"scale": 2.0}}
    (tmp_path / "mlx/adapter_config.json").write_text(json.dumps(config))
    save_file(
        {"m.q_proj.lora_a": ones(4, 2), "m.q_proj.lora_b": ones(2, 4)}, tmp_path / "mlx/adapters.safetensors"
    )
    refused = s3lora("inspect", tmp_path / "mlx")
    assert (refused.code, "s3lora convert" in refused.err) == (1, True)
    done = s3lora("convert", tmp_path / "mlx", tmp_path / "new")
    assert (done.code, "2 tensors of adapters.safetensors" in done.out) == (0, True)
    assert "s3lora verify" in done.err
    assert s3lora("inspect", tmp_path / "new").code == 0
    assert "exists already" in s3lora("convert", tmp_path / "mlx", tmp_path / "new").err
