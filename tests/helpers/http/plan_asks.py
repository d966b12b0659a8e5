"""A request for a plan through chat completions, and its answer."""

from __future__ import annotations

import json

from asgi_call import AsgiCall
from request_kinds import CHAT

TOOLS = [{"name": "Search", "description": "the web"}, {"name": "LLM"}]
TASK = "Who directed Inception?"
ASK = {"model": "p", "messages": [{"role": "user", "content": TASK}], "s3lora": {"plan": {"tools": TOOLS}}}


async def answered(app, body, path=CHAT):
    """Status and body of the answer."""
    call = AsgiCall(app, path, body)
    await call
    return call.status, json.loads(call.text)
