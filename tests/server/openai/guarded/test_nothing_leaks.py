"""No channel tells of an answer that the guard refused."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from fleet_factory import BASE, make_fleet
from guarded_asks import ASKS, TELLTALE, done, leases_of, tell, tells, told, with_text
from prometheus_client.parser import text_string_to_metric_families
from request_kinds import ASK, CHAT, PLAN, engine_app, held, until
from scripted_judge import HARM, MURKY, guards_by

from s3lora_serve.config import PlansConfig, RollbackConfig, ServerConfig
from s3lora_serve.control.operation import Order, Wanted
from s3lora_serve.server.app import create_app


def counted(fleet):
    """What the metrics say of p and the base model's requests, as far as it is not zero."""
    found = {}
    for family in text_string_to_metric_families(fleet.service.metrics.exposition().decode()):
        name = family.name.removeprefix("s3lora_")
        if name in ("requests", "prompt_tokens", "output_tokens") or name.endswith("seconds"):
            for sample in family.samples:
                if sample.labels.get("planner") in ("p", BASE) and sample.value:
                    key = f"{name} {sample.labels.get('outcome', '')}".strip()
                    found[key] = found.get(key, 0) + sample.value
    return {name: value for name, value in found.items() if not name.startswith(("planner", "guard"))}


@pytest.mark.parametrize("kind", ASKS)
async def test_an_answer_that_is_done_before_the_verdict(app, guarded, judge, logged, kind):
    """It was whole, broken or half by then, and nobody hears of that: not the client, not the log."""
    tell(guarded)
    path, body = ASKS[kind]
    for number in range(3):
        judge.gate.clear()
        call = AsgiCall(app, path, with_text(body, f"a {HARM} {number}"))
        await until(lambda: judge.judging)
        await done(guarded)
        assert call.messages == []
        judge.gate.set()
        await call
        assert (call.status, tells(told(call))) == (403 if path == PLAN else 200, False)
    assert [line for line in logged if tells(line)] == []
    ended = [line for line in logged if "'outcome': 'withheld'" in line]
    assert (len(ended), all("'output_tokens': 0" in line for line in ended)) == (3, True)
    assert leases_of(guarded) == {"aborted": 3.0}  # nothing is held against the revision


@pytest.mark.parametrize("kind", ASKS)
async def test_no_verdict_in_time(guarded, judge, kind):
    """The time of the plan or answer holds for both, and then nothing of it is told."""
    tell(guarded)
    app = create_app(guarded.service, ServerConfig(answer_seconds=0.1), None, PlansConfig(seconds=0.1))
    path, body = ASKS[kind]
    judge.gate.clear()
    call = AsgiCall(app, path, body)
    await call
    assert (call.status, json.loads(call.text)["error"]["code"]) == (503, "plan_timeout")
    assert (held(guarded), judge.judging, tells(told(call))) == ((0, 0), 0, False)


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("text", [HARM, MURKY, "left"])
async def test_metrics_tell_nothing_of_an_answers_length(app, guarded, judge, kind, text):
    """Of one that did not leave they count request and prompt: whoever reads them before and after, too."""
    path, body = ASKS[kind]
    judge.gate.clear()
    call = AsgiCall(app, path, with_text(body, f"{text} {text}"))
    await until(lambda: judge.judging)
    await done(guarded)
    assert counted(guarded) == {}  # nor before the verdict
    if text == "left":
        call.leave()
        await call
    judge.gate.set()
    await call
    assert counted(guarded).keys() == {"requests aborted", "prompt_tokens"}
    await AsgiCall(app, path, body)
    found = counted(guarded)
    assert {"requests ok", "output_tokens", "request_duration_seconds"} < found.keys()
    assert found["output_tokens"] > 0


@pytest.mark.parametrize("kind", ASKS)
async def test_what_is_only_observed_is_counted_as_ever(tmp_path, judge, kind):
    """It leaves, and no verdict is waited for."""
    fleet = make_fleet(tmp_path, "p", guards=guards_by(judge, "p", action="observe"))
    await fleet.start()
    path, body = ASKS[kind]
    await AsgiCall(create_app(fleet.service, ServerConfig(), None), path, with_text(body, HARM))
    assert counted(fleet)["output_tokens"] > 0
    await fleet.close()


@pytest.mark.parametrize("kind", ["plan", "plan in a chat", "chat", "text"])
async def test_no_shadow_runs_a_refused_request_again(app, guarded, judge, kind):
    """Neither text nor figures of it are compared; an allowed one is offered as ever."""
    path, body = ASKS[kind]
    await guarded.done(
        await guarded.service.control.canary(
            "p", Wanted(source="n"), Order(actor="test"), share=1.0, shadow=True
        )
    )
    for text, offered in ((HARM, 0), ("Who?", 1)):
        await AsgiCall(app, path, with_text(body, text))
        stats = guarded.service.shadows.stats("p")
        assert (stats.offered if stats else 0) == offered


async def test_refusals_count_neither_for_nor_against_a_canary(tmp_path, judge):
    """A candidate whose every request is refused is neither rolled back nor promoted."""
    rules = RollbackConfig(requests=20)
    fleet = make_fleet(tmp_path, "p", guards=guards_by(judge, "p"), rules=rules)
    fleet.shelf.put("n")
    await fleet.start()
    tell(fleet)
    app = create_app(fleet.service, ServerConfig(), None)
    trial = {"share": 1.0, "promote_after": 3}
    wanted, order = Wanted(source="n"), Order(actor="test")
    await fleet.done(await fleet.service.control.canary("p", wanted, order, **trial))
    for path, body in ASKS.values():
        await AsgiCall(app, path, with_text(body, HARM))
    candidate = fleet.service.get("p").candidate
    assert candidate is not None
    assert leases_of(fleet).keys() == {"aborted"}
    await fleet.close()


async def test_a_crash_of_the_application_is_not_logged_unjudged(guarded, judge, logged, monkeypatch):
    """What it raises may quote the answer; refused, it is told nowhere."""

    async def broken(request):
        raise ValueError(f"no tool call in {TELLTALE}")

    engine_app(guarded, monkeypatch, broken)
    app = create_app(guarded.service, ServerConfig(), None)
    judge.seconds = lambda: 0.02
    call = AsgiCall(app, CHAT, with_text(ASK, HARM))
    await call
    assert (call.status, tells(told(call) + str(logged))) == (200, False)
    call = AsgiCall(app, CHAT, ASK)
    await call
    assert (call.status, tells(str(logged)), tells(told(call))) == (500, True, False)
