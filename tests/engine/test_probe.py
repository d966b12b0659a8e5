"""The tokens on which an engine is compared with itself."""

from __future__ import annotations

import pytest

from s3lora_serve.engine.probe import PROBE_TOKENS, probe_tokens


@pytest.mark.parametrize("vocab_size", [2, 257, 32_000, 49_152, 128_256, 151_936])
def test_probe_tokens_are_a_function_of_the_vocabulary(vocab_size):
    """In range, the same every time, and spread out where the vocabulary allows it."""
    tokens = probe_tokens(vocab_size)
    assert tokens == probe_tokens(vocab_size)
    assert len(tokens) == PROBE_TOKENS
    assert all(0 <= token < vocab_size for token in tokens)
    if vocab_size > 1000:
        assert len(set(tokens)) == PROBE_TOKENS
        assert max(tokens) - min(tokens) > vocab_size // 2
