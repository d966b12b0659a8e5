"""The engine's errors as clients are told them: a sentence, the place as OpenAI writes it, one code."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from fastapi import FastAPI
from pydantic import BaseModel, Field, model_validator
from request_kinds import ASK, CHAT, SAY, TEXT, engine_app, held
from starlette.responses import JSONResponse

from s3lora_serve.server.openai.engine_refusal import EngineRefusal, as_openai, told_of

LONG = (
    "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input"
    " tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input"
    " prompt."
)


def refusal(message, status=400, param=None, code=None):
    """What becomes of this error."""
    error = {"message": message, "type": "x", "param": param, "code": code or status}
    return EngineRefusal.of(status, json.dumps({"error": error}).encode(), lambda text: text)


@pytest.mark.parametrize(
    "message",
    [
        LONG,
        "The decoder prompt (length 9) is longer than the maximum model length of 8. Make sure that",
        "Input length (9) exceeds model's maximum context length (8).",
        "'max_tokens' or 'max_completion_tokens' is too large: 9. This model's maximum context length is 8",
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_prompt_that_is_too_long_has_openais_code(message, status):
    """LangChain and others read it; vLLM has no code for it."""
    told = refusal(f"{message} (parameter=input_tokens, value=2049)", status, "input_tokens")
    assert told == EngineRefusal(400, message, "context_length_exceeded", "messages")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)", True),
        ("`tools` must not be an empty array. Either provide one or omit it. (parameter=tools)", True),
        ("top_k must be 0 (disable), or at least 1, got -5.", True),
        ("'NoneType' object is not iterable", False),
        ("1 validation error:\n  {'type': 'x', 'loc': 'body.n'}", False),
        ("'function'", False),
        ("unhashable type: 'dict'", False),
        ("'<' not supported between instances of 'str' and 'int'", False),
        ("Expecting value: line 1 column 1 (char 0)", False),
    ],
)
def test_sentences_are_told_and_the_insides_are_not(message, told):
    """What an exception of Python's says is for the log."""
    said = refusal(message, param="body.n")
    assert (said.status, said.code, said.param) == (400, "engine_refused", "n")
    expected = message.partition(" (parameter=")[0] if told else "n: the engine cannot read this request"
    assert said.message == expected


def test_of_a_failure_nothing_is_told(caplog):
    """Its text is an exception's; the log has it."""
    said = refusal("EngineCore: assert out_logprobs is not None", 500, "x")
    assert said == EngineRefusal(
        500, "the engine failed; the server's log has it under this request's id", "engine_error"
    )
    assert "out_logprobs" in caplog.text


@pytest.mark.parametrize("body", [b"", b"failed", b"[]", b'{"error": 7}', b'{"error": {}}'])
@pytest.mark.parametrize(("status", "code"), [(400, "engine_refused"), (502, "engine_error")])
def test_an_answer_that_is_no_error_object_is_told_of_all_the_same(body, status, code):
    """In our shape, by its status."""
    said = EngineRefusal.of(status, body, str)
    assert (said.status, said.code, bool(said.message)) == (status, code, True)


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("body.messages.0.content", "messages[0].content"),
        ("messages[2].content.1", "messages[2].content[1]"),
        ("tool_choice.function.name", "tool_choice.function.name"),
        ("stream_options", "stream_options"),
        ("body", "body"),
    ],
)
def test_places_are_written_as_openai_does(path, written):
    """Whoever wrote them first."""
    assert as_openai(path) == written


class Options(BaseModel):
    """As vLLM has some."""

    many: int


class Asked(BaseModel):
    """A body whose fields go wrong in each of the ways that vLLM's do."""

    model: str = ""
    messages: list[dict[str, object]] = []
    temperature: float | None = None
    stop: str | list[str] | None = None
    seed: int = Field(0, ge=0)
    options: Options | None = None

    @model_validator(mode="after")
    def check(self):
        """As vLLM checks some."""
        if self.seed == 13:
            raise ValueError("seed must be lucky (parameter=seed, value=13)")
        return self


@pytest.mark.parametrize(
    ("given", "param", "message"),
    [
        ({"temperature": "hot"}, "temperature", "temperature: Input should be a valid number, unable"),
        ({"stop": 7}, "stop", "stop: Input should be a valid string or a valid list, not 7"),
        ({"stop": [7]}, "stop", "stop: Input should be a valid string"),
        ({"seed": -1}, "seed", "seed: Input should be greater than or equal to 0, not -1"),
        ({"options": {}}, "options.many", "field 'options.many' is required"),
        ({"seed": 13}, None, "seed must be lucky"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_fields_of_another_type_are_told_by_their_place(
    served, app, ended, monkeypatch, given, param, message, stream
):
    """Over HTTP, from an application that validates as vLLM's does; the lease is no client's that left."""
    engine = FastAPI()

    @engine.post(CHAT)
    async def chat(body: Asked):
        return JSONResponse({"choices": []})

    monkeypatch.setattr(served.engine, "openai_app", lambda: engine)
    call = AsgiCall(app, CHAT, {**ASK, **given, "stream": stream})
    await call
    error = json.loads(call.text)["error"]
    assert (call.status, error["code"], error["type"]) == (400, "invalid_request", "invalid_request_error")
    assert (error["param"] if param else None, error["message"][: len(message)]) == (param, message)
    assert (held(served), ended) == ((0, 0), [("p", "active", "refused")])


def test_a_place_holds_nothing_but_what_the_body_has():
    """Validation also names the types that it tried."""
    loc = ("body", "messages", 0, "ChatCompletionUserMessageParam", "content", "list[union[a,b]]", 1, "text")
    body = {"messages": [{"content": ["x", {"text": 7}]}]}
    error = {"type": "string_type", "loc": loc, "msg": "Input should be a valid string", "input": 7}
    assert told_of([error], body) == (
        "messages[0].content[1].text: Input should be a valid string, not 7",
        "messages[0].content[1].text",
    )
    missing = {**error, "type": "missing", "loc": ("body", "function-wrap[f()]", "prompt")}
    assert told_of([missing], {}) == ("field 'prompt' is required", "prompt")


@pytest.mark.parametrize(("path", "body", "param"), [(CHAT, ASK, "messages"), (TEXT, SAY, "prompt")])
@pytest.mark.parametrize("stream", [False, True])
async def test_clients_know_a_prompt_that_is_too_long(
    served, app, ended, monkeypatch, path, body, param, stream
):
    """openai's exception for a 400, with the code and the field that has the prompt."""

    async def refuse(request):
        error = {"message": LONG, "type": "BadRequestError", "param": "input_tokens", "code": 400}
        return JSONResponse({"error": error}, 400)

    engine_app(served, monkeypatch, refuse)
    call = AsgiCall(app, path, {**body, "stream": stream})
    await call
    error = json.loads(call.text)["error"]
    assert (call.status, error["code"], error["param"]) == (400, "context_length_exceeded", param)
    assert (held(served), ended) == ((0, 0), [("p", "active", "refused")])


async def test_a_busy_engine_says_when_to_ask_again(served, app, monkeypatch):
    """vLLM's 503 for a full queue: with its sentence, and Retry-After as every 503 has."""

    async def busy(request):
        error = {"message": "The engine is busy.", "type": "Service Unavailable", "param": None, "code": 503}
        return JSONResponse({"error": error}, 503)

    engine_app(served, monkeypatch, busy)
    call = AsgiCall(app, CHAT, ASK)
    await call
    assert (call.status, json.loads(call.text)["error"]["message"], call.headers["retry-after"]) == (
        503,
        "The engine is busy.",
        "10",
    )
