"""What an adapter must fit: the base model's linear layers, from its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.errors import ConfigError
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class BaseModelSpec:
    """The linear layers of a causal language model that an adapter may update.

    ``shapes`` is keyed by dotted path and holds (out, in), also for GPT-2's Conv1D, whose weight is stored as
    [in, out]. Output heads and embeddings are not in it.
    """

    name: str
    shapes: Mapping[str, tuple[int, int]]
    revision: str | None = None
    transposed: frozenset[str] = frozenset()  # those whose weight is stored as [in, out]
    location: str | None = field(default=None, compare=False)  # folder or Hub id that it was read from

    @cached_property
    def digest(self) -> str:
        """sha256 of names and shapes: what admission checked. Two models of one shape share it."""
        return canonical_digest({name: list(shape) for name, shape in self.shapes.items()})

    @classmethod
    def from_pretrained(
        cls, path_or_id: str | Path, *, revision: str | None = None, fetch: bool = True
    ) -> BaseModelSpec:
        """Build the architecture without weights (meta device); runs no code from the model's repository.

        Without ``fetch`` the configuration of a model on the Hub must be in the local cache.
        A local folder is named by its last part, so that no server path is published. Raises ConfigError if
        the configuration cannot be read or is not that of a causal language model known to transformers.
        """
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.pytorch_utils import Conv1D

        local = Path(path_or_id).is_dir()
        try:
            config = AutoConfig.from_pretrained(
                path_or_id, revision=revision, trust_remote_code=False, local_files_only=not fetch
            )
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        except Exception as error:  # each architecture's configuration raises its own types
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            hint = "name a causal language model that transformers knows without remote code"
            if not (fetch or local):
                hint = f"fetch its configuration once: hf download {path_or_id} config.json; or {hint}"
            raise ConfigError(f"base model {str(path_or_id)!r}: {reason}", hint=hint) from error
        head = model.get_output_embeddings()
        shapes, transposed = {}, set()
        for name, module in model.named_modules():
            if module is head:
                continue
            if isinstance(module, torch.nn.Linear):
                shapes[name] = (module.out_features, module.in_features)
            elif isinstance(module, Conv1D):
                inputs, outputs = module.weight.shape
                shapes[name] = (int(outputs), int(inputs))
                transposed.add(name)
        location = str(Path(path_or_id).resolve()) if local else str(path_or_id)
        name = Path(location).name if local else location
        return cls(name, shapes, revision, frozenset(transposed), location)
