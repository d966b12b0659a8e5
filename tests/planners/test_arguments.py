"""What JSON Schemas of a tool mean: the values that fit, how a prompt shows them, their cost in a grammar."""

import enum
from typing import Literal, Optional

import pytest
from argument_schemas import one
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field

from planners.arguments import Arguments, grammar_parts


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
