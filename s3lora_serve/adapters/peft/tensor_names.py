"""Names of LoRA tensors in a PEFT file, and the dotted base-model paths that they belong to."""

from __future__ import annotations

import re
from typing import Literal

from s3lora_serve.errors import FormatError, UnsupportedError

MAX_NAME_LENGTH = 512
PREFIX = "base_model.model."
Factor = Literal["A", "B"]

# PEFT's files hold "….lora_A.weight"; checkpoints saved by hand from a live model keep the adapter's name:
# "….lora_A.default.weight".
_FACTOR = re.compile(
    r"base_model\.model\.(?P<module>[\w-]+(?:\.[\w-]+)*)\.lora_(?P<factor>[AB])(?:\.(?P<adapter>[\w-]+))?\.weight",
    re.ASCII,
)
# Of an embedding the factors are parameters: "….lora_embedding_A", or "….lora_embedding_A.default" by hand.
_EMBEDDING = re.compile(
    r"base_model\.model\.(?P<module>[\w-]+(?:\.[\w-]+)*)\.lora_embedding_(?P<factor>[AB])(?:\.(?P<adapter>[\w-]+))?",
    re.ASCII,
)
# What PEFT saves beside an update of these two: the base model's own weights, which vLLM skips.
_BASE_LAYER = re.compile(
    r"base_model\.model\.(?P<module>(?:[\w-]+\.)*(?:lm_head|embed_tokens))\.base_layer\.weight", re.ASCII
)

# What else PEFT may have put there, and why it is not served. Looked up in this order.
_FOREIGN = (
    ("lora_magnitude_vector", "DoRA's magnitudes: the engine would ignore them"),
    ("trainable_tokens", "retrained token embeddings"),
    ("modules_to_save", "a whole module beside the update"),
    ("base_layer", "weights of the base model"),
    ("lora_diag", "KaSA's diagonal"),
    ("embed_tokens", "a whole embedding table"),
    (".bias", "a bias"),
)


def parse_tensor_name(name: str) -> tuple[str, Factor]:
    """(dotted base-model path, "A" or "B") of a LoRA factor's name.

    Raises UnsupportedError for what PEFT stores beside factors, FormatError for a name that is not PEFT's.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise FormatError(f"tensor name {name[:60]!r}... has {len(name)} characters > {MAX_NAME_LENGTH}")
    if match := _FACTOR.fullmatch(name) or _EMBEDDING.fullmatch(name):
        return match["module"], "A" if match["factor"] == "A" else "B"
    for part, what in _FOREIGN:
        if part in name:
            raise UnsupportedError(
                f"tensor {name!r} is {what}", hint="only LoRA factors of linear layers are served"
            )
    if name.startswith(PREFIX) and name.endswith(".weight"):
        raise UnsupportedError(f"tensor {name!r} is a whole weight beside the update (an extra head)")
    raise FormatError(
        f"tensor {name!r} is not named as PEFT names LoRA factors",
        hint=f"expected {PREFIX}<module>.lora_A.weight",
    )


def is_of_embedding(name: str) -> bool:
    """Whether the factor with this name is an embedding's."""
    return _EMBEDDING.fullmatch(name) is not None


def saved_base_layer(name: str) -> str | None:
    """The module whose own weight, the base model's, this tensor is; None for any other tensor."""
    match = _BASE_LAYER.fullmatch(name)
    return match["module"] if match and len(name) <= MAX_NAME_LENGTH else None


def tensor_name(module: str, factor: Factor, *, embedding: bool = False) -> str:
    """The one name that is published: what ``save_pretrained`` writes and vLLM reads."""
    if embedding:
        return f"{PREFIX}{module}.lora_embedding_{factor}"
    return f"{PREFIX}{module}.lora_{factor}.weight"
