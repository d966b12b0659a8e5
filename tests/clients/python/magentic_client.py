"""magentic: functions whose bodies are prompts."""

from asked import (
    CALLED,
    HELLO,
    HI,
    KEY,
    LANA,
    MODEL,
    URL,
    Person,
    get_weather,
    same,
    tell,
)
from magentic import FunctionCall, StreamedStr, UserMessage
from magentic.chat_model.openai_chat_model import OpenaiChatModel

model = OpenaiChatModel(MODEL, base_url=URL, api_key=KEY)
ASK = [UserMessage(HI)]


def chat():
    same(model.complete(ASK, output_types=[str]).content, HELLO)


def stream():
    same("".join(model.complete(ASK, output_types=[StreamedStr]).content), HELLO)


def tools():
    same(model.complete(ASK, output_types=[Person]).content, LANA)
    call = model.complete(ASK, functions=[get_weather], output_types=[FunctionCall[str]]).content
    same(call.arguments, CALLED["arguments"])


tell(chat=chat, stream=stream, tools=tools)
