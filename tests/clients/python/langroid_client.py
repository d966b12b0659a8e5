"""Langroid: OpenAIGPT with a server of one's own."""

from asked import HELLO, HI, KEY, MODEL, URL, same, tell
from langroid.language_models import OpenAIGPT, OpenAIGPTConfig

WHERE = {"chat_model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY, "chat_context_length": 2048}


def chat():
    same(OpenAIGPT(OpenAIGPTConfig(**WHERE, stream=False)).chat(HI, max_tokens=64).message, HELLO)


def stream():
    parts = []
    config = OpenAIGPTConfig(**WHERE, stream=True, streamer=lambda part, *_: parts.append(part))
    same((OpenAIGPT(config).chat(HI, max_tokens=64).message, "".join(parts)), (HELLO, HELLO))


tell(chat=chat, stream=stream)
