"""Which weights a base model has: what tells two models of one shape apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.adapters.evidence.checkpoints import Checkpoint
from s3lora_serve.errors import ConfigError

if TYPE_CHECKING:
    from s3lora_serve.adapters.base_model import BaseModelSpec


@dataclass(frozen=True)
class BaseWeights:
    """``Checkpoint.digest`` of a base model; None, with the reason, where it has no such checkpoint."""

    digest: str | None
    reason: str = ""


def weights_of(base: BaseModelSpec) -> BaseWeights:
    """Hash the safetensors files in the folder or Hub snapshot that ``base`` was read from.

    Reads them all, once in a process while they do not change. The same weights in other files count as
    other ones. A model in another format, or one that cannot be read, is no error here: it has no digest.
    """
    if base.location is None:
        return BaseWeights(None, f"where {base.name} lies is not known")
    try:
        return BaseWeights(Checkpoint.open(base.location, base.revision).digest)
    except ConfigError as error:
        return BaseWeights(None, error.message.replace(base.location, base.name))  # no path of this machine
    except OSError as error:
        return BaseWeights(None, f"checkpoint {base.name}: {error.strerror or error}")
