"""What is told of a planner's guard."""

from __future__ import annotations

import json

import pytest
from guard_questions import by_endpoint

from s3lora_serve.config import GuardConfig
from s3lora_serve.safety.guard.guard_facts import guard_facts, guard_line
from s3lora_serve.safety.guard.guards import FLEET, Guards

URL = "https://guard.example:8443/v1/tenant-7"


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (GuardConfig(), "no guard"),
        (GuardConfig(action="refuse"), "guard by its base model refuses, fails closed"),
        (GuardConfig(action="observe", fail="open"), "guard by its base model observes"),
        (
            by_endpoint(URL, by=["base", "endpoint"], fail="open", observe_parts=["evidence", "tools"]),
            "guard by its base model and guard.example:8443 refuses, fails open,"
            " only counts refusals of evidence, tools; sends every task to guard.example:8443",
        ),
    ],
)
def test_a_guard_in_one_line(settings, line):
    """Who judges, what follows, and plainly where every task is sent."""
    assert guard_line(guard_facts(settings)) == line


def test_only_the_host_of_an_endpoint_is_told():
    """No path, no name of a variable, nobody who is exempt; an endpoint that is not asked is not named."""
    settings = by_endpoint(URL, allow=["ops"], endpoint={"api_key_env": "GUARD_KEY"})
    told = json.dumps(guard_facts(settings, {"refusal": 0.9}))
    assert "guard.example:8443" in told
    for private in ("tenant-7", "GUARD_KEY", "ops", "0.9"):  # the base, which was tested, does not judge here
        assert private not in told
    by_base = by_endpoint(URL, by="base")
    assert guard_facts(by_base)["endpoint"] is None
    assert guard_facts(by_base, {"refusal": 0.9})["self_test"] == {"refusal": 0.9}


def test_a_planner_that_is_added_has_the_fleets_guard():
    """Whatever an apply brings is judged from its first request; one with a guard of its own keeps that."""
    refusing = GuardConfig(action="refuse")
    guards = Guards({FLEET: refusing, "mild": GuardConfig()}, {FLEET: {"base": object()}, "mild": {}})
    assert guards.refuses("new", "anyone")
    assert not guards.applies("mild", "anyone")
    assert guards.settings("new") is refusing
    assert not Guards({}, {}).applies("new", "anyone")
