"""``s3lora reference``: known-good adapters summed up in a file that others are compared with."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from s3lora_serve.adapters.fetch.address import redacted
from s3lora_serve.cli.adapters.adapter_options import LimitOptions, OptionalBase, limits_by_option
from s3lora_serve.cli.option_groups import grouped
from s3lora_serve.errors import ConfigError
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import Stages, out, say
from s3lora_serve.terminal.pictures import check_parent, writing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.adapters.admission import AdapterLimits
    from s3lora_serve.adapters.base_model import BaseModelSpec
    from s3lora_serve.adapters.evidence.reference_file import Looks


@grouped
def reference(
    *,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="ADAPTER...",
            help=escape(
                "Three or more adapters that are known to be good, of one base model, rank and set of"
                " projections: folders, demo://name, hf://org/name[@revision] or folders' URLs."
            ),
        ),
    ],
    destination: Annotated[Path, typer.Option("--out", "-o", help="New file for the reference.")],
    base: OptionalBase = None,
    bounds: LimitOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Summarize known-good adapters in a file for policy.anomaly and --reference.

    Shows the anomaly score of each adapter against the others, as a guide to the scores of good ones.
    """
    if destination.exists():
        raise ConfigError(f"{destination} exists already", hint="name a new file; nothing is overwritten")
    check_parent(destination)
    if empty := next((number for number, source in enumerate(sources, 1) if not source.strip()), None):
        raise ConfigError(f"adapter {empty} of {len(sources)} is empty")
    limits = bounds.limits()
    from s3lora_serve.adapters.evidence.reference_file import KnownGood, write_reference
    from s3lora_serve.launch.resolve import to_base_model

    with Stages("reference") as stage, limits_by_option():
        spec = None if base is None else to_base_model(base, None, stage).spec
        looks: dict[str, Looks] = {}
        adapters: list[dict[str, str]] = []
        for number, source in enumerate(sources):
            shown = redacted(source)  # it is written into the file, too
            stage(f"reading {shown}", number / len(sources))
            sha256, found = _looks(source, spec, limits)
            if twin := next((a["source"] for a in adapters if a["sha256"] == sha256), None):
                raise ConfigError(f"{shown} has the same weights as {twin}", hint="name each adapter once")
            looks[source] = found
            adapters.append({"source": shown, "sha256": sha256})
    good = KnownGood.fit(looks, spec)
    scores = _each_against_the_others([one.signature for one in looks.values()])
    with writing(destination):
        write_reference(destination, good, adapters)
    if as_json:
        rows = [adapter | {"score": score} for adapter, score in zip(adapters, scores, strict=True)]
        typer.echo(json.dumps({"reference": good.to_json(), "adapters": rows}, indent=2, allow_nan=False))
        return
    for adapter, score in zip(adapters, scores, strict=True):
        shown = "    -" if score is None else f"{score:5.2f}"
        out.print(Text(f"{shown}  {printable(adapter['source'])}"), soft_wrap=True)
    if None in scores:
        say("-: too few others, or of another kind than them: no score", "dim")
    statistics = good.statistics
    told = f"{destination}: {len(statistics.mean)} statistics of {statistics.count} adapters"
    out.print(Text(printable(told)), soft_wrap=True)


def _looks(source: str, spec: BaseModelSpec | None, limits: AdapterLimits) -> tuple[str, Looks]:
    """sha256 of the adapter's weights, and what it looks like. Raises AdapterError."""
    from s3lora_serve.adapters.admission import open_adapter
    from s3lora_serve.adapters.evidence.reference_file import looks_of
    from s3lora_serve.launch.resolve import to_source

    with tempfile.TemporaryDirectory(prefix="s3lora-reference-") as work:
        fetched, adapter = open_adapter(to_source(source), Path(work) / "source", base=spec, limits=limits)
        return fetched.sha256, looks_of(adapter.modules)


def _each_against_the_others(signatures: list[Mapping[str, float]]) -> list[float | None]:
    """Anomaly scores as each adapter would have got had it not been in the reference."""
    from s3lora_serve.spectral.anomaly import Reference, anomaly

    scores: list[float | None] = []
    for number, one in enumerate(signatures):
        others = signatures[:number] + signatures[number + 1 :]
        try:
            scores.append(anomaly(one, Reference.fit(others)).score)
        except ValueError:
            scores.append(None)
    return scores
