"""``POST /v1/plans``, on the fake engine."""

from __future__ import annotations

import json

import httpx
import pytest
from fleet_factory import make_fleet

from planners import Plan, PlannerInput, ToolSpec
from s3lora_serve.config import PlansConfig, ServerConfig
from s3lora_serve.server.app import create_app
from s3lora_serve.serving.planning import PlanOptions

BODY = {
    "planner": "p",
    "task": "Who directed Inception, and where was that person born?",
    "tools": [{"name": "Search", "description": "search the web"}, {"name": "LLM"}],
    "max_steps": 3,
}
AS_JSON = {"content-type": "application/json"}
OWN = (ToolSpec(name="Abacus", description="works out sums"), ToolSpec(name="LLM"))


async def test_a_task_gets_a_valid_plan(http):
    """The answer is a Plan of the planners package, without problems, made by the planner that was asked."""
    answer = await http.post("/v1/plans", json=BODY)
    plan = Plan.model_validate(answer.json())
    request = PlannerInput(task=BODY["task"], tools=BODY["tools"], max_steps=3)
    assert (answer.status_code, plan.problems(request.tools), len(plan.steps) > 0) == (200, (), True)
    assert (plan.meta.planner, plan.meta.revision, plan.meta.constraint) == ("p", "0" * 64, "grammar")


