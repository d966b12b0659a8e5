"""langchain-openai, and an agent of langchain's."""

from asked import (
    CALLED,
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
from langchain_openai import ChatOpenAI

WHERE = {"model": MODEL, "base_url": URL, "api_key": KEY}


def chat():
    from langchain.agents import create_agent

    same(ChatOpenAI(**WHERE).invoke(HI).content, HELLO)
    agent = create_agent(ChatOpenAI(**WHERE), tools=[get_weather])
    same(agent.invoke({"messages": [{"role": "user", "content": QUESTION}]})["messages"][-1].content, REPORT)


def stream():
    same("".join(chunk.content for chunk in ChatOpenAI(**WHERE).stream(HI)), HELLO)


def tools():
    model = ChatOpenAI(**WHERE).bind_tools([get_weather], tool_choice="any")
    same(model.invoke(HI).tool_calls[0]["args"], CALLED["arguments"])
    same(ChatOpenAI(**WHERE).with_structured_output(Person, method="function_calling").invoke(HI), LANA)


def structured():
    same(ChatOpenAI(**WHERE).with_structured_output(Person).invoke(HI), LANA)


def responses():
    model = ChatOpenAI(**WHERE, use_responses_api=True)
    same(model.invoke(HI).text, HELLO)
    same("".join(chunk.text for chunk in model.stream(HI)), HELLO)
    same(
        model.bind_tools([get_weather], tool_choice="any").invoke(HI).tool_calls[0]["args"],
        CALLED["arguments"],
    )
    same(model.with_structured_output(Person).invoke(HI), LANA)


def plans():
    is_plan(ChatOpenAI(**WHERE, extra_body=PLAN).invoke(HI).content)


tell(chat=chat, stream=stream, tools=tools, structured=structured, responses=responses, plans=plans)
