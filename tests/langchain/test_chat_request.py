"""What ChatS3LoRA sends, and to whom."""

from __future__ import annotations

import copy

import pytest
from langchain_core.tools import tool
from pydantic import BaseModel, Field
from recorder import Recorder

from planners import ToolSpec
from planners.langchain import ChatS3LoRA
from planners.langchain.bounds import bounded


@tool
def search(query: str) -> str:
    """Search the web."""
    return query


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Person(BaseModel):
    """A person."""

    name: str = Field(description="full name")
    nickname: str = Field(max_length=5)


def key_of(model):
    return model.openai_api_key.get_secret_value()


@pytest.mark.parametrize("given", [{}, {"api_key": None, "base_url": None}])
def test_openais_environment_is_not_for_this_server(monkeypatch, given):
    """Neither OpenAI's key nor its address nor its proxy are used, also when None is given."""
    for name in ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL", "OPENAI_PROXY"):
        monkeypatch.setenv(name, "http://openai.example/v1")
    monkeypatch.delenv("S3LORA_API_KEY", raising=False)
    monkeypatch.delenv("S3LORA_BASE_URL", raising=False)
    model = ChatS3LoRA(model="p", **given)
    assert (model.openai_api_base, key_of(model), model.openai_proxy) == (
        "http://127.0.0.1:8000/v1",
        "none",
        None,
    )
    monkeypatch.setenv("S3LORA_API_KEY", "ours")
    monkeypatch.setenv("S3LORA_BASE_URL", "http://planners.example/v1")
    model = ChatS3LoRA(model="p", **given)
    assert (model.openai_api_base, key_of(model)) == ("http://planners.example/v1", "ours")


def test_what_is_given_goes_before_the_environment(monkeypatch):
    """A key and a URL in the constructor are the ones that a request uses."""
    monkeypatch.setenv("S3LORA_API_KEY", "other")
    recorder = Recorder(api_key="mine", base_url="http://here.example/v1")
    recorder.model.invoke("hi")
    (request,) = recorder.requests
    assert (str(request.url), request.headers["authorization"]) == (
        "http://here.example/v1/chat/completions",
        "Bearer mine",
    )


@pytest.mark.parametrize("name", ["gpt-5", "o1-mini", "codex", "gpt-6-planner", "gpt-5.5-pro"])
def test_a_planners_name_says_nothing_about_openais_models(name):
    """langchain-openai changes the temperature or the endpoint for such names; a planner keeps both."""
    recorder = Recorder(model=name, temperature=0.3)
    recorder.model.bind_tools([search]).invoke("hi")
    sent = (recorder.body["model"], recorder.body["temperature"], recorder.requests[0].url.path)
    assert sent == (name, 0.3, "/v1/chat/completions")
    assert "temperature" not in Recorder(model=name).body_of("hi")


def test_max_tokens_keeps_its_name():
    """The server's plans count max_tokens, and vLLM warns of nothing else."""
    assert Recorder(max_tokens=7).body_of("hi")["max_tokens"] == 7


def test_a_plan_is_asked_for_in_the_body():
    """with_plan and the call option plan send the same; LangChain tools become tools that plans can name."""
    recorder = Recorder()
    recorder.model.with_plan([search, add, ToolSpec(name="LLM")], max_steps=3).invoke("Why?")
    (text, json_tool, bare) = recorder.body["s3lora"]["plan"].pop("tools")
    assert recorder.body["s3lora"]["plan"].keys() - {"tools"} == {"max_steps"}
    assert (text, json_tool["name"], sorted(json_tool["parameters"]["properties"]), bare) == (
        {"name": "search", "description": "Search the web."},
        "add",
        ["a", "b"],
        {"name": "LLM"},
    )
    bound = recorder.body
    recorder.model.invoke("Why?", plan={"tools": [search, add, "LLM"], "max_steps": 3})
    assert recorder.body == bound


def test_a_plan_without_tools_leaves_them_to_the_server():
    """An empty list would be refused: the field is left out, and the planner's own tools count."""
    body = Recorder(max_text=50).body_of("Why?", plan={"tools": [], "evidence": {"#E1": "x"}})
    assert body["s3lora"] == {"plan": {"max_text": 50, "evidence": {"#E1": "x"}}}
    assert Recorder(max_text=50).body_of("Why?", plan={"max_text": 99})["s3lora"]["plan"] == {"max_text": 99}


def test_a_tool_that_no_plan_can_name_is_refused_before_anything_is_sent():
    """The message has a name that would do."""
    with pytest.raises(ValueError, match="web_search"):
        ChatS3LoRA(model="p").with_plan(["web search"])


