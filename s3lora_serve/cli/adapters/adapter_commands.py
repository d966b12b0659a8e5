"""``s3lora inspect``, ``prune`` and ``verify``: one adapter at a time, no engine."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from s3lora_serve.adapters.fetch.address import redacted
from s3lora_serve.cli.adapters.policy_options import PolicyOptions
from s3lora_serve.cli.fleet.fleet_options import weights_digest
from s3lora_serve.cli.option_groups import grouped
from s3lora_serve.errors import ConfigError, LimitError, SourceError
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import Stages, out, say
from s3lora_serve.terminal.pictures import check_parent, check_picture, write_picture, writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3lora_serve.adapters.admission import AdapterLimits
    from s3lora_serve.spectral.report import SpectralReport


def not_empty(parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Let a value through unless it is blank. Raises ConfigError."""
    # As an unset variable of a shell script: "" must not mean the current folder, or no check.
    if value is not None and not value.strip():
        raise ConfigError(f"{parameter.opts[0]} is empty")
    return value


_SOURCE = escape("Local folder, demo://name, hf://org/name[@revision] or a folder's URL.")
Source = Annotated[str, typer.Argument(help=_SOURCE, callback=not_empty)]
_BASE = "Base model that it must fit: demo, a Hugging Face id or a folder."
Base = Annotated[str, typer.Option(help=_BASE, callback=not_empty)]
OptionalBase = Annotated[
    str | None, typer.Option(help=f"{_BASE} Without it, the fit is not checked.", callback=not_empty)
]
Sha256 = Annotated[
    str | None, typer.Option(help="Expected SHA-256 of the weights file.", callback=weights_digest)
]

# What the layers below call a limit, by the names of the configuration, and the option that it is here.
OPTIONS = {
    "engine.max_lora_rank": "--max-rank",
    "limits.max_adapter_mib": "--max-mib",
    "limits.max_files": "--max-files",
    "limits.fetch_connect_seconds": "--connect-seconds",
    "limits.fetch_read_seconds": "--read-seconds",
    "limits.fetch_seconds": "--fetch-seconds",
}


@dataclass(frozen=True)
class LimitOptions:
    """Limits above which an adapter is refused."""

    max_rank: Annotated[
        int, typer.Option(min=1, help="Highest rank accepted; a server uses engine.max_lora_rank.")
    ] = 512
    max_mib: Annotated[
        int, typer.Option(min=1, help="Largest total size of the adapter's files, in MiB.")
    ] = 2048
    max_files: Annotated[
        int, typer.Option(min=1, help="Largest number of files in the adapter's folder.")
    ] = 64
    connect_seconds: Annotated[
        float, typer.Option(min=0.001, help="Time to connect to the source, where its driver can limit it.")
    ] = 10
    read_seconds: Annotated[
        float, typer.Option(min=0.001, help="Time for its next bytes, where its driver can limit it.")
    ] = 30
    fetch_seconds: Annotated[
        float, typer.Option(min=0.001, help="Time to fetch the adapter, whatever its source.")
    ] = 600

    def limits(self) -> AdapterLimits:
        """As the layers below take them."""
        from s3lora_serve.config import LimitsConfig
        from s3lora_serve.launch.resolve import to_limits

        fetching = LimitsConfig(
            max_adapter_mib=self.max_mib,
            max_files=self.max_files,
            fetch_connect_seconds=self.connect_seconds,
            fetch_read_seconds=self.read_seconds,
            fetch_seconds=self.fetch_seconds,
        )
        return to_limits(fetching, self.max_rank)


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
            "report": report.to_json(),
            **({} if outcome is None else {"anomaly": outcome.to_json()}),
        }
        typer.echo(json.dumps(facts, indent=2, allow_nan=False))
    else:
        from s3lora_serve.terminal.spectral_table import report_table

        shown = _highest(report, limit) if limit else report
        out.print(report_table(shown, plan))
        if len(shown.rows) < len(report.rows):
            say(f"{len(report.rows) - len(shown.rows)} more modules score lower; --limit 0 shows all", "dim")
        if outcome is not None:
            out.print(Text(outcome.sentence, style="yellow" if outcome.exceeded else ""), soft_wrap=True)
    if plot is not None:
        from s3lora_serve.terminal.spectral_picture import report_plot  # matplotlib takes a second to import

        write_picture(report_plot(report, plan), plot)
        say(f"wrote {plot}")


@grouped
def prune(
    source: Source,
    *,
    base: Base,
    destination: Annotated[Path, typer.Option("--out", help="New folder for the pruned adapter.")],
    pruning: PolicyOptions,
    bounds: LimitOptions,
) -> None:
    """Write a pruned copy of an adapter, which PEFT and vLLM load unchanged, with its lineage beside it.

    The copy is what the server would publish: checked against the base model, deterministic to the byte.
    """
    policy, limits = pruning.policy(), bounds.limits()
    if os.path.lexists(destination):
        raise ConfigError(f"{destination} exists already", hint="name a new folder; nothing is overwritten")
    check_parent(destination)
    from s3lora_serve.adapters.admission import admit
    from s3lora_serve.adapters.evidence.sweep_hint import Called
    from s3lora_serve.adapters.store import RevisionStore
    from s3lora_serve.launch.resolve import to_base_model, to_served, to_source

    with Stages(f"pruning {redacted(source)}") as stage, limits_by_option(), _workshop(destination) as work:
        model = to_base_model(base, None, stage)
        # As the server does it, into a separate store: so this is what the server would publish.
        store = RevisionStore(Path(work))
        revision = admit(
            to_source(source),
            base=model.spec,
            policy=to_served(policy, model),
            limits=limits,
            store=store,
            progress=stage,
            called=Called(source, base),
        )
        with writing(destination):
            revision.path.rename(destination)
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


@grouped
def verify(source: Source, base: Base, *, bounds: LimitOptions, sha256: Sha256 = None) -> None:
    """Check that an adapter can be admitted: files, format, features, values, and its fit to the base model.

    Exit code 1 with the reason if not. `s3lora audit` checks a fleet.
    """
    limits = bounds.limits()
    from s3lora_serve.adapters.admission import open_adapter
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
    for line in (
        f"ok: {len(adapter.modules)} modules up to rank {rank} fit {model.name}",
        f"sha256 {fetched.sha256}",
    ):
        out.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    for warning in (*fetched.warnings, *adapter.warnings):
        say(f"note: {warning}", "yellow")


@contextmanager
def limits_by_option(options: Mapping[str, str] = OPTIONS) -> Iterator[None]:
    """Refusals for a limit name what raises it here, in place of the setting of a configuration."""
    try:
        yield
    except (LimitError, SourceError) as error:
        message, hint = error.message, error.hint
        for setting, option in options.items():
            message, hint = message.replace(setting, option), hint.replace(setting, option)
        raise type(error)(message, hint=hint, command=error.command) from error


def _highest(report: SpectralReport, count: int) -> SpectralReport:
    rows = sorted(report.rows.values(), key=lambda row: (-(row.score or 0.0), row.module))
    return replace(report, rows={row.module: row for row in rows[:count]})


def _workshop(destination: Path) -> tempfile.TemporaryDirectory[str]:
    # Beside the destination, so that the finished folder is moved there in one step.
    with writing(destination):
        return tempfile.TemporaryDirectory(dir=destination.parent, prefix=".s3lora-prune-")
