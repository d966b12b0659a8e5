"""A guarded fleet whose answers hold a word that must not be found where they were refused."""

from __future__ import annotations

import pytest
from fleet_factory import make_fleet
from guarded_asks import all_logged
from scripted_judge import ScriptedJudge, guards_by

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app


@pytest.fixture
def judge():
    """Who judges; at once, unless a test says other."""
    return ScriptedJudge()


@pytest.fixture
async def guarded(tmp_path, judge):
    """p and q with an adapter each, h fully pruned; all are guarded."""
    fleet = make_fleet(tmp_path, "p", "q", hollow=("h",), guards=guards_by(judge, "p", "q", "h"))
    fleet.shelf.put("n")
    await fleet.start()
    yield fleet
    await fleet.close()
    assert (fleet.starts.violations, judge.judging) == ([], 0)


@pytest.fixture
def app(guarded):
    """Its application."""
    return create_app(guarded.service, ServerConfig(), None)


@pytest.fixture
def logged():
    """What is logged during the test."""
    with all_logged() as lines:
        yield lines
