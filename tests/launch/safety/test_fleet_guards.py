"""From settings to judges, connections, and what is kept of verdicts."""

from __future__ import annotations

import logging

import pytest
from guard_questions import SECRET, question
from guard_web import guard_web
from refusing_engine import RefusingEngine

from s3lora_serve.config import Config
from s3lora_serve.errors import ConfigError, GuardUndecided, RefusedByGuard
from s3lora_serve.launch.safety.fleet_guards import FleetGuards, endpoint_keys
from s3lora_serve.service.metrics.prometheus import Metrics


def config(tmp_path, guard=None, **planners):
    """A configuration with these planners' own guards; None: the fleet's."""
    return Config.model_validate(
        {
            "base_model": "org/model",
            "planners": {
                name: {"source": f"hf://org/{name}", "guard": own} for name, own in planners.items()
            },
            "guard": guard or {},
            "server": {"callers": {"red-team": "RED_TEAM_KEY"}},
            "state": {"path": tmp_path / "state.db"},
        }
    )


def endpoint(url, **more):
    return {"by": "endpoint", "action": "refuse", "endpoint": {"url": url, "kind": "moderation"}, **more}


async def asked(guards, planner, task, caller="someone"):
    async with guards.guards.guarding(planner, question(task), caller, f"r-{task[:4]}") as guarding:
        guarding.revision = "f" * 64
        await guarding.passed()
    return guarding.about()


async def test_each_planner_is_judged_as_its_settings_say(tmp_path, caplog):
    """By the endpoint, by the base, by none; told in metrics, log and report, never with its text."""
    metrics = Metrics()
    with guard_web(lambda text: "evil" in text) as web:
        settings = config(
            tmp_path,
            endpoint(web.url),
            far=None,
            near={"by": "base", "action": "refuse"},
            free={"action": "off"},
        )
        engine = RefusingEngine("evil")
        async with FleetGuards(settings, endpoint_keys(settings, {}), lambda: engine) as guards:
            guards.count(metrics.guard)
            with caplog.at_level(logging.INFO, "s3lora_serve"):
                for planner in ("far", "near", "added"):
                    with pytest.raises(RefusedByGuard):
                        await asked(guards, planner, f"evil {SECRET}")
                    assert (await asked(guards, planner, "fine"))["verdict"] == "allowed"
            assert not guards.guards.applies("free", "someone")
            found = guards.report()
        assert [text for text in web.texts if "fine" in text] == ["fine"]  # `added` has what `far` remembers
    assert {(each.planner, each.by, each.done) for each in found.records} == {
        ("far", "endpoint", "withheld"),
        ("near", "base", "withheld"),
        ("added", "endpoint", "withheld"),
    }
    assert all(each.revision == "f" * 64 and each.request_id == "r-evil" for each in found.records)
    shown = metrics.exposition().decode()
    assert 's3lora_guard_refused_total{by="base",part="task",planner="near"} 1.0' in shown
    assert 's3lora_guard_asked_total{by="endpoint",planner="far"} 2.0' in shown
    assert "request r-evil to far: refused for its task by endpoint, withheld" in caplog.text
    assert SECRET not in caplog.text
    assert guards.report().counts == found.counts  # after the server's end, too


async def test_judges_are_shared_by_planners_with_the_same_settings(tmp_path):
    """One connection pool and one memory for each different guard."""
    with guard_web(lambda text: False) as web:
        settings = config(
            tmp_path, endpoint(web.url), a=None, b=endpoint(web.url), c=endpoint(web.url, seconds=9)
        )
        async with FleetGuards(settings, endpoint_keys(settings, {}), RefusingEngine) as guards:
            for planner in ("a", "b", "c"):
                await asked(guards, planner, "fine")
        assert len(web.asked) == 2


async def test_an_endpoint_that_fails_withholds_or_opens(tmp_path):
    """``fail: closed`` keeps the answer, ``open`` serves and counts it."""
    metrics = Metrics()
    settings = config(
        tmp_path,
        closed=endpoint("http://127.0.0.1:9/v1"),
        open=endpoint("http://127.0.0.1:9/v1", fail="open"),
    )
    async with FleetGuards(settings, endpoint_keys(settings, {}), RefusingEngine) as guards:
        guards.count(metrics.guard)
        with pytest.raises(GuardUndecided):
            await asked(guards, "closed", "x")
        assert (await asked(guards, "open", "x"))["verdict"] == "open"
        done = {each.planner: (each.done, each.words) for each in guards.report().records}
    assert done == {"closed": ("withheld", ""), "open": ("open", "")}
    shown = metrics.exposition().decode()
    assert 's3lora_guard_open_total{by="endpoint",planner="open"} 1.0' in shown
    assert 's3lora_guard_withheld_total{planner="closed"} 1.0' in shown


async def test_without_a_guard_nothing_is_kept(tmp_path):
    """No file is made, and the report is empty."""
    settings = config(tmp_path, a=None)
    async with FleetGuards(settings, endpoint_keys(settings, {}), RefusingEngine) as guards:
        assert (guards.report().counts, guards.base_asked) == ((), False)
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_not_set_is_an_error_of_the_configuration(tmp_path):
    """Before anything is begun; it names section and variable. One that is off needs none."""
    named = endpoint("http://guard/v1")
    named["endpoint"]["api_key_env"] = "GUARD_KEY"
    settings = config(tmp_path, named, a=None)
    with pytest.raises(ConfigError, match=r"guard\.endpoint\.api_key_env is GUARD_KEY, which is not set"):
        endpoint_keys(settings, {"GUARD_KEY": " "})
    assert endpoint_keys(settings, {"GUARD_KEY": "k"})[settings.guard] == "k"
    own = config(tmp_path, None, a=named)
    with pytest.raises(ConfigError, match=r"planners\.a\.guard\.endpoint"):
        endpoint_keys(own, {})
    assert set(endpoint_keys(config(tmp_path, {**named, "action": "off"}, a=None), {}).values()) == {None}


async def test_requests_that_are_exempt_are_counted(tmp_path):
    """By planner and caller in the report and in metrics, beside what was judged; a planner without a guard
    exempts nobody."""
    metrics = Metrics()
    settings = config(
        tmp_path,
        near={"by": "base", "action": "refuse", "allow": ["red-team"]},
        free={"action": "off"},
    )
    async with FleetGuards(settings, {}, lambda: RefusingEngine("evil")) as guards:
        guards.count(metrics.guard)
        asks = guards.guards
        assert not asks.judges("near", "red-team")
        assert not asks.judges("near", "red-team")
        assert not asks.judges("free", "red-team")
        assert asks.judges("near", "someone")
        await asked(guards, "near", "fine")
        found = guards.report()
    assert [(each.planner, each.caller, each.by, each.asked, each.exempt) for each in found.counts] == [
        ("near", "red-team", "", 0, 2),
        ("near", "someone", "base", 1, 0),
    ]
    text = metrics.exposition().decode()
    assert 's3lora_guard_exempt_total{planner="near"} 2.0' in text
    assert 'planner="free"' not in "".join(line for line in text.splitlines() if "guard_exempt" in line)