def test_extra_bodies_are_joined():
    """What the instance, the call and our own options say arrives, the call's word first."""
    recorder = Recorder(extra_body={"top_k": 5, "s3lora": {"revision": "a" * 12}, "min_p": 0.1})
    recorder.model.bind(extra_body={"top_k": 9, "s3lora": {"plan": {"max_steps": 4}}}).invoke("hi")
    body = recorder.body
    assert (body["top_k"], body["min_p"], body["s3lora"]) == (
        9,
        0.1,
        {"revision": "a" * 12, "plan": {"max_steps": 4}},
    )
    given = {"top_k": 5}
    Recorder(extra_body=given, revision="b" * 12).body_of("hi", plan={"max_steps": 2})
    assert given == {"top_k": 5}


def test_a_revision_is_asked_for_of_the_instance_or_the_call():
    """The call's goes first; without one nothing of ours is in the body."""
    recorder = Recorder(revision="ab12cd34")
    assert recorder.body_of("hi")["s3lora"] == {"revision": "ab12cd34"}
    assert recorder.body_of("hi", revision="ffffffff")["s3lora"] == {"revision": "ffffffff"}
    assert "s3lora" not in Recorder().body_of("hi")
    with pytest.raises(ValueError, match="revision"):
        ChatS3LoRA(model="p", revision="latest")


def test_empty_tools_are_left_out():
    """vLLM refuses an empty list; a choice that needs a tool is an error, not silently lost."""
    recorder = Recorder()
    recorder.model.bind_tools([], parallel_tool_calls=False).invoke("hi")
    assert recorder.body.keys() & {"tools", "tool_choice", "parallel_tool_calls"} == set()
    with pytest.raises(ValueError, match="'required', but there are no tools"):
        recorder.model.bind_tools([], tool_choice="any").invoke("hi")


def test_tools_are_strict_unless_the_caller_says_otherwise():
    """Without strict the engine would leave arguments free."""
    recorder = Recorder()
    recorder.model.bind_tools([search]).invoke("hi")
    assert recorder.body["tools"][0]["function"]["strict"] is True
    recorder.model.bind_tools([search], strict=False).invoke("hi")
    assert recorder.body["tools"][0]["function"]["strict"] is False


@pytest.mark.parametrize("schema", [Person, Person.model_json_schema()], ids=["class", "dict"])
def test_strings_are_bounded_in_structured_output(schema):
    """max_text goes into the schema on the wire, a limit that is there stays; the answer is read as ever."""
    recorder = Recorder(answer={"name": "Ada", "nickname": "A"}, max_text=20)
    found = recorder.model.with_structured_output(schema).invoke("hi")
    sent = recorder.body["response_format"]["json_schema"]["schema"]["properties"]
    assert (sent["name"]["maxLength"], sent["nickname"]["maxLength"]) == (20, 5)
    assert found == (
        Person(name="Ada", nickname="A") if schema is Person else {"name": "Ada", "nickname": "A"}
    )


def test_strings_are_bounded_in_tools():
    """max_text goes into the arguments' schemas; without it nothing changes."""
    bodies = []
    for options in ({"max_text": 20}, {}):
        recorder = Recorder(**options)
        recorder.model.bind_tools([search]).invoke("hi")
        bodies.append(recorder.body["tools"][0]["function"]["parameters"]["properties"]["query"])
    assert [body.get("maxLength") for body in bodies] == [20, None]


def test_json_mode_has_no_schema_to_bound():
    """A response_format without a schema is sent as it is."""
    recorder = Recorder(answer={"name": "Ada"}, max_text=20)
    assert recorder.model.with_structured_output(None, method="json_mode").invoke("hi") == {"name": "Ada"}
    assert recorder.body["response_format"] == {"type": "json_object"}


def test_bounds_reach_every_string_and_nothing_else():
    """Strings in lists, alternatives, definitions and nullable types get it; data and other limits stay."""
    schema = {
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "maybe": {"type": ["string", "null"]},
            "list": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
            "choice": {"type": "string", "enum": ["a"]},
            "shaped": {"type": "string", "pattern": "^a$"},
            "ref": {"$ref": "#/$defs/Text"},
        },
        "$defs": {"Text": {"type": "string", "default": {"type": "string"}}},
        "additionalProperties": False,
    }
    before = copy.deepcopy(schema)
    expected = copy.deepcopy(schema)
    fields = expected["properties"]
    for text in (
        fields["type"],
        fields["maybe"],
        fields["list"]["items"]["anyOf"][0],
        fields["map"]["additionalProperties"],
        expected["$defs"]["Text"],
    ):
        text["maxLength"] = 9
    assert (bounded(schema, 9), schema) == (expected, before)
