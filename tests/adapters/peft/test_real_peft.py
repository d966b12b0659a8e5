"""What PEFT saves, we publish so that PEFT computes the same: checked on logits of small random models."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adapters_factory import adapter_limits
from peft import LoraConfig, PeftModel, get_peft_model
from peft_builder import BASE
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from s3lora_serve.adapters.admission import admit
from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.store import Revision, RevisionStore
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = torch.tensor([[1, 5, 9, 2, 7, 40, 3]])
LLAMA = LlamaConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=99, architectures=["LlamaForCausalLM"],
)  # fmt: skip
GPT2 = GPT2Config(
    n_embd=16, n_layer=2, n_head=2, vocab_size=99, n_positions=32, architectures=["GPT2LMHeadModel"],
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (LLAMA, {"r": 4, "lora_alpha": 8, "target_modules": LINEAR}),
    "rslora": (LLAMA, {"r": 4, "lora_alpha": 3, "target_modules": LINEAR, "use_rslora": True}),
    "patterns": (
        LLAMA,
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": LINEAR,
            "rank_pattern": {
                r"layers\.0\..*_proj": 2,
                r"1\.mlp\.down_proj": 6,
                "model.layers.1.self_attn.q_proj": 3,
            },
            "alpha_pattern": {"q_proj": 5, "^model.layers.1.mlp.up_proj": 1.5},
        },
    ),
    "rslora-patterns": (
        LLAMA,
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": r".*\.(q|v)_proj",
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2},
        },
    ),
    "some-layers": (
        LLAMA,
        {"r": 2, "lora_alpha": 2, "target_modules": LINEAR, "layers_to_transform": [1]},
    ),
    "gpt2": (
        GPT2,
        {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    ),
}


def model(config: Any) -> PreTrainedModel:
    """The random base model of this configuration: the same weights at every call."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def logits(of: torch.nn.Module) -> torch.Tensor:
    """[1, tokens, vocabulary] float32."""
    with torch.no_grad():
        return of(TOKENS).logits


def trained(config: Any, settings: dict[str, Any]) -> PeftModel:
    """A PEFT model whose factors are all random, as after training."""
    adapted = get_peft_model(model(config), LoraConfig(task_type="CAUSAL_LM", **settings))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) / 4
    return adapted.eval()


def load(config: Any, revision: Revision) -> PeftModel:
    """The published adapter on a fresh base model; PEFT warns of keys that are missing or too many."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("default", ResourceWarning)  # of what another test left, found just now
        return PeftModel.from_pretrained(model(config), revision.path).eval()


@pytest.fixture
def store(tmp_path: Path) -> RevisionStore:
    """An empty store."""
    return RevisionStore(tmp_path / "store")


def publish(adapted: PeftModel, config: Any, tmp_path: Path, store: RevisionStore, tau: int) -> Revision:
    """Save with PEFT, admit with the ``tau`` sharpest modules pruned."""
    adapted.save_pretrained(tmp_path / "saved")
    config.save_pretrained(tmp_path / "base")
    base = BaseModelSpec.from_pretrained(tmp_path / "base")
    policy = PrunePolicy(rule=Top(tau, max_share=1))
    return admit(str(tmp_path / "saved"), base=base, policy=policy, limits=adapter_limits(), store=store)


@pytest.mark.parametrize("case", CASES)
def test_an_unpruned_revision_computes_the_same(case: str, tmp_path: Path, store: RevisionStore):
    """Bit for bit, and not the base model's answer."""
    config, settings = CASES[case]
    adapted = trained(config, settings)
    expected = logits(adapted)
    revision = publish(adapted, config, tmp_path, store, 0)
    assert torch.equal(logits(load(config, revision)), expected)
    assert not torch.allclose(expected, logits(model(config)), atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_a_pruned_module_contributes_nothing_and_the_others_all(
    case: str, tmp_path: Path, store: RevisionStore
):
    """The same as the unpruned adapter with B = 0 there; the module is not even wrapped."""
    config, settings = CASES[case]
    adapted = trained(config, settings)
    revision = publish(adapted, config, tmp_path, store, 3)
    pruned = revision.lineage.pruned
    loaded = load(config, revision)
    for name in pruned:
        adapted.get_submodule(f"base_model.model.{name}").lora_B["default"].weight.data.zero_()
        assert not hasattr(loaded.get_submodule(f"base_model.model.{name}"), "lora_A")
    assert len(pruned) == 3
    assert torch.equal(logits(loaded), logits(adapted))


def test_the_files_of_peft_are_published_without_rewriting(tmp_path: Path, store: RevisionStore):
    """Its safetensors layout is the canonical one, so an unpruned adapter is moved, not copied."""
    adapted = trained(*CASES["plain"])
    revision = publish(adapted, LLAMA, tmp_path, store, 0)
    saved = tmp_path / "saved/adapter_model.safetensors"
    assert (revision.path / "adapter_model.safetensors").read_bytes() == saved.read_bytes()
    assert revision.lineage.weights_sha256 == revision.lineage.source_sha256


def test_the_tiny_base_model_of_the_other_tests_is_this_one(tmp_path: Path):
    """So that what they show holds for a model that runs."""
    LLAMA.save_pretrained(tmp_path)
    assert BaseModelSpec.from_pretrained(tmp_path).digest == BASE.digest


def shared_adapter() -> Path | None:
    """The third-party GPT-2 adapter, if the data lies beside this repository."""
    root = Path(os.environ.get("S3LORA_SHARED_DATA", Path(__file__).parents[3].parent / "shared/data"))
    folder = root / "adapters/gpt2-tigrinya-lora"
    return folder if folder.is_dir() else None


@pytest.mark.skipif(shared_adapter() is None, reason="the shared data is not here; set S3LORA_SHARED_DATA")
def test_a_third_partys_gpt2_adapter_is_admitted(tmp_path: Path, store: RevisionStore):
    """As it was uploaded: Conv1D, fan_in_fan_out, a newer PEFT's keys."""
    GPT2Config(architectures=["GPT2LMHeadModel"]).save_pretrained(tmp_path / "gpt2")
    base = BaseModelSpec.from_pretrained(tmp_path / "gpt2")
    source = shared_adapter()
    revision = admit(str(source), base=base, policy=PrunePolicy(), limits=adapter_limits(), store=store)
    lineage = revision.lineage
    assert (lineage.kept, len(lineage.pruned), lineage.warnings) == (26, 10, ())
    assert lineage.config["fan_in_fan_out"] is True
    original = load_file(source / "adapter_model.safetensors")
    published = load_file(revision.path / "adapter_model.safetensors")
    assert len(published) == 52
    assert all(torch.equal(tensor, original[name]) for name, tensor in published.items())
    assert store.check(revision.digest) == revision
