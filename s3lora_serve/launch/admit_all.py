"""Adapters into revisions, at the start and for later orders: what serving and control know of admission"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from s3lora_serve.config import LEAST_RANK
from s3lora_serve.control.operation import Wanted
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import AdapterError, BaseModelMismatch, S3LoRAError, StoreError
from s3lora_serve.launch.resolve import to_base_model, to_desired, to_limits, to_served, to_source
from s3lora_serve.launch.source_rules import policy_files, to_reach
from s3lora_serve.terminal.console import Stages, say_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.adapters.admission import AdapterLimits
    from s3lora_serve.adapters.fetch.address import Source
    from s3lora_serve.adapters.fetch.progress import Progress
    from s3lora_serve.adapters.fetch.reach import Reach
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.adapters.store import RevisionStore
    from s3lora_serve.config import Config
    from s3lora_serve.control.journal.reconciliation import Withheld
    from s3lora_serve.fleet.planner import DesiredPlanner
    from s3lora_serve.fleet.planner_record import PlannerRecord
    from s3lora_serve.launch.resolve import BaseModel

log = logging.getLogger(__name__)

_RESTART = "an engine's rank is fixed when it starts: set it in planners.yaml and restart the server"


@dataclass(frozen=True)
class StoreAdmission:
    """What control asks of the adapters' side (``control/admission_port.py``), over one store."""

    base: BaseModel
    limits: AdapterLimits
    store: RevisionStore
    reach: Reach  # what orders may name beside what planners.yaml does

    def permit(self, wanted: Wanted) -> None:
        """Refuse an order's source, or a file of its policy, that is not to be read."""
        from s3lora_serve.adapters.fetch.address import Source

        if wanted.source is not None:
            source = Source.parse(wanted.source)
            self._reach(source, wanted).check(source)
        if wanted.policy is not None:
            reach = self.reach.also(*policy_files(each.policy for each in wanted.declared))
            for file in policy_files([wanted.policy]):
                reach.check(Source.parse(file))

    def admit(self, planner: str, wanted: Wanted, progress: Progress) -> Revision:
        """Fetch, verify, score, prune and publish; known revisions are only hashed again."""
        from s3lora_serve.adapters.admission import admit
        from s3lora_serve.adapters.evidence.sweep_hint import Called
        from s3lora_serve.adapters.fetch.address import Source
        from s3lora_serve.spectral.prune_policy import PrunePolicy

        source = Source.parse(str(wanted.source))
        reach = self._reach(source, wanted)
        found = to_source(source)
        if found is not source:
            reach = reach.also(found.text)  # this package's own folder, of the demo
        return admit(
            found,
            base=self.base.spec,
            policy=to_served(wanted.policy or PrunePolicy(), self.base),
            limits=self.limits,
            store=self.store,
            expected_sha256=wanted.sha256,
            progress=progress,
            called=Called(source.text, self.base.given),
            reach=reach,
        )

    def _reach(self, source: Source, wanted: Wanted) -> Reach:
        return self.reach.beside(source, (each.source for each in wanted.declared))

    def restore(self, digest: str) -> Revision:
        """A published revision, read again in every byte. Raises StoreError, LimitError, BaseModelMismatch,
        UnsupportedError.
        """
        from s3lora_serve.adapters.peft.peft_format import read_peft
        from s3lora_serve.adapters.served.fit import Fit
        from s3lora_serve.adapters.verify import check_ranks

        revision = self.store.check(self.store.resolve(digest))
        check_ranks({f"revision {revision.short}": revision.lineage.highest_rank}, self.limits.verify)
        if revision.lineage.base_digest != self.base.spec.digest:
            raise BaseModelMismatch(
                f"revision {revision.short} was admitted for {revision.lineage.base_model!r}, which has other"
                f" layers than {self.base.name!r}",
                hint="admit its adapter for this base model",
            )
        if not revision.fully_pruned:  # another release of the engine may have other names for its modules
            Fit(read_peft(revision.path), self.base.spec)
        return revision


@dataclass(frozen=True)
class AdmittedFleet:
    """What is to be served: declarations and revisions, by planner, in the order of the file."""

    admission: StoreAdmission
    desired: Mapping[str, DesiredPlanner]
    revisions: Mapping[str, Revision]

    @property
    def base(self) -> BaseModel:
        """The base model."""
        return self.admission.base

    @property
    def max_lora_rank(self) -> int:
        """What the engine is started with: as it is configured, or the smallest that takes this fleet."""
        return self.admission.limits.verify.max_rank


