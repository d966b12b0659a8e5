"""LiteLLM, the library."""

import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from asked import (
    CALLED,
    FUNCTION,
    HELLO,
    HI,
    KEY,
    LANA,
    MESSAGES,
    MODEL,
    PLAN,
    TOOL,
    URL,
    Person,
    is_plan,
    same,
    tell,
)

WHERE = {"model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY}


def chat():
    same(litellm.completion(**WHERE, messages=MESSAGES).choices[0].message.content, HELLO)
    hosted = {**WHERE, "model": f"hosted_vllm/{MODEL}"}
    same(litellm.completion(**hosted, messages=MESSAGES).choices[0].message.content, HELLO)


def stream():
    chunks = litellm.completion(**WHERE, messages=MESSAGES, stream=True)
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), HELLO)


def tools():
    answer = litellm.completion(**WHERE, messages=MESSAGES, tools=[TOOL], tool_choice="required")
    same(json.loads(answer.choices[0].message.tool_calls[0].function.arguments), CALLED["arguments"])


def structured():
    answer = litellm.completion(**WHERE, messages=MESSAGES, response_format=Person)
    same(Person.model_validate_json(answer.choices[0].message.content), LANA)


def responses():
    answer = litellm.responses(**WHERE, input=HI)
    same(answer.output[0].content[0].text, HELLO)
    events = list(litellm.responses(**WHERE, input=HI, stream=True))
    same("".join(event.delta for event in events if event.type == "response.output_text.delta"), HELLO)
    answer = litellm.responses(
        **WHERE, input=HI, tools=[{"type": "function", **FUNCTION}], tool_choice="required"
    )
    same(json.loads(answer.output[0].arguments), CALLED["arguments"])


def plans():
    is_plan(litellm.completion(**WHERE, messages=MESSAGES, extra_body=PLAN).choices[0].message.content)


tell(chat=chat, stream=stream, tools=tools, structured=structured, responses=responses, plans=plans)
