"""LlamaIndex: OpenAILike, which asks for chats."""

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
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

ASK = [ChatMessage(role="user", content=HI)]
model = OpenAILike(model=MODEL, api_base=URL, api_key=KEY, is_chat_model=True, is_function_calling_model=True)
tool = FunctionTool.from_defaults(get_weather)


def chat():
    same(model.chat(ASK).message.content, HELLO)


def stream():
    same("".join(part.delta or "" for part in model.stream_chat(ASK)), HELLO)


def tools():
    answer = model.chat_with_tools([tool], user_msg=HI, tool_required=True)
    same(model.get_tool_calls_from_response(answer)[0].tool_kwargs, CALLED["arguments"])


def structured():
    same(model.as_structured_llm(Person).chat(ASK).raw, LANA)


def plans():
    planning = OpenAILike(
        model=MODEL, api_base=URL, api_key=KEY, is_chat_model=True, additional_kwargs={"extra_body": PLAN}
    )
    is_plan(planning.chat(ASK).message.content)


tell(chat=chat, stream=stream, tools=tools, structured=structured, plans=plans)
