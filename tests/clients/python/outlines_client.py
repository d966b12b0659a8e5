"""Outlines, asking a server that speaks as OpenAI does."""

import openai
import outlines
from asked import (
    HELLO,
    HI,
    KEY,
    LANA,
    MODEL,
    PLAN,
    URL,
    Person,
    is_plan,
    same,
    tell,
)

model = outlines.from_openai(openai.OpenAI(base_url=URL, api_key=KEY), MODEL)


def chat():
    same(model(HI), HELLO)


def stream():
    same("".join(model.stream(HI)), HELLO)


def structured():
    same(Person.model_validate_json(model(HI, Person)), LANA)


def plans():
    is_plan(model(HI, extra_body=PLAN))


tell(chat=chat, stream=stream, structured=structured, plans=plans)
