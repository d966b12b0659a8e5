"""One HTTP request of each kind, and what the tests of leases ask of a fleet."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.routing import Route

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
PLAN = "/v1/plans"
RESPONSES = "/v1/responses"
ASK = {"model": "p", "messages": [{"role": "user", "content": "Who directed Inception?"}]}
SAY = {"model": "p", "prompt": "Who directed Inception?"}
RESPOND = {"model": "p", "input": "Who directed Inception?"}
TASK = {"planner": "p", "task": "Who directed Inception?", "tools": [{"name": "Search"}]}
KINDS = {
    "chat": (CHAT, ASK),
    "three answers": (CHAT, {**ASK, "n": 3}),
    "stream": (CHAT, {**ASK, "stream": True}),
    "text": (TEXT, SAY),
    "text stream": (TEXT, {**SAY, "stream": True}),
    "plan": (PLAN, TASK),
    "response": (RESPONSES, RESPOND),
    "response stream": (RESPONSES, {**RESPOND, "stream": True}),
}


def held(fleet):
    """Leases and engine requests that have not ended."""
    leases = sum(sum(planner.leases.values()) for planner in fleet.service.planners())
    slots = [planner.slot for planner in fleet.service.planners() if planner.slot]
    return leases, sum(fleet.starts.current.running(slot) for slot in slots)


async def until(true):
    """Wait for something to become true."""
    for _ in range(12_000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come true within a minute")


def engine_app(fleet, monkeypatch, endpoint):
    """Let this endpoint answer in place of the engine's application."""
    replaced = Starlette(routes=[Route(path, endpoint, methods=["POST"]) for path in (CHAT, TEXT, RESPONSES)])
    monkeypatch.setattr(fleet.engine, "openai_app", lambda: replaced)
