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

# What to do instead; of the rest, train without it.
_MERGE = "merge it into its base model (PEFT's merge_and_unload) and serve that, or train without it"
_UNTRAINED = (
    "if it was not trained, save it again with save_embedding_layers=False; otherwise merge it and serve that"
)
_NEXT = {
    "embed_tokens": f"PEFT saves it when the vocabulary was resized: {_UNTRAINED}",
    "base_layer": "save it again with a current PEFT, which leaves them out",
    ".bias": "train with bias='none'",
}
# Files of other tools under PEFT's name: how their names look, whose they are, and the next step.
_DIALECTS = (
    (r"\.lora_[ab]$", "MLX's", "convert the MLX folder: adapters.safetensors with its own configuration"),
    (
        r"lora_(unet|te\d?)_|\.lora_(down|up)\.|\.lora\.(down|up)\.",
        "kohya's or diffusers'",
        "an adapter of an image model is no planner; save that of a language model with PEFT",
    ),
    (
        r"^(?!base_model\.).*\.lora_[AB](\.[\w-]+)?\.weight$",
        "a bare state_dict's",
        "save it with PEFT's save_pretrained, which puts base_model.model. before each name",
    ),
    (r"^(?!.*lora_)", "a whole model's", "save the adapter alone, with PEFT's save_pretrained"),
)


def parse_tensor_name(name: str) -> tuple[str, Factor]:
    """(dotted base-model path, "A" or "B") of a LoRA factor's name.

    Raises UnsupportedError for what PEFT stores beside factors, FormatError for a name that is not PEFT's.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise FormatError(
            f"tensor name {name[:60]!r}... has {len(name)} characters > {MAX_NAME_LENGTH}",
            hint="PEFT names a factor by its module's path; was the file made by another tool?",
        )
    if match := _FACTOR.fullmatch(name) or _EMBEDDING.fullmatch(name):
        return match["module"], "A" if match["factor"] == "A" else "B"
    for part, what in _FOREIGN:
        if part in name:
            raise UnsupportedError(f"tensor {name!r} is {what}", hint=_NEXT.get(part, _MERGE))
    if name.startswith(PREFIX) and name.endswith(".weight") and "lora_" not in name:
        raise UnsupportedError(
            f"tensor {name!r} is a whole weight beside the update (an extra head)", hint=_UNTRAINED
        )
    for pattern, whose, hint in _DIALECTS:
        if re.search(pattern, name):
            raise UnsupportedError(
                f"tensor {name!r} is not named as PEFT names LoRA factors: it is {whose}", hint=hint
            )
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
