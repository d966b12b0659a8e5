"""The layers of the demo base model, for code that needs only its shapes: fetches and reads nothing"""

from __future__ import annotations

# Of SmolLM2-135M-Instruct, a Llama: outputs and inputs of each linear layer.
_LAYERS, _WIDTH, _KEYS, _INNER = 30, 576, 192, 1536
_PROJECTIONS = {
    "self_attn.q_proj": (_WIDTH, _WIDTH),
    "self_attn.k_proj": (_KEYS, _WIDTH),
    "self_attn.v_proj": (_KEYS, _WIDTH),
    "self_attn.o_proj": (_WIDTH, _WIDTH),
    "mlp.gate_proj": (_INNER, _WIDTH),
    "mlp.up_proj": (_INNER, _WIDTH),
    "mlp.down_proj": (_WIDTH, _INNER),
}


def demo_shapes() -> dict[str, tuple[int, int]]:
    """(out, in) of each linear layer that an adapter may update, by its dotted path."""
    return {
        f"model.layers.{layer}.{name}": shape
        for layer in range(_LAYERS)
        for name, shape in _PROJECTIONS.items()
    }
