"""What an adapter must fit: the base model's linear layers, from its configuration alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import ConfigError
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3lora_serve.adapters.served.served_class import ServedClass


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
    architecture: str | None = field(default=None, compare=False)  # if config.json names the class read here
    vouched: bool = field(default=False, compare=False)  # the engine is known to serve all of shapes so
    engine: str | None = field(default=None, compare=False)  # with its release; None: none decides
    ask: Callable[[], ServedClass | None] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def digest(self) -> str:
        """sha256 of names and shapes: what admission checked. Two models of one shape share it."""
        return canonical_digest({name: list(shape) for name, shape in self.shapes.items()})

    @property
    def served(self) -> ServedClass | None:
        """What the engine says of this base model; the first time that takes half a minute."""
        return None if self.ask is None else self.ask()

    def read_config(self) -> dict[str, Any] | None:
        """Its config.json from this machine; None if it has none, or none that can be read."""
        from transformers.utils.hub import cached_file

        if self.location is None:
            return None
        try:
            found = cached_file(self.location, "config.json", revision=self.revision, local_files_only=True)
            read = None if found is None else json.loads(Path(found).read_bytes())
        except (OSError, ValueError):
            return None
        return read if isinstance(read, dict) else None

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
        from transformers import AutoConfig
        from transformers.pytorch_utils import Conv1D

        local = Path(path_or_id).is_dir()
        try:
            config = AutoConfig.from_pretrained(
                path_or_id, revision=revision, trust_remote_code=False, local_files_only=not fetch
            )
            with torch.device("meta"):
                model = _class_of(config).from_config(config, trust_remote_code=False)
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
        own = type(model).__name__
        architecture = own if config.architectures == [own] else None
        return cls(name, shapes, revision, frozenset(transposed), location, architecture)


def _class_of(config: Any) -> Any:
    """The auto class that makes this model: some with several media are in one table of transformers only."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    known = type(config) in AutoModelForImageTextToText._model_mapping
    plain = type(config) in AutoModelForCausalLM._model_mapping
    return AutoModelForImageTextToText if known and not plain else AutoModelForCausalLM
