"""The OpenAI Agents SDK: Responses unless told otherwise."""

import openai
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from asked import (
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

set_tracing_disabled(True)
client = openai.AsyncOpenAI(base_url=URL, api_key=KEY)
set_default_openai_client(client, use_for_tracing=False)
tool = function_tool(get_weather)


def chats():
    return OpenAIChatCompletionsModel(model=MODEL, openai_client=client)


async def chat():
    agent = Agent(name="a", model=chats(), tools=[tool])
    same((await Runner.run(agent, QUESTION)).final_output, REPORT)


async def _streamed(model):
    result, text = Runner.run_streamed(Agent(name="a", model=model), HI), ""
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text += event.data.delta
    same((text, result.final_output), (HELLO, HELLO))


async def stream():
    await _streamed(chats())


async def tools():
    settings = ModelSettings(tool_choice="required")
    agent = Agent(name="a", model=chats(), tools=[tool], model_settings=settings)
    same((await Runner.run(agent, HI)).final_output, REPORT)


async def structured():
    agent = Agent(name="a", model=chats(), output_type=Person)
    same((await Runner.run(agent, HI)).final_output, LANA)


async def responses():
    same((await Runner.run(Agent(name="a", model=MODEL, instructions="Be short."), HI)).final_output, HELLO)
    same((await Runner.run(Agent(name="a", model=MODEL, tools=[tool]), QUESTION)).final_output, REPORT)
    same((await Runner.run(Agent(name="a", model=MODEL, output_type=Person), HI)).final_output, LANA)
    settings = ModelSettings(tool_choice="required")
    agent = Agent(name="a", model=MODEL, tools=[tool], model_settings=settings)
    same((await Runner.run(agent, HI)).final_output, REPORT)
    await _streamed(MODEL)


async def plans():
    agent = Agent(name="a", model=MODEL, model_settings=ModelSettings(extra_body=PLAN))
    is_plan((await Runner.run(agent, HI)).final_output)


tell(chat=chat, stream=stream, tools=tools, structured=structured, responses=responses, plans=plans)
