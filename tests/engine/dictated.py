"""Answers that are the same whatever the model would rather say.

What it says depends on the processor and on what shares the batch, so no test may hang on it: where a text
matters a grammar dictates it, and where tokens are counted no answer ends by itself. (The fake reads no
grammar, and says the same each time.)
"""

from __future__ import annotations

from s3lora_serve.engine.port import Sampling

SAID = "One by one the lamps of the harbour were lit, and the last boat came home."
SAY = Sampling(max_tokens=len(SAID) + 1, grammar=f'root ::= "{SAID}"')  # no token is less than a character
STRONG = 0.2  # an adapter of this strength moves log-probabilities by 3 nats or more, far beyond any noise


def endless(max_tokens: int) -> Sampling:
    """An answer that only ``max_tokens`` ends."""
    return Sampling(max_tokens=max_tokens, grammar='root ::= "la " root')
