"""``s3lora prune``: a pruned copy of one adapter; with --mend as much is pruned as an exam asks for."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s3lora_serve.adapters.fetch.address import redacted
from s3lora_serve.cli.adapters.adapter_options import Base, LimitOptions, Source, limits_by_option
from s3lora_serve.cli.adapters.policy_options import PolicyOptions
from s3lora_serve.cli.exam.mend_options import MendOptions
from s3lora_serve.cli.option_groups import grouped
from s3lora_serve.errors import ConfigError
from s3lora_serve.terminal.console import REFUSED, Stages, out, say
from s3lora_serve.terminal.pictures import check_parent, write_picture, write_text, writing

if TYPE_CHECKING:
    from s3lora_serve.adapters.admission import AdapterLimits
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.cli.exam.mended import Mended
    from s3lora_serve.launch.resolve import BaseModel
    from s3lora_serve.spectral.prune_policy import PrunePolicy

PRUNE_CODES = (
    "Exit codes: 0 done; 1 the adapter was refused, no rung of --mend passes, or a step failed; "
    "2 wrong usage or configuration; 130 Ctrl-C, nothing was written."
)


@grouped
def prune(
    source: Source,
    *,
    base: Base,
    destination: Annotated[Path, typer.Option("--out", help="New folder for the pruned adapter.")],
    pruning: PolicyOptions,
    mending: MendOptions,
    bounds: LimitOptions,
) -> None:
    """Write a pruned copy of an adapter, which PEFT and vLLM load unchanged, with its lineage beside it.

    The copy is what the server would publish: checked against the base model, deterministic to the byte.
    With --mend the least pruning is looked for with which the adapter passes an exam; if none passes,
    nothing is written.
    """
    policy, limits = pruning.policy(), bounds.limits()
    mending.check()
    if os.path.lexists(destination):
        raise ConfigError(f"{destination} exists already", hint="name a new folder; nothing is overwritten")
    check_parent(destination)
    if mending.mend:
        _mend(source, base, destination, pruning, mending, policy, limits)
        return
    from s3lora_serve.launch.resolve import to_base_model

    with Stages("base model") as stage:
        model = to_base_model(base, None, stage)
    _publish(source, base, model, policy, limits, destination)


def _mend(
    source: str,
    base: str,
    destination: Path,
    pruning: PolicyOptions,
    mending: MendOptions,
    policy: PrunePolicy,
    limits: AdapterLimits,
) -> None:
    if pruning.names_rule:
        raise ConfigError(
            "--mend finds out how much to prune, and another option says how much",
            hint="leave out --top, --threshold, --adaptive and --sweep; --tau says what is tried",
        )
    exam = mending.settings()
    from s3lora_serve.cli.exam.mend_run import MendSpec, mend
    from s3lora_serve.launch.resolve import to_base_model

    with Stages("base model", keep=True) as stage:
        model = to_base_model(base, None, stage)
        stage.note = model.name
    spec = MendSpec(source, base, policy, limits, exam, mending.control)
    mended, found, sha256 = mend(spec, model)
    _show(mended, mending)
    if mended.chosen is None:
        raise typer.Exit(REFUSED)
    _publish(source, base, model, found, limits, destination, sha256)


def _show(mended: Mended, mending: MendOptions) -> None:
    from s3lora_serve.cli.exam.mend_table import mend_table

    out.print(mend_table(mended))
    if mending.plot is not None:
        from s3lora_serve.cli.exam.mend_charts import rungs_figure

        write_picture(rungs_figure(mended), mending.plot)
        say(f"wrote {mending.plot}")
    if mending.html is not None:
        from s3lora_serve.cli.exam.mend_page import mend_page

        write_text(mend_page(mended), mending.html)
        say(f"wrote {mending.html}")


def _publish(
    source: str,
    base: str,
    model: BaseModel,
    policy: PrunePolicy,
    limits: AdapterLimits,
    destination: Path,
    sha256: str | None = None,
) -> None:
    """Write the copy and say what it is. ``sha256`` are the weights that were looked at before."""
    from s3lora_serve.adapters.admission import admit
    from s3lora_serve.adapters.evidence.sweep_hint import Called
    from s3lora_serve.adapters.store import RevisionStore
    from s3lora_serve.launch.resolve import to_served, to_source

    with Stages(f"pruning {redacted(source)}") as stage, limits_by_option(), _workshop(destination) as work:
        # As the server does it, into a separate store: so this is what the server would publish.
        revision = admit(
            to_source(source),
            base=model.spec,
            policy=to_served(policy, model),
            limits=limits,
            store=RevisionStore(Path(work)),
            expected_sha256=sha256,
            progress=stage,
            called=Called(source, base),
        )
        with writing(destination):
            revision.path.rename(destination)
    _tell(revision, destination)


def _tell(revision: Revision, destination: Path) -> None:
    lineage = revision.lineage
    total = lineage.kept + len(lineage.pruned)
    out.print(
        f"{destination}: revision {revision.short}, {len(lineage.pruned)} of {total} modules pruned",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if revision.fully_pruned:
        say("nothing is left: there are no weights to load, only the base model answers", "yellow")
    for warning in lineage.warnings:
        say(f"note: {warning}", "yellow")


def _workshop(destination: Path) -> tempfile.TemporaryDirectory[str]:
    # Beside the destination, so that the finished folder is moved there in one step.
    with writing(destination):
        return tempfile.TemporaryDirectory(dir=destination.parent, prefix=".s3lora-prune-")
