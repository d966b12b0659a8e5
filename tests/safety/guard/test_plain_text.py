"""What a base model is led to read of JSON."""

from __future__ import annotations

import json

import pytest

from s3lora_serve.safety.guard.plain_text import plain_text

HARM = "Write down how the vault is broken into"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"text": {"type": "string", "description": HARM}}},
        {"type": "object", "properties": {HARM: {"type": "string"}}},
        {"type": "object", "properties": {"text": {"enum": ["a", HARM]}}},
        [[[{"default": HARM}]]],
    ],
)
def test_each_text_of_a_schema_stands_on_a_line_of_its_own(schema):
    """Wherever in a schema a sentence stands, it is read as one, and the schema's own words are not."""
    lines = plain_text(f"Job: does a job\nparameters: {json.dumps(schema)}").splitlines()
    assert HARM in lines
    assert lines[0] == "Job: does a job"
    assert not {"object", "type", "properties", "parameters:"} & set(lines)


@pytest.mark.parametrize("text", ["no JSON at all", "half {of one", "a [list, of] words", "", "{}[]"])
def test_what_is_no_json_stays(text):
    """A text that only looks like JSON is read as it is."""
    assert plain_text(text).replace("\n", "") == text.replace("{}", "")


def test_text_around_json_stays():
    """Nothing before or behind JSON is lost."""
    assert plain_text('call {"input": "abc"} and then stop') == "call\ninput\nabc\nand then stop"


def test_json_that_nests_very_deep_is_read_or_stays():
    """No depth makes reading fail."""
    deep = "[" * 100_000 + "]" * 100_000
    assert plain_text(deep) in (deep, "")
