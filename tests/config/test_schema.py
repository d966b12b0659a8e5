"""The published JSON Schema says what the loader says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from s3lora_serve.config import json_schema, load_config

CONFIGS = Path(__file__).parents[2] / "configs"
EXAMPLES = sorted(CONFIGS.glob("*.yaml"))
GOOD = {"base_model": "org/model", "planners": {"math": {"source": "hf://org/math"}}}


def test_the_committed_schema_is_current():
    """`make schema` was run after the last change of the settings."""
    assert json.loads((CONFIGS / "planners.schema.json").read_text()) == json_schema()


def test_there_are_examples_for_cpu_one_gpu_several_and_a_guard():
    """The situations that a newcomer may be in each have a file to start from."""
    names = ["guarded.yaml", "multi-gpu.yaml", "one-gpu.yaml", "planners.yaml"]
    assert [path.name for path in EXAMPLES] == names


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid(path):
    """An example loads, fits the schema, and tells an editor where the schema is."""
    load_config(path)
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(path.read_text()))
    first = path.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=planners.schema.json"


def test_the_guarded_example_guards():
    """By an aligned base, which it only observes by at first; the demo, with another base, has no guard."""
    guarded, demo = (load_config(CONFIGS / name) for name in ("guarded.yaml", "planners.yaml"))
    for planner in guarded.planners:
        guard = guarded.guard_of(planner)
        assert (guard.by, guard.action, guard.fail) == (("base",), "observe", "closed")
    assert "Instruct" in guarded.base_model
    assert not any(demo.guard_of(planner).asks for planner in demo.planners)


@pytest.mark.parametrize(
    "wrong",
    [
        {"planer": 1},
        {"planners": {}},
        {"planners": {"Bad Name": {"source": "x"}}},
        {"planners": {"math": {"source": "x", "polcy": {}}}},
        {"engine": {"max_lora_rank": 24}},
        {"policy": {"scorer": "magic"}},
        {"server": {"port": 70000}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_the_schema_refuses_what_the_loader_refuses(tmp_path, wrong):
    """An editor that knows only the schema marks the same mistakes."""
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.validate(GOOD)
    assert not validator.is_valid({**GOOD, **wrong})
    path = tmp_path / "planners.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **wrong}))
    with pytest.raises(Exception, match="problem"):
        load_config(path)


def test_every_setting_is_explained():
    """Each leaf of the schema has a description or is a section that has one."""
    schema = json_schema()
    bare = [
        f"{name}.{key}"
        for name, section in {"Config": schema, **schema["$defs"]}.items()
        for key, field in section["properties"].items()
        if "description" not in field and "$ref" not in field
    ]
    assert bare == []
