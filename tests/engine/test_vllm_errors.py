"""vLLM's exceptions become ours in one place, and none is forgotten."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from s3lora_serve.engine.port import Slot
from s3lora_serve.engine.vllm.vllm_errors import MAPPED, translate, translate_load, translated
from s3lora_serve.errors import EngineDead, EngineError, EngineRefused, SlotLoadError

SLOT = Slot("planner@abc", 1, Path("/store/abc"))

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("module", ["vllm.v1.engine.exceptions", "vllm.exceptions"])
def test_every_vllm_exception_is_mapped(module):
    """A release that adds an exception class must be looked at: add it to MAPPED."""
    pytest.importorskip("vllm")
    classes = inspect.getmembers(import_module(module), inspect.isclass)
    own = {name for name, cls in classes if issubclass(cls, BaseException) and cls.__module__ == module}
    assert own, f"{module} defines no exceptions any more"
    assert own - MAPPED.keys() == set()


def test_a_dead_engine_is_engine_dead():
    """Whatever was being done, including a load."""
    error = import_module("vllm.v1.engine.exceptions").EngineDeadError()
    for ours in (translate(error, "scoring"), translate_load(error, SLOT)):
        assert type(ours) is EngineDead
        assert "try again once it was restarted" in ours.hint


def test_subclasses_follow_their_base():
    """A class that is new in some release is treated as the one it extends."""

    class EngineDeadError(Exception):
        pass

    class WorkerDeadError(EngineDeadError):
        pass

    assert type(translate(WorkerDeadError(), "scoring")) is EngineDead


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("too long"), EngineRefused, "scoring: too long"),
        (KeyError("x"), EngineError, "scoring: 'x'"),
        (RuntimeError(), EngineError, "scoring: RuntimeError"),
    ],
)
def test_builtin_exceptions_are_sorted_into_request_and_engine(error, kind, message):
    """A ValueError is the request's fault, the rest the engine's; the message says what was done and why."""
    ours = translate(error, "scoring")
    assert (type(ours), ours.message) == (kind, message)


def test_our_own_errors_pass_unchanged():
    """An error that is already ours keeps its class, message and hint."""
    error = SlotLoadError("x", hint="y")
    assert translate(error, "loading") is error
    assert translate_load(error, SLOT) is error
    with pytest.raises(SlotLoadError) as caught, translated("loading"):
        raise error
    assert caught.value is error
    assert caught.value.__cause__ is None


def test_the_cause_is_kept():
    """The vendor's exception stays reachable for the log."""
    cause = ValueError("bad")
    with pytest.raises(EngineRefused) as caught, translated("answering"):
        raise cause
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "Call to add_lora method failed: Worker failed with error 'LoRA rank 32 is greater than "
            "max_lora_rank 16.', please check the stack trace above for the root cause",
            "abc: LoRA rank 32 is greater than max_lora_rank 16.; "
            "raise engine.max_lora_rank to the adapter's rank",
        ),
        (
            "The size of tensor a (576) must match the size of tensor b (960)",
            "(960); the adapter's shapes are those of another base model",
        ),
        ("While loading /x, expected target modules in {'o_proj'}", "the adapter is for another base model"),
        ("Loading lora a failed: No adapter found for /x", "admit the adapter again"),
        ("out of memory", "out of memory; the engine's log has the details"),
    ],
)
def test_a_failed_load_says_what_to_do(text, says):
    """Slot, path, vLLM's reason without its wrapping, and the next step."""
    ours = translate_load(Exception(text), SLOT)
    assert type(ours) is SlotLoadError
    assert str(ours).startswith("slot planner@abc could not be loaded from /store/abc: ")
    assert str(ours).endswith(says)
