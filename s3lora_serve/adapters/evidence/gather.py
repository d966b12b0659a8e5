"""What a policy refers to and does not hold, read before it decides: sweep, checkpoints, reference."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.evidence.base_weights import weights_of
from s3lora_serve.adapters.evidence.checkpoints import AlignmentDifference, Checkpoint
from s3lora_serve.adapters.evidence.recorded_sweep import Recorded, read_points
from s3lora_serve.adapters.evidence.reference_file import AnomalyOutcome, KnownGood, compare, read_reference
from s3lora_serve.adapters.fetch.progress import Progress, silent
from s3lora_serve.errors import ConfigError
from s3lora_serve.spectral.prune_policy import Alignment, PrunePolicy
from s3lora_serve.spectral.scorers import NEEDS_ALIGNMENT
from s3lora_serve.spectral.validated import Validated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.adapters.evidence.sweep_hint import Called
    from s3lora_serve.spectral.lowrank import LowRank


@dataclass(frozen=True)
class Evidence:
    """A policy whose references were read: digests and values stand in place of addresses."""

    policy: PrunePolicy
    alignment: AlignmentDifference | None = None
    reference: KnownGood | None = None
    places: Mapping[str, str] = field(default_factory=dict)  # where each came from, for the lineage
    warnings: tuple[str, ...] = ()  # what could not be compared

    def difference(self, modules: Mapping[str, LowRank]) -> AlignmentDifference | None:
        """What the scorer compares these modules with, if it needs that. Raises ConfigError for a misfit."""
        if self.alignment is not None:
            self.alignment.check(modules)
        return self.alignment

    def compare(self, modules: Mapping[str, LowRank]) -> AnomalyOutcome | None:
        """The adapter against the known-good ones; None without a reference. Raises PolicyRejection."""
        if self.reference is None or self.policy.anomaly is None:
            return None
        return compare(modules, self.policy.anomaly, self.reference)


def gather(
    policy: PrunePolicy,
    *,
    sha256: str,
    base: BaseModelSpec | None,
    progress: Progress | None = None,
    called: Called | None = None,
) -> Evidence:
    """Read what ``policy`` refers to, for an adapter whose weights have this sha256 on this base model.

    ``called`` is what commands in hints name them by.

    Raises ConfigError for what is missing, unreadable or does not belong together, and PolicyRejection for a
    sweep that did not measure this adapter, on these weights of the base model, with these checkpoints.
    """
    tell = progress or silent
    places: dict[str, str] = {}
    recorded: Recorded | None = None
    warnings: tuple[str, ...] = ()
    if isinstance(policy.rule, Validated):
        places["sweep"] = policy.rule.sweep
        recorded = read_points(
            policy.rule, sha256=sha256, base=base, scorer=policy.scorer, seed=policy.seed, called=called
        )
        policy = replace(policy, rule=recorded.rule)
    reference = None
    if policy.anomaly is not None:
        places["reference"] = policy.anomaly.reference
        reference = read_reference(Path(policy.anomaly.reference))
        policy = replace(policy, anomaly=replace(policy.anomaly, reference=f"sha256:{reference.digest}"))
    difference = None
    if policy.scorer in NEEDS_ALIGNMENT:
        before, aligned = _checkpoints(policy)
        difference = AlignmentDifference(before, aligned, base or _spec_of(aligned))
        tell("checkpoints", 0.0)
        digests = before.digest, aligned.digest
        tell("checkpoints", 1.0)
        if digests[0] == digests[1]:
            raise ConfigError(
                f"policy.alignment: {before.name} and {aligned.name} hold the same weights",
                hint="base is the model before it was aligned, aligned the one after",
            )
        places |= {"alignment.base": before.uri, "alignment.aligned": aligned.uri}
        alignment = Alignment(*(f"sha256:{digest}" for digest in digests))
        policy = replace(policy, alignment=alignment)
        if recorded is not None:
            recorded.check_alignment(alignment)
    if recorded is not None and base is not None:  # last: it may read all of the base model
        tell("checkpoints", 0.0)
        rule, warnings = recorded.on(base, weights_of(base))
        tell("checkpoints", 1.0)
        policy = replace(policy, rule=rule)
    return Evidence(policy, difference, reference, places, warnings)


def _checkpoints(policy: PrunePolicy) -> tuple[Checkpoint, Checkpoint]:
    given = policy.alignment
    if given is None:
        raise ConfigError(
            f"scorer {policy.scorer} compares with what alignment changed, and no checkpoints are named",
            hint="set policy.alignment.base",
            command="s3lora inspect ADAPTER --alignment-base MODEL (prune likewise)",
        )
    if given.aligned is None:
        raise ConfigError(
            "policy.alignment.aligned is not set, and no base model is served that could stand for it",
            hint="set policy.alignment.aligned",
            command="s3lora inspect ADAPTER --aligned MODEL (or --base MODEL)",
        )
    return (
        Checkpoint.open(given.base, given.base_revision),
        Checkpoint.open(given.aligned, given.aligned_revision),
    )


def _spec_of(checkpoint: Checkpoint) -> BaseModelSpec:
    """Its layers, where no base model was given: they say which weights are stored transposed."""
    return replace(BaseModelSpec.from_pretrained(checkpoint.folder), name=checkpoint.name)
