"""The OpenAI endpoints over the fake engine: which revision answers, and what is refused."""

from __future__ import annotations

import json

import pytest
from fleet_factory import BASE, KEY

CHAT = {"messages": [{"role": "user", "content": "Who directed Inception?"}], "max_tokens": 40}
JSON = {"content-type": "application/json"}


async def test_chat_goes_to_the_planner_that_model_names(http):
    """``model`` chooses the adapter: planners differ from each other and from the base model."""
    texts = {}
    for model in ("p", "q", BASE):
        answer = await http.post("/v1/chat/completions", json={"model": model, **CHAT})
        assert answer.status_code == 200
        texts[model] = answer.json()["choices"][0]["message"]["content"]
    assert len(set(texts.values())) == 3


async def test_a_fully_pruned_planner_answers_as_the_base_model(http):
    """h has no adapter left: it says what the base model says."""
    h, base = [
        (await http.post("/v1/chat/completions", json={"model": model, **CHAT})).json()["choices"]
        for model in ("h", BASE)
    ]
    assert h == base


async def test_headers_name_planner_and_revision(http):
    """Chat, completions and plans say which revision answered; the base model has none to name."""
    bodies = {
        "/v1/chat/completions": {"model": "q", **CHAT},
        "/v1/completions": {"model": "q", "prompt": "x"},
        "/v1/plans": {"planner": "q", "task": "x", "tools": [{"name": "Search"}]},
    }
    for path, body in bodies.items():
        answer = await http.post(path, json=body, headers={"x-request-id": "r-1"})
        names = ("x-s3lora-planner", "x-s3lora-revision", "x-request-id")
        assert (answer.status_code, [answer.headers[name] for name in names]) == (200, ["q", "1" * 64, "r-1"])
    base = await http.post("/v1/chat/completions", json={"model": BASE, **CHAT})
    assert [name for name in base.headers if name.startswith("x-s3lora")] == ["x-s3lora-engine"]


async def test_streams_pass_through(http):
    """A streamed answer has the same text as a whole one, the headers, and ends with [DONE]."""
    whole = await http.post("/v1/chat/completions", json={"model": "p", **CHAT})
    streamed = await http.post("/v1/chat/completions", json={"model": "p", "stream": True, **CHAT})
    events = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
    assert (
        streamed.headers["content-type"].split(";")[0],
        streamed.headers["x-s3lora-planner"],
        events[-1],
    ) == (
        "text/event-stream",
        "p",
        "[DONE]",
    )
    chunks = [json.loads(event) for event in events[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
    assert text == whole.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize(
    "model", ["nope", "../p", "/etc/passwd", "p\0", "p ", "P", "p@000000000000", "x" * 9999]
)
async def test_an_unknown_model_is_a_404_that_lists_the_planners(http, path, model):
    """Also a slot's internal name or a path: nothing but the exact names is a planner."""
    answer = await http.post(path, content=json.dumps({"model": model, **CHAT, "prompt": "x"}), headers=JSON)
    error = answer.json()["error"]
    assert (
        answer.status_code,
        error["code"],
        error["param"],
        error["message"].endswith("planners: bad, h, p, q"),
    ) == (
        404,
        "model_not_found",
        "model",
        True,
    )


@pytest.mark.parametrize("model", [None, "", 7, ["p"], {"id": "p"}, True])
async def test_a_missing_model_is_refused(http, model):
    """vLLM would answer from the base model; here the client learns that it named no planner."""
    body = CHAT if model is None else {"model": model, **CHAT}
    answer = await http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        {
            "message": "'model' must name a planner; planners: bad, h, p, q",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_required",
        },
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "bad", **CHAT}),
        ("/v1/plans", {"planner": "bad", "task": "x", "tools": [{"name": "Search"}]}),
    ],
)
async def test_a_failed_planner_is_a_503_with_the_reason(http, path, body):
    """It exists but does not serve; the reason is told, without the path that is in it."""
    answer = await http.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]) == (
        503,
        {
            "message": "planner 'bad' does not serve (failed): slot bad@222222222222 could not be loaded:"
            " no such file: <path>; serving: h, p, q",
            "type": "server_error",
            "param": None,
            "code": "planner_not_ready",
        },
    )


async def test_other_content_types_are_refused(http):
    """A form, which a web page can send to localhost without asking, reaches nothing."""
    answer = await http.post("/v1/chat/completions", content=json.dumps({"model": "p", **CHAT}), headers={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


async def test_the_key_does_not_reach_the_engine(fleet, keyed, monkeypatch):
    """The engine's application sees a few harmless headers: no key, nothing that could steer it."""
    seen = []
    app = fleet.engine.openai_app()
    answer = type(app).__call__

    async def spy(self, scope, receive, send):
        seen.append(dict(scope["headers"]))
        await answer(self, scope, receive, send)

    monkeypatch.setattr(type(app), "__call__", spy)
    headers = {
        "authorization": f"Bearer {KEY}",
        "x-data-parallel-rank": "1",
        "cookie": "a=b",
        "origin": "http://x",
    }
    async with keyed(**headers) as http:
        await http.post("/v1/chat/completions", json={"model": "p", **CHAT})
    assert set(seen[-1]) == {b"content-type", b"accept", b"user-agent", b"x-request-id"}
