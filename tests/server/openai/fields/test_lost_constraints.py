"""A constraint that the engine would not keep to is refused with the way to spell it."""

from __future__ import annotations

import pytest

from s3lora_serve.server.openai.fields.lost_constraints import check_not_lost
from s3lora_serve.server.validation import RequestRefused

SCHEMA = {"type": "object"}
NAMED = {"name": "x", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"type": "json_object", "schema": SCHEMA}, "schema", "ignored_field"),
        ({"type": "json_schema", "schema": SCHEMA}, "schema", "ignored_field"),
        ({"type": "json_schema", "json_schema": NAMED, "schema": SCHEMA}, "schema", "ignored_field"),
        ({"type": "text", "json_schema": NAMED}, "json_schema", "ignored_field"),
        ({"type": "json_object", "json_schema": NAMED}, "json_schema", "ignored_field"),
        ({"type": "json"}, "type", "invalid_request"),
        ({"type": "grammar", "grammar": "x"}, "type", "invalid_request"),
        ({"type": 7}, "type", "invalid_request"),
        ({}, "type", "invalid_request"),
        ({"type": "json_schema"}, "json_schema", "invalid_request"),
        ({"type": "json_schema", "json_schema": None}, "json_schema", "invalid_request"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "json_schema.schema", "invalid_request"),
        ({"type": "json_schema", "json_schema": {**SCHEMA}}, "json_schema.schema", "invalid_request"),
        ({"type": "json_schema", "json_schema": {"schema": "{}"}}, "json_schema.schema", "invalid_request"),
    ],
)
def test_a_response_format_that_constrains_nothing_is_refused(body, param, code):
    """The path of what would be lost, and how it is sent."""
    with pytest.raises(RequestRefused) as refused:
        check_not_lost({"response_format": body})
    error = refused.value
    assert (error.status, error.reason, error.param) == (400, code, f"response_format.{param}")
    assert '"json_schema": {"name": ..., "schema": ...}' in error.hint


@pytest.mark.parametrize("name", ["schema", "jsn", "guided_json"])
def test_an_unknown_kind_of_structured_outputs_is_refused(name):
    """Whatever it is: the object has nothing but constraints."""
    with pytest.raises(RequestRefused) as refused:
        check_not_lost({"structured_outputs": {name: SCHEMA}})
    assert (refused.value.reason, refused.value.param) == ("ignored_field", f"structured_outputs.{name}")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"response_format": None, "structured_outputs": None},
        {"response_format": 7, "structured_outputs": []},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": NAMED, "schema": None}},
        {"response_format": {"type": "structural_tag", "format": {}}},
        {"structured_outputs": {"json": SCHEMA, "regex": None}},
        {"structured_outputs": {"json_object": True, "whitespace_pattern": " ?"}},
    ],
)
def test_what_is_kept_to_passes(body):
    """What is no object is told elsewhere."""
    assert check_not_lost(body) is None
