"""Measuring an adapter's cells one after the other; what was measured before is not measured again."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from s3lora_serve.evaluation.measuring.cell_cost import cost_of
from s3lora_serve.evaluation.measuring.record import CellRecord
from s3lora_serve.judging.judge import plan_outcome, prompt_outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from s3lora_serve.evaluation.measuring.cells import Cell
    from s3lora_serve.evaluation.measuring.records_file import RecordsFile
    from s3lora_serve.evaluation.measuring.subject import Subject
    from s3lora_serve.judging.outcomes import Answer
    from s3lora_serve.judging.suite import Messages, Suite
    from s3lora_serve.spectral.lowrank import LowRank


@dataclass(frozen=True)
class Progress:
    """A cell was finished."""

    cell: Cell
    done: int  # of these cells, this one included
    total: int
    measured: bool  # False: its record was there already, or is that of an equal adapter
    seconds: float  # that measuring it took; 0 unless measured


async def measure(
    suite: Suite,
    cells: Sequence[Cell],
    subject: Subject,
    journal: RecordsFile,
    modules: Mapping[str, LowRank],
    base_parameters: int,
    progress: Callable[[Progress], None] | None = None,
) -> list[CellRecord]:
    """Measure each cell that the journal does not have; each is on the disk before the next one begins.

    All cells are of the adapter that has these ``modules``, which ``subject`` answers for. Cells that leave
    out the same modules are one measurement, and so are all that leave out everything, whichever the adapter:
    that is the base model. Raises ValueError for a cell that prunes what the adapter does not have, and for
    one that was measured with other modules left out; and what ``subject`` raises.
    """
    done = []
    for number, cell in enumerate(cells, 1):
        record, measured = journal.records.get(cell.key), False
        if record is not None and set(record.cell.pruned) != set(cell.pruned):
            raise ValueError(f"cell {cell.key!r} was measured with other modules left out")
        if record is None:
            same = _same(cell, journal.records.values(), modules)
            measured = same is None
            if same is None:
                record = await _measure(suite, cell, subject, modules, base_parameters)
            else:
                record = replace(same, cell=cell, seconds=0.0)
            journal.append(record)
        done.append(record)
        if progress:
            progress(Progress(cell, number, len(cells), measured, record.seconds if measured else 0.0))
    return done


def _same(cell: Cell, records: Iterable[CellRecord], modules: Mapping[str, LowRank]) -> CellRecord | None:
    pruned = set(cell.pruned)
    for record in records:
        if record.cell.adapter == cell.adapter and set(record.cell.pruned) == pruned:
            return record
        if record.cost.modules == 0 and pruned == modules.keys():
            return record
    return None


async def _measure(
    suite: Suite, cell: Cell, subject: Subject, modules: Mapping[str, LowRank], base_parameters: int
) -> CellRecord:
    started, dropped = time.monotonic(), frozenset(cell.pruned)
    prompt_sets, plan_sets = (*suite.attacks, *suite.harmless), suite.plans
    answers: list[Answer] = []
    losses: list[float] = []
    if prompt_sets:  # all at once: an engine answers many together
        chats = [chat for s in prompt_sets for chat in s.messages()]
        answers += _all(await subject.answers(chats, dropped, suite.answer_tokens), chats)
    if plan_sets:
        chats = [chat for s in plan_sets for chat in s.messages()]
        answers += _all(await subject.answers(chats, dropped, suite.plan_tokens), chats)
        references = [text for s in plan_sets for text in s.references()]
        losses = await subject.losses(list(zip(chats, references, strict=True)), dropped)
    given, lost = iter(answers), iter(losses)
    prompts = {s.name: prompt_outcome(s, list(islice(given, len(s.prompts)))) for s in prompt_sets}
    plans = {
        s.name: plan_outcome(s, list(islice(given, len(s.tasks))), list(islice(lost, len(s.tasks))))
        for s in plan_sets
    }
    return CellRecord(
        cell,
        {s.name: prompts[s.name] for s in suite.attacks},
        {s.name: prompts[s.name] for s in suite.harmless},
        plans,
        cost_of(modules, dropped, base_parameters, answers),
        time.monotonic() - started,
    )


def _all(answers: list[Answer], chats: Sequence[Messages]) -> list[Answer]:
    if len(answers) != len(chats):
        raise ValueError(f"{len(answers)} answers to {len(chats)} questions: the subject lost some")
    return answers
