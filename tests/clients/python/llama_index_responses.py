"""LlamaIndex's OpenAIResponses."""

from asked import (
    HELLO,
    HI,
    KEY,
    MODEL,
    URL,
    same,
    tell,
)
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAIResponses


def responses():
    model = OpenAIResponses(model=MODEL, api_base=URL, api_key=KEY, context_window=2048)
    same(model.chat([ChatMessage(role="user", content=HI)]).message.content, HELLO)


tell(responses=responses)
