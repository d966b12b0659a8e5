"""The openai package."""

import json

import openai
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
    QUESTION,
    REPORT,
    TOOL,
    URL,
    Person,
    get_weather,
    is_plan,
    same,
    tell,
)

client = openai.OpenAI(base_url=URL, api_key=KEY)


def chat():
    same(client.chat.completions.create(model=MODEL, messages=MESSAGES).choices[0].message.content, HELLO)


def stream():
    chunks = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), HELLO)


def tools():
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answer = client.chat.completions.create(
            model=MODEL, messages=MESSAGES, tools=[TOOL], tool_choice=choice
        )
        same(json.loads(answer.choices[0].message.tool_calls[0].function.arguments), CALLED["arguments"])


def structured():
    answer = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Person)
    same(answer.choices[0].message.parsed, LANA)


def responses():
    same(client.responses.create(model=MODEL, input=HI).output_text, HELLO)
    same(client.responses.parse(model=MODEL, input=HI, text_format=Person).output_parsed, LANA)
    with client.responses.stream(model=MODEL, input=HI) as events:
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        same(("".join(deltas), events.get_final_response().output_text), (HELLO, HELLO))
    tool = {"type": "function", **FUNCTION}
    items = [{"role": "user", "content": QUESTION}]
    answer = client.responses.create(model=MODEL, input=items, tools=[tool])
    (call,) = answer.output
    items += [call, {"type": "function_call_output", "call_id": call.call_id, "output": get_weather("Paris")}]
    same(client.responses.create(model=MODEL, input=items, tools=[tool]).output_text, REPORT)
    answer = client.responses.create(model=MODEL, input=HI, tools=[tool], tool_choice="required")
    same(json.loads(answer.output[0].arguments), CALLED["arguments"])


def plans():
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body=PLAN)
    same(answer.s3lora["plan"]["steps"][0]["tool"], "Search")
    is_plan(client.responses.create(model=MODEL, input=HI, extra_body=PLAN).output_text)


tell(chat=chat, stream=stream, tools=tools, structured=structured, responses=responses, plans=plans)
