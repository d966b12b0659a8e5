"""MLX's factors become PEFT's: the same update of every module."""

from __future__ import annotations

import json

import pytest
import torch

from s3lora_serve.adapters.convert.mlx_format import from_mlx
from s3lora_serve.adapters.peft.adapter_config import AdapterConfig
from s3lora_serve.errors import AdapterError

Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"


def mlx(**parameters: float) -> bytes:
    """MLX's configuration."""
    return json.dumps({"fine_tune_type": "lora", "lora_parameters": parameters, "model": "org/base"}).encode()


def tensors(ranks: dict[str, int]) -> dict[str, torch.Tensor]:
    """lora_a [in, r] and lora_b [r, out] of each."""
    found = {}
    for name, rank in ranks.items():
        found[f"{name}.lora_a"] = torch.randn(6, rank)
        found[f"{name}.lora_b"] = torch.randn(rank, 8)
    return found


@pytest.mark.parametrize("parameters", [{"scale": 20.0, "rank": 4}, {"alpha": 16.0, "rank": 4}])
@pytest.mark.parametrize("ranks", [{Q: 4, UP: 4}, {Q: 4, UP: 2}])
def test_the_update_is_the_same(parameters: dict[str, float], ranks: dict[str, int]):
    """``scale · (x @ a) @ b`` is ``x @ ΔWᵀ`` with PEFT's scaling, at each module's own rank."""
    given = tensors(ranks)
    raw, written = from_mlx(mlx(**parameters), given)
    config = AdapterConfig.parse(json.dumps(raw).encode())
    x = torch.randn(3, 6)
    for name, (rank, alpha) in config.resolve(ranks).items():
        scale = parameters.get("scale", parameters.get("alpha", 0) / ranks[name])
        a, b = (written[f"base_model.model.{name}.lora_{f}.weight"] for f in "AB")
        expected = scale * (x @ given[f"{name}.lora_a"]) @ given[f"{name}.lora_b"]
        assert torch.allclose(config.scaling(rank, alpha) * x @ a.T @ b.T, expected, rtol=1e-5, atol=1e-5)
    assert config.base_model_name_or_path == "org/base"


@pytest.mark.parametrize(
    ("raw", "extra", "message"),
    [
        (b'{"fine_tune_type": "dora", "lora_parameters": {"scale": 1}}', {}, "fine_tune_type is 'dora'"),
        (b'{"lora_parameters": {}}', {}, "has no scale"),
        (b'{"lora_parameters": {"scale": -1}}', {}, "greater than 0"),
        (b'{"lora_parameters": {"scale": NaN}}', {}, "is not JSON"),
        (b"{}", {}, "lora_parameters: Field required"),
        (b"[]", {}, "valid dictionary"),
        (mlx(scale=1), {f"{Q}.m": (8,)}, "no factor of a linear layer"),
        (mlx(scale=1), {"model.layers.0.mlp.switch_mlp.up_proj.lora_a": (4, 2, 6)}, "no factor of a linear"),
        (mlx(scale=1), {"model.embed_tokens.lora_a": (10, 2)}, "no factor of a linear layer"),
        (mlx(scale=1), {"../x.lora_a": (6, 2)}, "no factor of a linear layer"),
    ],
)
def test_what_is_no_lora_of_linear_layers_is_refused(
    raw: bytes, extra: dict[str, tuple[int, ...]], message: str
):
    """With what it is, and the next step."""
    odd = {name: torch.ones(shape) for name, shape in extra.items()}
    with pytest.raises(AdapterError) as caught:
        from_mlx(raw, {**tensors({Q: 2}), **odd})
    assert message in caught.value.message
    assert caught.value.hint


def test_a_file_without_factors_is_refused():
    """There is nothing to write."""
    with pytest.raises(AdapterError, match="no factors"):
        from_mlx(mlx(scale=1), {})
