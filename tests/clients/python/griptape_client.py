"""Griptape: OpenAiChatPromptDriver."""

import json

from asked import HELLO, HI, KEY, LANA, MODEL, PLAN, URL, Person, is_plan, same, tell
from griptape.drivers.prompt.openai import OpenAiChatPromptDriver
from griptape.structures import Agent

WHERE = {"model": MODEL, "base_url": URL, "api_key": KEY}


def said(**more):
    return Agent(prompt_driver=OpenAiChatPromptDriver(**WHERE, **more)).run(HI).output.to_text()


def chat():
    same(said(), HELLO)


def stream():
    same(said(stream=True), HELLO)


def structured():
    driver = OpenAiChatPromptDriver(**WHERE, structured_output_strategy="native")
    output = Agent(prompt_driver=driver, output_schema=Person).run(HI).output.value
    same(output if isinstance(output, Person) else Person.model_validate(json.loads(output)), LANA)


def plans():
    is_plan(said(extra_params={"extra_body": PLAN}))


tell(chat=chat, stream=stream, structured=structured, plans=plans)
