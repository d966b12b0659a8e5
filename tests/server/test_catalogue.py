"""What clients are told of models and planners, and that it holds no path of the server."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest
from fleet_factory import BASE, make_fleet
from revision_factory import make_revision

from planners import ToolSpec
from s3lora_serve.server.redact import redactor
from s3lora_serve.server.views import planner_report, planner_summary

PRUNED = ["model.layers.2.self_attn.q_proj"]


async def test_models_are_planners_and_their_base(http):
    """OpenAI's list: each planner with its base as parent and our metadata, then the base model."""
    answer = (await http.get("/v1/models")).json()
    assert (answer["object"], [(card["id"], card["parent"]) for card in answer["data"]]) == (
        "list",
        [("p", BASE), ("q", BASE), ("bad", BASE), ("h", BASE), (BASE, None)],
    )
    card = answer["data"][0]
    ssi = card["s3lora"].pop("ssi")
    assert card == {
        "id": "p",
        "object": "model",
        "created": 1767323045,
        "owned_by": "s3lora-serve",
        "root": BASE,
        "parent": BASE,
        "max_model_len": 2048,
        "engine": "fake",
        "s3lora": {
            "revision": "0" * 64,
            "candidate": None,
            "pruned_modules": PRUNED,
            "state": "serving",
        },
    }
    assert (sorted(ssi), ssi["modules"]) == (["inert", "max", "mean", "median", "min", "modules"], 3)


async def test_states_are_told_as_they_are(http):
    """A planner that failed is listed, as failed."""
    answer = (await http.get("/v1/models")).json()
    assert {card["id"]: card["s3lora"]["state"] for card in answer["data"] if "s3lora" in card} == {
        "p": "serving",
        "q": "serving",
        "bad": "failed",
        "h": "serving",
    }


@pytest.mark.parametrize("name", ["p", "bad", "h", BASE])
async def test_one_model_is_its_entry_of_the_list(http, name):
    """``GET /v1/models/{name}`` and the list agree."""
    cards = {card["id"]: card for card in (await http.get("/v1/models")).json()["data"]}
    assert (await http.get(f"/v1/models/{name}")).json() == cards[name]


@pytest.mark.parametrize(
    "path", ["/v1/models/x", "/v1/planners/x", f"/v1/planners/{BASE}", "/v1/models/..%2fp"]
)
async def test_an_unknown_name_lists_the_known(http, path):
    """The same message everywhere; a slash in a name is no name."""
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) in (
        (404, "unknown_planner"),
        (404, "not_found"),
    )


async def test_planners_say_who_serves_them(http):
    """A fully pruned planner says that the base model answers; a failed one says why."""
    data = {planner["id"]: planner for planner in (await http.get("/v1/planners")).json()["data"]}
    assert {name: (p["served_by"], p["reason"]) for name, p in data.items()} == {
        "p": ("adapter", None),
        "q": ("adapter", None),
        "bad": ("adapter", "slot bad@222222222222 could not be loaded: no such file: <path>"),
        "h": ("base", None),
    }
    assert (data["p"]["description"], data["p"]["kept_modules"], data["h"]["kept_modules"]) == (
        "a test planner",
        2,
        0,
    )


async def test_a_report_has_a_row_for_each_module(http):
    """The full report: every module with its SSI and whether it was pruned, lineage, proof and times."""
    report = (await http.get("/v1/planners/p")).json()
    rows = {row["module"]: (row["pruned"], round(row["ssi"], 6), row["rank"]) for row in report["modules"]}
    assert rows == {
        "model.layers.0.self_attn.q_proj": (False, 0.2, 8),
        "model.layers.1.self_attn.q_proj": (False, 0.3, 8),
        "model.layers.2.self_attn.q_proj": (True, 0.4, 8),
    }
    told = {"reason": "the highest score", "abstained": False, "cautions": []}
    assert report["plan"] == {"pruned": PRUNED, **told}
    (listed,) = [p for p in (await http.get("/v1/planners")).json()["data"] if p["id"] == "p"]
    assert listed["plan"] == told
    assert (report["lineage"]["source"], report["lineage"]["source_sha256"]) == ("local:p", "b" * 64)
    assert (sorted(report["effect"]), sorted(report["seconds"])) == (
        ["max_abs_delta", "noise"],
        ["load", "probe", "trial"],
    )


