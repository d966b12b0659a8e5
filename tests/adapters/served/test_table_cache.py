"""What the engine said is kept by release and configuration, and asked anew when either differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from peft_builder import BASE
from served_bases import CONFIGS, ENGINE, facts_of

from s3lora_serve.adapters.served.engine_names import EngineNames
from s3lora_serve.adapters.served.table_cache import TableCache

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = CONFIGS["llama"]


class Engine:
    """Says what it is told to, and counts."""

    def __init__(self, facts: dict[str, Any] | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self._facts = facts_of("llama") if facts is None else facts

    def __call__(self, config: Any, arguments: Any) -> dict[str, Any]:
        self.asked.append(dict(config))
        return self._facts


def test_it_is_asked_once(tmp_path: Path):
    """The second answer is the first one, from the disk."""
    engine = Engine()
    cache = TableCache(ENGINE, {"transformers": "5"}, tmp_path)
    first = cache.get(CONFIG, {}, engine)
    assert cache.get(CONFIG, {}, engine) == first == cache.find(CONFIG, {})
    assert len(engine.asked) == 1
    assert first.shapes is not None
    assert first.shapes["model.layers.0.self_attn.k_proj"] == (32, 64)


@pytest.mark.parametrize(
    ("release", "others", "config", "arguments"),
    [
        ("vLLM 0.33.0", {}, {}, {}),
        (ENGINE, {"transformers": "6"}, {}, {}),
        (ENGINE, {}, {"hidden_size": 128}, {}),
        (ENGINE, {}, {}, {"enable_tower_connector_lora": True}),
    ],
)
def test_what_an_answer_depends_on_is_asked_anew(
    tmp_path: Path, release: str, others: dict[str, str], config: dict[str, Any], arguments: dict[str, Any]
):
    """Releases wrap different modules of the same class."""
    engine = Engine()
    TableCache(ENGINE, {}, tmp_path).get(CONFIG, {}, engine)
    TableCache(release, others, tmp_path).get({**CONFIG, **config}, arguments, engine)
    assert len(engine.asked) == 2


def test_code_and_quantisation_of_a_repository_decide_nothing(tmp_path: Path):
    """Neither is handed on: code is never run, and names do not depend on how weights are stored."""
    engine = Engine()
    cache = TableCache(ENGINE, {}, tmp_path)
    cache.get({**CONFIG, "auto_map": {"AutoConfig": "x.Y"}, "quantization_config": {}}, {}, engine)
    assert not {"auto_map", "quantization_config"} & engine.asked[0].keys()
    assert cache.find(CONFIG, {}) is not None


@pytest.mark.parametrize("facts", [{"trouble": "slow", "passing": True}, {"missing": "torchvision"}])
def test_what_may_be_otherwise_next_time_is_not_kept(tmp_path: Path, facts: dict[str, Any]):
    """A busy machine or a missing package must not decide for ever."""
    cache = TableCache(ENGINE, {}, tmp_path)
    cache.get(CONFIG, {}, Engine(facts))
    assert cache.find(CONFIG, {}) is None


@pytest.mark.parametrize(
    "kept",
    [
        b"",
        b"[]",
        b"{",
        b'{"modules": 3}',
        b'{"modules": {"a": [["b", 1]]}}',
        b'{"renames": [["regex", "(", ""]]}',
    ],
)
def test_a_damaged_answer_is_asked_for_again(tmp_path: Path, kept: bytes):
    """It is a cache: what cannot be used is as if it were not there."""
    cache = TableCache(ENGINE, {}, tmp_path)
    cache.get(CONFIG, {}, Engine())
    (file,) = tmp_path.iterdir()
    file.write_bytes(kept)
    engine = Engine()
    assert cache.get(CONFIG, {}, engine).shapes
    assert len(engine.asked) == 1


def test_a_folder_that_cannot_be_written_to_costs_time_only(tmp_path: Path):
    """As in a container whose home is read only."""
    (tmp_path / "file").write_text("")
    cache = TableCache(ENGINE, {}, tmp_path / "file" / "below")
    assert cache.get(CONFIG, {}, Engine()).shapes


@pytest.mark.parametrize("facts", [{"modules": 3}, {"renames": 7}, {"renames": [["regex", "(", ""]]}, {}])
def test_an_answer_that_makes_no_sense_is_no_answer(tmp_path: Path, facts: dict[str, Any]):
    """The names of transformers then decide."""
    found = TableCache(ENGINE, {}, tmp_path).get(CONFIG, {}, Engine(facts))
    assert found.shapes is None
    assert found.trouble


def test_an_engine_that_is_not_installed_is_not_asked():
    """And what was checked without it says so."""
    names = EngineNames(None, dict, (), Engine())
    served = names.on(BASE, {}).served
    assert served is not None
    assert served.trouble == "vLLM is not installed"
