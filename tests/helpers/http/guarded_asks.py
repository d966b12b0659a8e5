"""A request of each kind to a guarded fleet whose answers hold a word, and where that word could be told."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager

from request_kinds import ASK, CHAT, PLAN, RESPOND, RESPONSES, SAY, TASK, TEXT, held, until

TELLTALE = "xylophone"  # in every plan of the fleet below
TOOLS = [{"name": TELLTALE}, {"name": "LLM"}]
ASKS = {
    "plan": (PLAN, {**TASK, "tools": TOOLS}),
    "plan stream": (PLAN, {**TASK, "tools": TOOLS, "stream": True}),
    "unconstrained": (PLAN, {**TASK, "tools": TOOLS, "constraint": "none", "repair": True}),
    "unconstrained stream": (PLAN, {**TASK, "tools": TOOLS, "constraint": "none", "stream": True}),
    "plan in a chat": (CHAT, {**ASK, "s3lora": {"plan": {"tools": TOOLS}}}),
    "plan in a chat stream": (CHAT, {**ASK, "s3lora": {"plan": {"tools": TOOLS}}, "stream": True}),
    "chat": (CHAT, ASK),
    "chat stream": (CHAT, {**ASK, "stream": True}),
    "three": (CHAT, {**ASK, "n": 3}),
    "text": (TEXT, SAY),
    "text stream": (TEXT, {**SAY, "stream": True}),
    "response": (RESPONSES, RESPOND),
    "response stream": (RESPONSES, {**RESPOND, "stream": True}),
    "plan in a response": (RESPONSES, {**RESPOND, "s3lora": {"plan": {"tools": TOOLS}}}),
    "plan in a response stream": (
        RESPONSES,
        {**RESPOND, "s3lora": {"plan": {"tools": TOOLS}}, "stream": True},
    ),
}


def tells(text):
    """Whether an answer of the fake engine, a plan or any other, can be told by this."""
    return TELLTALE in text or "This is answer" in text


def with_text(body, text):
    """The same, asked for this."""
    if "messages" in body:
        return {**body, "messages": [{"role": "user", "content": text}]}
    if "input" in body:
        return {**body, "input": text}
    return {**body, "prompt" if "prompt" in body else "task": text}


def tell(fleet):
    """Let every answer of the fleet's engine hold TELLTALE, and some plans be broken or cut."""

    def write(prompt):
        lines = [f"Plan: {TELLTALE} {prompt.tag}.", f"#E1 = {TELLTALE}[{TELLTALE}]"]
        broken = ["", f"\n#E2 = Oven[{TELLTALE}]", f"\nPlan: {TELLTALE}"][int(prompt.tag, 16) % 3]
        return "\n".join(lines) + broken

    fleet.engine._plan = write


class Records(logging.Handler):
    """All that is logged, at every level, with tracebacks."""

    def __init__(self):
        super().__init__(level=0)
        self.setFormatter(logging.Formatter("%(message)s"))
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{self.format(record)} {record.__dict__}")


@contextmanager
def all_logged():
    """Every line that is logged meanwhile."""
    records, root, mine = Records(), logging.getLogger(), logging.getLogger("s3lora_serve")
    before = root.level, mine.level
    root.addHandler(records)
    for logger in (root, mine):
        logger.setLevel(logging.DEBUG)
    yield records.lines
    root.removeHandler(records)
    for logger, level in zip((root, mine), before, strict=True):
        logger.setLevel(level)


def told(call):
    """Every byte that a client got, headers included."""
    return call.text + str(call.messages)


def leases_of(fleet):
    """How many requests ended, by outcome."""
    lines = fleet.service.metrics.exposition().decode().splitlines()
    found = [line for line in lines if line.startswith("s3lora_leases_total{")]
    return {line.split('outcome="')[1].split('"')[0]: float(line.split()[-1]) for line in found}


async def done(fleet):
    """Wait until the engine has nothing to do."""
    for _ in range(5):
        await asyncio.sleep(0.005)
        await until(lambda: held(fleet)[1] == 0)
