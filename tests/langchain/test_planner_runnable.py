"""``S3LoRAPlanner`` as LangChain calls a Runnable, against the real server."""

from __future__ import annotations

import asyncio
import json
import threading

import httpx
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompt_values import StringPromptValue
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tools import tool
from threaded_server import threaded_server, wait_until

from planners import Plan, PlannerInput, ToolSpec
from planners.client.errors import ServerUnavailable, UnknownPlanner
from planners.langchain import S3LoRAPlanner

TASK = "Who directed Inception?"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Planners p and q, undisturbed by any test."""
    with threaded_server(tmp_path_factory.mktemp("served"), "p", "q") as server:
        yield server


@pytest.fixture
def planner(served):
    """Planner p with two tools."""
    return S3LoRAPlanner(base_url=served.url + "/v1", planner="p", tools=["Search", "LLM"])


@pytest.mark.parametrize(
    "question",
    [
        TASK,
        {"task": TASK},
        {"task": TASK, "tools": None},
        {"task": TASK, "tools": ["Search", {"name": "LLM"}], "planner": "p"},
        PlannerInput(task=TASK, tools=[ToolSpec(name="Search"), ToolSpec(name="LLM")]),
        {"input": TASK},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": TASK}]}]},
        [HumanMessage(TASK)],
        HumanMessage(TASK),
        ChatPromptTemplate.from_messages([("human", "Who directed {film}?")]).invoke({"film": "Inception"}),
        StringPromptValue(text=TASK),
    ],
)
async def test_every_form_of_a_question_gets_the_same_plan(planner, question):
    """Text, dicts and PlannerInputs; sync and async, whole and streamed."""
    plans = [
        await asyncio.to_thread(planner.invoke, question),
        await planner.ainvoke(question),
        sum(await asyncio.to_thread(lambda: list(planner.stream(question)))),
        sum([chunk async for chunk in planner.astream(question)]),
    ]
    assert [plan.steps for plan in plans] == [plans[0].steps] * 4
    assert (plans[0].problems(["Search", "LLM"]), [p.meta.planner for p in plans]) == ((), ["p"] * 4)


def test_the_question_goes_before_the_fields_and_the_call_before_both(planner):
    """Each replaces what is under it; a field that is not named stays."""
    plan = planner.bind(max_steps=1, tools=["Bound"]).invoke(
        {"task": TASK, "tools": ["Asked"], "planner": "q"}
    )
    assert ([step.tool for step in plan.steps], plan.meta.planner) == (["Bound"], "q")


@pytest.mark.parametrize(
    ("question", "error", "why"),
    [
        (7, TypeError, "asked with a int"),
        ({"input": 7}, TypeError, "'input' is a int"),
        ({"input": TASK, "task": TASK}, ValueError, "'task' and 'input'; give the task once"),
        ([SystemMessage("Plan.")], ValueError, "no user's message"),
        ([HumanMessage([{"type": "image_url", "image_url": {"url": "x"}}])], ValueError, "'image_url'"),
        ([7], ValueError, "something else than messages"),
        ({"question": TASK}, ValueError, "no \"task\" in the question, only .*'question'"),
        ({"task": TASK, "history": []}, ValueError, "history"),
        ({"task": TASK, "tools": ["web search"]}, ValueError, "web_search"),
    ],
)
def test_what_is_no_question_is_refused_by_name(planner, question, error, why):
    """Before anything is sent."""
    with pytest.raises(error, match=why):
        planner.invoke(question)


def test_a_prompt_template_pipes_into_the_planner(planner):
    """``prompt | planner``, whole and streamed; rules and turns before the task are a part of it."""
    told = []
    planner = planner.model_copy(update={"http_client": httpx.Client(event_hooks={"request": [told.append]})})
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Be brief."), ("human", "Hello."), ("ai", "Hello!"), ("human", "Who directed {film}?")]
    )
    chain = prompt | planner
    plans = [chain.invoke({"film": "Inception"}), sum(chain.stream({"film": "Inception"}))]
    assert plans[0].steps == plans[1].steps
    asked = [json.loads(request.content)["task"] for request in told]
    assert asked == ["Be brief.\n\nUser: Hello.\nAssistant: Hello!\nUser: Who directed Inception?"] * 2


def test_batches_keep_order_and_hold_errors(planner):
    """Each input has its own plan or error, at most as many at once as was said."""
    questions = [TASK, {"task": TASK, "planner": "nobody"}, "Another task", TASK]
    found = planner.batch(questions, {"max_concurrency": 2}, return_exceptions=True)
    assert [type(one) for one in found] == [Plan, UnknownPlanner, Plan, Plan]
    assert (found[0].steps == found[3].steps, found[0].steps == found[2].steps) == (True, False)
    with pytest.raises(UnknownPlanner):
        planner.batch(questions)


async def test_async_batches_keep_to_the_bound(served):
    """With ``max_concurrency`` 3, never more than three requests are on their way; errors stay in place."""
    on_their_way, most = 0, 0

    async def leaves(request):
        nonlocal on_their_way, most
        on_their_way += 1
        most = max(most, on_their_way)

    async def is_answered(response):
        nonlocal on_their_way
        on_their_way -= 1

    hooks = {"request": [leaves], "response": [is_answered]}
    async with httpx.AsyncClient(event_hooks=hooks) as http:
        planner = S3LoRAPlanner(base_url=served.url, planner="p", tools=["A"], http_async_client=http)
        plans = await planner.abatch([f"task {n}" for n in range(12)], {"max_concurrency": 3})
        found = await planner.abatch(["a", {"tools": []}, "b"], return_exceptions=True)
    assert (len(plans), most) == (12, 3)
    assert [type(one) for one in found] == [Plan, ValueError, Plan]


async def test_events_show_each_step_as_it_is_made(planner):
    """``astream_events`` has a stream event a chunk, and at the end the whole plan."""
    events = [event async for event in planner.astream_events(TASK, version="v2")]
    kinds = [event["event"] for event in events]
    chunks = [event["data"]["chunk"] for event in events if event["event"] == "on_chain_stream"]
    assert kinds == ["on_chain_start", *["on_chain_stream"] * 3, "on_chain_end"]
    assert ([len(c.steps) for c in chunks], events[-1]["data"]["output"]) == ([1, 1, 0], sum(chunks))


async def test_it_streams_inside_a_chain(planner):
    """What comes before may stream the question; what comes after gets step by step."""

    def question(words):
        yield from ("Who directed ", "Inception?")

    chain = RunnableLambda(question) | planner | (lambda plan: plan)
    direct = (RunnableLambda(question) | planner).stream("go")
    sync = await asyncio.to_thread(lambda: list(direct))
    whole = await chain.ainvoke("go")
    assert ([len(c.steps) for c in sync], sum(sync).steps) == ([1, 1, 0], whole.steps)
    keyed = {"task": RunnablePassthrough(), "tools": lambda _: ["Search"]} | planner
    chunks = [chunk async for chunk in keyed.astream(TASK)]
    assert [step.tool for step in sum(chunks).steps] == ["Search", "Search"]


async def test_a_stream_that_is_left_stops_the_engine(tmp_path):
    """Sync and async: the connection is closed, and the request aborted."""
    with threaded_server(tmp_path, "p") as server:
        server.fleet.engine.seconds_per_token = 0.05
        planner = S3LoRAPlanner(base_url=server.url, planner="p", tools=["A"])

        def leave():
            for _ in planner.stream(TASK):
                break

        await asyncio.to_thread(leave)
        async for _ in planner.astream(TASK):
            break
        await asyncio.to_thread(wait_until, lambda: server.requests("aborted") == 2)
        assert server.requests("ok") == 0


def test_event_loops_follow_one_another(planner):
    """Two ``asyncio.run`` in a row, and one in another thread, each plan on their own connections."""
    found = []

    def runs():
        for _ in range(2):
            found.append(asyncio.run(planner.ainvoke(TASK)).steps)
            found.append(asyncio.run(_summed(planner)).steps)

    threads = [threading.Thread(target=runs) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [found[0]] * 8


async def _summed(planner):
    return sum([chunk async for chunk in planner.astream(TASK)])


async def test_the_loop_goes_on_while_a_plan_is_made(tmp_path):
    """An awaited plan does not hold up what else the loop has to do."""
    with threaded_server(tmp_path, "p") as server:
        gate = server.do(lambda: server.fleet.engine.hold_requests("*"))
        planner = S3LoRAPlanner(base_url=server.url, planner="p", tools=["A"])
        task = asyncio.ensure_future(planner.ainvoke(TASK))
        while not gate.waiting:  # would never become true, if the call blocked the loop
            await asyncio.sleep(0.005)
        assert not task.done()
        server.do(gate.open)
        assert len((await task).steps) == 2
        await planner.aclose()


class Seen(BaseCallbackHandler):
    """Notes the runs that it is told of."""

    def __init__(self):
        self.starts, self.ends, self.errors = [], [], []

    def on_chain_start(self, serialized, inputs, **run):
        self.starts.append((run["name"], inputs, run["tags"], run["metadata"]))

    def on_chain_end(self, outputs, **run):
        self.ends.append(outputs)

    def on_chain_error(self, error, **run):
        self.errors.append(error)


def test_runs_are_traced(planner):
    """One run a call, with name, tags, metadata and the planner's name; its output is the plan."""
    seen = Seen()
    config = {"callbacks": [seen], "run_name": "plan", "tags": ["t"], "metadata": {"m": 1}}
    plan = planner.invoke(TASK, config)
    list(planner.stream(TASK, config))
    with pytest.raises(UnknownPlanner) as caught:
        planner.invoke({"task": TASK, "planner": "nobody"}, config)
    assert [start[::2] for start in seen.starts] == [("plan", ["t"])] * 3
    assert [start[3] for start in seen.starts] == [{"m": 1, "s3lora_planner": "p"}] * 3
    assert ([end.steps for end in seen.ends], seen.errors) == ([plan.steps] * 2, [caught.value])


