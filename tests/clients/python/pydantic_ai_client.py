"""pydantic-ai: `openai:` is Responses in it, `openai-chat:` chats."""

import os

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

os.environ.update(OPENAI_BASE_URL=URL, OPENAI_API_KEY=KEY)
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel


def chats():
    return OpenAIChatModel(MODEL)


def answers():
    return OpenAIResponsesModel(MODEL)


def chat():
    same(Agent(chats()).run_sync(HI).output, HELLO)
    same(Agent(chats(), tools=[get_weather]).run_sync(QUESTION).output, REPORT)


async def stream():
    async with Agent(chats()).run_stream(HI) as result:
        same("".join([text async for text in result.stream_text(delta=True)]), HELLO)


def tools():
    same(Agent(chats(), output_type=Person).run_sync(HI).output, LANA)  # its default: a call is forced


def structured():
    same(Agent(chats(), output_type=NativeOutput(Person)).run_sync(HI).output, LANA)


async def responses():
    same((await Agent(answers(), instructions="Be short.").run(HI)).output, HELLO)
    same((await Agent(f"openai-responses:{MODEL}").run(HI)).output, HELLO)
    same((await Agent(answers(), tools=[get_weather]).run(QUESTION)).output, REPORT)
    same((await Agent(answers(), output_type=Person).run(HI)).output, LANA)
    same((await Agent(answers(), output_type=NativeOutput(Person)).run(HI)).output, LANA)
    async with Agent(answers()).run_stream(HI) as result:
        same("".join([text async for text in result.stream_text(delta=True)]), HELLO)


def plans():
    is_plan(Agent(chats(), model_settings={"extra_body": PLAN}).run_sync(HI).output)


tell(chat=chat, stream=stream, tools=tools, structured=structured, responses=responses, plans=plans)
