"""Semantic Kernel: OpenAIChatCompletion with a client of the openai package."""

import openai
from asked import (
    CALLED,
    HELLO,
    HI,
    KEY,
    LANA,
    MODEL,
    PLAN,
    URL,
    Person,
    get_weather,
    is_plan,
    same,
    tell,
)
from semantic_kernel import Kernel
from semantic_kernel.connectors.ai import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.contents import ChatHistory
from semantic_kernel.functions import kernel_function

service = OpenAIChatCompletion(ai_model_id=MODEL, async_client=openai.AsyncOpenAI(base_url=URL, api_key=KEY))


def asking(text=HI):
    history = ChatHistory()
    history.add_user_message(text)
    return history


async def chat():
    same(str(await service.get_chat_message_content(asking(), OpenAIChatPromptExecutionSettings())), HELLO)


async def stream():
    parts = service.get_streaming_chat_message_content(asking(), OpenAIChatPromptExecutionSettings())
    same("".join([str(part) async for part in parts]), HELLO)


async def tools():
    kernel = Kernel()
    kernel.add_function("w", kernel_function(get_weather, name="get_weather", description="The weather."))
    settings = OpenAIChatPromptExecutionSettings(
        function_choice_behavior=FunctionChoiceBehavior.Required(auto_invoke=False)
    )
    answer = await service.get_chat_message_content(asking(), settings, kernel=kernel)
    same(answer.items[0].parse_arguments(), CALLED["arguments"])


async def structured():
    settings = OpenAIChatPromptExecutionSettings(response_format=Person)
    answer = await service.get_chat_message_content(asking(), settings)
    same(Person.model_validate_json(str(answer)), LANA)


async def plans():
    settings = OpenAIChatPromptExecutionSettings(extra_body=PLAN)
    is_plan(str(await service.get_chat_message_content(asking(), settings)))


tell(chat=chat, stream=stream, tools=tools, structured=structured, plans=plans)
