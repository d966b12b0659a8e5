"""A guard over the real engine: vLLM's fields are known to it, and a refusal ends what vLLM was asked.

The judge goes by a word of the request, not by what a model says.
"""

from __future__ import annotations

import asyncio
import json

import pytest
import pytest_asyncio
from orders import until
from real_fleet import ASK, QUESTION, real_fleet
from scripted_judge import HARM, ScriptedJudge, guards_by

from s3lora_serve.server.openai.guarded.guard_fields import (
    HARMLESS,
    JUDGED,
    SLIPS,
    UNKNOWN_TO_THE_ENGINE,
)

pytestmark = pytest.mark.engine

CHAT, TEXT, PLAN = "/v1/chat/completions", "/v1/completions", "/v1/plans"
HARMFUL = [{"role": "user", "content": f"a {HARM}"}]
LONG = {"max_tokens": 1500, "ignore_eos": True}  # far longer than any verdict takes
ASKS = {
    "chat": (CHAT, {"model": "p", "messages": HARMFUL, **LONG}),
    "chat stream": (CHAT, {"model": "p", "messages": HARMFUL, **LONG, "stream": True}),
    "text": (TEXT, {"model": "p", "prompt": f"a {HARM}", **LONG}),
    "text stream": (TEXT, {"model": "p", "prompt": f"a {HARM}", **LONG, "stream": True}),
    "plan": (PLAN, {"planner": "p", "task": f"a {HARM}", "tools": [{"name": "Search"}]}),
    "plan stream": (
        PLAN,
        {"planner": "p", "task": f"a {HARM}", "tools": [{"name": "Search"}], "stream": True},
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(vllm_engine, demo_base, client_of, tmp_path_factory):
    """Planner p, guarded, and its judge."""
    judge, root = ScriptedJudge(), tmp_path_factory.mktemp("guarded store")
    guards = guards_by(judge, "p")
    async with real_fleet(vllm_engine, demo_base, client_of, root, "p", guards=guards) as fleet:
        yield fleet, judge


@pytest.mark.parametrize("kind", ASKS)
async def test_a_refusal_ends_what_vllm_was_asked(served, kind):
    """In the midst of a long answer: nothing was sent before, and vLLM works on it no more."""
    fleet, judge = served
    path, body = ASKS[kind]
    judge.gate.clear()
    asking = asyncio.create_task(fleet.http.post(path, json=body))
    await until(lambda: fleet.held() == (1, 1))
    await asyncio.sleep(0.1)  # some tokens
    assert not asking.done()
    judge.gate.set()
    answer = await asking
    await until(lambda: fleet.held() == (0, 0))
    if path == PLAN:
        assert (answer.status_code, answer.json()["error"]["part"]) == (403, "task")
        return
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    last = json.loads(lines[-2] if body.get("stream") else answer.text)
    assert (answer.status_code, last["usage"]["completion_tokens"]) == (200, 0)
    assert (last["usage"]["prompt_tokens"] > 0, last["s3lora"]["guard"]["verdict"]) == (True, "refused")
    assert '"finish_reason":"content_filter"' in answer.text


@pytest.mark.parametrize("stream", [False, True])
async def test_an_allowed_answer_is_whole(served, stream):
    """All that vLLM wrote before and after the verdict, in its order, with the verdict at its end."""
    fleet, judge = served
    body = {"model": "p", **ASK, "max_tokens": 30, "stream": stream, "seed": 7}
    texts = []
    for seconds in (0.0, 0.2):
        judge.seconds = lambda seconds=seconds: seconds
        answer = await fleet.http.post(CHAT, json=body)
        lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
        parts = [json.loads(line) for line in lines[:-1]] if stream else [answer.json()]
        choices = [choice for part in parts for choice in part["choices"]]
        texts.append("".join((c.get("delta") or c.get("message")).get("content") or "" for c in choices))
        assert (parts[-1]["usage"]["completion_tokens"], parts[-1]["s3lora"]["guard"]["verdict"]) == (
            30,
            "allowed",
        )
    assert texts[0] != ""


async def test_an_error_of_vllms_is_told(served):
    """What vLLM says of the request itself: with its own status, as without a guard."""
    fleet, _ = served
    answer = await fleet.http.post(CHAT, json={"model": "p", **QUESTION, "temperature": -1})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "engine_refused")


async def test_every_field_of_vllms_is_known_to_the_guard(vllm_engine):
    """Judged, harmless, or refused; and what is taken for unknown to vLLM is."""
    schemas = vllm_engine.openai_app().openapi()["components"]["schemas"]
    fields = {
        name
        for kind in ("ChatCompletionRequest", "CompletionRequest")
        for name in schemas[kind]["properties"]
    }
    assert fields - JUDGED - HARMLESS - set(SLIPS) == {"add_special_tokens"}
    assert fields & UNKNOWN_TO_THE_ENGINE == set()
