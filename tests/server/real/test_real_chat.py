"""Chat and text completions over the real engine: stamped, planned, and otherwise as vLLM answers them."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
import pytest_asyncio
from blanks import no_blanks
from real_fleet import ASK, BASE, DICTATED, QUESTION, counted, real_fleet

from planners import Plan, parse
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.server.openai.plan_chat import FIGHTING, PASSED
from s3lora_serve.serving.answer_meta import fingerprint

pytestmark = pytest.mark.engine

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SAY = {"prompt": "The director of Inception is", "max_tokens": 4, "ignore_eos": True, **DICTATED}
FLAG = {"type": "object", "properties": {"a": {"enum": [True]}}, "required": ["a"]}
ADD = {"name": "add", "parameters": FLAG | {"additionalProperties": False}}
TOOL = {"type": "function", "function": {**ADD, "strict": True}}  # as the server makes each that is forced
CALLED = {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "add"}}, "max_tokens": 80}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1]}}}
USAGE = {"include_usage": True}
TOOLS = [{"name": "Search", "description": "search the web"}, {"name": "LLM"}]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(vllm_engine, demo_base, client_of, tmp_path_factory):
    """Planner p."""
    root = tmp_path_factory.mktemp("chat store")
    async with real_fleet(vllm_engine, demo_base, client_of, root, "p") as fleet:
        yield fleet


def chunks_of(answer):
    """The chunks of a stream that ends as it should."""
    *events, done = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert done == "[DONE]"
    return [json.loads(event) for event in events]


@pytest.mark.parametrize("model", ["p", BASE])
async def test_an_answer_says_what_it_cost(served, model):
    """Tokens as vLLM counts them, consistent times, the modules that served, planner and revision."""
    answer = (await served.http.post(CHAT, json={"model": model, **ASK})).json()
    cost, usage = answer["cost"], answer["usage"]
    digest = None if model == BASE else served.service.get("p").revision.digest
    assert (answer["model"], answer["system_fingerprint"]) == (
        model,
        fingerprint(EngineKind.VLLM, BASE, digest),
    )
    assert (cost["prompt_tokens"], cost["output_tokens"]) == (usage["prompt_tokens"], 12)
    assert 0 <= cost["queue_seconds"] <= cost["time_to_first_token_seconds"] <= cost["end_to_end_seconds"]
    assert 0 < 11 * cost["time_per_output_token_seconds"] <= cost["end_to_end_seconds"]
    assert 0 < cost["engine_seconds"] <= cost["end_to_end_seconds"] * 1.01
    assert usage["s3lora"]["cost"]["engine_microseconds"] == round(cost["engine_seconds"] * 1e6)
    if model == BASE:
        assert answer["s3lora"] == {"base_model": BASE, "served_by": "base", "engine": "vllm"}
    else:
        pruned = served.service.get("p").revision.lineage.pruned
        assert (answer["s3lora"]["pruned_modules"], cost["pruned_lora_modules"]) == (list(pruned), 10)
        assert cost["kept_lora_modules"] == answer["s3lora"]["kept_modules"] == 50


@pytest.mark.parametrize(("path", "body"), [(CHAT, ASK | DICTATED), (TEXT, SAY)])
async def test_every_chunk_has_a_choice(served, path, body):
    """As clients' loops expect, also where there are several answers; the last one has usage and cost."""
    body = {"model": "p", **body, "n": 2, "temperature": 1, "seed": 3, "stream": True}
    chunks = chunks_of(await served.http.post(path, json=body))
    assert all(chunk["choices"] for chunk in chunks)
    assert sorted(c["index"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]) == [0, 1]
    assert ["usage" in chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1]["usage"]["completion_tokens"] == chunks[-1]["cost"]["output_tokens"]


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": False}}])
async def test_a_stream_says_what_a_whole_answer_says(served, options):
    """The same dictated text, planner and revision on every chunk, usage at the end unless it was refused."""
    body = {"model": "p", **ASK, **DICTATED}
    whole = await served.http.post(CHAT, json=body)
    streamed = await served.http.post(CHAT, json={**body, "stream": True, **options})
    chunks = chunks_of(streamed)
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert text == whole.json()["choices"][0]["message"]["content"]
    assert {(c["model"], c["system_fingerprint"]) for c in chunks} == {
        ("p", whole.json()["system_fingerprint"])
    }
    last = chunks[-1]
    assert (last["choices"][0]["finish_reason"], last["s3lora"]) == ("length", whole.json()["s3lora"])
    used = last.get("usage", {}).get("completion_tokens")
    assert (used, last["cost"]["output_tokens"]) == (None if options else 12, 12)
    assert not [c for c in chunks[:-1] if "usage" in c]
    assert streamed.headers["x-s3lora-planner"] == "p"


async def test_completions_take_lists_of_prompts(served):
    """Two prompts with two answers each: four choices, counted as vLLM's engine was asked."""
    before = counted(served)
    body = {"model": "p", "prompt": ["Hello", "World"], "n": 2, "max_tokens": 3, "ignore_eos": True}
    answer = await served.http.post(TEXT, json=body)
    assert (answer.status_code, len(answer.json()["choices"]), counted(served) - before) == (200, 4, 2)
    assert answer.json()["cost"]["output_tokens"] == answer.json()["usage"]["completion_tokens"] == 12


