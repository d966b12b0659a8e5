"""instructor: its default is a forced call."""

import instructor
import openai
from asked import KEY, LANA, MESSAGES, MODEL, URL, Person, same, tell

plain = openai.OpenAI(base_url=URL, api_key=KEY)


def tools():
    client = instructor.from_openai(plain)
    same(
        client.chat.completions.create(model=MODEL, messages=MESSAGES, response_model=Person).model_dump(),
        LANA.model_dump(),
    )


def stream():
    client = instructor.from_openai(plain)
    parts = list(
        client.chat.completions.create_partial(model=MODEL, messages=MESSAGES, response_model=Person)
    )
    same((parts[-1].name, parts[-1].age), (LANA.name, LANA.age))


def structured():
    client = instructor.from_openai(plain, mode=instructor.Mode.JSON_SCHEMA)
    same(
        client.chat.completions.create(model=MODEL, messages=MESSAGES, response_model=Person).model_dump(),
        LANA.model_dump(),
    )


def responses():
    client = instructor.from_openai(plain, mode=instructor.Mode.RESPONSES_TOOLS)
    same(
        client.responses.create(model=MODEL, input=MESSAGES, response_model=Person).model_dump(),
        LANA.model_dump(),
    )


tell(stream=stream, tools=tools, structured=structured, responses=responses)
