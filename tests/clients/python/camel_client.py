"""CAMEL: a model of the kind OPENAI_COMPATIBLE_MODEL."""

import json

from asked import CALLED, HELLO, KEY, LANA, MESSAGES, MODEL, PLAN, TOOL, URL, Person, is_plan, same, tell
from camel.models import ModelFactory
from camel.types import ModelPlatformType


def model(**config):
    return ModelFactory.create(
        model_platform=ModelPlatformType.OPENAI_COMPATIBLE_MODEL,
        model_type=MODEL,
        url=URL,
        api_key=KEY,
        model_config_dict=config,
    )


def chat():
    same(model().run(MESSAGES).choices[0].message.content, HELLO)


def stream():
    chunks = model(stream=True).run(MESSAGES)
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), HELLO)


def tools():
    answer = model(tool_choice="required").run(MESSAGES, tools=[TOOL])
    same(json.loads(answer.choices[0].message.tool_calls[0].function.arguments), CALLED["arguments"])


def structured():
    answer = model().run(MESSAGES, response_format=Person)
    same(Person.model_validate_json(answer.choices[0].message.content), LANA)


def plans():
    is_plan(model(extra_body=PLAN).run(MESSAGES).choices[0].message.content)


tell(chat=chat, stream=stream, tools=tools, structured=structured, plans=plans)
