"""Settings of swaps, rollback, slots, operators' access and state."""

from __future__ import annotations

import pytest

from s3lora_serve.config import AdminConfig, RollbackConfig, load_config
from s3lora_serve.errors import ConfigError

GOOD = "base_model: org/model\nplanners:\n  math: {source: hf://org/math@v1}\n"
SECRET = "tok-very-secret-0123"


@pytest.fixture
def load(tmp_path):
    """Load these lines after a configuration that is right."""

    def _load(text: str):
        path = tmp_path / "planners.yaml"
        path.write_text(GOOD + text)
        return load_config(path)

    return _load


def test_a_file_that_says_nothing_is_safe(load, tmp_path):
    """Unset: orders from this machine only, a trial before each flip, an hour for a rollback, rules on."""
    config = load("")
    assert (config.admin.host, config.admin.port) == ("127.0.0.1", 8001)
    assert (config.swap.drain_seconds, config.swap.keep_seconds, config.swap.trial) == (60, 3600, True)
    assert (config.rollback.error_rate, config.rollback.invalid_rate) == (0.05, 0.10)
    assert config.rollback.latency_ratio is None
    assert not config.planners["math"].pinned
    assert config.state.path == tmp_path / ".s3lora/state.db"


def test_a_rule_can_be_switched_off(load):
    """null means that no difference of this kind takes a revision back; it differs from not being set."""
    rules = load("rollback: {error_rate: null, invalid_rate: null}\n").rollback
    assert (rules.error_rate, rules.invalid_rate, rules.latency_ratio) == (None, None, None)


@pytest.mark.parametrize(
    "wrong", [{"error_rate": -0.1}, {"invalid_rate": 1.0}, {"latency_ratio": 0.9}, {"requests": 0}]
)
def test_a_rule_that_always_or_never_holds_is_refused(wrong):
    """A margin below nothing, a share above all, a ratio that asks to be faster: each is a mistake."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RollbackConfig(**wrong)


def test_more_planners_than_slots_are_allowed(load):
    """They share the slots; only pinned ones need one each, and one more to load into."""
    more = "".join(f"  p{i}: {{source: hf://o/p{i}}}\n" for i in range(5))
    assert load(more + "engine: {max_loras: 1}\n").engine.max_loras == 1


def test_one_pinned_planner_needs_a_second_slot(load):
    """Pinned planners keep theirs, so a new revision could not be loaded; the message has both numbers."""
    with pytest.raises(ConfigError, match=r"max_loras is 1 but 1 planner is pinned.* to at least 2, or pin"):
        load("  code: {source: hf://o/c, pinned: true}\nengine: {max_loras: 1}\n")


def test_any_free_port_is_never_the_same_port(load):
    """0 for both listeners gives each its own."""
    config = load("server: {port: 0}\nadmin: {port: 0}\n")
    assert (config.server.port, config.admin.port) == (0, 0)


def test_the_token_comes_from_the_environment_or_from_nowhere():
    """An empty variable is none: the server then makes a token."""
    admin = AdminConfig()
    assert admin.token({"S3LORA_ADMIN_TOKEN": " t \n"}) == "t"
    assert admin.token({"S3LORA_ADMIN_TOKEN": " "}) is None
    assert AdminConfig(token_env="OTHER").token({"OTHER": "t", "S3LORA_ADMIN_TOKEN": "no"}) == "t"


@pytest.mark.parametrize("text", ["admin: {token: %s}\n", "admin: {token_env: %s}\n", "admin_token: %s\n"])
def test_a_token_in_the_file_is_refused_and_not_repeated(load, text):
    """It reaches neither terminal nor log, and the message names the variable or setting that is meant."""
    with pytest.raises(ConfigError) as caught:
        load(text % SECRET)
    assert SECRET not in str(caught.value)
    assert "S3LORA_ADMIN_TOKEN" in str(caught.value) or "name of an environment" in str(caught.value)


@pytest.mark.parametrize("wrong", ["0", "null", "9", "false", ".inf", "1e9"])
def test_the_watchdog_cannot_be_switched_off(load, wrong):
    """A limit of nothing or none is a mistake, not a silent absence."""
    with pytest.raises(ConfigError, match=r"engine\.watchdog_seconds"):
        load(f"engine: {{watchdog_seconds: {wrong}}}\n")