def admit_fleet(
    config: Config,
    records: Mapping[str, PlannerRecord] | None = None,
    engine: EngineKind = EngineKind.VLLM,
    withheld: Mapping[str, Withheld] | None = None,
) -> AdmittedFleet:
    """Prepare the base model and find every planner's revision, admitting where it is not known.

    ``records`` is what was served last: a planner that is declared as it was then gets that revision, which
    an operator may have chosen since. ``engine`` is what is to load them; a fake one needs no base model but
    its shapes. ``withheld`` planners will not be served: any revision may stand for them meanwhile. Where no
    rank is configured, any is admitted here, and the highest is what later orders are held to.

    Raises StoreError for a store that another kind of engine used; AdapterError after all were tried, naming
    each that was refused or failed; the reasons are on stderr by then.
    """
    from s3lora_serve.adapters.store import RevisionStore
    from s3lora_serve.adapters.verify import RANKS

    store = RevisionStore(config.store.path, engine)
    with Stages("base model", keep=True) as stage:
        fetch = engine is not EngineKind.FAKE
        base = to_base_model(
            config.base_model,
            config.base_model_revision,
            stage,
            fetch=fetch,
            arguments=config.engine.extra_args,
        )
        stage.note = base.name
    limits = to_limits(config.limits, config.engine.max_lora_rank or max(RANKS), _RESTART)
    admission = StoreAdmission(base, limits, store, to_reach(config))
    desired = to_desired(config)
    revisions, refused = {}, []
    for name, wanted in desired.items():
        try:
            held = (withheld or {}).get(name)
            known = _known(admission, held) if held is not None else None
            revisions[name] = known or _revision(
                name, wanted, admission, None if held is not None else (records or {}).get(name)
            )
        except S3LoRAError as error:
            say_error(error, name)
            refused.append(name)
        except Exception as error:  # a defect of ours in one must not hide what is wrong with the others
            log.debug("admitting %s failed", name, exc_info=True)
            say_error(_unexpected(error), name)
            refused.append(name)
    if refused:
        raise AdapterError(
            f"{len(refused)} of {len(config.planners)} planners refused, none served: {', '.join(refused)}",
            hint="fix or remove them in the configuration",
        )
    if config.engine.max_lora_rank is None:
        admission = replace(admission, limits=_fitted(limits, store, revisions, records or {}))
    return AdmittedFleet(admission, desired, revisions)


def _fitted(
    limits: AdapterLimits,
    store: RevisionStore,
    revisions: Mapping[str, Revision],
    records: Mapping[str, PlannerRecord],
) -> AdapterLimits:
    """With the smallest rank that takes what is served, and what a rollback or a promotion would serve."""
    from s3lora_serve.adapters.verify import allowed_rank

    highest = max((revision.lineage.highest_rank for revision in revisions.values()), default=0)
    for record in records.values():
        for digest in filter(None, (record.previous, record.candidate)):
            with suppress(S3LoRAError):
                highest = max(highest, store.get(digest).lineage.highest_rank)
    chosen = allowed_rank(highest, LEAST_RANK) or limits.verify.max_rank
    return replace(limits, verify=replace(limits.verify, max_rank=chosen))


def _known(admission: StoreAdmission, withheld: Withheld) -> Revision | None:
    """A revision that a withheld planner may be meant to serve, if the store has one."""
    for digest in withheld.digests:
        with suppress(S3LoRAError):
            return admission.restore(digest)
    return None


def _unexpected(error: Exception) -> AdapterError:
    return AdapterError(
        f"admission failed unexpectedly: {type(error).__name__}: {error!s:.500}",
        hint="this is a defect of s3lora-serve: --log-level debug shows where; please report it",
    )


def _revision(
    name: str, desired: DesiredPlanner, admission: StoreAdmission, record: PlannerRecord | None
) -> Revision:
    if record is not None and record.declared == desired.declared:
        with Stages("restore", keep=True) as stage:
            try:
                revision = admission.restore(record.active)
            except StoreError as error:
                raise StoreError(
                    f"{error.message}, and {name} served it last",
                    hint="put the store's folder back as it was; or change the planner's source, sha256 or"
                    " policy in the configuration, and what that names is admitted anew",
                ) from error
            stage.note = f"{name} as revision {revision.short}, as it was served last"
        return revision
    wanted = Wanted.of(desired)
    with Stages("admit", keep=True) as stage:
        revision = admission.admit(name, wanted, stage)
        stage.note = f"{name} as revision {revision.short}"
    return revision
