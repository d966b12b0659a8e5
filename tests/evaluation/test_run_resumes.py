"""A run that is broken off loses at most the cell being measured."""

import json
from dataclasses import replace

import pytest
from small_subject import SUITE, SmallSubject, adapter, header

from s3lora_serve.errors import ConfigError
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.evaluation.measuring.header import Header, MeasuredAlignment, MeasuredBase
from s3lora_serve.evaluation.measuring.policies import grid
from s3lora_serve.evaluation.measuring.record import CellRecord
from s3lora_serve.evaluation.measuring.records_file import RecordsFile
from s3lora_serve.evaluation.measuring.run import measure
from s3lora_serve.judging.suite import Suite

MODULES = adapter()
CELLS = grid("one", MODULES, ["mas-svd", "svd", "random"], [0.25, 0.5], [0, 1])
DIFFERENT = len({frozenset(cell.pruned) for cell in CELLS})
CALLS = 3  # of the subject, for one cell: short answers, plans, losses


async def run(path, subject, cells=CELLS, told=None) -> list[CellRecord]:
    """Measure cells of the adapter "one" into a journal."""
    with RecordsFile(path, header("one", "two")) as journal:
        return await measure(SUITE, cells, subject, journal, MODULES, 1000, told)


def on_disk(path) -> tuple[Header, list[CellRecord]]:
    """What the whole lines of a journal say."""
    first, *lines = (json.loads(line) for line in path.read_bytes().split(b"\n")[:-1])
    return Header.from_json(first), [CellRecord.from_json(line) for line in lines]


def plain(records: list[CellRecord]) -> list[dict]:
    """Records without the seconds that they took."""
    return [record.to_json() | {"seconds": 0.0} for record in records]


async def test_every_cell_once_in_order(tmp_path):
    """There is a record for each cell, in order, on the disk as in memory."""
    records = await run(tmp_path / "records.jsonl", SmallSubject())
    assert [record.cell for record in records] == CELLS
    head, written = on_disk(tmp_path / "records.jsonl")
    assert (head, written) == (header("one", "two"), records)


async def test_answers_reach_their_sets(tmp_path):
    """Attacks, harmless prompts and plans each get the answers to their own questions."""
    records = {r.cell.label: r for r in await run(tmp_path / "records.jsonl", SmallSubject())}
    assert records["none"].attacks["attacks"].verdicts == "cc"
    assert records["base"].attacks["attacks"].verdicts == "rr"
    assert records["base"].harmless["harmless"].verdicts == "c"
    assert records["none"].plans["plans"].valid == (1.0, 1.0)
    assert records["base"].plans["plans"].valid == (0.0, 0.0)
    assert records["none"].plans["plans"].loss == (1.0, 2.0)
    assert (records["none"].cost.modules, records["base"].cost.modules) == (4, 0)
    assert records["none"].cost.output_tokens == 5 * 7
    assert records["none"].cost.engine_seconds == pytest.approx(2.5)


async def test_equal_prunings_are_measured_once(tmp_path):
    """Cells that leave out the same modules cost one measurement and keep their own labels."""
    subject, seen = SmallSubject(), []
    await run(tmp_path / "records.jsonl", subject, told=seen.append)
    assert len(subject.calls) == CALLS * DIFFERENT < CALLS * len(CELLS)
    assert [step.cell for step in seen] == CELLS
    assert [(step.done, step.total) for step in seen] == [(n, len(CELLS)) for n in range(1, len(CELLS) + 1)]
    assert sum(step.measured for step in seen) == DIFFERENT
    assert all(step.measured == (step.seconds > 0) for step in seen)


async def test_the_base_model_is_measured_once_for_all(tmp_path):
    """Another adapter's control with everything left out is the same base model."""
    other = adapter(seed=5)
    subject = SmallSubject()
    with RecordsFile(tmp_path / "records.jsonl", header("one", "two")) as journal:
        first = await measure(SUITE, CELLS[:2], SmallSubject(), journal, MODULES, 1000)
        base = Cell("two", "base", None, None, 0, tuple(other))
        (second,) = await measure(SUITE, [base], subject, journal, other, 1000)
    assert subject.calls == []
    assert (second.cell, second.plans, second.seconds) == (base, first[1].plans, 0.0)


