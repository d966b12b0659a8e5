"""``s3lora inspect`` and ``verify``: one adapter at a time, no engine; nothing is written."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from s3lora_serve.adapters.fetch.address import redacted
from s3lora_serve.cli.adapters.adapter_options import (
    Base,
    LimitOptions,
    OptionalBase,
    Sha256,
    Source,
    limits_by_option,
)
from s3lora_serve.cli.adapters.policy_options import PolicyOptions
from s3lora_serve.cli.option_groups import grouped
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import Stages, out, say
from s3lora_serve.terminal.pictures import check_picture, write_picture

if TYPE_CHECKING:
    from s3lora_serve.spectral.report import SpectralReport


@grouped
def inspect(
    source: Source,
    *,
    pruning: PolicyOptions,
    base: OptionalBase = None,
    bounds: LimitOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, not a table.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw SSI by layer and projection: a .png, .svg or .pdf.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows of the table; 0 for all.")] = 30,
) -> None:
    """Show an adapter's modules by spectral sharpness (SSI) and what a policy would prune. Read only."""
    policy, limits = pruning.policy(), bounds.limits()
    if plot is not None:
        check_picture("--plot", plot)
    from s3lora_serve.adapters import admission
    from s3lora_serve.adapters.evidence.reference_file import compare_with
    from s3lora_serve.adapters.evidence.sweep_hint import Called
    from s3lora_serve.launch.resolve import to_base_model, to_served, to_source

    with Stages(f"inspecting {redacted(source)}") as stage, limits_by_option():
        model = None if base is None else to_base_model(base, None, stage)
        policy, spec = to_served(policy, model), None if model is None else model.spec
        stage("fetching and scoring")
        called = Called(source, base)
        report, plan, adapter = admission.inspect(
            to_source(source), policy=policy, base=spec, limits=limits, called=called
        )
        outcome = None if policy.anomaly is None else compare_with(adapter.modules, policy.anomaly)
    if as_json:
        facts = {
            "source": redacted(source),
            "policy": policy.to_json(),
            "plan": plan.to_json(),
            **({"warnings": list(adapter.warnings)} if adapter.warnings else {}),
            "report": report.to_json(),
            **({} if outcome is None else {"anomaly": outcome.to_json()}),
        }
        typer.echo(json.dumps(facts, indent=2, allow_nan=False))
    else:
        from s3lora_serve.terminal.spectral_table import report_table

        shown = _highest(report, limit) if limit else report
        out.print(report_table(shown, plan))
        if len(shown.rows) < len(report.rows):
            more = len(report.rows) - len(shown.rows)
            say(f"{more} more modules, none of which scores higher; --limit 0 shows all", "dim")
        for note in (*adapter.warnings, *plan.cautions):
            say(f"note: {note}", "yellow")
        if outcome is not None:
            out.print(Text(outcome.sentence, style="yellow" if outcome.exceeded else ""), soft_wrap=True)
    if plot is not None:
        from s3lora_serve.terminal.spectral_picture import report_plot  # matplotlib takes a second to import

        write_picture(report_plot(report, plan), plot)
        say(f"wrote {plot}")


@grouped
def verify(source: Source, base: Base, *, bounds: LimitOptions, sha256: Sha256 = None) -> None:
    """Check that an adapter can be admitted: files, format, features, values, and its fit to the base model.

    Exit code 1 with the reason if not. `s3lora audit` checks a fleet.
    """
    limits = bounds.limits()
    from s3lora_serve.adapters.admission import open_adapter
    from s3lora_serve.adapters.verify import allowed_rank
    from s3lora_serve.config import LEAST_RANK
    from s3lora_serve.launch.resolve import to_base_model, to_source

    with (
        Stages(f"verifying {redacted(source)}") as stage,
        limits_by_option(),
        tempfile.TemporaryDirectory(prefix="s3lora-verify-") as work,
    ):
        model = to_base_model(base, None, stage)
        fetched, adapter = open_adapter(
            to_source(source),
            Path(work) / "source",
            base=model.spec,
            limits=limits,
            expected_sha256=sha256,
            progress=stage,
        )
    rank = max(m.rank for m in adapter.modules.values())
    needed = allowed_rank(rank) or rank
    for line in (
        f"ok: {len(adapter.modules)} modules up to rank {rank} fit {model.name}",
        f"sha256 {fetched.sha256}",
    ):
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    for warning in (*fetched.warnings, *adapter.warnings):
        say(f"note: {warning}", "yellow")
    if needed > LEAST_RANK:
        say(
            f"note: where planners.yaml sets engine.max_lora_rank, it must be {needed} or more; unset, a"
            " server takes the smallest that fits its planners",
            "yellow",
        )


def _highest(report: SpectralReport, count: int) -> SpectralReport:
    from s3lora_serve.spectral.ranking import rank

    ranked = rank(report).names
    first = (*ranked, *sorted(report.rows.keys() - set(ranked)))[:count]
    return replace(report, rows={name: report.rows[name] for name in first})
