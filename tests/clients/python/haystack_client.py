"""Haystack: OpenAIChatGenerator and OpenAIResponsesChatGenerator."""

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
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from haystack.utils import Secret

WHERE = {"model": MODEL, "api_base_url": URL, "api_key": Secret.from_token(KEY)}
ASK = [ChatMessage.from_user(HI)]
tool = create_tool_from_function(get_weather)


def first(generator, **more):
    return generator.run(ASK, **more)["replies"][0]


def chat():
    same(first(OpenAIChatGenerator(**WHERE)).text, HELLO)


def stream():
    parts = []
    answer = first(OpenAIChatGenerator(**WHERE, streaming_callback=lambda part: parts.append(part.content)))
    same(("".join(parts), answer.text), (HELLO, HELLO))


def tools():
    generator = OpenAIChatGenerator(**WHERE, tools=[tool], generation_kwargs={"tool_choice": "required"})
    same(first(generator).tool_calls[0].arguments, CALLED["arguments"])


def structured():
    generator = OpenAIChatGenerator(**WHERE, generation_kwargs={"response_format": Person})
    same(Person.model_validate_json(first(generator).text), LANA)


def responses():
    same(first(OpenAIResponsesChatGenerator(**WHERE)).text, HELLO)
    generator = OpenAIResponsesChatGenerator(
        **WHERE, tools=[tool], generation_kwargs={"tool_choice": "required"}
    )
    same(first(generator).tool_calls[0].arguments, CALLED["arguments"])
    generator = OpenAIResponsesChatGenerator(**WHERE, generation_kwargs={"text_format": Person})
    same(Person.model_validate_json(first(generator).text), LANA)
    parts = []
    first(OpenAIResponsesChatGenerator(**WHERE, streaming_callback=lambda part: parts.append(part.content)))
    same("".join(parts), HELLO)


def plans():
    is_plan(first(OpenAIChatGenerator(**WHERE, generation_kwargs={"extra_body": PLAN})).text)


tell(chat=chat, stream=stream, tools=tools, structured=structured, responses=responses, plans=plans)
