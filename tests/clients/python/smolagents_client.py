"""smolagents: its agents write code, or call tools that they must."""

from asked import (
    CALLED,
    HELLO,
    HI,
    KEY,
    LANA,
    MESSAGES,
    MODEL,
    PLAN,
    URL,
    Person,
    get_weather,
    is_plan,
    same,
    tell,
)
from smolagents import OpenAIModel, ToolCallingAgent, tool

model = OpenAIModel(model_id=MODEL, api_base=URL, api_key=KEY)


def chat():
    same(model(MESSAGES).content, HELLO)


def stream():
    same("".join(part.content or "" for part in model.generate_stream(MESSAGES)), HELLO)


def tools():
    answer = ToolCallingAgent(tools=[tool(get_weather)], model=model, max_steps=1)
    steps = [step for step in answer.run(HI, stream=True) if getattr(step, "tool_calls", None)]
    same(steps[0].tool_calls[0].arguments, CALLED["arguments"])


def structured():
    form = {"type": "json_schema", "json_schema": {"name": "Person", "schema": Person.model_json_schema()}}
    same(Person.model_validate_json(model(MESSAGES, response_format=form).content), LANA)


def plans():
    is_plan(OpenAIModel(model_id=MODEL, api_base=URL, api_key=KEY, extra_body=PLAN)(MESSAGES).content)


tell(chat=chat, stream=stream, tools=tools, structured=structured, plans=plans)
