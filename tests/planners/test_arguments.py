"""Which JSON Schemas a tool may declare, what fits them, and how a prompt shows them."""

import enum
from typing import Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field

from planners.arguments import Arguments, grammar_parts


def one(schema, **more) -> dict:
    """The schema of an object with one optional property, ``a``."""
    return {"type": "object", "properties": {"a": schema}, **more}


def problems(schema, value, known=()) -> tuple[str, ...]:
    """Problems of ``value`` as property ``a``."""
    return Arguments.of(one(schema)).problems({"a": value}, known)


class Color(enum.StrEnum):
    """What pydantic puts into $defs."""

    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    """A nested model."""

    city: str
    zip: Optional[str] = None  # noqa: UP045  (pydantic writes both spellings as anyOf)


@tool
def find(
    query: str,
    limit: int = 3,
    color: Color = Color.RED,
    near: Place | None = None,
    kind: Literal["a", "b"] = "a",
    only: Literal["z"] = "z",
    tags: list[str] = [],  # noqa: B006  (LangChain copies it)
    places: list[Place] = [],  # noqa: B006
    either: int | str = 3,
    score: float = Field(default=0.5, ge=0, le=1, description="how sure"),
) -> str:
    """Find something."""
    return query


SIGNATURE = (
    '{"query": string, "limit"?: integer, "color"?: "red" | "blue", '
    '"near"?: {"city": string, "zip"?: string | null} | null, "kind"?: "a" | "b", "only"?: "z", '
    '"tags"?: string[], "places"?: {"city": string, "zip"?: string | null}[], '
    '"either"?: integer | string, "score"?: number}'
)


def test_langchain_tools_are_understood():
    """A tool's args_schema and its OpenAI form mean the same: unions, enums, nested models, bounds."""
    ours = Arguments.of(find.args_schema.model_json_schema())
    assert ours == Arguments.of(convert_to_openai_tool(find)["function"]["parameters"])
    assert ours.signature() == SIGNATURE


def test_an_mcp_tool_is_understood():
    """What an MCP server lists as inputSchema, here that of its reference "fetch" server."""
    schema = {
        "description": "Parameters for fetching a URL.",
        "properties": {
            "url": {
                "description": "URL to fetch",
                "format": "uri",
                "minLength": 1,
                "title": "Url",
                "type": "string",
            },
            "max_length": {
                "default": 5000,
                "exclusiveMaximum": 1000000,
                "exclusiveMinimum": 0,
                "type": "integer",
            },
            "raw": {"default": False, "title": "Raw", "type": "boolean"},
        },
        "required": ["url"],
        "title": "Fetch",
        "type": "object",
        "additionalProperties": False,
        "$schema": "http://json-schema.org/draft-07/schema#",
    }
    arguments = Arguments.of(schema)
    assert arguments.signature() == '{"url": string, "max_length"?: integer, "raw"?: boolean}'
    assert arguments.problems({"url": "x", "max_length": 0}) == ("$.max_length: 0 is below 1",)


def test_a_tool_without_arguments():
    """An object without properties is a tool that takes nothing."""
    nothing = Arguments.of({"type": "object", "properties": {}})
    assert nothing.signature() == "{}"
    assert nothing.problems({}) == ()
    assert nothing.problems({"a": 1}) == ("$: property 'a' is not one of none",)


def test_descriptions_do_not_matter():
    """Schemas that differ in annotations only are equal, so that they share one grammar."""
    plain = one({"type": "integer"})
    told = one({"type": "integer", "description": "root ::=", "title": "T", "default": 1}, title="X")
    assert Arguments.of(plain) == Arguments.of(told)
    assert Arguments.of(one({"const": 1})) != Arguments.of(one({"const": True}))


