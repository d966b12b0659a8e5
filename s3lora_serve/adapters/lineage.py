"""Where a published revision came from and what was done to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import StoreError
from s3lora_serve.spectral.prune_policy import PrunePlan
from s3lora_serve.spectral.report import SpectralReport
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LINEAGE_FORMAT = 1


@dataclass(frozen=True)
class Lineage:
    """Everything about a revision that its files do not say. Digests are sha256, 64 hex digits."""

    source: str  # resolved address, without credentials
    source_sha256: str  # of the source's weights file
    base_model: str
    base_digest: str  # of the layer names and shapes that were checked
    policy: Mapping[str, Any]  # PrunePolicy.to_json()
    scorer: str
    scorer_version: str
    report: SpectralReport
    plan: PrunePlan
    action: str  # prune, observe or reject
    kept: int  # modules in the published weights
    pruned: tuple[str, ...]  # modules that were dropped
    uniform_scaling: bool  # an engine that ignores rank_pattern and alpha_pattern serves it right
    weights_sha256: str | None  # of the published weights; None if no module is left
    weights_bytes: int
    config: Mapping[str, Any]  # the published adapter_config.json
    created_at: datetime
    warnings: tuple[str, ...] = ()
    anomaly: Mapping[str, Any] | None = None  # AnomalyOutcome.to_json(), if the policy asks for it
    evidence: Mapping[str, str] = field(default_factory=dict)  # where what the policy refers to was read

    @property
    def digest(self) -> str:
        """The revision's identity: what is served, and what decided it (ADR 0002).

        Time, places and the report are left out, so that two machines admitting the same adapter agree. A
        fully pruned revision has no weights, and takes its source's digest in their place.
        """
        return canonical_digest(
            {
                "format": LINEAGE_FORMAT,
                "weights": self.weights_sha256 or f"none of {self.source_sha256}",
                "config": dict(self.config),
                "pruned": sorted(self.pruned),
                "policy": dict(self.policy),
                "scorer": [self.scorer, self.scorer_version],
                "base": self.base_digest,
            }
        )

    @property
    def served(self) -> str:
        """A digest of the two files that an engine is given, whatever policy led to them: how it behaves."""
        return canonical_digest([self.weights_sha256, dict(self.config)])

    @property
    def highest_rank(self) -> int:
        """Of what is published; 0 if nothing is left."""
        return max(self.config["r"], *self.config["rank_pattern"].values(), 0) if self.kept else 0

    def to_json(self) -> dict[str, Any]:
        """A dict for lineage.json; ``from_json`` is its inverse."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("anomaly", "evidence"):  # releases that do not know them read lineages without them
            if not fields[name]:
                del fields[name]
        return fields | {
            "format": LINEAGE_FORMAT,
            "policy": dict(self.policy),
            "config": dict(self.config),
            "report": self.report.to_json(),
            "plan": self.plan.to_json(),
            "created_at": self.created_at.isoformat(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Lineage:
        """Read what ``to_json`` wrote. Raises KeyError, TypeError or ValueError if it is not that."""
        fields = dict(data)
        if (written := fields.pop("format")) != LINEAGE_FORMAT:
            raise ValueError(f"its format is {written!r}, this release reads {LINEAGE_FORMAT}")
        return cls(
            **fields
            | {
                "report": SpectralReport.from_json(fields["report"]),
                "plan": PrunePlan.from_json(fields["plan"]),
                "pruned": tuple(fields["pruned"]),
                "warnings": tuple(fields["warnings"]),
                "created_at": datetime.fromisoformat(fields["created_at"]),
            }
        )


@dataclass(frozen=True)
class Revision:
    """A published adapter. ``path`` is what the engine loads: its files never change."""

    digest: str
    path: Path
    lineage: Lineage

    @property
    def short(self) -> str:
        """The first 12 digits, enough to name it."""
        return self.digest[:12]

    @property
    def fully_pruned(self) -> bool:
        """Whether no module is left: the base model serves it, since the engine loads no empty adapter."""
        return self.lineage.kept == 0

    def require_files(self) -> None:
        """Look whether the files are there; ``RevisionStore.check`` reads them. Raises StoreError."""
        from s3lora_serve.adapters.peft.adapter_config import CONFIG_NAME
        from s3lora_serve.adapters.peft.peft_format import WEIGHTS_NAME  # which needs torch

        needed = [CONFIG_NAME] if self.fully_pruned else [CONFIG_NAME, WEIGHTS_NAME]
        if missing := [name for name in needed if not (self.path / name).is_file()]:
            raise StoreError(
                f"revision {self.short} has no {' and no '.join(missing)} in the store any more",
                hint="serve another revision, or bring its folder back",
            )
