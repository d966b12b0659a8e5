"""Guessing a key or a token leaves a trace, and gets slower."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from starlette.responses import PlainTextResponse

from s3lora_serve.server.access import refused_credentials
from s3lora_serve.server.access.auth import RequireKey
from s3lora_serve.server.access.refused_credentials import RefusedCredentials
from s3lora_serve.service.metrics.prometheus import Metrics

RIGHT = "correct-horse-battery-staple"


@pytest.fixture
def slept(monkeypatch):
    """The delays, none of which is waited for."""
    delays = []

    async def sleep(seconds):
        delays.append(seconds)

    monkeypatch.setattr(refused_credentials.asyncio, "sleep", sleep)
    return delays


def guarded(metrics, **options):
    """A client of an application with a token."""
    refused = RefusedCredentials(metrics, "admin", "admin token", **options)
    app = RequireKey(PlainTextResponse("in"), RIGHT, secret="admin token", refused=refused)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def test_wrong_tokens_are_counted_told_of_and_slowed_down(slept, caplog):
    """300 of them: two lines at most, with count and address and without a token; a right one never waits."""
    metrics = Metrics()
    caplog.set_level(logging.WARNING)
    async with guarded(metrics, slow=True) as http:
        for number in range(300):
            answer = await http.get("/v1/models", headers={"authorization": f"Bearer guess-{number}"})
            assert answer.status_code == 401
        waits = len(slept)
        assert (await http.get("/v1/models", headers={"authorization": f"Bearer {RIGHT}"})).text == "in"
    assert b's3lora_refused_credentials_total{listener="admin"} 300.0' in metrics.exposition()
    assert b's3lora_refused_credentials_total{listener="clients"} 0.0' in metrics.exposition()
    assert [record.getMessage() for record in caplog.records] == [
        "requests without a valid admin token were refused: 1, the last one from 127.0.0.1"
    ]
    assert (slept[:3], max(slept), len(slept)) == ([0.02, 0.04, 0.08], 1.0, waits)


async def test_those_in_between_are_told_of_later(monkeypatch, caplog):
    """Even if no more come: nothing is lost to the pause."""
    monkeypatch.setattr(refused_credentials, "QUIET_SECONDS", 0.05)
    caplog.set_level(logging.WARNING)
    async with guarded(Metrics()) as http:
        for _ in range(5):
            await http.get("/v1/models")
        await asyncio.sleep(0.15)
    counts = [int(record.getMessage().split(": ")[1].split(",")[0]) for record in caplog.records]
    assert counts == [1, 4]


async def test_who_sends_no_token_does_not_wait(slept):
    """It guesses nothing; nor does a client with an old key, whose listener is not slow."""
    async with guarded(Metrics(), slow=True) as http:
        await http.get("/v1/models")
    async with guarded(Metrics()) as http:
        await http.get("/v1/models", headers={"authorization": "Bearer old"})
    assert slept == []