async def test_an_unknown_planner_is_a_404_that_lists_them(http):
    """The same answer as for an unknown model."""
    answer = await http.post("/v1/plans", json={**BODY, "planner": "../p"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        404,
        "there is no planner '../p'; planners: bad, h, p, q",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taks": "x"}, "unknown field 'taks'; did you mean 'task'?"),
        ({"guided_json": {}}, "unknown field 'guided_json'; known: "),
        ({"tools": []}, "tools: an empty list leaves nothing to plan with; offer at least one tool"),
        ({"tools": [{"name": "web search"}]}, "tools[0].name: tool name 'web search': use 1 to 128 letters"),
        ({"tools": [{"name": "A", "parameters": {"type": "array"}}]}, "tools[0].parameters: parameters of t"),
        ({"tools": [{"name": "A"}, {"name": "A"}]}, "tools: tool 'A' is offered 2 times"),
        (
            {"tools": [{"name": f"T{i}"} for i in range(300)]},
            "tools: over 256 tools; a server takes 256 at most, or fewer (plans.max_tools)",
        ),
        ({"task": ""}, "task: String should have at least 1 character"),
        ({"task": "a\0b"}, "task: control character U+0000 at position 1"),
        ({"task": "x" * 40_000}, "task: String should have at most 32000 characters"),
        ({"max_steps": 0}, "max_steps: Input should be greater than or equal to 1, not 0"),
        ({"temperature": 3}, "temperature: Input should be less than or equal to 2, not 3"),
        ({"planner": ""}, "planner: String should have at least 1 character"),
        ({"constraint": "json"}, "constraint: Input should be 'grammar' or 'none', not 'json'"),
        ({"revision": "HEAD"}, "revision: String should match pattern '^[0-9a-f]{8,64}$', not 'HEAD'"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0, not -1"),
        ({"max_text": 8}, "max_text: Input should be greater than or equal to 16, not 8"),
        ({"evidence": {"#E2": "x"}}, "evidence: evidence '#E2': 1 results are called #E1, without a gap"),
        ({"temperature": float("nan")}, "temperature: Input should be less than or equal to 2, not nan"),
    ],
)
async def test_a_bad_request_is_a_400_that_says_what_to_mend(http, changes, message):
    """Field, value and limit are named; nothing reaches the planner."""
    answer = await http.post("/v1/plans", content=json.dumps({**BODY, **changes}), headers=AS_JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["message"][: len(message)]) == (
        400,
        "invalid_request",
        message,
    )
    assert error["param"] == (next(iter(changes)) if message.startswith("unknown") else message.split(":")[0])


SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
FUNCTION = {"name": "web-search", "description": "finds facts", "parameters": SCHEMA, "strict": True}
WRITTEN = {
    "ours": [{"name": "web-search", "description": "finds facts", "parameters": SCHEMA}],
    "openai": [{"type": "function", "function": FUNCTION}],
    "responses": [{"type": "function", **FUNCTION}],
    "mcp": [{"name": "web-search", "description": "finds facts", "inputSchema": SCHEMA, "annotations": {}}],
}


@pytest.mark.parametrize("form", WRITTEN)
async def test_tools_as_others_write_them_give_the_same_plan(http, form):
    """A step names the tool as the request did, dash and all, and its arguments fit the schema.

    The same for events of a stream, and for a plan that is asked for in a chat, with its text.
    """
    body = {**BODY, "tools": WRITTEN[form], "evidence": {"#E1": "of web-search"}, "feedback": ["web-search?"]}
    plan = Plan.model_validate((await http.post("/v1/plans", json=body)).json())
    assert plan.problems([ToolSpec.model_validate(WRITTEN["ours"][0])], ["#E1"]) == ()
    assert {step.tool for step in plan.steps} == {"web-search"}
    streamed = (await http.post("/v1/plans", json={**body, "stream": True})).text
    events = [line[6:] for line in streamed.splitlines() if line.startswith("data: ")]
    assert [json.loads(event)["tool"] for event in events[:-1]] == ["web-search"] * len(plan.steps)
    asked = {key: body[key] for key in ("tools", "max_steps", "evidence", "feedback")}
    chat = {"model": "p", "messages": [{"role": "user", "content": BODY["task"]}], "s3lora": {"plan": asked}}
    answer = (await http.post("/v1/chat/completions", json=chat)).json()
    assert {step["tool"] for step in answer["s3lora"]["plan"]["steps"]} == {"web-search"}
    assert "= web-search{" in answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("path", ["/v1/plans", "/v1/chat/completions"])
@pytest.mark.parametrize("text", ["{", "", '{"task": }', "{'planner': 'p'}", "[]"])
async def test_what_is_not_json_is_a_400_on_every_route(http, path, text):
    """The same status and code wherever it is sent."""
    answer = await http.post(path, content=text, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("text", ['["#E1]" ::= ', "<|im_end|>", "Plan: x\n#E1 = LLM[y]", "💥" * 50, "\u2028"])
async def test_text_in_the_request_is_only_text(http, text):
    """Grammar, prompt or plan syntax in a task or a description does not change what is planned with."""
    tools = [{"name": "Search", "description": text[:400]}]
    answer = await http.post("/v1/plans", json={**BODY, "task": f"a {text} b", "tools": tools})
    plan = Plan.model_validate(answer.json())
    assert (answer.status_code, {step.tool for step in plan.steps}) == (200, {"Search"})


@pytest.fixture
async def equipped(tmp_path):
    """A client of a fleet whose planner p has own tools, and q none; and the fleet."""
    fleet = make_fleet(tmp_path, "p", "q", tools={"p": OWN})
    await fleet.start()
    app = create_app(fleet.service, ServerConfig(), None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        yield http, fleet
    await fleet.close()


async def test_without_tools_a_planner_plans_with_its_own(equipped):
    """The configured tools are used, and those of a request go before them."""
    http, _ = equipped
    own = (await http.post("/v1/plans", json={"planner": "p", "task": "x", "max_steps": 8})).json()
    given = (await http.post("/v1/plans", json={**BODY, "max_steps": 8})).json()
    assert {step["tool"] for step in own["steps"]} <= {"Abacus", "LLM"}
    assert {step["tool"] for step in given["steps"]} <= {"Search", "LLM"}


@pytest.mark.parametrize(
    ("planner", "tools", "message"),
    [
        (
            "p",
            [],
            "tools: an empty list leaves nothing to plan with; leave it out to use those of 'p', or ",
        ),
        ("q", [], "tools: an empty list leaves nothing to plan with; offer at least one tool"),
        ("q", None, "field 'tools' is required, since 'q' has no tools configured"),
    ],
)
async def test_nothing_to_plan_with_is_refused(equipped, planner, tools, message):
    """An empty list is not read as "your own": a client that lost its tools must hear of it."""
    body = {"planner": planner, "task": "x"} | ({} if tools is None else {"tools": tools})
    answer = await equipped[0].post("/v1/plans", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["message"][: len(message)]) == (400, "tools", message)


async def test_what_is_not_known_is_absent(http):
    """No field of a plan is null: a client never has to tell null from absent."""
    answer = (await http.post("/v1/plans", json=BODY)).text
    assert "null" not in answer


async def test_null_in_arguments_is_kept(http, monkeypatch, fleet):
    """Arguments are the model's values, null among them, and not fields of ours."""
    parameters = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}
    tools = [{"name": "T", "parameters": parameters}]
    answer = (await http.post("/v1/plans", json={**BODY, "tools": tools, "max_steps": 1})).json()
    assert [step["arguments"] for step in answer["steps"]] == [{"a": None}]


async def test_headers_say_who_planned(http):
    """Planner, revision and role, for clients and proxies that read no bodies."""
    answer = await http.post("/v1/plans", json=BODY, headers={"x-request-id": "r1"})
    names = ("x-request-id", "x-s3lora-planner", "x-s3lora-revision", "x-s3lora-role", "content-type")
    assert [answer.headers[name] for name in names] == ["r1", "p", "0" * 64, "active", "application/json"]


@pytest.mark.parametrize("stream", [False, True])
async def test_another_revision_is_a_409_that_says_which_serves(http, stream):
    """The digest that was asked for does not answer: the body has the one that would, and its generation."""
    answer = await http.post("/v1/plans", json={**BODY, "revision": "a" * 12, "stream": stream})
    body = answer.json()
    assert (answer.status_code, body["error"]["code"], body["revision"], body["generation"]) == (
        409,
        "revision_mismatch",
        "0" * 64,
        1,
    )
    same = await http.post("/v1/plans", json={**BODY, "revision": "0" * 12, "stream": stream})
    assert same.status_code == 200


async def test_a_plan_takes_what_the_request_says(http, fleet, monkeypatch):
    """Every option of the body reaches the planner; the texts' bound is the server's when not given."""
    seen = []
    plan = fleet.service.plan

    async def watched(request, planner, options, **more):
        seen.append((options, more["revision"], more["session"]))
        return await plan(request, planner, options, **more)

    monkeypatch.setattr(fleet.service, "plan", watched)
    options = {"temperature": 0.5, "seed": 7, "repair": True, "max_text": 100, "revision": "0" * 8}
    await http.post("/v1/plans", json={**BODY, **options}, headers={"x-s3lora-session": "s"})
    await http.post("/v1/plans", json=BODY)
    assert seen == [
        (PlanOptions(0.5, 7, "grammar", True, 100, 120.0), "0" * 8, "s"),
        (PlanOptions(0.0, None, "grammar", False, 240, 120.0), None, None),
    ]


async def test_an_invalid_plan_is_a_422_that_lists_its_problems(http, fleet):
    """Without a grammar a model writes what it likes; then every defect is told, with its step."""
    fleet.engine._plan = lambda prompt: "Plan: look\n#E1 = Nowhere[x #E4]\n"
    answer = await http.post("/v1/plans", json={**BODY, "constraint": "none"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "invalid_plan")
    assert {(problem["kind"], problem["step"]) for problem in error["problems"]} == {
        ("unknown_tool", "#E1"),
        ("unknown_evidence", "#E1"),
    }
    assert all(problem["message"] for problem in error["problems"])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_plan_that_takes_too_long_is_a_503(fleet, stream):
    """plans.seconds bounds a plan; its client learns when to come again, and the engine is free again."""

    app = create_app(fleet.service, ServerConfig(), None, PlansConfig(seconds=0.05))
    fleet.engine.hold_requests("p@*")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        answer = await http.post("/v1/plans", json={**BODY, "stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "plan_timeout")
    assert int(answer.headers["retry-after"]) > 0
    assert sum(fleet.service.get("p").leases.values()) == 0


TEXTS = {
    "right to left": "\u202eمن أخرج الفيلم؟\u202c",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "combining": "e\u0301" * 200,
    "noncharacters": "\ufffe\uffff",
    "line separators": "a\u2028b\u2029c\x85",
    "NUL": "a\x00b",
    "half a pair": "\ud83d",
    "halves swapped": "\ude00\ud83d",
    "escape": "\x1b[31m",
    "byte order mark": "\ufeffx",
}


PLACES = {
    "task": lambda text: {"task": text},
    "description": lambda text: {"tools": [{"name": "Search", "description": text}]},
    "evidence": lambda text: {"evidence": {"#E1": text}},
    "feedback": lambda text: {"feedback": [text]},
    "planner": lambda text: {"planner": text},
    "tool name": lambda text: {"tools": [{"name": text}]},
    "evidence name": lambda text: {"evidence": {text: "x"}},
    "field name": lambda text: {text: 1},
}


@pytest.mark.parametrize("place", sorted(PLACES))
async def test_any_text_is_planned_with_or_refused(http, place):
    """Whatever Unicode can be spelled in JSON, wherever it stands: a plan, or a 4xx in our shape."""
    planned = set()
    for name, text in TEXTS.items():
        body = json.dumps({**BODY, **PLACES[place](text)})
        answer = await http.post("/v1/plans", content=body, headers=AS_JSON)
        if answer.status_code == 200:
            assert Plan.model_validate(answer.json()).steps
            planned.add(name)
        else:
            assert answer.status_code in (400, 404), name
            assert answer.json()["error"]["message"], name
    usable = {"right to left", "emoji", "combining", "noncharacters", "line separators", "byte order mark"}
    free = {"task", "description", "evidence", "feedback"}
    assert planned == (usable if place in free else set())


async def test_own_tools_too_large_for_so_many_steps_are_a_400(tmp_path):
    """The bound on arguments and steps holds for the planner's own tools, too: no grammar grows beyond it."""
    names = [f"p{i}" for i in range(30)]
    parameters = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    own = tuple(
        ToolSpec(
            name=f"T{i}",
            parameters={**parameters, "properties": {**parameters["properties"], f"q{i}": {"type": "null"}}},
        )
        for i in range(8)
    )
    fleet = make_fleet(tmp_path, "p", tools={"p": own})
    await fleet.start()
    app = create_app(fleet.service, ServerConfig(), None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        answers = [
            await http.post("/v1/plans", json={"planner": "p", "task": "x", "max_steps": steps})
            for steps in (4, 32)
        ]
    await fleet.close()
    error = answers[1].json()["error"]
    assert ([answer.status_code for answer in answers], error["param"]) == ([200, 400], "max_steps")
    assert "offer fewer tools with parameters, or ask for fewer steps" in error["message"]
