"""MLX-LM's adapters as PEFT's: the same factors, transposed and named otherwise."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from s3lora_serve.adapters.peft.tensor_names import Factor, tensor_name
from s3lora_serve.errors import FormatError, UnsupportedError
from s3lora_serve.storage.canonical_json import excerpt, strict_loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_NAME = re.compile(r"(?P<module>[\w-]+(?:\.[\w-]+)*)\.lora_(?P<factor>[ab])", re.ASCII)
_TRAIN = "train a LoRA of linear layers with fine_tune_type: lora"
_Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    scale: _Size | None = None
    alpha: _Size | None = None  # of older releases, which divided it by the rank


class _MlxConfig(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    fine_tune_type: str = "lora"
    lora_parameters: _Parameters
    model: str | None = None


def from_mlx(raw: bytes, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """adapter_config.json and tensors as PEFT has them, of MLX's: ``y += scale · (x @ lora_a) @ lora_b``.

    Raises FormatError or UnsupportedError for what is not that.
    """
    try:
        config = _MlxConfig.model_validate(strict_loads(raw))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:80]
        raise FormatError(f"adapter_config.json: {where}: {first['msg']}", hint=_TRAIN) from error
    except ValueError as error:
        raise FormatError(f"adapter_config.json is not JSON: {error}", hint=_TRAIN) from error
    if config.fine_tune_type != "lora":
        raise UnsupportedError(f"fine_tune_type is {excerpt(config.fine_tune_type)}", hint=_TRAIN)
    written: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None or tensor.ndim != 2 or match["module"].endswith("embed_tokens"):
            raise UnsupportedError(
                f"tensor {excerpt(name, 120)} of shape {list(tensor.shape)} is no factor of a linear layer",
                hint=_TRAIN,
            )
        factor: Factor = "A" if match["factor"] == "a" else "B"
        written[tensor_name(match["module"], factor)] = tensor.T.contiguous()
        if factor == "A":
            ranks[match["module"]] = int(tensor.shape[1])
    if not ranks:
        raise FormatError("the file holds no factors", hint=_TRAIN)
    return _peft_config(config, ranks), written


def _peft_config(config: _MlxConfig, ranks: Mapping[str, int]) -> dict[str, Any]:
    given = config.lora_parameters
    if given.scale is None and given.alpha is None:
        raise FormatError(
            "lora_parameters has no scale", hint="take the file as MLX-LM wrote it beside the weights"
        )
    rank = Counter(ranks.values()).most_common(1)[0][0]
    # PEFT divides alpha by the rank of each module, so the scale is in alpha.
    alphas = {name: given.alpha if given.scale is None else given.scale * r for name, r in ranks.items()}
    alpha = next(alphas[name] for name, r in ranks.items() if r == rank)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": config.model,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
    }
