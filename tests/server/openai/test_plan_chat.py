"""Plans through chat completions: the text as it streams, and the steps in ``s3lora.plan``."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from asgi_call import AsgiCall
from fleet_factory import BASE, make_fleet
from plan_asks import ASK, TASK, TOOLS, answered
from request_kinds import CHAT, TEXT, engine_app, held, until
from starlette.responses import JSONResponse

from planners import Plan, PlannerInput, ToolSpec, parse, plan_grammar, render_messages
from planners.tools import MAX_TOOL_NAME
from s3lora_serve.config import PlansConfig, ServerConfig
from s3lora_serve.control.operation import Order, Wanted
from s3lora_serve.server.app import create_app


def asking(plan=None, **changes):
    """A request for a plan with some fields changed."""
    return {**ASK, "s3lora": {"plan": {"tools": TOOLS, **(plan or {})}}, **changes}


@pytest.mark.parametrize("model", ["p", "h", BASE])
async def test_a_plan_comes_as_text_and_as_steps(served, app, model):
    """The content is ReWOO text, ``s3lora.plan`` the same as JSON: for planners and the base model alike."""
    status, answer = await answered(app, asking(model=model))
    text = answer["choices"][0]["message"]["content"]
    plan = Plan.model_validate(answer["s3lora"]["plan"])
    assert (status, answer["model"], plan) == (200, model, parse(text))
    assert plan.problems([tool["name"] for tool in TOOLS]) == ()
    assert answer["usage"]["s3lora"]["cost"]["output_tokens"] > 0


async def test_a_plan_streams_as_text_and_ends_with_its_steps(served, app, ended):
    """Deltas are those of the text, untouched; the usage chunk has the plan."""
    _, whole = await answered(app, ASK)
    call = AsgiCall(app, CHAT, {**ASK, "stream": True})
    await call
    chunks = [json.loads(event) for event in call.events[:-1]]
    deltas = [c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]]
    assert "".join(deltas) == whole["choices"][0]["message"]["content"]
    assert len([delta for delta in deltas if delta]) > 5
    assert chunks[-1]["s3lora"]["plan"] == whole["s3lora"]["plan"]
    assert ended == [("p", "active", "ok")] * 2


async def test_the_engine_gets_the_planners_prompt_and_grammar(served, app, monkeypatch):
    """Greedy and long enough unless the client says otherwise; unknown fields and ``s3lora`` stay here."""
    seen = []

    async def spy(request):
        seen.append(await request.json())
        return JSONResponse({"choices": []})

    engine_app(served, monkeypatch, spy)
    known = {"evidence": {"#E1": "Nolan"}, "feedback": ["too long"], "max_steps": 3, "max_text": 40}
    await AsgiCall(app, CHAT, asking(known, user="u", metadata={"a": 1}, tools=None, n=1, stop=[]))
    given = {"temperature": 0.7, "max_tokens": 9, "top_p": 0.5, "seed": 3, "logprobs": True}
    await AsgiCall(app, CHAT, asking(known, **given))
    request = PlannerInput(
        task=TASK, tools=TOOLS, evidence={"#E1": "Nolan"}, feedback=["too long"], max_steps=3
    )
    ours = {
        "model": "p@000000000000",
        "messages": render_messages(request),
        "structured_outputs": {"grammar": plan_grammar(request.tools, 3, first=2, max_text=40)},
    }
    greedy = {"temperature": 0.0, "max_completion_tokens": 3 * (2 * 4 * 40 + 52 + MAX_TOOL_NAME)}
    assert seen == [{**ours, **greedy, "user": "u"}, {**ours, **given}]


async def test_a_planner_has_tools_of_its_own(tmp_path):
    """Left out, they are the planner's; the base model has none, and neither has an empty list."""
    fleet = make_fleet(tmp_path, "p")
    fleet.desired["p"] = replace(fleet.desired["p"], tools=(ToolSpec(name="Calculator"),))
    await fleet.start()
    app = create_app(fleet.service, ServerConfig(), None)
    status, answer = await answered(app, {**ASK, "s3lora": {"plan": {}}})
    assert (status, {s["tool"] for s in answer["s3lora"]["plan"]["steps"]}) == (200, {"Calculator"})
    for body in ({**ASK, "s3lora": {"plan": {"tools": []}}}, {**ASK, "model": BASE, "s3lora": {"plan": {}}}):
        status, answer = await answered(app, body)
        error = answer["error"]
        assert (status, error["code"], error["param"]) == (400, "invalid_request", "s3lora.plan.tools")
    await fleet.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_plan_that_was_cut_says_so(served, app, ended, stream):
    """No plan, but its problem. The client's own bound cut it, so it counts for nothing."""
    call = AsgiCall(app, CHAT, {**ASK, "stream": stream, "max_tokens": 5})
    await call
    answer = json.loads(call.events[-2] if stream else call.text)
    assert (call.status, call.complete) == (200, True)
    assert ("plan" in answer["s3lora"], [p["kind"] for p in answer["s3lora"]["problems"]]) == (
        False,
        ["truncated"],
    )
    assert ended == [("p", "active", "aborted")]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_planner_that_rambles_is_to_blame_itself(tmp_path, stream):
    """Cut at the model's length, with a short prompt and no bound of the client's: that counts as invalid."""
    fleet = make_fleet(tmp_path, "p", plan=lambda request: "Plan: and " + "so on " * 5000)
    await fleet.start()
    app = create_app(fleet.service, ServerConfig(), None)
    await AsgiCall(app, CHAT, {**ASK, "stream": stream})
    text = fleet.service.metrics.exposition().decode()
    assert 's3lora_leases_total{outcome="invalid",planner="p",role="active"} 1.0' in text
    await fleet.close()


