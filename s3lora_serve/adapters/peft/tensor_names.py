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

# What else PEFT may have put there, and why it is not served. Looked up in this order.
_FOREIGN = (
    ("lora_magnitude_vector", "DoRA's magnitudes: the engine would ignore them"),
    ("lora_embedding_", "an update of embeddings"),
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
    if match := _FACTOR.fullmatch(name):
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


def tensor_name(module: str, factor: Factor) -> str:
    """The one name that is published: what ``save_pretrained`` writes and vLLM reads."""
    return f"{PREFIX}{module}.lora_{factor}.weight"
