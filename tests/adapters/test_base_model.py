"""The base model's linear layers come from its configuration alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from transformers import GPT2Config, LlamaConfig, Qwen2Config

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}


@pytest.mark.parametrize("tied", [True, False])
def test_heads_and_embeddings_are_not_in_it(tmp_path: Path, tied: bool):
    """Whether tied or not, lm_head takes no adapter."""
    config = Qwen2Config(**SIZES, tie_word_embeddings=tied, architectures=["Qwen2ForCausalLM"])
    config.save_pretrained(tmp_path)
    spec = BaseModelSpec.from_pretrained(tmp_path)
    assert sorted(name.removeprefix("model.layers.0.") for name in spec.shapes) == [
        "mlp.down_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "self_attn.k_proj",
        "self_attn.o_proj",
        "self_attn.q_proj",
        "self_attn.v_proj",
    ]


def test_conv1d_is_given_as_out_by_in(tmp_path: Path):
    """GPT-2 stores weights as [in, out]; a LoRA update of it is [out, in] all the same."""
    GPT2Config(
        n_embd=16, n_layer=1, n_head=2, vocab_size=50, architectures=["GPT2LMHeadModel"]
    ).save_pretrained(tmp_path)
    assert dict(BaseModelSpec.from_pretrained(tmp_path).shapes) == {
        "transformer.h.0.attn.c_attn": (48, 16),
        "transformer.h.0.attn.c_proj": (16, 16),
        "transformer.h.0.mlp.c_fc": (64, 16),
        "transformer.h.0.mlp.c_proj": (16, 64),
    }


def test_an_8b_model_takes_no_memory_for_its_weights(tmp_path: Path):
    """Shapes only: 224 layers without 16 GB."""
    LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=128256, architectures=["LlamaForCausalLM"],
    ).save_pretrained(tmp_path)  # fmt: skip
    spec = BaseModelSpec.from_pretrained(tmp_path)
    assert len(spec.shapes) == 224
    assert spec.shapes["model.layers.31.mlp.down_proj"] == (4096, 14336)


def test_the_name_holds_no_path(tmp_path: Path):
    """It is shown to clients."""
    LlamaConfig(**SIZES, architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path / "llama")
    assert BaseModelSpec.from_pretrained(tmp_path / "llama").name == "llama"


def test_the_digest_is_that_of_the_shapes():
    """Order and name do not matter; a size does."""
    one = BaseModelSpec("one", {"a": (1, 2), "b": (3, 4)})
    assert one.digest == BaseModelSpec("two", {"b": (3, 4), "a": (1, 2)}).digest
    assert one.digest != BaseModelSpec("one", {"a": (2, 1), "b": (3, 4)}).digest


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"model_type": "no-such-model"},
        {"model_type": "bert", "num_labels": 2, "hidden_size": "wide"},
        {"auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}},
    ],
)
def test_what_is_no_known_language_model_is_refused(tmp_path: Path, config: object):
    """And none of the model's own code is run: evil.py would leave a mark."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="base model '") as caught:
        BaseModelSpec.from_pretrained(tmp_path)
    assert "\n" not in caught.value.message
    assert not (tmp_path / "mark").exists()
