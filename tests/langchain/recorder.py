"""A chat model whose requests are recorded instead of sent."""

from __future__ import annotations

import json
from importlib import import_module

import openai

from planners.langchain import ChatS3LoRA

# openai has its own copy of httpx from 3.0 on (httpx2).
_httpx = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


class Recorder:
    """``model`` hears ``answer`` as JSON; ``requests`` are what it sent, ``body`` is the last one."""

    def __init__(self, answer=None, **options):
        self.requests = []
        self._text = json.dumps(answer or {})
        client = _httpx.Client(transport=_httpx.MockTransport(self._handle))
        self.model = ChatS3LoRA(**{"model": "p", "http_client": client, **options})

    def _handle(self, request):
        self.requests.append(request)
        message = {"role": "assistant", "content": self._text}
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "p",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
        return _httpx.Response(200, json=answer)

    @property
    def body(self):
        return json.loads(self.requests[-1].content)

    def body_of(self, text, **options):
        """What asking ``text`` sends."""
        self.model.invoke(text, **options)
        return self.body
