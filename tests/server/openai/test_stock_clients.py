"""What clients see that know nothing of this server: the openai package and LangChain's ChatOpenAI."""

from __future__ import annotations

import asyncio
import warnings
from functools import partial

import openai
import pytest
from fleet_factory import BASE
from langchain_core.messages import HumanMessage
from live_server import live

from planners import Plan

langchain_openai = pytest.importorskip("langchain_openai")

ASK = [{"role": "user", "content": "Who directed Inception?"}]
PLAN = {"s3lora": {"plan": {"tools": [{"name": "Search"}, {"name": "LLM"}]}}}
REVISION = "0" * 64


@pytest.fixture
async def asking(served):
    """``asking(work)`` runs a blocking ``work(base_url)`` in a thread, beside the server."""
    async with live(served) as http:
        yield lambda work: asyncio.to_thread(work, f"{http.base_url}/v1")


async def test_openai_keeps_what_it_does_not_know(asking):
    """Metadata is in ``model_extra`` of answer and usage, and the fingerprint where OpenAI has its own."""

    def work(url):
        with openai.OpenAI(base_url=url, api_key="none") as client:
            return client.chat.completions.create(model="p", messages=ASK, extra_body=PLAN)

    answer = await asking(work)
    served, cost = answer.model_extra["s3lora"], answer.model_extra["cost"]
    assert (answer.model, served["planner"], served["revision"], served["role"]) == (
        "p",
        "p",
        REVISION,
        "active",
    )
    assert Plan.model_validate(served["plan"]).to_rewoo() == answer.choices[0].message.content
    assert cost["output_tokens"] == answer.usage.completion_tokens
    assert answer.usage.model_extra["s3lora"]["revision"] == {REVISION: 1}
    assert answer.usage.model_extra["s3lora"]["cost"]["output_tokens"] == cost["output_tokens"]
    assert answer.system_fingerprint.endswith(f"{BASE}/{REVISION[:12]}")


async def test_openai_streams_as_it_does(asking):
    """Its usual loop reads a choice of each chunk; usage is last, as it was asked for; chunks add up."""

    def work(url):
        with openai.OpenAI(base_url=url, api_key="none") as client:
            ask = partial(client.chat.completions.create, model="p", messages=ASK, stream=True)
            with ask(extra_body=PLAN) as chunks:
                plain = list(chunks)
            with ask(stream_options={"include_usage": False}) as chunks:
                refused = list(chunks)
            with ask(stream_options={"include_usage": True}) as chunks:
                asked = list(chunks)
            with client.chat.completions.stream(model="p", messages=ASK) as stream:
                return plain, refused, asked, stream.until_done().get_final_completion()

    plain, refused, asked, summed = await asking(work)
    for chunks, used in ((plain, True), (refused, False), (asked, True)):
        assert ({c.model for c in chunks}, {bool(c.system_fingerprint) for c in chunks}) == ({"p"}, {True})
        assert [c.usage is not None for c in chunks] == [False] * (len(chunks) - 1) + [used]
    said = "".join(chunk.choices[0].delta.content or "" for chunk in plain)
    assert (said.startswith("Plan:"), plain[-1].choices[0].finish_reason) == (True, "stop")
    assert (refused[-1].choices[0].finish_reason, asked[-1].choices) == ("stop", [])
    assert Plan.model_validate(plain[-1].model_extra["s3lora"]["plan"]).steps
    assert (summed.model, summed.usage.model_extra["s3lora"]["planner"]) == ("p", {"p": 1})
    assert summed.choices[0].message.content.startswith("This is answer")


async def test_an_older_or_other_revision_is_a_conflict(asking):
    """OpenAI's own exception for a 409, with our code in it."""

    def work(url):
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            extra = {"s3lora": {"revision": "f" * 8}}
            client.chat.completions.create(model="p", messages=ASK, extra_body=extra)

    with pytest.raises(openai.ConflictError) as refused:
        await asking(work)
    assert refused.value.code == "revision_mismatch"


async def test_chat_openai_keeps_usage_and_headers(asking):
    """Stock ChatOpenAI: planner and cost in ``token_usage``, the revision in headers and fingerprint."""

    def work(url):
        model = langchain_openai.ChatOpenAI(
            model="p", base_url=url, api_key="none", include_response_headers=True, extra_body=PLAN
        )
        return model.invoke("Who directed Inception?"), list(model.stream("Who directed Inception?"))

    message, chunks = await asking(work)
    metadata = message.response_metadata
    usage = metadata["token_usage"]
    assert (metadata["model_name"], metadata["headers"]["x-s3lora-revision"]) == ("p", REVISION)
    assert metadata["system_fingerprint"].endswith(REVISION[:12])
    assert (usage["s3lora"]["revision"], usage["s3lora"]["cost"]["output_tokens"]) == (
        {REVISION: 1},
        message.usage_metadata["output_tokens"],
    )
    whole = sum(chunks[1:], chunks[0])
    assert (whole.content, whole.usage_metadata["output_tokens"]) == (
        message.content,
        message.usage_metadata["output_tokens"],
    )


@pytest.mark.parametrize("model", ["p", BASE])
async def test_chat_openai_adds_up_usage_without_a_warning(asking, model):
    """It adds up ``token_usage`` of several answers, and warns of or fails on what is no number."""

    def work(url):
        chat = langchain_openai.ChatOpenAI(model=model, base_url=url, api_key="none")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("default", ResourceWarning)  # of what another test left, found just now
            # openai writes null for details of usage that the engine does not tell: none of ours.
            warnings.filterwarnings("ignore", "Unexpected type for token usage: <class 'NoneType'>")
            asked = [[HumanMessage(word)] for word in ("one", "two", "three")]
            return chat.generate(asked), chat.batch(["one", "two"])

    result, batch = await asking(work)
    usage = result.llm_output["token_usage"]
    assert len(batch) == 2
    assert usage["s3lora"]["cost"]["output_tokens"] == usage["completion_tokens"] > 0
    assert usage["s3lora"]["served_by"] == {"adapter" if model == "p" else "base": 3}
