"""Which engines and layers the GPU LoRA kernels take, the table that says so, and the plugin in the installed
vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from s3lora_serve.engine.vllm.plugins.gpu_lora import adoption
from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import read_table, shape_table

TABLE = Path(adoption.__file__).with_name("shape_table.json")
CPU = torch.device("cpu")


def config(**changes):
    """vLLM's configuration as a plain engine has it; ``changes`` by dotted name."""
    plain = SimpleNamespace(
        lora_config=SimpleNamespace(
            fully_sharded_loras=False, enable_tower_connector_lora=False, max_loras=4, max_lora_rank=16
        ),
        parallel_config=SimpleNamespace(enable_dbo=False, ubatch_size=0),
        model_config=SimpleNamespace(enable_sleep_mode=False),
        offload_config=SimpleNamespace(
            uva=SimpleNamespace(cpu_offload_gb=0), prefetch=SimpleNamespace(offload_group_size=0)
        ),
        weight_transfer_config=None,
    )
    for place, value in changes.items():
        *parts, last = place.split("__")
        at = plain
        for part in parts:
            at = getattr(at, part)
        setattr(at, last, value)
    return plain


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora_config__fully_sharded_loras": True}, "fully sharded adapters"),
        ({"lora_config__enable_tower_connector_lora": True}, "towers"),
        ({"parallel_config__enable_dbo": True}, "micro-batches"),
        ({"parallel_config__ubatch_size": 2}, "micro-batches"),
        ({"model_config__enable_sleep_mode": True}, "sleep mode"),
        ({"offload_config__uva__cpu_offload_gb": 4}, "offloaded weights"),
        ({"offload_config__prefetch__offload_group_size": 2}, "offloaded weights"),
        ({"weight_transfer_config": object()}, "weights that are sent"),
        ({"lora_config__max_loras": 6}, "6 slots: a power of two up to 32"),
        ({"lora_config__max_loras": 64}, "64 slots"),
        ({"lora_config__max_lora_rank": 128}, "rank 128: 1, 8, 16, 32, 64"),
        ({}, "the device is cpu"),
    ],
)
def test_an_engine_in_which_they_would_be_wrong_is_left_alone(changes, said, monkeypatch):
    """Each thing that breaks the views, the flags or one stream keeps vLLM's kernels, and the line names
    it."""
    for name in ("VLLM_LORA_ENABLE_DUAL_STREAM", "VLLM_BATCH_INVARIANT"):
        monkeypatch.delenv(name, raising=False)
    assert said in adoption.engine_refusal("on", config(**changes), CPU, "0.26.0")


@pytest.mark.parametrize("name", ["VLLM_LORA_ENABLE_DUAL_STREAM", "VLLM_BATCH_INVARIANT"])
def test_a_mode_of_the_environment_is_named(name, monkeypatch):
    """Modes that vLLM reads from the environment count, too."""
    monkeypatch.setenv(name, "1")
    assert name in adoption.engine_refusal("on", config(), CPU, "0.26.0")


@pytest.mark.parametrize("version", ["0.25.1", "0.34.0"])
def test_a_release_that_was_not_read_is_refused(version):
    """Outside the releases whose names were checked nothing is replaced, even when asked for."""
    assert f"vLLM {version} was not read" in adoption.engine_refusal("on", config(), CPU, version)


@pytest.mark.parametrize(
    ("mode", "name", "version", "capability", "said"),
    [
        ("auto", "NVIDIA H200", "0.26.0", (9, 0), None),
        ("auto", "NVIDIA H200", "0.27.0", (9, 0), "not measured on NVIDIA H200 with vLLM 0.27.0"),
        ("auto", "NVIDIA L40S", "0.26.0", (8, 9), "older than Hopper"),
        ("auto", "NVIDIA B200", "0.26.0", (10, 0), "not measured on NVIDIA B200"),
        ("on", "NVIDIA B200", "0.33.0", (10, 0), None),
    ],
)
def test_auto_is_where_it_was_measured(mode, name, version, capability, said, monkeypatch):
    """By itself only on the table's devices and releases; by hand elsewhere, too, for the self-check to
    decide."""
    measured = replace(shape_table(), measured=frozenset({("NVIDIA H200", "0.26")}))
    monkeypatch.setattr(adoption, "shape_table", lambda: measured)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    found = adoption.engine_refusal(mode, config(), torch.device("cuda"), version)
    assert (found is None) if said is None else said in found


