"""Bodies of ``POST /v1/plans`` that are not worth planning: each is refused soon, and named by its fault."""

from __future__ import annotations

import json

import httpx
import pydantic
import pytest

from planners import PlanRequest
from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app
from s3lora_serve.server.plans.plan_body import MAX_OBJECTS, MAX_UNKNOWN, PlanRoute

BODY = {"planner": "p", "task": "Who directed Inception?", "tools": [{"name": "Search"}], "max_steps": 3}
PLAIN = PlanRequest.model_validate(BODY)
AS_JSON = {"content-type": "application/json"}


@pytest.fixture
def large(fleet):
    """A client of an application that takes bodies of 4 MiB, as it does when nothing is configured."""
    app = create_app(fleet.service, ServerConfig(), None)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000")


async def refusal(http, content, headers=AS_JSON):
    """Status and error of the answer to these bytes, or to this object as JSON."""
    content = content if isinstance(content, bytes | str) else json.dumps(content)
    answer = await http.post("/v1/plans", content=content, headers=headers)
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"taks": 1} | {f"f{i}": 1 for i in range(200_000)},
            "over 64 unknown fields, the first one 'taks'; did you mean 'task'?",
        ),
        (
            {"tools": [{"name": "A", **{f"nam{j}": 1 for j in range(1_500)}} for _ in range(200)]},
            "over 64 unknown fields, the first one 'nam0'; did you mean 'name'?",
        ),
    ],
)
async def test_many_unknown_fields_are_refused_before_they_are_checked(large, monkeypatch, changes, message):
    """pydantic is not asked, since it would make an error of each and block all other requests meanwhile."""
    checked = []
    monkeypatch.setattr(pydantic.TypeAdapter, "validate_python", lambda *_, **__: checked.append(1) or PLAIN)
    status, error = await refusal(large, {**BODY, **changes})
    assert (status, error["code"], checked) == (400, "ignored_field", [])
    assert error["message"] == message
    await large.post("/v1/plans", json=BODY)
    assert checked  # a body like any other is


async def test_a_few_unknown_fields_are_all_checked(http):
    """Up to the bound they are told with whatever else is wrong."""
    fields = {f"f{i}": 1 for i in range(MAX_UNKNOWN)}
    status, error = await refusal(http, {**BODY, **fields, "max_steps": 0})
    assert (status, error["code"], error["param"]) == (400, "invalid_request", "max_steps")
    assert "unknown field 'f0'" in error["message"]
    assert "more problems" in error["message"]


async def test_too_many_objects_are_refused_while_they_are_read(large):
    """A body of objects alone is given up at the bound; one object fewer is read, and then checked."""
    objects = [{}] * MAX_OBJECTS
    status, error = await refusal(large, {**BODY, "tools": objects})
    assert (status, error["code"], str(MAX_OBJECTS) in error["message"]) == (400, "over_limit", True)
    status, error = await refusal(large, {**BODY, "tools": objects[:-1]})
    assert (status, error["param"]) == (400, "tools")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('{"planner": "p", "task": "a", "task": "b"}', "task"),
        ('{"planner": "p", "task": "a", "evidence": {"#E1": "x", "#E1": "y"}}', "#E1"),
        ('{"planner": "p", "task": "a", "tools": [{"name": "A", "name": "B"}]}', "name"),
        ('{"planner": "p", "\\u0074ask": "a", "task": "b"}', "task"),
    ],
)
async def test_a_field_given_twice_is_refused(http, content, name):
    """Whichever of the two counted, the other would silently have no effect."""
    status, error = await refusal(http, content)
    assert (status, error["code"], error["param"]) == (400, "ignored_field", name)
    assert f"field {name!r} is given twice" in error["message"]


@pytest.mark.parametrize(
    "sent", ["text/plain", "application/x-www-form-urlencoded", "application/ld+json", ""]
)
@pytest.mark.parametrize("path", ["/v1/plans", "/v1/chat/completions"])
async def test_another_content_type_is_a_415_on_both_routes(http, path, sent):
    """What is not sent as JSON is not read as JSON, with the same words on every route."""
    answer = await http.post(path, content=json.dumps(BODY), headers={"content-type": sent})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (415, "unsupported_media_type")
    assert error["message"] == f"content-type {sent!r}; send application/json"


async def test_a_content_type_with_a_charset_is_json(http):
    """Parameters of the type and its case change nothing."""
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    answer = await http.post("/v1/plans", content=json.dumps(BODY), headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a":' * 20_000, "the JSON is nested too deeply"),
        (b'{"task": "\xff"}', "the body is not JSON: 'utf-8' codec can't decode"),
        (b'{"seed": ' + b"9" * 5_000 + b"}", "the body is not JSON: Exceeds the limit (4300 digits)"),
        (b"[1]", "the body must be a JSON object"),
        (b"", "the body is not JSON: Expecting value"),
    ],
)
async def test_what_no_parser_should_take_is_a_400(large, content, message):
    """Depth, encoding and digits are named, and none of them is a defect of the server."""
    status, error = await refusal(large, content)
    assert (status, error["code"], error["message"][: len(message)]) == (400, "invalid_json", message)


async def test_an_unknown_planner_names_the_field(http):
    """As the chat route does with ``model``."""
    status, error = await refusal(http, {**BODY, "planner": "x"})
    assert (status, error["code"], error["param"]) == (404, "unknown_planner", "planner")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tools": 5}, "tools: should be a list, not 5"),
        ({"tools": {}}, "tools: should be a list, not an object of 0 entries"),
        ({"tools": [5]}, "tools[0]: should be an object, not 5"),
        (
            {"tools": [{"name": "A", "parameters": []}]},
            "tools[0].parameters: should be an object, not a list",
        ),
        ({"evidence": []}, "evidence: should be an object, not a list of 0 entries"),
        ({"feedback": "x"}, "feedback: should be a list, not 'x'"),
        ({"feedback": ["x"] * 30}, "feedback: should have at most 20 entries, not 30"),
        ({"task": None}, "task: Input should be a valid string, not null"),
    ],
)
async def test_problems_are_told_in_the_words_of_json(http, changes, message):
    """A client that is not written in Python has lists and objects, and no tuples or instances."""
    status, error = await refusal(http, {**BODY, **changes})
    assert (status, error["message"][: len(message)], error["param"]) == (400, message, message.split(":")[0])


@pytest.mark.parametrize("field", ["max_steps", "temperature", "seed", "max_text", "repair", "stream"])
async def test_a_value_of_another_type_is_refused(http, field):
    """No text stands for a number, and no number for yes or no: what was meant is not guessed."""
    flag = field in ("repair", "stream")
    for value in ("true", 1, 0, "") if flag else (True, False, "2", "", [1]):
        status, error = await refusal(http, {**BODY, field: value})
        assert (status, error["code"], error["param"]) == (400, "invalid_request", field), value


async def test_a_whole_number_stands_for_a_float(http):
    """JSON has one kind of number: clients write 1 for 1.0."""
    answer = await http.post("/v1/plans", json={**BODY, "temperature": 1, "seed": 3, "max_text": 100})
    assert answer.status_code == 200


async def test_the_description_has_the_body_still(http):
    """That the body is read by hand leaves its schema and its examples in the description."""
    described = (await http.get("/openapi.json")).json()
    content = described["paths"]["/v1/plans"]["post"]["requestBody"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/PlanRequest"}
    assert (len(content["examples"]), PlanRoute.__mro__[1].__name__) == (4, "APIRoute")
