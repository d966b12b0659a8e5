"""The tap reports every engine request once, with the right figures, however it ends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from s3lora_serve.engine.request_facts import collected_facts
from s3lora_serve.engine.vllm.vllm_tap import RequestTap
from s3lora_serve.errors import EngineError

PROMPT = {"prompt_token_ids": [1, 2, 3]}
LORA = SimpleNamespace(lora_name="planner@abc", lora_int_id=7)


def output(*answers, finished=False, **more):
    """A RequestOutput; an answer is (index, new or all token ids, finish reason)."""
    outputs = [SimpleNamespace(index=i, token_ids=ids, finish_reason=reason) for i, ids, reason in answers]
    return SimpleNamespace(
        outputs=outputs,
        finished=finished,
        prompt_token_ids=[1, 2, 3],
        num_cached_tokens=2,
        **{"metrics": None, **more},
    )


def params(kind="FINAL_ONLY"):
    """SamplingParams with this output kind."""
    return SimpleNamespace(output_kind=SimpleNamespace(name=kind))


def tap_over(*outputs, then=None):
    """A tap over an engine that yields ``outputs`` and then raises ``then``; and the facts it reports."""

    async def generate(prompt, sampling_params, request_id, **options):
        for item in outputs:
            yield item
        if then is not None:
            raise then

    tap, facts = RequestTap(generate), []
    tap.add(facts.append)
    tap.admit(LORA)
    return tap, facts


async def drain(tap, kind="FINAL_ONLY"):
    """Run a request to its end."""
    return [item async for item in tap.generate(PROMPT, params(kind), "id", lora_request=LORA)]


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        ("FINAL_ONLY", [output((0, [7] * 4, "stop"), (1, [7] * 2, "length"), finished=True)]),
        ("DELTA", [output((0, [7, 7], None)), output((1, [7], None)), output((0, [7, 7], "stop")),
                   output((1, [7], "length"), finished=True)]),
        ("CUMULATIVE", [output((0, [7] * 2, None)), output((0, [7] * 4, "stop")),
                        output((1, [7] * 2, "length"), finished=True)]),
    ],
)  # fmt: skip
async def test_tokens_of_all_answers_are_summed(kind, outputs):
    """Six tokens of two answers, however vLLM hands them out; the prompt counts once."""
    tap, facts = tap_over(*outputs)
    assert await drain(tap, kind) == outputs
    assert [(f.slot, f.outcome, f.prompt_tokens, f.cached_tokens, f.output_tokens) for f in facts] == [
        ("planner@abc", "ok", 3, 2, 6)
    ]
    assert facts[0].finish_reason == "length"


async def test_times_come_from_one_clock():
    """All are differences of the engine's own timestamps; only the arrival is wall clock."""
    stats = SimpleNamespace(
        arrival_time=1.7e9, queued_ts=100.0, scheduled_ts=100.5, first_token_ts=102.0, last_token_ts=105.0
    )
    tap, facts = tap_over(output((0, [7], "stop"), finished=True, metrics=stats))
    await drain(tap)
    assert (facts[0].queue_seconds, facts[0].first_token_seconds, facts[0].decode_seconds) == (0.5, 2.0, 3.0)
    assert 0 < facts[0].engine_seconds <= facts[0].total_seconds < 3600


@pytest.mark.parametrize(
    "stats",
    [None, SimpleNamespace(queued_ts=100.0, scheduled_ts=0.0, first_token_ts=0.0, last_token_ts=0.0)],
    ids=["off", "unset"],
)
async def test_times_that_were_not_measured_are_none(stats):
    """Without statistics, or before the first step, there is no figure rather than a wrong one."""
    tap, facts = tap_over(output((0, [7], "stop"), finished=True, metrics=stats))
    await drain(tap)
    f = facts[0]
    assert (f.queue_seconds, f.first_token_seconds, f.decode_seconds) == (None, None, None)


@pytest.mark.parametrize(
    ("reason", "outcome"), [("stop", "ok"), ("length", "ok"), ("abort", "aborted"), ("error", "error")]
)
async def test_the_outcome_follows_vllms_finish_reason(reason, outcome):
    """An abort or error that vLLM reports as a finish is no success."""
    tap, facts = tap_over(output((0, [7], reason), finished=True))
    await drain(tap)
    assert [(f.outcome, f.finish_reason) for f in facts] == [(outcome, reason)]


async def test_an_exception_is_an_error_and_passes():
    """The caller gets the exception; the facts say error and count what came before, and the prompt."""
    tap, facts = tap_over(output((0, [7], None)), then=RuntimeError("engine"))
    with pytest.raises(RuntimeError, match="engine"):
        await drain(tap, "DELTA")
    assert [(f.outcome, f.prompt_tokens, f.output_tokens) for f in facts] == [("error", 3, 1)]


