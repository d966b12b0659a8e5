"""Guards in planners.yaml."""

from __future__ import annotations

import pytest

from s3lora_serve.config import GuardConfig, load_config
from s3lora_serve.errors import ConfigError

FLEET = "base_model: org/model\nplanners: {a: {source: hf://org/a, guard: GUARD}}\n"


def loaded(tmp_path, guard: str) -> GuardConfig:
    """The planner's guard as the file has it."""
    path = tmp_path / "planners.yaml"
    path.write_text(FLEET.replace("GUARD", guard))
    return load_config(path).guard_of("a")


@pytest.mark.parametrize(("text", "action"), [("off", "off"), ("'off'", "off"), ("observe", "observe")])
def test_a_bare_off_is_what_it_says(tmp_path, text, action):
    """YAML reads it as false, which nobody means there."""
    assert loaded(tmp_path, f"{{action: {text}}}").action == action


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://guard:8000/v1", "guard:8000"),
        ("https://api.example.com/v1/", "api.example.com"),
        ("http://[::1]:9/v1", "::1:9"),
    ],
)
def test_an_endpoint_is_shown_by_its_host(tmp_path, url, host):
    """Neither path nor scheme is told."""
    guard = loaded(tmp_path, f"{{by: endpoint, endpoint: {{url: '{url}', kind: moderation}}}}")
    assert guard.endpoint.host == host


@pytest.mark.parametrize(
    "url", ["ftp://guard/v1", "http://me:pass@guard/v1", "http://guard/v1?key=x", "guard:8000"]
)
def test_an_address_holds_no_secret(tmp_path, url):
    """A password or a query in it is refused: it stands in the journal and is shown."""
    with pytest.raises(ConfigError, match=r"endpoint\.url"):
        loaded(tmp_path, f"{{by: endpoint, endpoint: {{url: '{url}', kind: moderation}}}}")
