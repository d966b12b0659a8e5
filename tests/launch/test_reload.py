"""planners.yaml read again: what needs a restart is told, and nothing of it is passed over in silence."""

from __future__ import annotations

import pytest

from s3lora_serve.config import Config, load_config
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.reload import read_again

GOOD = "base_model: org/model\nplanners:\n  math: {source: hf://org/math@v1}\n"
EDITS = {
    "base_model_revision": "base_model_revision: main\n",
    "limits": "limits: {max_files: 3}\n",
    "engine": "engine: {max_loras: 5}\n",
    "server": "server: {max_concurrent: 3}\n",
    "plans": "plans: {max_steps: 3}\n",
    "store": "store: {path: elsewhere}\n",
    "sources": "sources: {allow: [any]}\n",
    "swap": "swap: {trial: false}\n",
    "rollback": "rollback: {requests: 50}\n",
    "slots": "slots: {max_waiting: 3}\n",
    "admin": "admin: {port: 9001}\n",
    "state": "state: {path: elsewhere.db}\n",
}


@pytest.mark.parametrize("section", sorted(EDITS))
def test_a_section_that_needs_a_restart_is_named(section, tmp_path):
    """An edit that would have no effect is refused, whichever section it is in."""
    path = tmp_path / "planners.yaml"
    path.write_text(GOOD)
    running = load_config(path)
    assert list(read_again(path, running)) == ["math"]
    path.write_text(GOOD + EDITS[section])
    with pytest.raises(ConfigError, match=f": {section} changed, which only a restart can do"):
        read_again(path, running)


def test_every_section_is_tried():
    """A new section is among them, or is one that an apply carries out."""
    assert set(EDITS) | {"base_model", "planners", "policy"} == set(Config.model_fields)
