"""What is written into an answer of the engine, and that nothing else of it changes."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from revision_factory import make_revision

from planners import Cost
from s3lora_serve.engine.port import EngineKind, RequestFacts
from s3lora_serve.fleet.deployment import Deployment
from s3lora_serve.fleet.leases import Lease
from s3lora_serve.server.openai.stamp import Origin, Stamp, tally, whole_cost
from s3lora_serve.server.sse import SseReader, data_of, written
from s3lora_serve.serving.answer_meta import fingerprint

FACTS = RequestFacts(
    slot="p@0",
    outcome="ok",
    prompt_tokens=7,
    cached_tokens=3,
    output_tokens=5,
    queue_seconds=0.0005,
    first_token_seconds=0.02,
    total_seconds=0.1,
    finish_reason="stop",
    decode_seconds=0.08,
    engine_seconds=0.09,
)
VLLM = EngineKind.VLLM
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


@pytest.fixture
def origin(tmp_path):
    """p, answered by its adapter, of which one module was pruned."""
    revision = make_revision(tmp_path, digest="ab" * 32, pruned=(1,))
    lease = Lease(Deployment("p", revision), 'p@"abab', "canary", "r")
    return Origin.of(lease, "base", VLLM)


def chunk(**changes):
    """An event as vLLM writes it: no spaces, the slot's name as model."""
    data = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": 'p@"abab', **changes}
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


SAID = ['"model":"p@\\"abab"', 'data: {"error"', "\n\ndata: [DONE]\n\n", "é\u2028 #E1", '{"choices":[]}', ""]


@pytest.mark.parametrize("said", SAID)
def test_a_chunk_gets_a_name_and_a_fingerprint_and_keeps_all_else(origin, said):
    """Every byte but those of the name stays as it was, whatever the model wrote or which tool it calls."""
    call = {"index": 0, "function": {"name": "model", "arguments": json.dumps({"model": 'p@"abab'})}}
    delta = {"content": said, "tool_calls": [call]}
    event = chunk(choices=[{"index": 0, "delta": delta, "logprobs": {"content": []}, "finish_reason": None}])
    stamped = Stamp(origin, []).event(event)
    name = f'"model": "p", "system_fingerprint": "{origin.fingerprint}"'.encode()
    assert stamped == event.replace(b'"model":"p@\\"abab"', name, 1)
    was, now = data_of(event), data_of(stamped)
    assert now == {**was, "model": "p", "system_fingerprint": fingerprint(VLLM, "base", "ab" * 32)}


@pytest.mark.parametrize(
    "event",
    [
        chunk(choices=[{"index": 0}], system_fingerprint="vllm-0.32"),
        b'data: {"choices": [{"index": 0}]}\n\n',
        b'data: {"choices": [{"index": 0}], "model" : "another"}\n\n',
    ],
)
def test_a_chunk_that_is_written_otherwise_is_stamped_all_the_same(origin, event):
    """With a fingerprint of the engine's own, without a model, or with an unexpected one."""
    now = data_of(Stamp(origin, []).event(event))
    assert now == {**data_of(event), "model": "p", "system_fingerprint": origin.fingerprint}


@pytest.mark.parametrize(
    "event", [b": keep-alive\n\n", b"data: [DONE]\n\n", b"data: 7\n\n", b"data: {broken\n\n", b"\n\n"]
)
def test_what_is_no_chunk_passes(origin, event):
    """Comments and whatever cannot be read go on as they came."""
    assert Stamp(origin, [FACTS]).event(event) == event


def test_the_last_chunk_says_it_all(origin):
    """Who answered and what it cost, in ``usage`` in whole numbers, at the top level in full."""
    now = data_of(Stamp(origin, [FACTS]).event(chunk(choices=[], usage=USAGE)))
    assert now["s3lora"] == {
        "planner": "p",
        "revision": "ab" * 32,
        "role": "canary",
        "base_model": "base",
        "engine": "vllm",
        "served_by": "adapter",
        "ssi": now["s3lora"]["ssi"],
        "kept_modules": 2,
        "pruned_modules": list(origin.revision.lineage.pruned),
    }
    assert now["s3lora"]["ssi"]["modules"] == 3
    assert now["cost"] == {
        "prompt_tokens": 7,
        "cached_prompt_tokens": 3,
        "output_tokens": 5,
        "queue_seconds": 0.0005,
        "time_to_first_token_seconds": 0.02,
        "time_per_output_token_seconds": 0.02,
        "end_to_end_seconds": 0.1,
        "engine_seconds": 0.09,
        "kept_lora_modules": 2,
        "pruned_lora_modules": 1,
    }
    assert now["usage"] == {
        **USAGE,
        "s3lora": {
            "planner": {"p": 1},
            "revision": {"ab" * 32: 1},
            "role": {"canary": 1},
            "base_model": {"base": 1},
            "engine": {"vllm": 1},
            "served_by": {"adapter": 1},
            "cost": {
                "prompt_tokens": 7,
                "cached_prompt_tokens": 3,
                "output_tokens": 5,
                "queue_microseconds": 500,
                "time_to_first_token_microseconds": 20_000,
                "time_per_output_token_microseconds": 20_000,
                "end_to_end_microseconds": 100_000,
                "engine_microseconds": 90_000,
                "kept_lora_modules": 2,
                "pruned_lora_modules": 1,
            },
        },
    }


