"""Our settings become vLLM's arguments, and what vLLM would not take is refused before it starts."""

from __future__ import annotations

import pytest

from s3lora_serve.config import EngineConfig
from s3lora_serve.engine.vllm import vllm_cpu
from s3lora_serve.engine.vllm.vllm_settings import VllmSettings, engine_arguments
from s3lora_serve.errors import ConfigError, EngineError

pytest.importorskip("vllm")
pytestmark = pytest.mark.engine


def arguments(revision=None, served_name=None, **section):
    """The namespace for a model with these settings."""
    return engine_arguments(VllmSettings("/models/SmolLM2", EngineConfig(**section), revision, served_name))


def test_settings_reach_vllm():
    """Each setting is the argument of the same name; LoRA is on, other origins are not let in."""
    args = arguments(
        revision="main",
        max_loras=3,
        max_lora_rank=32,
        dtype="bfloat16",
        max_model_len=512,
        enforce_eager=True,
        tensor_parallel_size=2,
        gpu_memory_utilization=0.5,
    )
    assert (args.model, args.served_model_name) == ("/models/SmolLM2", ["SmolLM2"])
    assert (args.revision, args.tokenizer_revision) == ("main", "main")
    assert (args.enable_lora, args.max_loras, args.max_lora_rank) == (True, 3, 32)
    assert (args.dtype, args.max_model_len, args.enforce_eager) == ("bfloat16", 512, True)
    assert (args.tensor_parallel_size, args.gpu_memory_utilization) == (2, 0.5)
    assert (args.allowed_origins, args.enable_prompt_tokens_details) == ([], True)
    assert args.disable_log_stats is False  # the facts need vLLM's per-request statistics


def test_unset_settings_are_left_to_vllm():
    """None does not reach vLLM."""
    args, default = arguments(), arguments(gpu_memory_utilization=None, max_model_len=None, revision=None)
    assert vars(args) == vars(default)
    assert (args.max_model_len, args.revision) == (None, None)


def test_the_public_name_is_no_path():
    """By default the last part of the model's path or id; a given name wins."""
    assert VllmSettings("/srv/secret/SmolLM2", EngineConfig()).base_name == "SmolLM2"
    assert VllmSettings("Qwen/Qwen3-8B", EngineConfig()).base_name == "Qwen3-8B"
    assert arguments(served_name="demo").served_model_name == ["demo"]


def test_extra_arguments_of_every_kind():
    """Numbers, switches on and off, lists, and objects, converted by vLLM's own parser."""
    args = arguments(
        extra_args={
            "max_num_seqs": 8,
            "enable_prefix_caching": False,
            "disable_log_stats": True,
            "lora_target_modules": ["qkv_proj", "o_proj"],
            "hf_overrides": {"rope_theta": 1.0},
            "structured_outputs_config": {"backend": "xgrammar"},
            "tool_call_parser": None,
        }
    )
    assert (args.max_num_seqs, args.enable_prefix_caching, args.disable_log_stats) == (8, False, True)
    assert (args.lora_target_modules, args.hf_overrides) == (["qkv_proj", "o_proj"], {"rope_theta": 1.0})
    assert (args.structured_outputs_config.backend, args.tool_call_parser) == ("xgrammar", None)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"max_num_seq": 8}, "extra_args.max_num_seq: vLLM has no such argument; did you mean max_num_seqs?"),
        ({"zzzzqqqq": 1}, "no such argument; names are those of vLLM's EngineArgs"),
        ({"enable_prefix_caching": "yes"}, "is 'yes'; it is a switch: true or false"),
        ({"logits_processors": ["x", "--max-loras=64"]}, "processors: '--max-loras=64' begins with '-'"),
        ({"max_num_seqs": "many"}, "vLLM refuses the engine settings: argument --max-num-seqs: .*many"),
        ({"kv_cache_dtype": "int3"}, "argument --kv-cache-dtype: .*int3"),
    ],
)
def test_what_vllm_would_not_take_is_refused(extra, says):
    """The error names the argument, its value and the next step; nothing is printed, no process exits."""
    with pytest.raises(ConfigError, match=says):
        arguments(extra_args=extra)


def test_a_vllm_without_any_known_parser_is_named(monkeypatch):
    """When a release moves the parser again, the error says which were tried."""
    monkeypatch.setattr("s3lora_serve.engine.vllm.vllm_settings._ARG_MODULES", ("vllm.nowhere.cli_args",))
    with pytest.raises(EngineError, match=r"none of vllm.nowhere.cli_args; install a supported release"):
        arguments()


@pytest.mark.parametrize("name", ["speculative_config", "spec_method", "spec_model", "spec_tokens"])
def test_speculation_is_refused_on_the_cpu(name):
    """By each name that vLLM has for it, with the reason: its answers are wrong beside other requests."""
    with pytest.raises(ConfigError, match=rf"extra_args.{name}: .* wrong text on the CPU .* on a GPU"):
        vllm_cpu.refuse_speculation({"max_num_seqs": 4, name: "ngram"})
    vllm_cpu.refuse_speculation({"max_num_seqs": 4})


@pytest.mark.parametrize(
    ("capabilities", "bfloat16"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_f": True}, False),
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": True}, True),
        ({"architecture": "x86_64", "amx_bf16": True}, True),
        ({"architecture": "aarch64", "neon": True}, False),
        ({"architecture": "aarch64", "bf16": True}, True),
        ({"architecture": "s390x"}, True),
        ({}, True),
    ],
)
def test_auto_is_float32_where_bfloat16_is_not_computed(capabilities, bfloat16, monkeypatch):
    """Only ``auto`` changes, and only on processors that are known to convert each weight at each step."""
    monkeypatch.setattr(vllm_cpu, "_capabilities", lambda: capabilities)
    assert vllm_cpu.cpu_dtype("auto") == ("auto" if bfloat16 else "float32")
    assert [vllm_cpu.cpu_dtype(dtype) for dtype in ("bfloat16", "float16", "float32")] == [
        "bfloat16",
        "float16",
        "float32",
    ]
