"""GGUF to Hugging Face, weight for weight."""

import json

import pytest
import torch
from tiny_gguf import TEMPLATE, tiny_llama, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from s3lora_serve.demo.gguf_model import convert
from s3lora_serve.errors import BaseModelUnavailable


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Folder of the tiny model, converted, and the fractions that were reported."""
    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(folder / "tiny.gguf", tiny_llama())
    (folder / "model").mkdir()
    fractions: list[float] = []
    convert(folder / "tiny.gguf", folder / "model", fractions.append)
    return folder / "model", fractions


def test_weights_are_the_same(converted):
    """Every tensor comes back bit for bit, the interleaved query and key rows included."""
    found = AutoModelForCausalLM.from_pretrained(converted[0], dtype=torch.bfloat16).state_dict()
    expected = tiny_llama().state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def test_model_computes_the_same(converted):
    """Same logits as the original: the config is right too."""
    ids = torch.tensor([[1, 5, 6, 7, 9, 2]])
    model = AutoModelForCausalLM.from_pretrained(converted[0], dtype=torch.bfloat16).eval()
    assert torch.equal(model(ids).logits, tiny_llama()(ids).logits)


def test_tokenizer_splits_digits_first(converted):
    """Two line breaks before a digit are one token: without the digit splitter they would be two."""
    tokenizer = AutoTokenizer.from_pretrained(converted[0])
    assert tokenizer.tokenize("a\n\n1") == ["a", "ĊĊ", "1"]
    assert tokenizer.tokenize("<|im_start|>ab<|im_end|>") == ["<|im_start|>", "ab", "<|im_end|>"]
    assert tokenizer.chat_template == TEMPLATE
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )


def test_config_has_no_float32_noise(converted):
    """1e-5 is 1e-05, not 9.999999747e-06, as float32 would have it."""
    assert json.loads((converted[0] / "config.json").read_text())["rms_norm_eps"] == 1e-5


def test_progress_rises_to_one(converted):
    """Progress only grows and ends at 1."""
    fractions = converted[1]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_other_pre_tokenizers_are_refused(tmp_path):
    """A tokenizer that would come out wrong is refused with its name."""
    write_gguf(tmp_path / "x.gguf", tiny_llama(), pre="qwen2")
    with pytest.raises(BaseModelUnavailable, match=r"tokenizer.ggml.pre is 'qwen2', only 'smollm'"):
        convert(tmp_path / "x.gguf", tmp_path, lambda fraction: None)