# All with texts that are dictated: asked twice, a model may say two things.
ASKED = {
    "three answers": (CHAT, {**ASK, **DICTATED, "n": 3, "temperature": 1, "seed": 1}),
    "logprobs": (CHAT, {**ASK, **DICTATED, "logprobs": True, "top_logprobs": 2}),
    "a tool call": (CHAT, {**QUESTION, **CALLED}),
    "json": (CHAT, {**QUESTION, "max_tokens": 20, "response_format": SCHEMA}),
    "usage on every chunk": (
        CHAT,
        {**ASK, **DICTATED, "stream_options": USAGE | {"continuous_usage_stats": True}},
    ),
    "echo": (TEXT, {**SAY, "echo": True}),
    "text logprobs": (TEXT, {**SAY, "logprobs": 2}),
    "prompts": (TEXT, {**SAY, "prompt": ["One", "Two"], "n": 2, "temperature": 1, "seed": 2}),
    "token ids": (TEXT, {**SAY, "return_token_ids": True}),
}


def shape(value):
    """A value without what differs between two runs: ids, times, numbers, and what else was likely."""
    if isinstance(value, dict):
        kept = {k: shape(v) for k, v in value.items() if k not in ("id", "created", "model", *OURS)}
        return {k: SHAPES[k](v) if k in SHAPES and v else v for k, v in kept.items()}
    if isinstance(value, list):
        return [shape(v) for v in value]
    return "a number" if isinstance(value, float) else value


def stream_of(chunks):
    """A stream by its answers, and all else: how an answer is cut into chunks depends on timing."""
    answers = defaultdict(dict)
    for chunk in chunks:
        for choice in chunk["choices"]:
            join(answers[choice["index"]], choice)
    frame = {k: v for k, v in chunks[-1].items() if k != "choices"}
    return shape([dict(sorted(answers.items())), frame, {bool(chunk.get("usage")) for chunk in chunks[:-1]}])


def join(whole, piece):
    """Add the next piece: texts and lists go on, of all else the last word counts."""
    for name, value in piece.items():
        before = whole.get(name)
        if name == "tool_calls" and value:
            (call,) = value
            join(whole.setdefault(name, {}), call)
        elif isinstance(value, dict):
            whole[name] = before or {}
            join(whole[name], value)
        elif before is not None and (isinstance(value, list) or name in ("content", "text", "arguments")):
            whole[name] = before + (value or type(before)())
        elif before is None or value is not None:
            whole[name] = value


# Blanks in a tool call's JSON are the model's choice, and so is how it is cut into tokens.
SHAPES = {
    "top_logprobs": bool,
    "arguments": json.loads,
    "usage": lambda usage: (sorted(usage), usage["prompt_tokens"]),
}
OURS = ("system_fingerprint", "s3lora", "cost")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", sorted(ASKED))
async def test_all_else_is_as_vllm_says_it(served, vllm_engine, demo_base, client_of, kind, stream):
    """Asked beside us, vLLM's own application gives the same choices, chunks, tool calls and logprobs."""
    path, body = ASKED[kind]
    options = body.get("stream_options", USAGE)
    if "tools" in body:
        body = {**body, "logit_bias": no_blanks(demo_base)}
    body = {name: value for name, value in body.items() if name != "stream_options"}
    if stream:
        body |= {"stream": True, "stream_options": options}
    slot = served.service.get("p").slot.name
    theirs = await client_of(vllm_engine.openai_app()).post(path, json={"model": slot, **body})
    ours = await served.http.post(path, json={"model": "p", **body})
    assert (ours.status_code, theirs.status_code) == (200, 200), theirs.text
    if not stream:
        assert shape(ours.json()) == shape(theirs.json())
        return
    assert stream_of(chunks_of(ours)) == stream_of(chunks_of(theirs))


@pytest.mark.parametrize("model", ["p", BASE])
@pytest.mark.parametrize("temperature", [0, 1])
async def test_a_chat_is_a_plan_if_one_is_asked_for(served, model, temperature):
    """Whole and streamed: valid ReWOO text, and the same plan in ``s3lora``, planner or base model."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Who directed Inception, and where was he born?"}],
        "temperature": temperature,
        "seed": 5,
        "s3lora": {"plan": {"tools": TOOLS, "max_steps": 2, "max_text": 16}},
    }
    answer = (await served.http.post(CHAT, json=body)).json()
    chunks = chunks_of(await served.http.post(CHAT, json={**body, "stream": True}))
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    for said, told in (
        (answer["choices"][0]["message"]["content"], answer["s3lora"]["plan"]),
        (text, chunks[-1]["s3lora"]["plan"]),
    ):
        plan = Plan.model_validate(told)
        assert (plan.problems(["Search", "LLM"], max_steps=2), plan) == ((), parse(said))


async def test_a_plan_that_was_cut_names_its_problem(served):
    """With too few tokens there is no plan, and the answer says that the text is not one."""
    body = {"model": "p", **QUESTION, "max_tokens": 4, "s3lora": {"plan": {"tools": TOOLS}}}
    answer = (await served.http.post(CHAT, json=body)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert ("plan" in answer["s3lora"], answer["s3lora"]["problems"][0]["kind"]) == (False, "truncated")


async def test_every_field_of_vllms_was_thought_of(vllm_engine):
    """With a plan each either reaches the engine or is refused, or has nothing to do with a plan."""
    schemas = vllm_engine.openai_app().openapi()["components"]["schemas"]
    fields = set(schemas["ChatCompletionRequest"]["properties"])
    unused = {
        "messages", "parallel_tool_calls", "include_reasoning", "length_penalty", "watermarking",
        "kv_transfer_params", "ec_transfer_params", "mm_payload", "return_mm_kwargs",
        "routed_experts_prompt_start",
    }  # fmt: skip
    assert fields - set(FIGHTING) - PASSED == unused & fields