def test_fallbacks_retries_and_configs_wrap_it(planner, served):
    """LangChain's own wrappers work as for any Runnable."""
    lost = S3LoRAPlanner(base_url=served.url, planner="nobody", tools=["A"])
    seen = Seen()
    plan = lost.with_fallbacks([planner], exceptions_to_handle=(UnknownPlanner,)).invoke(TASK)
    with pytest.raises(UnknownPlanner):
        lost.with_retry(
            retry_if_exception_type=(UnknownPlanner,), stop_after_attempt=3, wait_exponential_jitter=False
        ).invoke(TASK, {"callbacks": [seen]})
    named = planner.with_config(run_name="named", callbacks=[seen])
    named.invoke(TASK)
    assert (plan.meta.planner, len(seen.errors) >= 3, seen.starts[-1][0]) == ("p", True, "named")


def test_a_thread_of_langgraph_is_a_session(planner, served):
    """The config's thread_id names the session, unless the question or the runnable does."""
    sent = []
    http = planner._clients.sync(planner._settings())._http
    http.event_hooks["request"].append(lambda request: sent.append(request.headers.get("x-s3lora-session")))
    config = {"configurable": {"thread_id": "thread-1"}}
    planner.invoke(TASK, config)
    planner.invoke({"task": TASK, "session": "mine"}, config)
    planner.invoke(TASK)
    assert sent == ["thread-1", "mine", None]


def test_a_dead_engine_is_an_error_that_can_be_caught(tmp_path):
    """Through the Runnable the client's errors come as they are, with the steps that a stream brought."""
    with threaded_server(tmp_path, "p") as server:
        server.fleet.engine.seconds_per_token = 0.01
        server.do(lambda: server.fleet.engine.die_during("stream", "p@*", after=9))
        planner = S3LoRAPlanner(base_url=server.url, planner="p", tools=["A", "B"], max_retries=0)
        with pytest.raises(ServerUnavailable) as caught:
            list(planner.stream(TASK))
    assert [step.id for step in caught.value.steps] == ["#E1"]


def test_langchains_tools_are_offered(served):
    """A decorated function's name and description reach the planner."""

    @tool
    def look_up(query: str) -> str:
        """Look a word up."""
        return query

    planner = S3LoRAPlanner(base_url=served.url, planner="p", tools=[look_up])
    step = planner.invoke(TASK).steps[0]
    assert (step.tool, look_up.invoke(step.tool_input)) == ("look_up", step.tool_input)
    assert planner.tools == (ToolSpec(name="look_up", description="Look a word up."),)
