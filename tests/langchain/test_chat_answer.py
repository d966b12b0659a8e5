"""What ChatS3LoRA makes of the server's answers, over the fake engine and a real socket."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import warnings
import weakref

import openai
import pytest
from langchain_core.load import dumpd, dumps, load
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tracers.context import collect_runs
from threaded_server import threaded_server

from planners import Plan, ToolSpec
from planners.langchain import ChatS3LoRA, plan_of

TOOLS = (ToolSpec(name="Search", description="search the web"), ToolSpec(name="LLM"))
KEY = "correct-horse"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Planners p, which has its own tools, and q."""
    root = tmp_path_factory.mktemp("fleet")
    with threaded_server(root, "p", "q", api_key=KEY, tools=TOOLS) as server:
        yield server


@pytest.fixture
def model(server):
    return ChatS3LoRA(model="p", base_url=f"{server.url}/v1", api_key=KEY)


def aggregated(chunks):
    """The chunks added up, and how many carried the server's metadata."""
    chunks = list(chunks)
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    return total, sum("s3lora" in chunk.response_metadata for chunk in chunks)


async def collected(stream):
    return [chunk async for chunk in stream]


def without_times(metadata):
    """The metadata without what differs from one request to the next."""
    cost = {key: value for key, value in metadata["cost"].items() if not key.endswith("_seconds")}
    keys = ("s3lora", "model_name", "system_fingerprint", "finish_reason", "model_provider")
    return {**{key: metadata[key] for key in keys}, "cost": cost}


def test_an_answer_says_who_gave_it_and_at_what_cost(model, server):
    """Planner, revision, role and modules as the service knows them; cost with its units in the names."""
    metadata = model.invoke("Hello").response_metadata
    revision = server.fleet.service.get("p").revision
    told = metadata["s3lora"]
    assert (told["planner"], told["revision"], told["role"], tuple(told["pruned_modules"])) == (
        "p",
        revision.digest,
        "active",
        revision.lineage.pruned,
    )
    assert metadata["cost"]["output_tokens"] > 0
    assert metadata["cost"]["end_to_end_seconds"] >= 0
    assert (metadata["model_name"], metadata["model_provider"]) == ("p", "s3lora")


def test_a_stream_says_the_same_on_its_last_chunk_only(model):
    """stream and astream, added up, have the text and the metadata of invoke."""
    whole = model.invoke("Hello")
    chunks = list(model.stream("Hello"))
    for total, carriers in (
        aggregated(chunks),
        aggregated(asyncio.run(collected(model.astream("Hello")))),
    ):
        assert (total.content, carriers) == (whole.content, 1)
        assert without_times(total.response_metadata) == without_times(whole.response_metadata)
        assert total.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]
    assert len(chunks) > 3


def test_a_plan_comes_with_the_message(model, server):
    """Whole or streamed, the text is the plan as ReWOO and plan_of gives it with its meta."""
    planning = model.with_plan(TOOLS, max_steps=3)
    message = planning.invoke("Who directed Inception?")
    plan = plan_of(message)
    assert (plan.problems(TOOLS, max_steps=3), plan.to_rewoo()) == ((), message.content.strip())
    assert (plan.meta.planner, plan.meta.revision, plan.meta.finish_reason, plan.meta.constraint) == (
        "p",
        server.fleet.service.get("p").revision.digest,
        "stop",
        "grammar",
    )
    assert (plan.meta.usage.output_tokens, plan.meta.cost.output_tokens) == (
        message.usage_metadata["output_tokens"],
    ) * 2
    total, _ = aggregated(planning.stream("Who directed Inception?"))
    assert (plan_of(total).steps, total.content) == (plan.steps, message.content)
    assert "plan" not in message.response_metadata["s3lora"]


def test_a_plan_is_composed_like_any_runnable(model):
    """model.with_plan() | plan_of, with the planner's own tools, whole, in batches and awaited."""
    chain = model.with_plan() | plan_of
    plans = [*chain.batch(["Why?", "How?"]), asyncio.run(chain.ainvoke("Why?"))]
    assert [type(plan) for plan in plans] == [Plan] * 3
    assert {step.tool for plan in plans for step in plan.steps} <= {"Search", "LLM"}


def test_a_plan_survives_checkpoints(model):
    """The message is JSON throughout: written and read back by LangChain, it has the same plan."""
    message = model.with_plan(TOOLS).invoke("Why?")
    again = load(json.loads(dumps(message)), allowed_objects="messages")
    assert plan_of(again) == plan_of(message)


def test_a_plan_that_was_cut_is_no_plan(model):
    """plan_of says that the tokens ran out; it does not give half a plan."""
    message = model.with_plan(TOOLS).invoke("Why?", max_tokens=2)
    with pytest.raises(ValueError, match="not a complete plan: the answer was cut off"):
        plan_of(message)


def test_a_message_without_a_plan_says_how_to_get_one(model):
    """An ordinary answer, and a message that no server sent."""
    for message in (model.invoke("Hello"), AIMessage("Plan: x"), HumanMessage("y")):
        with pytest.raises(ValueError, match="with_plan"):
            plan_of(message)


