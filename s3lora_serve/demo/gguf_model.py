"""The demo's GGUF file as a plain Hugging Face folder, weight for weight. The only file that imports gguf."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gguf
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from s3lora_serve.errors import BaseModelUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CONTROL_TOKEN = 3  # tokenizer.ggml.token_type: the token is never text
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def convert(source: Path, folder: Path, progress: Callable[[float], None]) -> None:
    """Write config, bf16 weights and tokenizer of a Llama GGUF file to ``folder``, which must exist.

    Weights are dequantised in float32 and rounded once. ``progress`` gets 0..1. Raises BaseModelUnavailable
    for another architecture or pre-tokenizer: a conversion that is silently wrong is worse than none.
    """
    reader = gguf.GGUFReader(source)
    facts = dict(reader.fields)
    for key, known in (("general.architecture", "llama"), ("tokenizer.ggml.pre", "smollm")):
        if (found := facts[key].contents()) != known:
            raise BaseModelUnavailable(f"{source.name}: {key} is {found!r}, only {known!r} is converted")
    config = _config(facts)
    _write(folder / "config.json", config)
    _write(
        folder / "generation_config.json",
        {k: config[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    _write_tokenizer(facts, folder)
    weights = {}
    for done, tensor in enumerate(reader.tensors):
        name = _hf_name(tensor.name)
        weight = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype("float32"))
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            weight = _unpermute(weight, heads)
        weights[name] = weight.to(torch.bfloat16).contiguous()
        progress(
            (done + 1) / (len(reader.tensors) + 30)
        )  # writing the file takes about as long as 30 tensors
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes 0600
    progress(1.0)


def _hf_name(name: str) -> str:
    parts = name.removesuffix(".weight").split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.weight"
    return f"{_TOP[parts[0]]}.weight"


def _unpermute(weight: torch.Tensor, heads: int) -> torch.Tensor:
    # GGUF interleaves the two rotary halves of each head (llama.cpp, LlamaModel.permute).
    out, width = weight.shape
    return weight.reshape(heads, out // heads // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    def fact(key: str) -> Any:
        return facts[key].contents()

    heads = fact("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": fact("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fact("tokenizer.ggml.eos_token_id"),
        "head_dim": fact("llama.embedding_length") // heads,
        "hidden_act": "silu",
        "hidden_size": fact("llama.embedding_length"),
        "intermediate_size": fact("llama.feed_forward_length"),
        "max_position_embeddings": fact("llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": fact("llama.block_count"),
        "num_key_value_heads": fact("llama.attention.head_count_kv"),
        "pad_token_id": fact("tokenizer.ggml.padding_token_id"),
        # GGUF stores it in float32, where 1e-5 reads 9.999999747e-06.
        "rms_norm_eps": float(f"{fact('llama.attention.layer_norm_rms_epsilon'):.1g}"),
        "rope_theta": fact("llama.rope.freq_base"),
        "tie_word_embeddings": True,  # the file has no output.weight
        "torch_dtype": "bfloat16",
        "vocab_size": fact("llama.vocab_size"),
    }


def _write_tokenizer(facts: dict[str, Any], folder: Path) -> None:
    tokens: list[str] = facts["tokenizer.ggml.tokens"].contents()
    kinds: list[int] = facts["tokenizer.ggml.token_type"].contents()
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    # "smollm" splits digits before everything else: "\n\n1" is "\n\n" and "1", never "\n", "\n", "1".
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(t, special=True, normalized=False)
            for t, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL_TOKEN
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    named = {
        name: tokens[facts[f"tokenizer.ggml.{key}_token_id"].contents()]
        for name, key in _NAMED_TOKENS.items()
    }
    _write(
        folder / "tokenizer_config.json",
        {
            **named,
            "chat_template": facts["tokenizer.chat_template"].contents(),
            "clean_up_tokenization_spaces": False,
            "model_max_length": facts["llama.context_length"].contents(),
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


_NAMED_TOKENS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
