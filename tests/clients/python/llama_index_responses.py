"""LlamaIndex's OpenAIResponses."""

from asked import (
    CALLED,
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
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAIResponses


def responses():
    model = OpenAIResponses(model=MODEL, api_base=URL, api_key=KEY, context_window=2048)
    same(model.chat([ChatMessage(role="user", content=HI)]).message.content, HELLO)


tell(responses=responses)
