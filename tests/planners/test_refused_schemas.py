"""JSON Schemas that no tool may declare are refused by their place in the schema."""

import pytest
from argument_schemas import one
from hypothesis import given
from hypothesis import strategies as st

from planners.arguments import Arguments

DEEP = {"type": "string"}
for _ in range(4):
    DEEP = {"type": "array", "items": DEEP}
WIDE = {"type": "object", "properties": {f"p{n}": {"$ref": "#/$defs/x"} for n in range(12)}}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "string"}, "$: the arguments of a tool are an object"),
        ({"type": "object", "properties": {"a": 1}}, "$.properties.a: 1 is not a schema"),
        (one({}), "$.properties.a: any value at all is too much; say a type"),
        (one({"type": "text"}), "$.properties.a.type: 'text'; use object, array, string"),
        (one({"type": {"x": 1}}), "$.properties.a.type"),
        (one({"type": "string", "pattern": "^a+$"}), "$.properties.a.pattern: not supported here"),
        (one({"oneOf": [{"type": "string"}]}), "$.properties.a.oneOf: not supported here"),
        (one({"not": {"type": "string"}}), "$.properties.a.not: not supported here"),
        (one({"allOf": [{"type": "string"}, {"type": "null"}]}), "$.properties.a.allOf: only one schema"),
        (one({"anyOf": []}), "$.properties.a.anyOf: give a list of schemas"),
        (
            one({"type": "object", "additionalProperties": {"type": "integer"}}),
            "a.additionalProperties: a plan only",
        ),
        (one({"type": "object"}), "$.properties.a: name the properties of the object"),
        (one({"type": "array"}), "$.properties.a: say what the list holds"),
        (one({"type": "array", "prefixItems": [{"type": "string"}]}), "$.properties.a.prefixItems"),
        (one({"enum": []}), "$.properties.a.enum: give a list of 1 to 64 values"),
        (one({"enum": list(range(65))}), "$.properties.a.enum: give a list of 1 to 64 values"),
        (one({"enum": [["x"]]}), '$.properties.a.enum: ["x"] is not a string'),
        (one({"enum": ["C#"]}), "$.properties.a.enum: 'C#': '#' begins a reference"),
        (one({"enum": ["a\x00"]}), "U+0000"),
        (one({"type": "integer", "enum": ["x"]}), '$.properties.a.enum: "x" is not of type integer'),
        (one({"type": "integer", "minimum": 0.5}), "$.properties.a.minimum: 0.5; use a whole number"),
        (one({"type": "integer", "minimum": True}), "$.properties.a.minimum: True; use a whole number"),
        (one({"type": "integer", "maximum": 10**15}), "has more than 15 digits"),
        (one({"type": "integer", "minimum": 2, "maximum": 1}), "no number lies between its bounds 2 and 1"),
        (
            one({"type": "number", "minimum": 2, "exclusiveMaximum": 2}),
            "no number lies between its bounds 2 and 2",
        ),
        (one({"type": "integer", "minimum": float("nan")}), "$: this is not JSON"),
        (
            one({"type": "string", "minLength": 17}),
            "$.properties.a.minLength: 17; use a whole number from 0 to 16",
        ),
        (one({"type": "string", "maxLength": -1}), "$.properties.a.maxLength: -1"),
        (one({"type": "string", "minLength": 3, "maxLength": 2}), "3 is more than maxLength 2"),
        (one({"type": "string"}, required=["b"]), "$.required: list names of properties; 'b' is none"),
        (one({"type": "string"}, required="a"), "$.required: 'a' is not a list"),
        (
            one({"$ref": "other.json"}),
            "$.properties.a.$ref: 'other.json' is not one of this schema's own $defs",
        ),
        (one({"$ref": "#/$defs/x"}, **{"$defs": 3}), "'#/$defs/x' is not one of this schema's own $defs"),
        (
            one({"$ref": "#/$defs/x", "minLength": 1}, **{"$defs": {"x": {"type": "string"}}}),
            "$.properties.a.minLength",
        ),
        (
            one({"$ref": "#/$defs/x"}, **{"$defs": {"x": one({"$ref": "#/$defs/x"})}}),
            "#/$defs/x refers to itself",
        ),
        (one(DEEP), "nested deeper than 4 objects and lists"),
        (
            {"type": "object", "properties": {f"p{n}": {"type": "null"} for n in range(33)}},
            "33 properties, at most 32",
        ),
        (
            {**WIDE, "$defs": {"x": {**WIDE, "properties": {f"q{n}": {"type": "null"} for n in range(12)}}}},
            "more than 128 values",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "null", "title": "x" * 8000}}},
            "at most 8000; shorten",
        ),
        *(
            ({"type": "object", "properties": {name: {"type": "null"}}}, f"$.properties: name {name!r}")
            for name in ('a"', "a#", "a b", "", "1a", "a\n", "é", 'x": "root ::= y')
        ),
    ],
)
def test_refused_schemas_name_the_place(schema, message):
    """What cannot be kept is refused by its path in the schema, with what to do; nothing is dropped."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the text is compared whole)
        Arguments.of(schema)
    assert message in str(caught.value)


def test_bottomless_schemas_are_refused():
    """Neither deep nesting nor definitions within definitions exhaust anything."""
    deep: dict = {"type": "string"}
    for _ in range(100_000):
        deep = {"anyOf": [deep]}
    with pytest.raises(ValueError, match="this is not JSON"):
        Arguments.of(one(deep))
    doubling = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}
    with pytest.raises(ValueError, match="more than 128 values"):
        Arguments.of(one({"$ref": "#/$defs/d0"}, **{"$defs": {**doubling, "d60": {"type": "null"}}}))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["string", "#/$defs/x", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "items",
                    "anyOf",
                    "allOf",
                    "enum",
                    "const",
                    "$ref",
                    "$defs",
                    "required",
                    "minimum",
                    "maxLength",
                    "minItems",
                    "additionalProperties",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["properties", "$defs", "required", "anyOf", "$ref"]), _JSON))
def test_any_json_is_read_or_refused(schema):
    """Whatever a client sends as a schema gives arguments or a ValueError, never another error."""
    try:
        found = Arguments.of({"type": "object", **schema})
    except ValueError as error:
        message = str(error)
    else:
        message = "$ " + found.signature()
    assert message.startswith("$")
