"""A guard that exempts every key that is accepted judges nobody, and says so before anything heavy begins."""

from __future__ import annotations

import pytest

from s3lora_serve.config import Config
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.safety.judged_callers import check_judged, shown_key

LAB = {"lab": "l"}
BOTH = {"default": "d", **LAB}


def config(action="refuse", own=None):
    """Two planners behind a guard that exempts the lab; ``own`` is the second one's own guard."""
    return Config.model_validate(
        {
            "base_model": "org/model",
            "planners": {"one": {"source": "hf://org/one"}, "two": {"source": "hf://org/two", "guard": own}},
            "guard": {"by": "base", "action": action, "allow": ["lab"]},
            "server": {"callers": {"lab": "LAB_KEY"}},
        }
    )


def test_what_refuses_and_can_judge_nobody_does_not_start():
    """The error names the guard, who is exempt, and both ways out."""
    with pytest.raises(ConfigError, match=r"guard judges nobody: .* has a key \(lab\)") as refused:
        check_judged(config(), LAB)
    assert refused.value.hint == (
        "set S3LORA_API_KEY for a caller that is judged, or take lab out of guard.allow"
    )


def test_what_observes_and_can_judge_nobody_is_warned_of():
    """Once for each such guard."""
    own = {"by": "base", "action": "observe", "allow": ["lab"]}
    said = check_judged(config("observe", own), LAB)
    assert [line.split(" judges nobody")[0] for line in said] == ["guard", "planners.two.guard"]


@pytest.mark.parametrize("keys", [BOTH, {}])
def test_a_caller_that_is_judged_is_enough(keys):
    """As is a server without keys, which anyone may ask; a guard that is off judges nobody on purpose."""
    assert check_judged(config(), keys) == []
    assert check_judged(config("off"), LAB) == []


def test_the_sample_sends_a_key_that_is_judged():
    """By the planner's own guard, and an exempt one only if there is no other."""
    assert shown_key(config(), "one", BOTH) == "S3LORA_API_KEY"
    assert shown_key(config(), "one", LAB) == "LAB_KEY"
    named = config().model_copy(
        update={
            "server": config().server.model_copy(update={"callers": {"lab": "LAB_KEY", "web": "WEB_KEY"}})
        }
    )
    assert shown_key(named, "added later", {**LAB, "web": "w"}) == "WEB_KEY"
    assert shown_key(config(), "one", {}) is None