def test_a_figure_that_was_not_measured_is_absent(origin):
    """Neither null nor zero: it is not there. Of an answer of which nothing was heard no cost is told."""
    few = replace(FACTS, cached_tokens=None, queue_seconds=None, decode_seconds=None, engine_seconds=None)
    now = data_of(Stamp(origin, [few]).event(chunk(choices=[], usage=USAGE)))
    for cost in (now["cost"], now["usage"]["s3lora"]["cost"]):
        assert not [name for name in cost if name.startswith(("cached", "queue", "time_per", "engine"))]
    silent = data_of(Stamp(origin, []).event(chunk(choices=[], usage=USAGE)))
    assert ("cost" in silent, "cost" in silent["usage"]["s3lora"], silent["s3lora"]["planner"]) == (
        False,
        False,
        "p",
    )


def test_the_base_model_says_that_it_answered_by_itself():
    """Under its own name it has neither planner nor revision, and its own fingerprint."""
    now = json.loads(Stamp(Origin.of(None, "base", VLLM), [FACTS]).whole(b'{"model":"base","usage":{}}'))
    assert (now["model"], now["system_fingerprint"]) == ("base", fingerprint(VLLM, "base", None))
    assert now["s3lora"] == {"base_model": "base", "engine": "vllm", "served_by": "base"}
    assert "kept_lora_modules" not in now["cost"]


@pytest.mark.parametrize("body", [b"not json", b"7", b"[]"])
def test_a_body_that_is_no_object_passes(origin, body):
    """What cannot be stamped is not lost."""
    assert Stamp(origin, [FACTS]).whole(body) == body


def test_a_body_keeps_what_it_says(origin):
    """Choices, logprobs, ids and any other field are as the engine wrote them."""
    data = {
        "id": "x",
        "model": 'p@"abab',
        "choices": [{"text": 'é "model"', "logprobs": {"tokens": [0.1, -1e-9]}}],
        "usage": USAGE,
        "metrics": None,
    }
    now = json.loads(Stamp(origin, [FACTS]).whole(json.dumps(data).encode()))
    own = {name: now.pop(name) for name in ("s3lora", "cost", "system_fingerprint")}
    assert now == {**data, "model": "p", "usage": {**USAGE, **now["usage"]}}
    assert set(now["usage"]) - set(USAGE) == {"s3lora"}
    assert own["s3lora"]["revision"] == "ab" * 32


def test_usage_holds_nothing_but_whole_numbers(origin):
    """Clients that add up ``usage`` over several answers can add up all of it."""

    def leaves(value):
        return [leaf for v in value.values() for leaf in leaves(v)] if isinstance(value, dict) else [value]

    usage = data_of(Stamp(origin, [FACTS]).event(chunk(choices=[], usage=USAGE)))["usage"]
    assert {type(leaf) for leaf in leaves(usage)} == {int}
    assert tally({"served_by": "base", "ssi": {}}) == {"served_by": {"base": 1}}
    cost = Cost(prompt_tokens=1, output_tokens=2, engine_seconds=6e-7)
    assert whole_cost(cost) == {"prompt_tokens": 1, "output_tokens": 2, "engine_microseconds": 1}


@given(st.lists(st.text("ab: \r", max_size=5), max_size=6), st.lists(st.integers(0, 60), max_size=8))
def test_events_are_found_wherever_the_stream_was_cut(texts, cuts):
    """Every event comes out whole, once and in order, and the rest with the last part."""
    events = [written({"text": text}) for text in texts]
    stream = b"".join(events) + b"data: half"
    edges = sorted({0, *(min(cut, len(stream)) for cut in cuts), len(stream)})
    reader, found = SseReader(), []
    for start, end in pairwise(edges):
        found += reader.feed(stream[start:end], last=end == len(stream))
    assert found == [*events, b"data: half"]


def test_an_event_is_one_line_of_json():
    """Line breaks and separators in texts are escaped."""
    event = written({"text": "a\n\nb\u2028c"})
    assert event == b'data: {"text":"a\\n\\nb\\u2028c"}\n\n'
