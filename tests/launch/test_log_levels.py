"""Which parts speak from which level on."""

from __future__ import annotations

import logging
import os

import pytest

from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.log_levels import set_logging
from s3lora_serve.terminal.console import speak_through

NAMES = ("s3lora_serve", "planners", "vllm", "s3lora_serve.serving", "s3lora_serve.access")


@pytest.fixture
def levels(monkeypatch):
    """The levels of these loggers, which are as before in the end."""
    monkeypatch.delenv("VLLM_LOGGING_LEVEL", raising=False)
    monkeypatch.setenv("PYTHONWARNINGS", "")
    before = {name: logging.getLogger(name).level for name in NAMES}
    yield lambda: {name: logging.getLevelName(logging.getLogger(name).level) for name in NAMES}
    speak_through(None)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_parts_have_levels_of_their_own(levels):
    """One for all, and others by the names of the folders, for the access log and for vLLM."""
    set_logging("warning,serving=debug,access=error,vllm=info")
    found = {"s3lora_serve": "WARNING", "planners": "WARNING", "vllm": "INFO"}
    assert levels() == {**found, "s3lora_serve.serving": "DEBUG", "s3lora_serve.access": "ERROR"}
    assert os.environ["VLLM_LOGGING_LEVEL"] == "INFO"


def test_parts_alone_leave_the_rest_at_info(levels):
    """As without the option."""
    set_logging("serving=debug")
    assert (levels()["s3lora_serve"], levels()["s3lora_serve.serving"]) == ("INFO", "DEBUG")
    assert levels()["vllm"] == "ERROR"


@pytest.mark.parametrize("wrong", ["", "loud", "info,", "serving=loud", "=debug=info", "nowhere=debug"])
def test_unknown_names_are_refused(levels, wrong):
    """The hint lists the known ones."""
    before = levels()
    with pytest.raises(ConfigError, match="--log-level") as refused:
        set_logging(wrong)
    assert refused.value.hint
    assert levels() == before
