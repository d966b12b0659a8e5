"""One run of `s3lora evaluate` or `sweep`: adapters in, records and reports out; interrupted runs resume."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from s3lora_serve import __version__
from s3lora_serve.cli.fleet.waiting import INTERRUPTED
from s3lora_serve.cli.lab.evaluation_inputs import load, max_lora_rank, open_folder
from s3lora_serve.cli.lab.evaluation_progress import Measuring
from s3lora_serve.errors import ConfigError, S3LoRAError
from s3lora_serve.launch.resolve import to_base_model
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import Stages, out, say
from s3lora_serve.terminal.pictures import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from s3lora_serve.cli.lab.evaluation_cells import Chosen
    from s3lora_serve.cli.lab.evaluation_inputs import Given, Loaded, Setting
    from s3lora_serve.cli.lab.evaluation_options import RunOptions
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.engine.vllm.vllm_settings import VllmSettings
    from s3lora_serve.evaluation.measuring.cells import Cell
    from s3lora_serve.evaluation.measuring.header import Header, MeasuredAlignment
    from s3lora_serve.evaluation.measuring.records_file import RecordsFile
    from s3lora_serve.evaluation.statistics.summary import Summary
    from s3lora_serve.judging.suite import Suite
    from s3lora_serve.launch.resolve import BaseModel

    MakeCells = Callable[[Loaded, BaseModel], Chosen]

RECORDS, REPORT, SWEEP, PAGE = "records.jsonl", "report.json", "sweep.json", "report.html"
FIRST_LOOK = "Asked with the small sets that ship with s3lora: a first look, no evidence"


@dataclass(frozen=True)
class RunSpec:
    """What a run measures, and where it leaves that."""

    title: str
    setting: Setting
    adapters: Sequence[Given]
    suite: Suite
    make_cells: MakeCells
    folder: Path
    options: RunOptions
    sweep: bool = False  # write sweep.json too


def carry_out(order: RunSpec) -> None:
    """Measure what is not yet measured, write the reports and print the table.

    Raises ConfigError, AdapterError, EngineError; leaves with 130 when interrupted. Each finished cell is
    kept.
    """
    from s3lora_serve.evaluation.measuring.records_file import RecordsFile
    from s3lora_serve.evaluation.statistics.intervals import Bootstrap
    from s3lora_serve.evaluation.statistics.summary import summarise

    open_folder(order.folder, RECORDS)
    with tempfile.TemporaryDirectory(prefix="s3lora-evaluate-") as work:
        with Stages("base model", keep=True) as stage:
            base = to_base_model(order.setting.base_model, order.setting.revision, stage)
            stage.note = base.name
        loaded = [load(given, base, order.setting, Path(work)) for given in order.adapters]
        chosen = {one.name: order.make_cells(one, base) for one in loaded}
        cells = {name: each.cells for name, each in chosen.items()}
        header = _header(order, base, loaded, [each.alignment for each in chosen.values()])
        with writing(order.folder / RECORDS):
            journal = RecordsFile(order.folder / RECORDS, header)
        with journal:
            _check_same(journal, cells)
            with writing(order.folder), _going_on(order.folder, journal, cells):
                asyncio.run(_measure(order, base, loaded, cells, journal, Path(work)))
            summary = summarise(journal.records.values(), journal.header, Bootstrap(seed=order.options.seed))
    _leave(order, summary, loaded)


async def start_vllm(settings: VllmSettings, say_stage: Callable[[str], None]) -> Engine:
    """The engine that serves, in this process."""
    from s3lora_serve.engine.vllm.vllm_engine import VllmEngine
    from s3lora_serve.launch.log_levels import set_logging

    set_logging("warning")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout is for the report

    return await VllmEngine.start(settings, say_stage)


def _header(
    order: RunSpec,
    base: BaseModel,
    loaded: Sequence[Loaded],
    alignments: Sequence[MeasuredAlignment | None],
) -> Header:
    from s3lora_serve.adapters.evidence.base_weights import weights_of
    from s3lora_serve.evaluation.measuring.header import Header, MeasuredAdapter, MeasuredBase
    from s3lora_serve.evaluation.measuring.policies import scored_modules

    adapters = {
        one.name: MeasuredAdapter(one.source, one.sha256, scored_modules(one.report), one.group)
        for one in loaded
    }
    with Stages("base model") as stage:
        stage("hashing its weights")
        weights = weights_of(base.spec)
    if weights.digest is None and order.sweep:
        say(f"note: {SWEEP} will not say on which weights it was measured: {weights.reason}", "yellow")
    return Header(
        order.suite.digest,
        MeasuredBase(base.name, base.spec.digest, weights.digest),
        adapters,
        alignment=next(filter(None, alignments), None),
    )


def _check_same(journal: RecordsFile, cells: Mapping[str, Sequence[Cell]]) -> None:
    for cell in itertools.chain(*cells.values()):
        record = journal.records.get(cell.key)
        if record is not None and set(record.cell.pruned) != set(cell.pruned):
            raise ConfigError(
                f"{journal.path} has {cell.key!r} with other modules left out than it would be now",
                hint="it was measured with another release or seed: choose another --out",
            )


async def _measure(
    order: RunSpec,
    base: BaseModel,
    loaded: Sequence[Loaded],
    cells: Mapping[str, Sequence[Cell]],
    journal: RecordsFile,
    work: Path,
) -> None:
    """Measure the cells that have no record, on an engine that is started only if there are any."""
    pending = [cell for cell in itertools.chain(*cells.values()) if cell.key not in journal.records]
    total = sum(map(len, cells.values()))
    if len(pending) < total:
        say(f"{total - len(pending)} of {total} cells were measured before")
    if not pending:
        return
    from s3lora_serve.engine.vllm.vllm_settings import VllmSettings
    from s3lora_serve.evaluation.measuring.engine_subject import EngineSubject
    from s3lora_serve.evaluation.measuring.run import measure

    section = order.setting.engine
    if section.max_lora_rank is None:
        section = section.model_copy(update={"max_lora_rank": max_lora_rank(loaded)})
    settings = VllmSettings(base.location or base.name, section, base.revision, base.name)
    with Stages("engine", keep=True) as stage:
        engine = await start_vllm(settings, stage)
        stage.note = engine.version
    ids, shapes = itertools.count(1), base.spec.shapes.values()
    try:
        took = [record.seconds for record in journal.records.values() if record.seconds]
        with Measuring(pending, _questions(order.suite), took) as measuring:
            for one in loaded:
                subject = EngineSubject(
                    engine,
                    one.adapter,
                    work / "slots" / one.name,
                    name=one.name,
                    ids=ids,
                    told=measuring.answered,
                )
                async with subject:
                    await measure(
                        order.suite,
                        cells[one.name],
                        subject,
                        journal,
                        one.adapter.modules,
                        sum(out_ * in_ for out_, in_ in shapes),
                        measuring.finished,
                    )
    finally:
        await engine.close()


def _questions(suite: Suite) -> int:
    """Requests that one cell takes: an answer a prompt, an answer and a score a plan."""
    prompts = sum(len(s.prompts) for s in (*suite.attacks, *suite.harmless))
    return prompts + 2 * sum(len(s.tasks) for s in suite.plans)


@contextmanager
def _going_on(folder: Path, journal: RecordsFile, cells: Mapping[str, Sequence[Cell]]) -> Iterator[None]:
    """Say, however the measuring ends early, that the same command resumes it."""

    def tell() -> None:
        total = sum(map(len, cells.values()))
        done = sum(cell.key in journal.records for cell in itertools.chain(*cells.values()))
        say(
            f"{folder / RECORDS} keeps {done} of {total} cells; the same command resumes from there", "yellow"
        )

    try:
        yield
    except KeyboardInterrupt:
        tell()
        raise typer.Exit(INTERRUPTED) from None
    except (OSError, S3LoRAError):  # OSError: a full disk
        tell()
        raise


def _leave(order: RunSpec, summary: Summary, loaded: Sequence[Loaded]) -> None:
    from s3lora_serve.evaluation.report.finding import verdict
    from s3lora_serve.evaluation.report.page import page

    report = _json(summary.to_json())
    with Stages("report") as stage:
        stage("drawing")
        _write(order.folder / REPORT, report)
        if order.sweep:
            _write(order.folder / SWEEP, _json(summary.sweep_json()))
        written = page(
            summary,
            {one.name: one.report for one in loaded},
            order.title,
            suite=order.suite,
            notes=[f"{FIRST_LOOK}."] if order.options.first_look else [],
            versions={"s3lora-serve": __version__},
        )
        _write(order.folder / PAGE, written)
    if order.options.as_json:
        typer.echo(report, nl=False)
    else:
        from s3lora_serve.evaluation.report.summary_table import summary_table

        out.print(summary_table(summary))
        sentence = verdict(summary).replace("\N{NO-BREAK SPACE}", " ")
        out.print(Text(printable(sentence), style="bold"), soft_wrap=True)
    if order.options.first_look:
        say(FIRST_LOOK, "yellow")
    say(f"wrote {order.folder / PAGE}, {REPORT}{f', {SWEEP}' if order.sweep else ''} and {RECORDS}")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _write(path: Path, text: str) -> None:
    """Write the file, or leave the one that is there as it was."""
    half = path.with_name(f".{path.name}.part")
    with writing(path):
        half.write_text(text, "utf-8")
        half.replace(path)