@pytest.mark.parametrize(
    ("slices", "weight", "contiguous", "said"),
    [
        ((4096, 1024, 1024), (6144, 4096), True, None),  # Llama 8B
        ((3584, 512, 512), (4608, 3584), True, None),  # Qwen2 7B
        ((18944, 18944), (37888, 3584), True, None),
        ((9216, 9216), (18432, 2304), True, None),  # Gemma 2 2B
        ((100,), (100, 4096), True, "multiples of 128"),
        ((128,) * 4, (512, 4096), True, "up to three"),
        ((128,), (256, 4096), True, "up to three that cover"),
        ((128,), (128, 4097), True, "multiples of 16"),
        ((128,), (128, 4096), False, "not contiguous"),
    ],
)
def test_a_shape_that_cannot_be_tiled_is_refused(slices, weight, contiguous, said):
    """Whole tiles, or vLLM's kernels."""
    found = adoption.shape_refusal(slices, weight, 4, contiguous)
    assert (found is None) if said is None else said in found


def test_the_committed_table_has_a_row_for_any_number_of_tokens():
    """Each operation finds a shape from one token up, and tiles are no larger than a slice's multiple."""
    table = read_table(TABLE)
    for op in ("qkv", "o", "gate_up", "down", "any"):
        for tokens in (1, 16, 17, 32, 33, 128, 129, 256, 257, 8192):
            assert table.expand_for(op, tokens).bn <= adoption.TILE
            assert table.silu_for(tokens).bn <= adoption.TILE
            fused = table.fused_for(op, tokens)
            assert fused is None or fused.tokens >= tokens
    assert table.fused_for("gate_up", 1) is None  # cuBLAS is faster there
    assert table.fused_for("o", 17).tokens == 32
    assert all(row.meet_at(k, row.late) < k for row in table.fused for k in (2048, 4096, 14336, 18944))


def test_llama_8b_runs_in_one_launch():
    """The shapes that it is for fit the table's tiles; a width that does not divide goes to cuBLAS."""
    table = shape_table()
    assert adoption.can_fuse("qkv", (4096, 1024, 1024), 4096, table)
    assert adoption.can_fuse("o", (4096,), 4096, table)
    assert adoption.can_fuse("down", (4096,), 14336, table)
    assert not adoption.can_fuse("down", (4096,), 14336 + 128, table)
    assert not adoption.can_fuse("gate_up", (14336, 14336), 4096, table)


def test_a_table_without_a_last_row_is_refused(tmp_path):
    """A number of tokens without a row would end an engine in a step."""
    text = json.loads(TABLE.read_text())
    del text["expand"][-1]
    (tmp_path / "table.json").write_text(json.dumps(text))
    with pytest.raises(ValueError, match="last row of expand"):
        read_table(tmp_path / "table.json")


def adopted_in_vllm(folder, *words):
    """What the program says that puts the plugin into the installed vLLM and a small model of its classes."""
    pytest.importorskip("triton")
    fused = {
        "bn": 32, "bk": 64, "stages": 2, "warps": 4, "shrink_k": 64, "shrink_stages": 2,
        "pieces": 4, "cuts": 2, "meet": 6, "late": 7, "tokens": 16,
    }  # fmt: skip
    rows = [{"op": "any", "tokens": None, "bm": 16, "bn": 128, "warps": 4, "pdl": False}]
    text = {"measured": [], "fused": [{"op": op, **fused} for op in ("qkv", "o", "down")], "expand": rows}
    table = folder / "table.json"
    table.write_text(json.dumps({**text, "silu": rows, "two_products_from": None}))
    # Of vLLM's small helpers nothing needs to be compiled, nor a compiler.
    off = {"TRITON_INTERPRET": "1", "TORCHDYNAMO_DISABLE": "1"}
    env = os.environ | off | {"S3LORA_GPU_LORA_TABLE": str(table)}
    command = [sys.executable, Path(__file__).with_name("interpreted_adoption.py"), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.engine
@pytest.mark.process
def test_an_adopted_model_answers_as_before(tmp_path):
    """Adopted layers pass their check, and give what vLLM's gave: adapters, pruned, base rows, swaps."""
    told = adopted_in_vllm(tmp_path)
    assert (told["adopted"], told["wrapped"], told["fused"], told["reasons"]) == (8, 8, 6, {})
    assert told["activation"] == "FinishedActivation"
    assert told["stock_moves"] > 0.1
    assert told["against_stock"] < 3e-3
    assert told["base_against_stock"] < 3e-3
    assert told["empty_is_base"] < 3e-3
    assert told["after_a_swap"] == 0
    assert told["padded"] == [-1]
    assert told["hash_tells"]
    assert "something replaced the base model's weights" in told["replaced"]


@pytest.mark.engine
@pytest.mark.process
def test_a_layer_that_fails_its_check_goes_back(tmp_path):
    """With a kernel that drops adapters, the layers it serves are vLLM's again, and the line says why."""
    told = adopted_in_vllm(tmp_path, "broken")
    assert (told["adopted"], told["wrapped"]) == (6, 8)
    assert told["activation"] == "SiluAndMul"
    assert "2 by vLLM's: its output fails the check (error" in told["line"]
    assert told["against_stock"] < 3e-3
