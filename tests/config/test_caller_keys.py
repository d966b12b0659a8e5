"""Callers with names, and the variables that hold their keys."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from s3lora_serve.config import ServerConfig
from s3lora_serve.errors import ConfigError

CALLERS = {"lab": "LAB_KEY", "web": "WEB_KEY"}


def test_keys_by_caller():
    """The default one if it is set, then the named ones, without blanks."""
    environ = {"S3LORA_API_KEY": "one", "LAB_KEY": " two ", "WEB_KEY": "three"}
    server = ServerConfig(host="0.0.0.0", callers=CALLERS)
    assert server.keys(environ) == {"default": "one", "lab": "two", "web": "three"}


def test_named_callers_need_no_default_key():
    """One key is enough to listen where others can reach."""
    assert ServerConfig(host="0.0.0.0", callers={"lab": "LAB_KEY"}).keys({"LAB_KEY": "k"}) == {"lab": "k"}


@pytest.mark.parametrize("value", [{}, {"WEB_KEY": " "}])
def test_a_named_caller_without_a_key_stops_the_start(value):
    """Else it would find out with its first request."""
    with pytest.raises(ConfigError) as refused:
        ServerConfig(callers=CALLERS).keys({"LAB_KEY": "two", **value})
    assert str(refused.value) == (
        "server.callers: 'web' has its key in WEB_KEY, which is not set;"
        " set WEB_KEY in the environment, or take 'web' out of server.callers, and of guard.allow where it is"
        " named"
    )


@pytest.mark.parametrize(
    ("environ", "who"),
    [
        ({"LAB_KEY": "secret", "WEB_KEY": "secret "}, "'lab' and 'web'"),
        ({"S3LORA_API_KEY": "secret", "LAB_KEY": "secret", "WEB_KEY": "x"}, "'default' and 'lab'"),
    ],
)
def test_two_callers_with_one_key_stop_the_start(environ, who):
    """They could not be told apart; the message does not repeat the key."""
    with pytest.raises(ConfigError, match=f"{who} have the same key") as refused:
        ServerConfig(callers=CALLERS).keys(environ)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["default", "anyone", "A", "", "a b"])
def test_names_that_would_mislead_are_refused(name):
    """Two have a meaning, and the rest must be plain."""
    with pytest.raises(ValidationError, match="caller"):
        ServerConfig(callers={name: "LAB_KEY"})


def test_a_pasted_key_is_not_repeated():
    """Where the variable's name should be."""
    with pytest.raises(ValidationError) as refused:
        ServerConfig(callers={"lab": "sk-123"})
    assert "sk-123" not in refused.value.errors()[0]["msg"]