@pytest.fixture
async def liar(tmp_path):
    """A fleet whose engine does not keep to the grammar, and says "stop"."""
    fleet = make_fleet(tmp_path, "p", plan=lambda request: "Plan: x\n#E1 = Nope[y]")
    await fleet.start()
    yield fleet
    await fleet.close()


@pytest.mark.parametrize("model", ["p", BASE])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_happen_is_an_error(liar, model, stream):
    """A whole answer that is no valid plan never counts as one: 502, or an error event in place of usage."""
    app = create_app(liar.service, ServerConfig(), None)
    outcomes, give_back = [], liar.service._ended
    liar.service._leases._ended = lambda lease: (outcomes.append(lease.outcome), give_back(lease))
    call = AsgiCall(app, CHAT, {**ASK, "model": model, "stream": stream})
    await call
    error = json.loads(call.events[-1] if stream else call.text)["error"]
    assert (call.status, error["code"], call.complete) == (200 if stream else 502, "engine_error", True)
    assert "Nope" in error["message"]
    assert ("[DONE]" in call.text, '"usage"' in call.text) == (False, False)
    assert (outcomes, held(liar)) == (["invalid"] if model == "p" else [], (0, 0))


async def test_a_task_may_come_in_parts(served, app):
    """As LangChain and OpenAI's own types write a text."""
    parts = [{"type": "text", "text": "Who directed"}, {"type": "text", "text": "Inception?"}]
    _, whole = await answered(
        app, {**ASK, "messages": [{"role": "user", "content": "Who directed\nInception?"}]}
    )
    status, answer = await answered(app, {**ASK, "messages": [{"role": "user", "content": parts}]})
    assert (status, answer["s3lora"]["plan"]) == (200, whole["s3lora"]["plan"])


async def test_a_revision_that_serves_answers(served, app):
    """The beginning of its digest is enough; the base model has no revision that could be asked for."""
    status, answer = await answered(app, {**ASK, "s3lora": {"revision": "00000000"}})
    assert (status, answer["s3lora"]["revision"], "plan" in answer["s3lora"]) == (200, "0" * 64, False)
    status, answer = await answered(app, {**ASK, "model": BASE, "s3lora": {"revision": "00000000"}})
    assert (status, answer["error"]["param"]) == (400, "s3lora.revision")


async def test_completions_make_no_plans(served, app):
    """There is no message that could be the task; a revision can be asked for there, too."""
    body = {"model": "p", "prompt": "x", "s3lora": {"plan": {"tools": TOOLS}}}
    status, answer = await answered(app, body, TEXT)
    assert (status, answer["error"]["param"], "/v1/plans" in answer["error"]["message"]) == (
        400,
        "s3lora.plan",
        True,
    )
    status, answer = await answered(app, {**body, "s3lora": {"revision": "1" * 8}}, TEXT)
    assert (status, answer["error"]["code"]) == (409, "revision_mismatch")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_plan_that_takes_too_long_is_a_503(served, ended, stream):
    """The engine's request is ended, and the revision is not blamed for it."""
    app = create_app(served.service, ServerConfig(), None, PlansConfig(seconds=0.05))
    served.engine.hold_requests("p@*")
    call = AsgiCall(app, CHAT, {**ASK, "stream": stream})
    await call
    error = json.loads(call.events[-1] if stream else call.text)["error"]
    assert (call.status, error["code"]) == (200 if stream else 503, "plan_timeout")
    assert (ended, held(served)) == ([("p", "active", "aborted")], (0, 0))
    other = AsgiCall(app, CHAT, {name: ASK[name] for name in ("model", "messages")})
    await until(lambda: held(served) == (1, 1))
    other.leave()  # it is no plan, so no clock runs
    await other


async def test_a_shadow_is_compared_by_its_tools(served, app):
    """The candidate gets the same prompt and grammar, and its plan's tools are compared."""
    order = Order(actor="test")
    started = await served.service.control.canary("p", Wanted(source="n"), order, share=1.0, shadow=True)
    assert (await served.done(started)).step == "done"
    assert (await answered(app, ASK))[0] == 200
    await until(lambda: served.service.shadows.stats("p").runs == 1)
    stats = served.service.shadows.stats("p")
    assert (stats.plans, stats.same_tools, stats.failed) == (1, 1, 0)
