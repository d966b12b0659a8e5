"""`s3lora config check` says who would judge, and what of that will not go as it reads."""

from __future__ import annotations

import json

import pytest

from s3lora_serve.cli.guard_remarks import guard_lines, guard_remarks, key_remarks
from s3lora_serve.config import Config

BASE = {"by": "base", "action": "refuse"}
ELSEWHERE = {"url": "https://guard.example:8443/v1", "kind": "moderation"}
FAR = {"by": "endpoint", "action": "refuse", "endpoint": ELSEWHERE}


def config(guard=None, base_model="org/model", engine=None, **planners):
    """A configuration with this fleet's guard, and planners with guards of their own."""
    return Config.model_validate(
        {
            "base_model": str(base_model),
            "planners": {
                name: {"source": f"hf://org/{name}", "guard": own}
                for name, own in (planners or {"one": None}).items()
            },
            "guard": guard or {},
            "server": {"callers": {"red-team": "RED_TEAM_KEY"}},
            "engine": engine or {},
        }
    )


def remarks(*given, environ=None, **more):
    """What is said of it."""
    return list(guard_remarks(config(*given, **more), environ or {}))


def test_each_planner_has_its_guard_in_words():
    """Who judges, what follows and what then, once for planners with the same."""
    given = config(BASE, one=None, two={"action": "off"}, three=None, four={**FAR, "fail": "open"})
    assert guard_lines(given) == (
        "one, three: guard by its base model refuses, fails closed",
        "two: no guard",
        "four: guard by guard.example:8443 refuses, fails open; sends every task to guard.example:8443",
    )


@pytest.mark.parametrize("guard", [None, BASE, FAR, {**BASE, "action": "observe", "seconds": 500}])
def test_a_guard_that_goes_as_it_reads_is_not_remarked_on(guard):
    """No guard either."""
    assert remarks(guard) == []


@pytest.mark.parametrize(
    ("guard", "remark"),
    [
        (
            {**FAR, "endpoint": {**ELSEWHERE, "api_key_env": "GUARD_KEY"}},
            "guard.endpoint.api_key_env is GUARD_KEY, which is not set here; the server will not start",
        ),
        (
            {**FAR, "endpoint": {**ELSEWHERE, "url": "http://guard/v1"}},
            "guard.endpoint.url: every task is sent to guard as",
        ),
        ({**BASE, "endpoint": ELSEWHERE}, "guard.endpoint is not asked: by is base"),
        ({**BASE, "allow": ["red-team"]}, "guard.allow: requests of red-team are not judged"),
        ({**BASE, "fail": "open"}, "guard.fail is open: what gets no verdict is served"),
        (
            {**BASE, "observe_parts": ["task"]},
            "guard.observe_parts names task: what is asked itself is never refused",
        ),
        ({**BASE, "seconds": 500}, "guard.seconds is 500, and answers may take 120: a late verdict"),
        (
            {**BASE, "min_refusal": 0},
            "guard.min_refusal is 0: a base model that refuses next to nothing may guard",
        ),
        (
            {"by": "base", "seconds": 5},
            "guard.action is off: by, seconds has no effect, and nothing is judged",
        ),
    ],
)
def test_what_will_go_wrong_is_named(guard, remark):
    """With its section; of a planner's own guard as of the fleet's."""
    (said,) = remarks(guard)
    assert said.startswith(remark), said
    own = remarks(None, one=guard)
    assert own == [said.replace("guard.", "planners.one.guard.", 1)]


def test_a_variable_that_is_set_is_no_remark():
    """The key is looked up where the command runs."""
    guard = {**FAR, "endpoint": {**ELSEWHERE, "api_key_env": "GUARD_KEY"}}
    assert remarks(guard, environ={"GUARD_KEY": "k"}) == []


def test_a_planner_that_is_let_off_is_named():
    """Its own guard replaces the fleet's as a whole, which is easily overlooked."""
    said = remarks(BASE, one=None, two={"action": "off"})
    assert said == ["planners.two.guard: nothing judges its requests, though the fleet has a guard"]


@pytest.mark.parametrize(
    ("action", "then"), [("refuse", "will not start"), ("observe", "nothing to observe")]
)
def test_the_demos_base_model_cannot_guard(action, then):
    """That is measured, and known before the start; a guard elsewhere is none of its affair."""
    (said,) = remarks({**BASE, "action": action}, base_model="demo")
    assert "the demo's base model, which refuses next to nothing" in said
    assert then in said
    assert remarks(FAR, base_model="demo") == []


@pytest.mark.parametrize(
    ("files", "lacks"),
    [
        ({"tokenizer_config.json": "{}"}, True),
        ({"tokenizer_config.json": json.dumps({"chat_template": "{{ 1 }}"})}, False),
        ({"tokenizer_config.json": "{}", "chat_template.jinja": "x"}, False),
        ({"tokenizer_config.json": "no JSON"}, False),
        ({}, False),
    ],
)
def test_a_base_model_without_a_chat_template_is_named(tmp_path, files, lacks):
    """As far as its folder tells, and unless the engine is given one."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    said = remarks(BASE, base_model=tmp_path)
    assert [("has no chat template" in each) for each in said] == [True] * lacks
    assert remarks(BASE, base_model=tmp_path, engine={"extra_args": {"chat_template": "x.jinja"}}) == []


def test_the_command_says_all_of_it(s3lora, tmp_path):
    """Lines and notes, and the file is valid all the same; who is no caller is a mistake in the file."""
    path = tmp_path / "planners.yaml"
    text = (
        "base_model: demo\nplanners: {a: {source: 'hf://o/a'}}\n"
        "server: {callers: {red-team: KEY}}\nguard: {action: refuse, allow: [red-team]}\n"
    )
    path.write_text(text)
    done = s3lora("config", "check", path)
    assert done.code == 0
    assert "guard      a: guard by its base model refuses, fails closed\n" in done.out
    assert "note       guard.allow: requests of red-team are not judged\n" in done.out
    assert "the server will not start\n" in done.out
    path.write_text(text.replace("[red-team]", "[blue-team]"))
    done = s3lora("config", "check", path)
    assert (done.code, "'blue-team' is not in server.callers (red-team)" in done.err) == (2, True)


def test_a_key_that_is_not_set_is_named_with_both_places():
    """As at a start, and a server that has them all is not remarked on."""
    given = config({**BASE, "allow": ["red-team"]})
    assert list(key_remarks(given, {"S3LORA_API_KEY": "k"})) == [
        "server.callers: 'red-team' has its key in RED_TEAM_KEY, which is not set here; the server will not"
        " start without it: set it, or take 'red-team' out of server.callers, and of guard.allow where it is"
        " named"
    ]
    assert list(key_remarks(given, {"S3LORA_API_KEY": "k", "RED_TEAM_KEY": "r"})) == []
    (same,) = key_remarks(given, {"S3LORA_API_KEY": "k", "RED_TEAM_KEY": "k"})
    assert "have the same key" in same


@pytest.mark.parametrize("action", ["refuse", "observe"])
def test_a_guard_that_exempts_every_key_is_remarked_on(action):
    """Also one of a planner's own; what refuses does not start."""
    given = config(one=None, two={**BASE, "action": action, "allow": ["red-team"]})
    (said,) = key_remarks(given, {"RED_TEAM_KEY": "r"})
    assert said.startswith("planners.two.guard judges nobody: its allow exempts every caller that has a key")
    assert "set S3LORA_API_KEY for a caller that is judged" in said
    assert said.endswith("the server will not start") is (action == "refuse")
