"""A machine that vLLM cannot run on gets a sentence, not a stack trace."""

from __future__ import annotations

import os
import sys

import pytest

from s3lora_serve.config import EngineConfig
from s3lora_serve.engine.vllm import vllm_start
from s3lora_serve.engine.vllm.plugins import cpu_lora_fix
from s3lora_serve.errors import ConfigError, EngineError


@pytest.mark.parametrize("error", ["RuntimeError('torchvision::nms does not exist')", "OSError('x.so')"])
@pytest.mark.parametrize("name", ["torchvision", "torchaudio"])
def test_a_torch_extra_of_another_build_is_named(name, error, tmp_path, monkeypatch):
    """The message has the package and its complaint, the hint the command that removes all three."""
    (tmp_path / f"{name}.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(EngineError, match=f"{name} is installed but does not fit this torch") as caught:
        vllm_start.check_torch_extras()
    assert caught.value.hint.endswith("pip uninstall -y torchvision torchaudio torchcodec")


def test_a_missing_vllm_says_what_to_install(monkeypatch):
    """Both extras are named."""
    monkeypatch.setattr(vllm_start, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"vLLM is not installed; .*s3lora-serve.cpu.*s3lora-serve.gpu"):
        vllm_start.import_vllm()


@pytest.mark.engine
def test_an_unfixed_cpu_build_does_not_start(monkeypatch):
    """Better no service than one that mixes up adapters."""
    pytest.importorskip("vllm")
    monkeypatch.setattr(cpu_lora_fix, "needed", lambda: True)
    monkeypatch.setattr(cpu_lora_fix, "active", lambda: False)
    with pytest.raises(EngineError, match=r"another request's adapter .* add s3lora_cpu_lora_fix"):
        vllm_start.check_cpu_fix()


def test_the_environment_is_set_before_vllm_is_imported(monkeypatch):
    """No usage reports, no adapters by request, the KV cache in GiB, a limit for workers that the watchdog's
    comes before; the operator's start method stays.
    """
    limit = "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"
    for name in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "VLLM_CPU_KVCACHE_SPACE", limit):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "forkserver")
    vllm_start.set_environment(EngineConfig(cpu_kv_cache_gib=3))
    assert {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "3",
        "VLLM_WORKER_MULTIPROC_METHOD": "forkserver",
        limit: "600",
    }.items() <= os.environ.items()


@pytest.mark.engine
async def test_settings_that_vllm_refuses_late_are_a_config_error(demo_base):
    """What only the model's config shows to be wrong is still the operator's to change."""
    from engine_factory import engine_settings

    from s3lora_serve.engine.vllm.vllm_engine import VllmEngine

    with pytest.raises(
        ConfigError, match=r"(?s)vLLM refuses the engine settings: .*max_model_len \(1000000\)"
    ):
        await VllmEngine.start(engine_settings(demo_base, max_model_len=1_000_000))
