"""Agno: OpenAILike and OpenAIResponses."""

import os

os.environ["AGNO_TELEMETRY"] = "false"
from agno.agent import Agent
from agno.models.openai import OpenAIResponses
from agno.models.openai.like import OpenAILike
from asked import (
    HELLO,
    HI,
    KEY,
    LANA,
    MODEL,
    PLAN,
    QUESTION,
    REPORT,
    URL,
    Person,
    get_weather,
    is_plan,
    same,
    tell,
)

WHERE = {"id": MODEL, "base_url": URL, "api_key": KEY}


def agent(model=None, **more):
    return Agent(model=model or OpenAILike(**WHERE), telemetry=False, **more)


def chat():
    same(agent().run(HI).content, HELLO)
    same(agent(tools=[get_weather]).run(QUESTION).content.endswith(REPORT), True)


def stream():
    same(
        "".join(part.content or "" for part in agent().run(HI, stream=True) if hasattr(part, "content")),
        HELLO,
    )


def structured():
    same(
        agent(OpenAILike(**WHERE, supports_native_structured_outputs=True), output_schema=Person)
        .run(HI)
        .content,
        LANA,
    )


def responses():
    same(agent(OpenAIResponses(**WHERE)).run(HI).content, HELLO)
    same(
        agent(OpenAIResponses(**WHERE, store=False), tools=[get_weather])
        .run(QUESTION)
        .content.endswith(REPORT),
        True,
    )


def plans():
    is_plan(agent(OpenAILike(**WHERE, extra_body=PLAN)).run(HI).content)


tell(chat=chat, stream=stream, structured=structured, responses=responses, plans=plans)