REQUESTS = (
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/p", None),
    ("GET", "/v1/planners", None),
    ("GET", "/v1/planners/p", None),
    ("GET", "/v1/planners/bad", None),
    ("GET", "/metrics", None),
    ("GET", "/openapi.json", None),
    ("GET", "/readyz", None),
    ("GET", "/nope", None),
    ("POST", "/v1/chat/completions", {"model": "p", "messages": [{"role": "user", "content": "x"}]}),
    ("POST", "/v1/chat/completions", {"model": "bad", "messages": []}),
    ("POST", "/v1/chat/completions", {"model": "p", "messages": 7}),
    ("POST", "/v1/completions", {"model": "p", "prompt": "x", "stream": True}),
    ("POST", "/v1/plans", {"planner": "bad", "task": "x", "tools": [{"name": "A"}]}),
    ("POST", "/v1/plans", {"planner": "p", "task": "x", "tools": [{"name": "A"}]}),
)


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
async def test_no_answer_holds_a_server_path(http, tmp_path, method, path, body):
    """Neither the store, nor the source folder, nor a parent of these is in any answer, errors included."""
    answer = await http.request(method, path, json=body)
    told = answer.text + json.dumps(dict(answer.headers))
    assert [secret for secret in ("my store", str(tmp_path), "/srv", "/home") if secret in told] == []


async def test_warnings_of_admission_are_told_without_paths(fleet, tmp_path):
    """What admission noted is part of the report."""
    revision = make_revision(
        tmp_path / "my store", warnings=(f"odd key in {tmp_path}/my store/adapter_config.json",)
    )
    redact = redactor(lambda: [revision.path])
    planner = fleet.service.get("p")
    warned = dataclasses.replace(planner, active=dataclasses.replace(planner.active, revision=revision))
    report = planner_report(warned, fleet.service, redact)
    assert report["lineage"]["warnings"] == ["odd key in <path>"]


async def test_reports_are_plain_json(fleet):
    """Everything in a report survives strict JSON: no NaN, no dates, no tuples as keys."""
    report = planner_report(fleet.service.get("p"), fleet.service, redactor(list))
    assert json.loads(json.dumps(report, allow_nan=False)) == report


async def test_under_a_dead_engine_no_planner_serves(http, fleet):
    """Both lists and both entries say so, and why; a planner that had failed before keeps its reason."""
    fleet.starts.hold()
    fleet.engine.die()
    while fleet.service.host.alive:
        await asyncio.sleep(0.01)
    cards = (await http.get("/v1/models")).json()["data"]
    assert [card["s3lora"]["state"] for card in cards if "s3lora" in card] == [
        "evicted",
        "evicted",
        "failed",
        "evicted",
    ]
    reasons = {
        planner["id"]: planner["reason"] for planner in (await http.get("/v1/planners")).json()["data"]
    }
    stopped = "the engine has stopped and is being restarted"
    assert {name for name, reason in reasons.items() if reason == stopped} == {"p", "q", "h"}
    assert (await http.get("/v1/models/p")).json()["s3lora"]["state"] == "evicted"
    assert (await http.get("/v1/planners/p")).json()["reason"] == stopped


async def test_planners_show_their_own_tools(tmp_path):
    """Clients see what a planner plans with when they offer nothing: names, descriptions and arguments."""
    parameters = {"type": "object", "properties": {"place": {"type": "string"}}}
    own = (ToolSpec(name="Search", description="finds facts"), ToolSpec(name="w", parameters=parameters))
    fleet = make_fleet(tmp_path, "p", "q", tools={"p": own})
    await fleet.start()
    planners = [
        planner_summary(planner, fleet.service, redactor(list)) for planner in fleet.service.planners()
    ]
    await fleet.close()
    assert {planner["id"]: planner["tools"] for planner in planners} == {
        "p": [
            {"name": "Search", "description": "finds facts"},
            {"name": "w", "description": "", "parameters": parameters},
        ],
        "q": [],
    }