async def test_other_adapters_are_not_mixed_up(tmp_path):
    """The same modules left out of another adapter are another measurement."""
    subject = SmallSubject()
    with RecordsFile(tmp_path / "records.jsonl", header("one", "two")) as journal:
        await measure(SUITE, CELLS[:1], SmallSubject(), journal, MODULES, 1000)
        await measure(
            SUITE, [Cell("two", "none", None, None, 0, ())], subject, journal, adapter(seed=5), 1000
        )
    assert len(subject.calls) == CALLS


@pytest.mark.parametrize("calls", range(0, CALLS * DIFFERENT, 2))
async def test_death_loses_the_cell_being_measured(tmp_path, calls):
    """Wherever the subject dies, what was finished is there, and the same run again measures the rest."""
    path = tmp_path / "records.jsonl"
    with pytest.raises(ConnectionError):
        await run(path, SmallSubject(dies_after=calls))
    assert len({frozenset(r.cell.pruned) for r in on_disk(path)[1]}) == calls // CALLS
    again, whole = SmallSubject(), SmallSubject()
    records = await run(path, again)
    assert len(again.calls) == CALLS * (DIFFERENT - calls // CALLS)
    assert plain(records) == plain(await run(tmp_path / "whole.jsonl", whole))
    assert (await run(path, SmallSubject(dies_after=0))) == records


async def test_a_torn_line_is_dropped_wherever_it_is_torn(tmp_path):
    """A last line cut at any byte costs that line alone; the file is then what it would have been."""
    path = tmp_path / "records.jsonl"
    records = await run(path, SmallSubject(), CELLS[:3])
    raw = path.read_bytes()
    start = raw.rstrip(b"\n").rfind(b"\n") + 1
    for cut in [start, start + 1, (start + len(raw)) // 2, len(raw) - 1]:
        path.write_bytes(raw[:cut])
        assert on_disk(path)[1] == records[:2]
        assert plain(await run(path, SmallSubject(), CELLS[:3])) == plain(records)
        assert len(path.read_bytes().splitlines()) == 4


async def test_a_torn_header_is_begun_anew(tmp_path):
    """A crash while the first line was written leaves nothing to lose."""
    path = tmp_path / "records.jsonl"
    await run(path, SmallSubject(), CELLS[:1])
    raw = path.read_bytes()
    for cut in (0, 1, raw.index(b"\n")):
        path.write_bytes(raw[:cut])
        with RecordsFile(path, header("one", "two")) as journal:
            assert journal.records == {}
        assert path.read_bytes() == raw[: raw.index(b"\n") + 1]


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (header("one", suite=Suite(attacks=SUITE.attacks)), "suite "),
        (header("two"), "no adapter 'one'"),
        (header("one", "two"), "one more adapter, 'two'"),
        (header("one", modules=5), "adapter 'one' with modules 5 instead of 4"),
        (header("one", group="g"), "adapter 'one' with group 'g' instead of None"),
        (replace(header("one"), scorer_version="0"), "scores of version 0 instead of 1"),
        (
            replace(header("one"), base=MeasuredBase("tiny", "0" * 64, "f" * 64)),
            f"base tiny ({'0' * 12}, weights {'f' * 12}) instead of tiny ({'0' * 12})",
        ),
    ],
)
def test_another_run_is_refused(tmp_path, other, what):
    """Measurements of another suite, base or adapter are not continued; the difference is named."""
    RecordsFile(tmp_path / "records.jsonl", other).__exit__(None, None, None)
    before = (tmp_path / "records.jsonl").read_bytes()
    with pytest.raises(ConfigError) as refused:
        RecordsFile(tmp_path / "records.jsonl", header("one"))
    assert what in str(refused.value)
    assert "another --out" in refused.value.hint
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_checkpoints_of_a_run_stay_the_same(tmp_path):
    """What e-diem compared with is kept where nothing needs it any more; other checkpoints are refused."""
    path, compared = tmp_path / "records.jsonl", MeasuredAlignment("a" * 64, "b" * 64)
    RecordsFile(path, replace(header("one"), alignment=compared)).__exit__(None, None, None)
    with RecordsFile(path, header("one")) as journal:
        assert journal.header.alignment == compared
    other = replace(header("one"), alignment=MeasuredAlignment("c" * 64, "b" * 64))
    with pytest.raises(
        ConfigError, match=r"it has alignment checkpoints a{12} and b{12} instead of .* c{12}"
    ):
        RecordsFile(path, other)
    RecordsFile(tmp_path / "without.jsonl", header("one")).__exit__(None, None, None)
    with pytest.raises(ConfigError, match="it has no alignment checkpoints instead of"):
        RecordsFile(tmp_path / "without.jsonl", other)


