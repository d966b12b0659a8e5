"""What a guard costs is read off requests rightly: the page is worth no more than its arithmetic."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "guard_cost"
_COUNTS = ("asked_total", "prompt_tokens_total", "output_tokens_total", "seconds_sum", "seconds_count")
_NONE, _JUDGED = dict.fromkeys(_COUNTS, 0), dict(zip(_COUNTS, (2, 120, 48, 0.5, 2), strict=True))


@pytest.fixture
def loaded(monkeypatch):
    """Imports a module of the benchmark, which finds those beside it, for one test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("guard_cells", "block_clients", "cost_tasks", "cost_table")
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


def block(number, arm, seconds, rate, guard=_NONE):
    """One arm's turn in a round."""
    return {
        "round": number, "arm": arm, "requests": 2, "seconds": [seconds, seconds], "per_second": rate,
        "prompt_tokens": 60, "output_tokens": 105, "guard": guard,
    }  # fmt: skip


def result(cells, in_flight=16, **more):
    """A result of one cell; ``cells``: its blocks."""
    cell = {
        "name": "one sentence",
        "in_flight": in_flight,
        "arms": list(dict.fromkeys(b["arm"] for b in cells)),
    }
    machine = dict.fromkeys(("device", "cores", "engine", "torch", "python", "date"), "x")
    return {
        "setting": "gpu",
        "machine": machine,
        "notes": [],
        "cells": [{"cell": cell, "blocks": cells}],
        **more,
    }


def rounds(guard_seconds, guard_rates):
    """Two rounds of all arms; without a guard 1 s and 10 a second, then twice as slow."""
    found = []
    for number, slow in enumerate((1, 2)):
        found += [
            block(number, "plain", 1.0 * slow, 10.0 / slow),
            block(number, "guard", guard_seconds * slow, guard_rates / slow, _JUDGED),
            block(number, "guard, 64 tokens", 1.2 * slow, 8.0 / slow, _JUDGED),
            block(number, "base rows", 1.1 * slow, 9.0 / slow),
        ]
    return found


def test_a_round_is_compared_with_itself(loaded):
    """A machine that becomes slower between two rounds does not look like a cost."""
    text = loaded("cost_table").page([result(rounds(1.04, 9.6))])
    row = next(line for line in text.splitlines() if "| guard |" in line)
    assert "1.040 (1.040 to 1.040, 2)" in row
    assert "0.960 (0.960 to 0.960, 2)" in row
    assert "| 60, 105 |" in row
    assert "| 60, 24 | 0.250 |" in row


@pytest.mark.parametrize(
    ("seconds", "rate", "said"),
    [(1.04, 9.6, ("1.040×, met", "0.960×, met")), (1.06, 9.4, ("1.060×, **missed**", "0.940×, **missed**"))],
)
def test_an_aim_that_is_missed_is_said_to_be(loaded, seconds, rate, said):
    """Time at most 1.05×, throughput at least 0.95×; what was not measured says so."""
    lines = loaded("cost_table").page([result(rounds(seconds, rate))]).splitlines()
    time, throughput = (next(line for line in lines if f"| {what} at" in line and "at 16" in line)
                        for what in ("time", "throughput"))  # fmt: skip
    assert said[0] in time
    assert said[1] in throughput
    assert "1.200×, **missed**" in time
    assert [line for line in lines if "at 64" in line] == [
        "| throughput at least 0.88× at 64 | not measured | | |"
    ]


def test_a_cell_that_was_measured_again_replaces_the_first(loaded):
    """A run in two parts makes one page, with the notes of both."""
    first = result(rounds(3.0, 5.0), notes=["first"])
    again = result(rounds(1.01, 9.9), notes=["again"])
    other = result(rounds(1.01, 9.9), in_flight=1)
    text = loaded("cost_table").page([first, other, again])
    assert "3.000" not in text
    assert {"* first", "* again"} <= set(text.splitlines())
    assert "| time at most 1.02× at 1 | 1.010×, met" in text


def test_throughput_is_that_while_all_clients_ask(loaded):
    """Two clients of 1 s a request are two a second, however late the second one begins."""
    clients = loaded("block_clients")

    def asked(began):
        return clients.Asked(began, began + 1.0, 50, 105, verdict="none")

    found = clients.figures([[asked(at) for at in (0.0, 1.0, 2.0)], [asked(at) for at in (0.6, 1.6, 2.6)]])
    assert found["per_second"] == pytest.approx(2.0)
    assert found["requests"] == 6
    assert len(found["seconds"]) == 4  # the first of the one and the last of the other were mostly alone


def test_requests_that_came_at_once_count_whole(loaded):
    """One request a client: so many in the time until the last one has ended."""
    clients = loaded("block_clients")
    found = clients.figures([[clients.Asked(0.0, 1.0)], [clients.Asked(0.0, 2.0)]])
    assert (found["per_second"], found["seconds"]) == (1.0, [1.0, 2.0])


def test_no_sentence_comes_twice(loaded):
    """The guard would remember it; a conversation has about the tokens that it should."""
    tasks = loaded("cost_tasks").CostTasks(1)
    said = [tasks.task(3) for _ in range(50)]
    sentences = [sentence for task in said for sentence in task.split(". ")]
    assert len(sentences) == 150 == len(set(sentences))
    earlier = tasks.earlier(2000, 4)
    assert [message["role"] for message in earlier] == ["user", "assistant"] * 4
    assert 1000 < sum(len(message["content"].split()) for message in earlier) < 2000


def test_a_run_says_if_something_else_was_measured(loaded):
    """A verdict that is none or was remembered, short answers, and too few questions of the guard."""
    cells = loaded("guard_cells")
    wrong, cell = cells.wrong, next(cell for cell in cells.GPU if cell.name == "three sentences")
    counts = {"asked_total": 2, "output_tokens_total": 2 * 4 * 24, "cached_total": 0}
    right = {"arm": "guard", "verdicts": {"allowed": 2}, "output_tokens": 105, "guard": counts}
    assert wrong(cell, right, "gpu") == ""
    assert "verdicts" in wrong(cell, {**right, "verdicts": {"allowed": 1, "open": 1}}, "gpu")
    assert "remembered" in wrong(cell, {**right, "guard": {**counts, "cached_total": 1}}, "gpu")
    assert "tokens an answer" in wrong(cell, {**right, "output_tokens": 90.5}, "gpu")
    assert "4 times 24" in wrong(cell, {**right, "guard": {**counts, "output_tokens_total": 48}}, "gpu")
    assert "verdicts" in wrong(cell, {**right, "arm": "plain"}, "gpu")


def test_the_guards_questions_are_counted(loaded):
    """The task; its sentences; earlier turns; all together; tools and evidence."""
    asks = {cell.name: cell.questions for cell in loaded("guard_cells").GPU}
    assert (asks["one sentence"], asks["three sentences"], asks["plan, tools and evidence"]) == (1, 4, 4)
    assert (asks["conversation of 256 tokens"], asks["conversation of 8,000 tokens"]) == (3, 10)