def test_the_server_refuses_what_it_cannot_hold(model):
    """Another revision is a conflict; a conversation is no task. Both arrive as openai's errors."""
    with pytest.raises(openai.ConflictError, match="revision"):
        model.invoke("Hello", revision="0123456789ab")
    with pytest.raises(openai.BadRequestError, match="one user message"):
        model.with_plan(TOOLS).invoke([HumanMessage("a"), AIMessage("b"), HumanMessage("c")])
    with pytest.raises(openai.NotFoundError, match="planners: p, q"):
        model.invoke("Hello", model="nobody")


def test_a_model_of_one_loop_works_in_the_next(model):
    """Loops one after the other and in threads: each has its own connections, and none is left over."""
    answers = [asyncio.run(model.ainvoke("Hello")).content for _ in range(3)]
    threads = [
        threading.Thread(target=lambda: answers.append(asyncio.run(model.ainvoke("Hello")).content))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(answers), set(answers)) == (6, {model.invoke("Hello").content})


def test_one_loop_has_one_client(model):
    """Requests of a loop share its connections; outside of a loop the settings can still be read."""

    async def clients():
        await model.ainvoke("Hello")
        return [model.root_async_client._client for _ in range(2)]

    (one, same), (other, _) = asyncio.run(clients()), asyncio.run(clients())
    assert (one is same, one is other) == (True, False)
    assert model.root_async_client.api_key == KEY


def test_a_closed_loop_is_let_go(model):
    """The next loop's first request forgets the clients of closed ones, and with them the loops."""

    async def loop():
        await model.ainvoke("Hello")
        return weakref.ref(asyncio.get_running_loop())

    first, _ = asyncio.run(loop()), asyncio.run(loop())
    gc.collect()
    assert first() is None


def test_a_client_of_ones_own_is_used_as_it_is(server):
    """http_async_client answers every loop's requests: its owner knows what it may be used for."""
    own = openai.DefaultAsyncHttpxClient(headers={"x-request-id": "mine"})
    model = ChatS3LoRA(
        model="p",
        base_url=f"{server.url}/v1",
        api_key=KEY,
        http_async_client=own,
        include_response_headers=True,
    )
    message = asyncio.run(model.ainvoke("Hello"))
    assert message.response_metadata["headers"]["x-request-id"] == "mine"


def test_costs_of_several_answers_add_up_without_a_warning(model):
    """LangChain adds the usage of a batch's answers, and warns of what it cannot add."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("default", ResourceWarning)  # of what another test left, found just now
        result = model.generate([[HumanMessage("Hello")], [HumanMessage("Hello")]])
    one = model.invoke("Hello").usage_metadata["output_tokens"]
    assert result.llm_output["token_usage"]["completion_tokens"] == 2 * one


def test_it_is_written_down_without_its_key(model, monkeypatch):
    """The JSON names the variable; read back, it asks the same server with the key that stands there.

    langchain-core reads classes that are not on its own list only when they are named.
    """
    monkeypatch.setenv("S3LORA_API_KEY", KEY)
    written = dumpd(model)
    assert (KEY in json.dumps(written), written["id"]) == (False, ["planners", "langchain", "ChatS3LoRA"])
    again = load(written, valid_namespaces=["planners"], allowed_objects=[ChatS3LoRA], secrets_from_env=True)
    assert again.invoke("Hello").content == model.invoke("Hello").content


def test_traces_name_the_provider(model):
    """LangSmith sees s3lora and the model that the call named, and both packages' versions."""
    with collect_runs() as runs:
        model.invoke("Hello", model="q")
    (run,) = runs.traced_runs
    assert (run.metadata["ls_provider"], run.metadata["ls_model_name"]) == ("s3lora", "q")
    assert {"s3lora-serve", "langchain-openai", "langchain-core"} <= model.metadata["lc_versions"].keys()
    assert model._llm_type == "s3lora-chat"


def test_tokens_are_not_counted_with_somebody_elses_tokenizer(model):
    """Without the base model's tokenizer it says what to give; with it, texts and messages are counted."""
    for count in (
        model.get_num_tokens,
        lambda text: model.get_num_tokens_from_messages([HumanMessage(text)]),
    ):
        with pytest.raises(NotImplementedError, match="custom_get_token_ids"):
            count("one two")
    own = model.model_copy(update={"custom_get_token_ids": lambda text: list(range(len(text.split())))})
    assert (own.get_num_tokens("one two"), own.get_num_tokens_from_messages([HumanMessage("one two")])) == (
        2,
        3,  # with its "Human:"
    )


def test_its_profile_is_not_that_of_openais_model_with_its_name():
    """Agents choose structured output by the profile."""
    profile = ChatS3LoRA(model="gpt-4o").profile
    assert (profile["structured_output"], profile["tool_calling"], profile.get("image_inputs")) == (
        True,
        True,
        None,
    )