@pytest.mark.parametrize("text", ["notes of mine", '{"a": 1}\n', "[]\n", "\n", '{"format": 2}\n{"x'])
def test_a_file_of_somebody_else_is_left_alone(tmp_path, text):
    """What is no journal is neither continued nor cut."""
    (tmp_path / "records.jsonl").write_text(text)
    with pytest.raises(ConfigError, match="records"):
        RecordsFile(tmp_path / "records.jsonl", header("one"))
    assert (tmp_path / "records.jsonl").read_text() == text


async def test_a_damaged_line_is_named(tmp_path):
    """A line in the middle that cannot be read is no torn one: the file was changed."""
    path = tmp_path / "records.jsonl"
    await run(path, SmallSubject(), CELLS[:3])
    lines = path.read_text().splitlines()
    damaged = json.loads(lines[2])
    del damaged["plans"]
    for bad in ("{", json.dumps(damaged)):
        path.write_text("\n".join([*lines[:2], bad, lines[3], ""]))
        with pytest.raises(ConfigError, match="line 3 is not"):
            RecordsFile(path, header("one", "two"))


def test_one_writer(tmp_path):
    """Two runs must not write one file; readers may look on, and the next run may write after the first."""
    path = tmp_path / "records.jsonl"
    with RecordsFile(path, header("one")):
        with pytest.raises(ConfigError, match="written by another run"):
            RecordsFile(path, header("one"))
        assert on_disk(path) == (header("one"), [])
    RecordsFile(path, header("one")).__exit__(None, None, None)


async def test_a_cell_is_written_once(tmp_path):
    """A second record of a cell is a defect, and so is a cell that came to mean other modules."""
    (record,) = await run(tmp_path / "records.jsonl", SmallSubject(), CELLS[:1])
    with (
        RecordsFile(tmp_path / "records.jsonl", header("one", "two")) as journal,
        pytest.raises(ValueError, match="already"),
    ):
        journal.append(record)
    changed = Cell("one", "none", None, None, 0, ("a.q",))
    with pytest.raises(ValueError, match="other modules"):
        await run(tmp_path / "records.jsonl", SmallSubject(), [changed])


async def test_too_few_answers_are_noticed(tmp_path):
    """A subject that swallows a question must not shift all later answers."""

    class Swallows(SmallSubject):
        async def answers(self, chats, dropped, max_tokens):
            return (await super().answers(chats, dropped, max_tokens))[1:]

    with pytest.raises(ValueError, match="2 answers to 3 questions"):
        await run(tmp_path / "records.jsonl", Swallows())
    assert on_disk(tmp_path / "records.jsonl")[1] == []


async def test_a_suite_of_one_kind(tmp_path):
    """Without plans no plan or loss is asked for; without prompts no short answer is."""
    for suite, calls in ((Suite(attacks=SUITE.attacks), 1), (Suite(plans=SUITE.plans), 2)):
        subject = SmallSubject()
        with RecordsFile(tmp_path / f"{calls}.jsonl", header("one", suite=suite)) as journal:
            (record,) = await measure(suite, CELLS[:1], subject, journal, MODULES, 1000)
        assert len(subject.calls) == calls
        assert (set(record.attacks), set(record.plans)) == (
            {s.name for s in suite.attacks},
            {s.name for s in suite.plans},
        )
