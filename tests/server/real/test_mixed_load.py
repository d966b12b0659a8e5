"""What a request says does not depend on the requests that share the engine's steps with it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count

import pytest
from real_fleet import BASE, served_by

pytestmark = pytest.mark.engine

PROBES = [
    (BASE, "What is 1+1?"),
    (BASE, "Name the capital of France."),
    ("p", "Who wrote Hamlet?"),
    ("q", "3 times 4?"),
]
ROUNDS = 3
NOISE = 1e-3  # nats; float32 sums in another order, which turned 1e-5 at most


served = served_by("p", "q")


async def greedy(http, model, prompt):
    """Of each token of the answer: itself, and the log-probabilities of the likeliest five (nats)."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 16,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 5,
    }
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    tokens = answer.json()["choices"][0]["logprobs"]["content"]
    return [(t["token"], {top["token"]: top["logprob"] for top in t["top_logprobs"]}) for t in tokens]


def differs(idle, busy):
    """Where the second answer departs from the first by more than a near tie; None if nowhere."""
    for place, ((said, likely), (other, found)) in enumerate(zip(idle, busy, strict=False)):
        if other != said:
            tie = likely[said] - likely.get(other, -100.0) < NOISE
            return None if tie else f"token {place}: {other!r} in place of {said!r} ({likely})"
        if abs(found[said] - likely[said]) > NOISE:
            return f"token {place}: {said!r} has {found[said]:.4f} nats, and had {likely[said]:.4f}"
    return None if len(idle) == len(busy) else f"{len(busy)} tokens in place of {len(idle)}"


async def load(http, kind):
    """Requests of one kind, one after the other, without end."""
    for i in count():
        ask = [{"role": "user", "content": f"Plan {i}: find when the bridge {i} was built."}]
        match kind:
            case "sampled":
                body = {"model": "p", "messages": ask, "max_tokens": 24, "temperature": 1.0, "seed": i}
                await http.post("/v1/chat/completions", json=body)
            case "echo":
                prompts = ["Hello, my name is", "The river " + "flows " * (i % 30)]
                body = {"model": BASE, "prompt": prompts, "max_tokens": 8, "echo": True, "logprobs": 2}
                await http.post("/v1/completions", json=body)
            case "plan":
                body = {"planner": "q", "task": f"A pen costs {i}. What do 3 pens cost?", "max_steps": 1}
                await http.post("/v1/plans", json={**body, "tools": [{"name": "Sum"}], "max_text": 24})
            case "scored":
                body = {"model": "q", "prompt": "1 2 3 4 " * (1 + i % 20), "max_tokens": 8}
                await http.post("/v1/completions", json={**body, "prompt_logprobs": 1})
            case "left":
                body = {"model": "p", "messages": ask, "max_tokens": 200, "stream": True, "ignore_eos": True}
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.5 + i % 3):
                        await http.post("/v1/chat/completions", json=body)


async def test_greedy_answers_stay_what_they_were(served):
    """Base and planners say under mixed load what they say alone, token by token.

    Beside them run sampled chats, echoed prompts, plans under a grammar, scored prompts, and clients that
    leave. Only where two tokens are as likely as each other, to rounding, may another one be chosen.
    """
    http = served.http
    idle = {probe: await greedy(http, *probe) for probe in PROBES}
    others = [
        asyncio.ensure_future(load(http, kind)) for kind in ("sampled", "echo", "plan", "scored", "left")
    ]
    wrong = []
    try:
        for _ in range(ROUNDS):
            busy = await asyncio.gather(*(greedy(http, *probe) for probe in PROBES))
            found = ((probe, differs(idle[probe], now)) for probe, now in zip(PROBES, busy, strict=True))
            wrong += [(probe, said) for probe, said in found if said]
            assert not [task.exception() for task in others if task.done()]
    finally:
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    assert wrong == []
    assert served.held() == (0, 0)
