"""Responses over the real engine: dictated as a chat is, forced to call, and a plan under its grammar."""

from __future__ import annotations

import json

import pytest
import pytest_asyncio
from blanks import no_blanks
from engine_factory import MAX_MODEL_LEN
from real_fleet import real_fleet

from planners import Plan
from s3lora_serve.server.openai.fields.steering_fields import STEERING
from s3lora_serve.server.openai.guarded.guard_fields import HARMLESS, JUDGED, SLIPS, UNKNOWN_TO_THE_ENGINE
from s3lora_serve.server.openai.plan_chat import FIGHTING
from s3lora_serve.server.openai.responses.checked_response import _PASSED
from s3lora_serve.server.openai.responses.response_fields import REFUSED

pytestmark = pytest.mark.engine

RESPONSES = "/v1/responses"
ASK = {
    "model": "p",
    "input": "Who directed Inception?",
    "temperature": 0,
    "max_output_tokens": 8,
    "ignore_eos": True,
}
FLAG = {
    "type": "object",
    "properties": {"a": {"enum": [True]}},
    "required": ["a"],
    "additionalProperties": False,
}
OURS = {"input", "instructions"}  # read into messages


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(vllm_engine, demo_base, client_of, tmp_path_factory):
    """Planner p."""
    root = tmp_path_factory.mktemp("responses store")
    async with real_fleet(vllm_engine, demo_base, client_of, root, "p") as fleet:
        yield fleet


async def test_a_response_and_its_stream_say_the_same(served):
    """Eight tokens of p's adapter, cut as OpenAI tells it, with planner and cost; nothing names the slot."""
    whole = await served.http.post(RESPONSES, json=ASK)
    stream = await served.http.post(RESPONSES, json={**ASK, "stream": True})
    events = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: ")]
    answer, last = whole.json(), events[-1]["response"]
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.incomplete")
    for one in (answer, last):
        assert (one["model"], one["status"], one["store"]) == ("p", "incomplete", False)
        assert one["cost"]["output_tokens"] == one["usage"]["output_tokens"] == 8
        assert one["s3lora"]["planner"] == "p"
    deltas = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert last["output"][0]["content"][0]["text"] == deltas
    assert "p@" not in whole.text + stream.text
    assert served.held() == (0, 0)


async def test_a_forced_call_fits_its_schema(served, demo_base):
    """Whatever the model would say: the arguments are decoded under it."""
    tool = {"type": "function", "name": "add", "parameters": FLAG}
    body = {
        "model": "p",
        "input": "Add.",
        "tools": [tool],
        "tool_choice": {"type": "function", "name": "add"},
        "max_output_tokens": 80,
        "logit_bias": no_blanks(demo_base),
    }
    (call,) = (await served.http.post(RESPONSES, json=body)).json()["output"]
    assert (call["name"], json.loads(call["arguments"])) == ("add", {"a": True})


async def test_a_response_is_a_plan(served):
    """Under the same grammar as a chat's; cut or whole, and never anything else."""
    extra = {"plan": {"tools": [{"name": "Search"}], "max_steps": 1, "max_text": 40}}
    body = {"model": "p", "input": "Who directed Inception?", "s3lora": extra}
    answer = (await served.http.post(RESPONSES, json=body)).json()
    assert Plan.model_validate(answer["s3lora"]["plan"]).steps[0].tool == "Search"
    assert answer["max_output_tokens"] < MAX_MODEL_LEN


def test_every_field_of_the_engines_is_known(vllm_engine):
    """To the guard and to plans; those that are refused always need neither."""
    schemas = vllm_engine.openai_app().openapi()["components"]["schemas"]
    fields = set(schemas["ResponsesRequest"]["properties"]) - OURS - REFUSED.keys()
    assert fields - JUDGED - HARMLESS - SLIPS.keys() - UNKNOWN_TO_THE_ENGINE == set()
    assert fields - FIGHTING.keys() - _PASSED - UNKNOWN_TO_THE_ENGINE - HARMLESS - STEERING.keys() == set()