async def test_a_request_refused_at_once_still_counts_its_prompt():
    """Nothing came out, so the prompt's length is that of what went in."""
    tap, facts = tap_over(then=ValueError("bad"))
    with pytest.raises(ValueError, match="bad"):
        await drain(tap)
    assert [(f.outcome, f.prompt_tokens, f.output_tokens) for f in facts] == [("error", 3, 0)]


async def test_a_consumer_that_leaves_aborts():
    """Closing the stream early closes vLLM's own generator, which is what makes it abort the request."""
    closed = []

    async def generate(*_, **__):
        try:
            while True:
                yield output((0, [7], None))
        except GeneratorExit:
            closed.append(True)
            raise

    tap, facts = RequestTap(generate), []
    tap.add(facts.append)
    stream = tap.generate(PROMPT, params("DELTA"), "id")
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert closed == [True]
    assert [(f.slot, f.outcome, f.output_tokens) for f in facts] == [(None, "aborted", 2)]


async def test_a_cancelled_consumer_aborts():
    """Cancellation reaches vLLM's generator and is reported as aborted."""

    async def generate(*_, **__):
        await asyncio.sleep(60)
        yield

    tap, facts = RequestTap(generate), []
    tap.add(facts.append)
    tap.admit(LORA)
    task = asyncio.create_task(drain(tap))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [f.outcome for f in facts] == ["aborted"]


async def test_leaving_after_the_last_output_is_no_abort():
    """A consumer need not exhaust the stream once it has the finished output."""
    tap, facts = tap_over(output((0, [7], "stop"), finished=True))
    stream = tap.generate(PROMPT, params(), "id")
    await anext(stream)
    await stream.aclose()
    assert [f.outcome for f in facts] == ["ok"]


async def test_one_request_may_have_an_observer_of_its_own():
    """``also`` hears of its request only, after the general observers, and one that fails is ignored."""
    tap, facts = tap_over(output((0, [7], "stop"), finished=True))
    own = []

    def fails(_):
        raise RuntimeError("defect")

    tap.add(fails)
    [item async for item in tap.generate(PROMPT, params(), "id", also=own.append)]
    await drain(tap)
    assert (len(facts), own) == (2, facts[:1])


async def test_who_began_a_request_hears_of_it_wherever_it_ends():
    """Its facts are there before the last output; a stream that others close is heard where it began."""
    tap, facts = tap_over(output((0, [7], None)), output((0, [7], "stop"), finished=True))
    with collected_facts() as mine:
        known = [len(mine) async for _ in tap.generate(PROMPT, params("DELTA"), "id", lora_request=LORA)]
        abandoned = tap.generate(PROMPT, params("DELTA"), "id", lora_request=LORA)
        await anext(abandoned)
    with collected_facts() as others:
        await abandoned.aclose()
    assert (known, mine, others) == ([0, 1], facts, [])
    assert [f.outcome for f in mine] == ["ok", "aborted"]


async def test_only_admitted_adapters_get_through():
    """One that was dismissed since a route looked it up, or came back under another id, is never started."""
    tap, facts = tap_over(output((0, [7], "stop"), finished=True))
    again = SimpleNamespace(lora_name=LORA.lora_name, lora_int_id=8)
    tap.dismiss(LORA.lora_name)
    tap.admit(again)
    with pytest.raises(EngineError, match=r"slot planner@abc \(id 7\) is not loaded; it was unloaded before"):
        await drain(tap)
    assert (facts, tap.running(LORA.lora_name)) == ([], 0)
    tap.dismiss(LORA.lora_name)
    with pytest.raises(EngineError, match="is not loaded"):
        [item async for item in tap.generate(PROMPT, params(), "id", lora_request=again)]


async def test_an_adapter_is_not_dismissed_under_a_request():
    """It counts from the first step until the finished output or the abort, and stays admitted so long."""
    tap, _ = tap_over(output((0, [7], None)), output((0, [7], "stop"), finished=True))
    streams = [tap.generate(PROMPT, params("DELTA"), "id", lora_request=LORA) for _ in range(2)]
    assert tap.running(LORA.lora_name) == 0
    for stream in streams:
        await anext(stream)
    with pytest.raises(EngineError, match="slot planner@abc has 2 running requests; unload it once"):
        tap.dismiss(LORA.lora_name)
    await anext(streams[0])  # the finished output; the consumer need not come back
    await streams[1].aclose()
    assert tap.running(LORA.lora_name) == 0
    tap.dismiss(LORA.lora_name)


async def test_a_failed_request_does_not_count():
    """An exception of the engine's ends the count."""
    tap, _ = tap_over(then=RuntimeError("engine"))
    with pytest.raises(RuntimeError):
        await drain(tap)
    assert tap.running(LORA.lora_name) == 0