@pytest.mark.parametrize(
    ("schema", "fitting", "wrong"),
    [
        (
            {"type": "string"},
            ["", "x\n\ty", "日本", '"\\[]{}'],
            [1, None, ["x"], "a#b", "\x00", "\x7f", "\u2028", "\ud800"],
        ),
        ({"type": "string", "minLength": 1, "maxLength": 2}, ["a", "日本"], ["", "abc"]),
        ({"type": "integer"}, [0, -5, 10**14], [1.0, True, "1", None]),
        ({"type": "integer", "minimum": 1, "maximum": 3}, [1, 3], [0, 4]),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3}, [2], [1, 3]),
        ({"type": "number"}, [0, 1.5, -2], [False, "1", float("nan"), float("inf")]),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, [0.001, 1, 1.0], [0, 0.0, 1.001]),
        ({"type": "boolean"}, [True, False], [1, 0, "true", None]),
        ({"type": "null"}, [None], [0, "", False]),
        ({"enum": ["a", 1, None, 0.5]}, ["a", 1, None, 0.5], ["b", True, 1.0, [], "1"]),
        ({"const": 'a"b'}, ['a"b'], ["a"]),
        ({"type": ["string", "null"]}, ["x", None], [1]),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, [1, None], ["x", 1.5]),
        (
            {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
            [[1], [1, 2]],
            [[], [1, 2, 3], ["x"], 1],
        ),
        (one({"type": "integer"}, required=["a"]), [{"a": 1}], [{}, {"a": 1, "b": 2}, {"a": "x"}, []]),
    ],
)
def test_what_fits(schema, fitting, wrong):
    """Each type takes its values and no others; nothing is converted."""
    assert [value for value in fitting if problems(schema, value)] == []
    assert [value for value in wrong if not problems(schema, value)] == []


EVERY_TYPE = [
    {"type": "string", "maxLength": 1},
    {"type": "integer", "maximum": 1},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "null"},
    {"enum": ["a", "b"]},
    {"type": "array", "items": {"type": "integer"}},
    one({"type": "integer"}, required=["a"]),
    {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
]


@pytest.mark.parametrize("schema", EVERY_TYPE, ids=lambda schema: str(next(iter(schema.values()))))
def test_a_known_result_may_stand_for_any_value(schema):
    """ "#E1" as a whole fits every type once that result exists, and none before."""
    assert problems(schema, "#E1", {"#E1"}) == ()
    assert problems(schema, "#E12", {"#E1"}) == ("$.a: #E12 is not an earlier result",)


def test_the_arguments_themselves_are_no_reference():
    """What stands for the whole object would leave the tool without any argument that can be checked."""
    assert Arguments.of(one({"type": "string"})).problems("#E1", {"#E1"}) != ()


def test_references_in_text():
    """Within a string references stand anywhere; its length counts only when it has none."""
    short = {"type": "string", "maxLength": 3, "minLength": 2}
    assert problems(short, "see #E1 and #E2!", {"#E1", "#E2"}) == ()
    assert problems({"type": "string"}, "see #E3", {"#E1"}) == ("$.a: #E3 is not an earlier result",)
    assert problems({"type": "integer"}, "see #E1", {"#E1"}) == ("$.a: 'see #E1' is not an integer",)


def test_problems_name_their_place():
    """Each problem begins with the JSON path of the value."""
    schema = one({"type": "array", "items": one({"type": "integer"}, required=["a"])}, required=["a"])
    assert Arguments.of(schema).problems({"a": [{"a": 1}, {"b": "x"}]}) == (
        "$.a[1]: property 'b' is not one of a",
        "$.a[1]: property 'a' is missing",
    )
    assert Arguments.of(schema).problems({}) == ("$: property 'a' is missing",)


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


def test_what_a_grammar_costs():
    """Values count at each step, literals once; equal arguments count once."""
    some = Arguments.of(
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {"enum": ["x" * 600]}}}
    )
    assert grammar_parts([], 8) == 0
    assert grammar_parts([some], 8) == grammar_parts([some, some], 8) == 3 * 8 + 100
    assert grammar_parts([some], 16) == 3 * 16 + 100


def test_what_bounds_of_numbers_cost():
    """Each other pair of long bounds counts, since 2,000 of 15 digits would compile for a minute."""

    def numbers(kind, many, low, high):
        bounds = [{"type": kind, "minimum": low - n, "maximum": high + n} for n in range(many)]
        return Arguments.of({"type": "object", "properties": {f"a{n}": b for n, b in enumerate(bounds)}})

    names = sum(len(f"a{n}") for n in range(32)) // 6
    long = numbers("number", 32, -(10**14), 10**14)
    assert grammar_parts([long], 1) == 33 + names + 32 * 37
    assert grammar_parts([long], 8) == 8 * 33 + names + 32 * 37
    assert grammar_parts([numbers("integer", 32, -(10**14), 10**14)], 1) == 33 + names + 32 * 18
    assert grammar_parts([numbers("number", 1, 0, 100), numbers("number", 1, 0, 100)], 1) == 2
