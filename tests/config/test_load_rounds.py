"""A file with mistakes is looked at further, so that one round shows them all."""

from __future__ import annotations

import pytest

from s3lora_serve.config import load_config
from s3lora_serve.errors import ConfigError


def places(path, text):
    """Where the one error says that mistakes are, in its order."""
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    _, *lines = str(caught.value).splitlines()
    return [line.partition(", ")[2].partition(":")[0] for line in lines]


def test_every_mistake_is_listed_in_one_round(tmp_path):
    """Wrong types do not hide what only whole settings show: folders that are missing, rules that compare."""
    text = """base_model: ./nowhere
planners:
  a: {source: ./missing}
  b: {sorce: hf://org/math@v1}
engine: {max_lora: 3, extra_args: {model: x}}
server: {port: 99999}
"""
    assert places(tmp_path / "planners.yaml", text) == [
        "base_model",
        "planners.a.source",
        "planners.b.source",
        "planners.b.sorce",
        "engine.extra_args",
        "engine.max_lora",
        "server.port",
    ]
