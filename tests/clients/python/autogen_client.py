"""AutoGen: OpenAIChatCompletionClient and an agent of agentchat."""

import json

from asked import (
    CALLED,
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
from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import UserMessage
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient

INFO = {
    "vision": False, "function_calling": True, "json_output": True, "structured_output": True,
    "family": "unknown", "multiple_system_messages": True,
}  # fmt: skip
ASK = [UserMessage(content=HI, source="user")]
tool = FunctionTool(get_weather, description="The weather of a city.")


def model(**more):
    return OpenAIChatCompletionClient(model=MODEL, base_url=URL, api_key=KEY, model_info=INFO, **more)


async def chat():
    same((await model().create(ASK)).content, HELLO)
    agent = AssistantAgent("a", model_client=model(), tools=[tool], reflect_on_tool_use=True)
    same((await agent.run(task=QUESTION)).messages[-1].content, REPORT)


async def stream():
    parts = [part async for part in model().create_stream(ASK)]
    same("".join(part for part in parts if isinstance(part, str)), HELLO)


async def tools():
    answer = await model().create(ASK, tools=[tool], tool_choice="required")
    same(json.loads(answer.content[0].arguments), CALLED["arguments"])


async def structured():
    same(Person.model_validate_json((await model().create(ASK, json_output=Person)).content), LANA)


async def plans():
    is_plan((await model().create(ASK, extra_create_args={"extra_body": PLAN})).content)


tell(chat=chat, stream=stream, tools=tools, structured=structured, plans=plans)
