"""An adapter becomes a revision: fetch → verify → score → prune → publish."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.adapters.evidence.gather import Evidence, gather
from s3lora_serve.adapters.fetch.progress import Progress, silent
from s3lora_serve.adapters.fetch.reach import EVERYWHERE
from s3lora_serve.adapters.fetch.sources import Fetched, fetch
from s3lora_serve.adapters.lineage import LINEAGE_FORMAT, Lineage, Revision
from s3lora_serve.adapters.peft.peft_format import PeftAdapter, as_written, read_peft, write_peft
from s3lora_serve.adapters.verify import VerifyLimits, check_adapter, check_ranks
from s3lora_serve.errors import ConfigError, PolicyRejection, SourceError
from s3lora_serve.spectral.prune_policy import PLAN_VERSION, PrunePlan, PrunePolicy, Threshold, plan
from s3lora_serve.spectral.scorers import SCORER_VERSION, score
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.adapters.evidence.reference_file import AnomalyOutcome
    from s3lora_serve.adapters.evidence.sweep_hint import Called
    from s3lora_serve.adapters.fetch.address import Source
    from s3lora_serve.adapters.fetch.reach import Reach
    from s3lora_serve.adapters.store import RevisionStore
    from s3lora_serve.config import LimitsConfig
    from s3lora_serve.spectral.report import SpectralReport

__all__ = ["AdapterLimits", "Progress", "admit", "inspect", "open_adapter"]


@dataclass(frozen=True)
class AdapterLimits:
    """Limits above which an adapter is not admitted: of its files, and of what is in them."""

    fetch: LimitsConfig
    verify: VerifyLimits


def admit(
    source: Source | str,
    *,
    base: BaseModelSpec,
    policy: PrunePolicy,
    limits: AdapterLimits,
    store: RevisionStore,
    expected_sha256: str | None = None,
    progress: Progress | None = None,
    called: Called | None = None,
    reach: Reach = EVERYWHERE,
) -> Revision:
    """Publish ``source`` as an immutable revision that fits ``base``; nothing is published if it is refused.

    Admitting the same again returns the same revision without scoring it, once every byte of it was read and
    found as published. ``expected_sha256`` pins the source's weights file; ``called`` is what commands in
    hints name the adapter and the base model by; ``reach`` is where the source may lie. Raises a subclass of
    AdapterError for a refusal, StoreError if the store cannot be written to or holds a damaged revision of
    it, and ConfigError if what the policy refers to (a sweep, checkpoints, a reference) cannot be used.
    """
    tell = progress or silent
    with store.staging() as work:
        fetched = fetch(source, work / "source", limits.fetch, tell, reach)
        _check_pin(fetched, expected_sha256)
        evidence = gather(policy, sha256=fetched.sha256, base=base, progress=tell, called=called)
        policy = evidence.policy
        key = _admission_key(fetched, base, policy, limits)
        if known := store.find(key):
            tell("publish", 0.0)
            check_ranks({row.module: row.rank for row in known.lineage.report.rows.values()}, limits.verify)
            checked = store.check(known.digest)  # it is served next: a bit flipped on disk must not pass
            tell("publish", 1.0)
            return checked

        tell("verify", 0.0)
        adapter = check_adapter(read_peft(fetched.folder), base, limits.verify)

        tell("score", 0.0)
        outcome = evidence.compare(adapter.modules)
        _reject_anomaly(outcome)
        report = _score(adapter, evidence)

        tell("prune", 0.0)
        chosen = _plan(report, policy)
        _reject_if_asked(chosen, policy, report)
        drop = _to_drop(chosen, policy, report)
        built = work / "revision"
        built.mkdir()
        weights = write_peft(built, adapter, drop, original=fetched.weights)

        tell("publish", 0.0)
        lineage = Lineage(
            source=fetched.uri,
            source_sha256=fetched.sha256,
            base_model=base.name,
            base_digest=base.digest,
            policy=policy.to_json(),
            scorer=policy.scorer,
            scorer_version=SCORER_VERSION,
            report=report,
            plan=chosen,
            action=policy.action,
            kept=len(adapter.modules) - len(drop),
            pruned=drop,
            uniform_scaling=adapter.uniform_scaling,
            weights_sha256=weights.sha256 if weights else None,
            weights_bytes=weights.bytes if weights else 0,
            config=adapter.config.narrowed(as_written(adapter, drop)).canonical(),
            created_at=datetime.now(UTC),
            warnings=(
                *fetched.warnings,
                *adapter.warnings,
                *evidence.warnings,
                *_of_evidence(chosen, outcome),
            ),
            anomaly=outcome.to_json() if outcome else None,
            evidence=evidence.places,
        )
        revision = store.publish(built, lineage, key=key)
    tell("publish", 1.0)
    return revision


def inspect(
    source: Source | str,
    *,
    policy: PrunePolicy,
    base: BaseModelSpec | None = None,
    limits: AdapterLimits,
    called: Called | None = None,
) -> tuple[SpectralReport, PrunePlan, PeftAdapter]:
    """Score ``source`` and plan what would be pruned; publishes nothing, and no action is taken.

    The fit to a base model is checked only if one is given. Raises as ``admit`` does, but not for what the
    actions of the policy would reject.
    """
    with tempfile.TemporaryDirectory(prefix="s3lora-inspect-") as work:
        fetched, adapter = open_adapter(source, Path(work) / "source", base=base, limits=limits)
        evidence = gather(policy, sha256=fetched.sha256, base=base, called=called)
        report = _score(adapter, evidence)
        return report, _plan(report, evidence.policy), adapter


def open_adapter(
    source: Source | str,
    folder: Path,
    *,
    base: BaseModelSpec | None,
    limits: AdapterLimits,
    expected_sha256: str | None = None,
    progress: Progress | None = None,
) -> tuple[Fetched, PeftAdapter]:
    """A private copy of ``source`` in ``folder``, checked as ``admit`` does. Raises AdapterError."""
    tell = progress or silent
    fetched = fetch(source, folder, limits.fetch, tell)
    _check_pin(fetched, expected_sha256)
    tell("verify", 0.0)
    adapter = check_adapter(read_peft(fetched.folder), base, limits.verify)
    return fetched, adapter


def _check_pin(fetched: Fetched, expected: str | None) -> None:
    if expected is not None and fetched.sha256 != expected.lower():
        raise SourceError(
            f"{fetched.uri}: its weights have sha256 {fetched.sha256}, but {expected.lower()} is expected",
            hint="the source changed: review it, then update sha256",
        )


def _admission_key(fetched: Fetched, base: BaseModelSpec, policy: PrunePolicy, limits: AdapterLimits) -> str:
    """What an admission's outcome depends on; the limits too, since a stricter one may refuse.

    Not the highest rank: a server may choose that from what it admits, and a known revision says its ranks.
    """
    size, check = limits.fetch, limits.verify
    return canonical_digest(
        {
            "format": LINEAGE_FORMAT,
            "weights": fetched.sha256,
            "config": fetched.config.sha256,
            "policy": policy.to_json(),
            "scorer_version": SCORER_VERSION,
            "plan_version": PLAN_VERSION,
            "base": [base.name, base.digest],
            "engine": base.engine,
            "limits": [size.max_bytes, size.max_files, check.per_module_scaling],
        }
    )


def _reject_if_asked(chosen: PrunePlan, policy: PrunePolicy, report: SpectralReport) -> None:
    if policy.action == "reject" and chosen.pruned:
        worst = ", ".join(f"{name} ({report[name].score:.3f})" for name in chosen.pruned[:3])
        more = f" and {len(chosen.pruned) - 3} more" if len(chosen.pruned) > 3 else ""
        raise PolicyRejection(
            f"{len(chosen.pruned)} of {len(report.rows)} modules are over the bar ({chosen.reason}): "
            f"{worst}{more}",
            hint="review the adapter, or use action: prune",
        )
    if policy.action == "reject" and chosen.abstained and isinstance(policy.rule, Threshold):
        raise PolicyRejection(
            f"policy.threshold says nothing of it ({chosen.reason})",
            hint="review the adapter and admit it with action: observe, or choose another scorer",
        )


def _score(adapter: PeftAdapter, evidence: Evidence) -> SpectralReport:
    """``score``; checkpoints whose values cannot be scored with are a matter of the configuration."""
    policy, alignment = evidence.policy, evidence.difference(adapter.modules)
    try:
        return score(adapter.modules, policy.scorer, seed=policy.seed, alignment=alignment)
    except ValueError as error:
        if alignment is None:
            raise
        raise ConfigError(f"policy.alignment: {error}", hint="are both checkpoints whole?") from error


def _plan(report: SpectralReport, policy: PrunePolicy) -> PrunePlan:
    """``plan``; measurements that cannot be of this scoring are a refusal."""
    try:
        return plan(report, policy)
    except ValueError as error:
        raise PolicyRejection(str(error), hint="sweep the adapter again with these checkpoints") from error


def _reject_anomaly(outcome: AnomalyOutcome | None) -> None:
    if outcome is not None and outcome.exceeded and outcome.bar.action == "reject":
        raise PolicyRejection(
            f"the adapter is unlike the known-good ones: {outcome.sentence}",
            hint="review the adapter, raise policy.anomaly.max, or set policy.anomaly.action: observe",
        )


def _of_evidence(chosen: PrunePlan, outcome: AnomalyOutcome | None) -> Iterator[str]:
    """What an operator should know although it was let in."""
    yield from chosen.cautions
    if outcome is not None and outcome.exceeded:
        yield f"it is unlike the known-good adapters: {outcome.sentence}"


def _to_drop(chosen: PrunePlan, policy: PrunePolicy, report: SpectralReport) -> tuple[str, ...]:
    """The modules to leave out: all of them if what would remain is inert, as that would change nothing."""
    if policy.action != "prune" or not chosen.pruned:
        return ()
    kept_live = [
        row for row in report.rows.values() if row.module not in set(chosen.pruned) and not row.inert
    ]
    return chosen.pruned if kept_live else tuple(report.rows)
