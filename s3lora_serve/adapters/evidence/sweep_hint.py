"""The command that measures an adapter as a policy needs it, for errors about missing sweeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from shlex import quote
from typing import TYPE_CHECKING

from s3lora_serve.adapters.fetch.address import redacted
from s3lora_serve.spectral.scorers import NEEDS_ALIGNMENT

if TYPE_CHECKING:
    from s3lora_serve.adapters.base_model import BaseModelSpec

BUILT_IN_PLANS = "plans"  # the plan set that s3lora sweep asks where none is named
DRAWS = 3  # seeds of random that it takes by default, 0 first


@dataclass(frozen=True)
class Called:
    """What an operator calls the adapter and the base model; None where it is not known."""

    source: str | None = field(default=None, repr=False)  # as given: a folder, demo://, hf://, a URL
    base: str | None = None  # as given: demo, a hub id, a folder


def sweep_command(called: Called, base: BaseModelSpec | None, *, scorer: str, seed: int, task: str) -> str:
    """``s3lora sweep`` with all that is known filled in.

    What only the operator knows stands in angle brackets or capitals. Sources that may hold credentials are
    left out.
    """
    parts = ["s3lora sweep", _source(called.source), _base(called.base, base), "--scorer", scorer]
    if scorer in NEEDS_ALIGNMENT:
        parts.append("--alignment-base BEFORE")
    if scorer == "random" and seed >= DRAWS:
        parts.append(f"--random-seeds {seed + 1}")
    if task != BUILT_IN_PLANS:  # files of one kind leave out the built-in ones of every other
        parts.append("--attack <your attack file> --plans <your plans file>")
    return f"{' '.join(parts)} --out NEW"


def _source(given: str | None) -> str:
    return "ADAPTER" if given is None or redacted(given) != given else quote(given)


def _base(given: str | None, base: BaseModelSpec | None) -> str:
    if base is not None and base.revision is not None:  # which no option can name
        return "--config <your planners.yaml>"
    named = given or (base.location if base is not None else None)
    return f"--base {quote(named) if named else 'BASE'}"
