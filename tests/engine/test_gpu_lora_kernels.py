"""The GPU LoRA kernels compute W x + B A x: in Triton's interpreter, on tiny shapes, against float64."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.process

FUSED = {
    "bn": 32,
    "bk": 64,
    "stages": 2,
    "warps": 4,
    "shrink_k": 64,
    "shrink_stages": 2,
    "pieces": 2,
    "cuts": 4,
    "meet": 6,
    "late": 7,
}
ROWS = {"op": "any", "bm": 16, "bn": 32, "warps": 4, "pdl": False}
TABLE = {
    "measured": [],
    "fused": [{"op": op, "tokens": 16, **FUSED} for op in ("qkv", "o", "down")],
    "expand": [{**ROWS, "tokens": None}],
    "silu": [{**ROWS, "tokens": 16}, {**ROWS, "tokens": None, "bm": 32}],
    "two_products_from": 40,
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """What the program says, by the case's name."""
    table = tmp_path_factory.mktemp("table") / "table.json"
    table.write_text(json.dumps(TABLE))
    env = os.environ | {"TRITON_INTERPRET": "1", "S3LORA_GPU_LORA_TABLE": str(table)}
    program = Path(__file__).with_name("interpreted_lora.py")
    done = subprocess.run([sys.executable, program], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return {case["case"]: case for case in map(json.loads, done.stdout.splitlines())}


def test_error_of_every_traffic(cases):
    """Base, one adapter, half pruned, mixed: every token's output is float64's but for float32's rounding,
    where what a pruned module holds is NaN, so that a tile that read it would show."""
    measured = {
        name: case["error"] for name, case in cases.items() if "error" in case and "float16" not in name
    }
    assert len(measured) > 60
    assert {name: error for name, error in measured.items() if error > 3e-6} == {}


def test_error_in_float16(cases):
    """In 16 bits the worst token is off by a few roundings. (Of bfloat16, the interpreter makes no
    products.)"""
    measured = {name: case["error"] for name, case in cases.items() if "float16" in name}
    assert len(measured) == 4
    assert {name: error for name, error in measured.items() if error > 2e-3} == {}


def test_flags_are_free_again(cases):
    """Each layer zeroes the flags of the one of its kind before it, so that every step's waits are for its
    own."""
    assert cases["three layers in turn, four steps"]["failed"] == 0


@pytest.mark.parametrize("case", ["units that never come", "a layer that ran twice"])
def test_a_wait_is_bounded(cases, case):
    """A wait that fails ends: the layer's number is where the host looks, and no output passes for one."""
    assert (cases[case]["failed"], cases[case]["all_nan"]) == (7, True)
