"""Strands Agents: OpenAIModel and OpenAIResponsesModel."""

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
from strands import Agent, tool
from strands.models.openai import OpenAIModel

WHERE = {"client_args": {"base_url": URL, "api_key": KEY}, "model_id": MODEL}


def said(result):
    return "".join(part.get("text", "") for part in result.message["content"])


def agent(**more):
    return Agent(model=OpenAIModel(**WHERE), callback_handler=None, **more)


def chat():
    same(said(agent()(HI)), HELLO)
    same(said(agent(tools=[tool(get_weather)])(QUESTION)), REPORT)


async def stream():
    same("".join([event["data"] async for event in agent().stream_async(HI) if "data" in event]), HELLO)


def structured():
    same(agent().structured_output(Person, HI), LANA)


def responses():
    from strands.models.openai_responses import OpenAIResponsesModel

    same(said(Agent(model=OpenAIResponsesModel(**WHERE), callback_handler=None)(HI)), HELLO)


def plans():
    model = OpenAIModel(**WHERE, params={"extra_body": PLAN})
    is_plan(said(Agent(model=model, callback_handler=None)(HI)))


tell(chat=chat, stream=stream, structured=structured, responses=responses, plans=plans)
