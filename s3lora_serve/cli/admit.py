"""Every planner of a configuration through admission, all failures named together."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.cli.console import Stages, say_error
from s3lora_serve.cli.resolve import to_base_model, to_limits, to_policy, to_source
from s3lora_serve.errors import AdapterError, S3LoRAError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.adapters.store import RevisionStore
    from s3lora_serve.cli.resolve import BaseModel
    from s3lora_serve.config import Config


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fleet:
    """What is to be served: the base model, and each planner's revision, in the order of the file."""

    base: BaseModel
    revisions: Mapping[str, Revision]


def admit_fleet(config: Config) -> Fleet:
    """Prepare the base model and publish every planner's revision; known ones are only hashed again.

    Raises AdapterError after all were tried, naming each that was refused or failed; the reasons are on
    stderr by then.
    """
    from s3lora_serve.adapters.store import RevisionStore

    store = RevisionStore(config.store.path)
    with Stages("base model", keep=True) as stage:
        base = to_base_model(config.base_model, config.base_model_revision, stage)
        stage.note = base.name
    revisions, refused = {}, []
    for name in config.planners:
        try:
            revisions[name] = _admit(name, config, base, store)
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
            hint="mend or remove them in the configuration",
        )
    return Fleet(base, revisions)


def _unexpected(error: Exception) -> AdapterError:
    return AdapterError(
        f"admission failed unexpectedly: {type(error).__name__}: {error!s:.500}",
        hint="this is a defect of s3lora-serve: --log-level debug shows where; please report it",
    )


def _admit(name: str, config: Config, base: BaseModel, store: RevisionStore) -> Revision:
    from s3lora_serve.adapters.admission import admit

    planner = config.planners[name]
    with Stages("admit", keep=True) as stage:
        revision = admit(
            to_source(planner.source),
            base=base.spec,
            policy=to_policy(config.policy_of(name)),
            limits=to_limits(config.limits, config.engine.max_lora_rank),
            store=store,
            expected_sha256=planner.sha256,
            progress=stage,
        )
        stage.note = f"{name} as revision {revision.short}"
    return revision
