"""Secrets come from the environment only, and a message never repeats one."""

from __future__ import annotations

import pytest

from s3lora_serve.config import ServerConfig, load_config
from s3lora_serve.errors import ConfigError

GOOD = "base_model: org/model\nplanners:\n  math: {source: hf://org/math@v1}\n"
SECRET = "sk-very-secret-0123"


@pytest.mark.parametrize(
    "text",
    [
        f"server: {{api_key: {SECRET}}}",
        f"server: {{api_key_env: {SECRET}}}",
        f"hf_token: {SECRET}",
        f"server: {{password: [{SECRET}]}}",
        f"engine: {{extra_args: {{api_key: {SECRET}}}}}",
        f"guard: {{by: endpoint, endpoint: {{url: 'http://me:{SECRET}@guard/v1', kind: moderation}}}}",
        f"guard: {{by: endpoint, endpoint: {{url: 'http://guard/v1?a=b&key={SECRET}', kind: moderation}}}}",
        f"guard: {{by: endpoint, endpoint: ['http://me:{SECRET}/x@guard/v1']}}",
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path, text):
    """A key pasted into planners.yaml is an error, and its value reaches neither terminal nor log."""
    path = tmp_path / "planners.yaml"
    path.write_text(GOOD + text + "\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "1 problem" in caught.value.message
    assert SECRET not in str(caught.value)


def test_the_message_says_where_secrets_belong(tmp_path):
    """A pasted key is refused with the variable that should hold it."""
    path = tmp_path / "planners.yaml"
    path.write_text(GOOD + f"server:\n  api_key: {SECRET}\n")
    with pytest.raises(
        ConfigError, match=r"line 5, server.api_key: secrets .* environment .* set S3LORA_API_KEY"
    ):
        load_config(path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_key(host):
    """On this machine only, a server may run without a key."""
    assert ServerConfig(host=host).keys({}) == {}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "planner.example", "localhost.example"])
def test_any_other_address_needs_a_key(host):
    """An address that others can reach is refused without a key, and an empty one is none."""
    for environ in ({}, {"S3LORA_API_KEY": ""}):
        with pytest.raises(ConfigError, match=f"server.host is {host}.*S3LORA_API_KEY is not set"):
            ServerConfig(host=host).keys(environ)
    assert ServerConfig(host=host).keys({"S3LORA_API_KEY": "k"}) == {"default": "k"}


def test_the_variable_can_have_another_name():
    """Two servers of one machine can read two keys."""
    server = ServerConfig(host="0.0.0.0", api_key_env="OTHER_KEY")
    assert server.keys({"OTHER_KEY": "k", "S3LORA_API_KEY": "no"}) == {"default": "k"}
