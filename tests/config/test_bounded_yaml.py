"""A hostile planners.yaml is refused by name before it costs much: what is built is counted, not timed."""

from __future__ import annotations

import pytest
import yaml

from s3lora_serve.config import bounded_yaml, load_config
from s3lora_serve.config.bounded_yaml import MAX_BYTES, MAX_NODES, OverLimit, read_yaml
from s3lora_serve.errors import ConfigError

GOOD = "base_model: org/model\nplanners:\n  math: {source: hf://org/math@v1}\n"
LAUGHS = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 9)
)
# Each about as large as a file may be, and what is said of it.
HOSTILE = {
    "sexagesimal": ("x: 1" + ":1" * 300_000, "600001 > 64 characters that YAML reads as int"),
    "sexagesimal fraction": ("x: 1" + ":1" * 300_000 + ".5", "that YAML reads as float"),
    "sexagesimal in quotes": ('x: !!int "1' + ":1" * 300_000 + '"', "that YAML reads as int"),
    "many of them": ("x: [" + "1" + ":1" * 40 + "]", "81 > 64 characters"),
    "decimal": ("x: " + "7" * 600_000, "600000 > 64 characters that YAML reads as int"),
    "flat": ("x: [" + "1," * 300_000 + "]", "over 20000 values"),
    "keys given twice": ("x: 1\n" * 150_000, "over 20000 values"),
    "deep": ("x: " + "[" * 600_000, "nested deeper than 32 levels"),
    "merges of merges": (LAUGHS, "over 20000 values"),
    "a text and its aliases": (
        "a: &a " + "b" * 600_000 + "\nc: [*a, *a]",
        "over 1048576 characters, aliases written out",
    ),
    "a long key": ("? " + "a" * 600_000 + "\n: 1", "a key of 600000 > 256 characters"),
}


@pytest.fixture
def built(monkeypatch):
    """Counts the nodes that are composed and the values that are constructed."""
    counts = {"nodes": 0, "values": 0}
    compose, construct = yaml.SafeLoader.compose_node, yaml.SafeLoader.construct_object

    def composing(self, parent, index):
        counts["nodes"] += 1
        return compose(self, parent, index)

    def constructing(self, node, deep=False):
        counts["values"] += 1
        return construct(self, node, deep=deep)

    monkeypatch.setattr(yaml.SafeLoader, "compose_node", composing)
    monkeypatch.setattr(yaml.SafeLoader, "construct_object", constructing)
    return counts


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_file_is_refused_before_it_is_built(tmp_path, built, name):
    """By its line and its limit; at most as many nodes are made as a file may have, and no value of them."""
    text, reason = HOSTILE[name]
    path = tmp_path / "planners.yaml"
    path.write_text(GOOD + text + "\n")
    assert path.stat().st_size <= MAX_BYTES
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert f"{path}, line " in caught.value.message
    assert reason in caught.value.message
    assert len(caught.value.message) < 500
    assert built["nodes"] <= MAX_NODES
    assert built["values"] == 0


def test_a_text_that_many_aliases_name_is_read_once(monkeypatch):
    """Looking for control characters costs the length of what is written, not of what it unfolds to."""
    seen = 0
    category = bounded_yaml.unicodedata.category

    def counted(char):
        nonlocal seen
        seen += 1
        return category(char)

    monkeypatch.setattr(bounded_yaml.unicodedata, "category", counted)
    value = read_yaml("a: &a bcdefghijk\nc: [" + "*a, " * 1000 + "]")
    assert (value["c"], seen) == (["bcdefghijk"] * 1000, len("abcdefghijkc"))


def test_many_problems_are_counted_and_some_explained(tmp_path):
    """A file of thousands of mistakes gets an answer that fits a screen."""
    path = tmp_path / "planners.yaml"
    path.write_text(GOOD + "".join(f"k{i}: 1\n" for i in range(5000)))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    first, *rest = caught.value.message.splitlines()
    assert (first, len(rest), rest[-1]) == (f"{path} has 5000 problems:", 51, "  and 4950 more")


@pytest.mark.parametrize(
    "text",
    ["x: !!bool z", "x: !!timestamp z", 'x: !!int ""', "x: !!set [a]", "x: !!float z", "x: !!binary é"],
)
def test_a_tag_that_does_not_fit_is_named_with_its_line(text):
    """However PyYAML fails at it, the error is one of YAML's, with the place."""
    with pytest.raises(yaml.YAMLError) as caught:
        read_yaml(f"a: 1\n{text}\n")
    assert caught.value.problem_mark.line == 1


@pytest.mark.parametrize("text", ["12:30:45", "0x1f", "2026-11-30", "[1, 1.5, yes, null]", "{a: {b: c}}"])
def test_what_is_within_the_limits_is_read_as_before(text):
    """The limits change no value."""
    assert read_yaml(text) == yaml.safe_load(text)


def test_a_number_that_is_over_the_limit_is_no_text_by_mistake():
    """A long text in quotes is a text, and is not refused for its digits."""
    digits = "1" * 1000
    assert read_yaml(f"x: '{digits}'") == {"x": digits}
    with pytest.raises(OverLimit):
        read_yaml(f"x: {digits}")
