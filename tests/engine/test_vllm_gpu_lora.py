"""What the server says of the kernels that compute LoRA, from what the engine's workers answer. No vLLM is
needed."""

from __future__ import annotations

import pytest

from s3lora_serve.engine.vllm import vllm_cpu
from s3lora_serve.engine.vllm.vllm_gpu_lora import METHOD, lora_kernels
from s3lora_serve.errors import EngineError

OURS = {"line": "LoRA by our kernels in 128 of 128 layers, 96 in one launch"}


class Workers:
    """An engine client whose workers answer so."""

    errored = False

    def __init__(self, answer):
        self._answer = answer

    async def collective_rpc(self, method):
        assert method == METHOD
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch):
    monkeypatch.setattr(vllm_cpu, "on_cpu", lambda: False)


async def test_the_workers_say_it():
    """One line for all, since each runs the same layers by the same kernels."""
    assert await lora_kernels(Workers([OURS, OURS]), "auto", "0.26.0") == OURS["line"]


async def test_nobody_is_asked_where_nothing_was_replaced():
    """Off, and releases that the plugin leaves alone, are known without the workers, which have no answer
    there."""
    never = Workers(AssertionError("asked"))
    assert "engine.gpu_lora is off" in await lora_kernels(never, "off", "0.26.0")
    assert "vLLM 0.34.0 was not read" in await lora_kernels(never, "auto", "0.34.0")


async def test_a_cpu_has_no_choice(monkeypatch):
    """There LoRA is computed in one way."""
    monkeypatch.setattr(vllm_cpu, "on_cpu", lambda: True)
    assert await lora_kernels(Workers(AssertionError("asked")), "on", "0.32.0") is None


async def test_ranks_of_a_pipeline_have_a_line_each():
    """They hold different layers; equal lines stand once."""
    other = {"line": "LoRA by our kernels in 60 of 60 layers, 45 in one launch"}
    assert (
        await lora_kernels(Workers([OURS, OURS, other]), "on", "0.26.0")
        == f"{OURS['line']} | {other['line']}"
    )


async def test_workers_without_the_plugin_end_the_start():
    """Nobody would know which kernels answer; the way out is in the hint."""
    with pytest.raises(EngineError, match="do not say which LoRA kernels") as caught:
        await lora_kernels(Workers(AttributeError("no such method")), "auto", "0.26.0")
    assert "engine.gpu_lora: off" in caught.value.hint
