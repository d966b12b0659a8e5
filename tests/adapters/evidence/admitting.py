"""Admission into the store of a test, and whether it left anything there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapters_factory import adapter_limits
from peft_builder import BASE

from s3lora_serve.adapters.admission import admit

if TYPE_CHECKING:
    from pathlib import Path

    from s3lora_serve.adapters.store import Revision, RevisionStore
    from s3lora_serve.spectral.prune_policy import PrunePolicy

VALIDATED = {"task": "tasks", "floor": 0.95}


def put(store: RevisionStore, source: Path, policy: PrunePolicy, **changes: object) -> Revision:
    """Admit with the tiny base model."""
    return admit(
        str(source), **{"base": BASE, "policy": policy, "limits": adapter_limits(), "store": store, **changes}
    )


def nothing_published(tmp_path: Path) -> bool:
    """Whether the store is as it was made."""
    return sorted(path.name for path in (tmp_path / "store").rglob("*")) == [
        "fleets",
        "keys",
        "lock",
        "revisions",
        "staging",
    ]
