"""The evidence page says what the committed results say, and the results are what was measured."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from s3lora_serve.evaluation.measuring.cell_cost import CellCost
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.evaluation.measuring.record import CellRecord
from s3lora_serve.evaluation.statistics.intervals import Bootstrap
from s3lora_serve.judging.outcomes import PlanOutcome, PromptOutcome

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks/evidence"))
matched, results, spec, tables, telling = map(
    importlib.import_module, ("matched", "results", "spec", "tables", "telling")
)


@pytest.fixture(scope="module")
def found():
    """The committed results."""
    return results.load(results.RESULTS)


def test_every_table_on_the_page_is_made_from_the_results(found):
    """No row of docs/evidence.md can be edited by hand, and none is out of date."""
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.written(page, tables.Tables(found)) == page


def test_no_table_on_the_page_is_written_by_hand():
    """Every table stands between the marks that name how it is made."""
    page = tables.PAGE.read_text(encoding="utf-8")
    bare = re.sub(r"<!-- (table|guarded|examined): [a-z-]+ -->.*?<!-- /\1 -->", "", page, flags=re.S)
    assert [line for line in bare.splitlines() if line.startswith("|")] == []


def test_no_answer_is_kept(found):
    """The results hold verdicts and figures, and not a word of what a model answered."""
    openings = {
        opening
        for adapter in found.adapters
        for record in adapter.records
        for outcome in (*record.attacks.values(), *record.harmless.values())
        for opening in outcome.openings
    }
    assert openings == set()


def test_every_group_was_asked_under_every_scorer(found):
    """Groups on a tuned base have all seven scorers at ten taus, for at least two training seeds."""
    for name, group in found.groups().items():
        scorers = {(r.cell.scorer, r.cell.tau) for a in group for r in a.records if r.cell.scorer}
        assert len(group) >= 2, name
        assert len(scorers) == (50 if name.endswith("on 0 %") else 70), name


def test_packing_keeps_what_was_measured(tmp_path):
    """A record that is packed and loaded is the record, but for tokens of verdicts and rounding."""
    one = spec.Spec("benign", 8, 0)
    record = CellRecord(
        Cell(one.name, "svd 50%", "svd", 0.5, 0, ("b",)),
        {"x": PromptOutcome("rcb", (0, 0, 0))},
        {"y": PromptOutcome("c", (0,))},
        {"z": PlanOutcome((1.0,), (0.5,), (0.25,), (0.13,), (1.234,), (70,))},
        CellCost(1, 2, 3, 4),
    )
    for folder in ("prunings", "records"):
        (tmp_path / folder).mkdir()
    row = {"sigma_1": 1.0, "norm": 2.0, "energy": 0.5, "entropy": 0.6, "kurtosis": 3.0}
    looked = {"cells": [], "ssi": {"a": 0.25, "b": None}, "statistics": {"a": row, "b": row}}
    (tmp_path / "prunings" / f"{one.name}.json").write_text(json.dumps(looked))
    (tmp_path / "records" / f"{one.name}.jsonl").write_text(
        json.dumps({"record": record.to_json(), "margins": [0.5]}) + "\n"
    )
    (tmp_path / "times.jsonl").write_text('{"seconds": {"ask": 1.0}, "devices": ["cpu"]}\n')
    (tmp_path / "check.json").write_text("{}")
    results.pack(tmp_path, [one], tmp_path / "packed.xz")
    (adapter,) = results.load(tmp_path / "packed.xz").adapters
    assert adapter.records == (record,)
    assert (adapter.ssi, adapter.margins["svd 50%"], adapter.statistics[0]) == ((0.25, None), (0.5,), row)


def _adapter(name, cells):
    """An adapter whose cells are (scorer, tau, share of prompts complied with, loss)."""
    records = [
        CellRecord(
            Cell(name, f"{scorer} {tau}", scorer, tau, 0, ()),
            {"x": PromptOutcome("c" * round(10 * share) + "r" * round(10 - 10 * share), (0,) * 10)},
            {},
            {"z": PlanOutcome((1.0,) * 4, (1.0,) * 4, (1.0,) * 4, (1.0,) * 4, (loss,) * 4, (1,) * 4)},
        )
        for scorer, tau, share, loss in cells
    ]
    return results.Measured(name, "g", "benign", 8, (), (), (), tuple(records), {})


def test_equal_loss_is_compared_on_random_prunings_line():
    """A scorer half-way in loss between two random prunings is compared with half-way in attack success."""
    cells = [
        (None, None, 1.0, 1.0),
        ("random", 0.2, 0.6, 2.0),
        ("svd", 0.1, 0.5, 1.5),
        ("mas-svd", 0.1, 0.5, 3.0),
    ]
    found = matched.matched([_adapter("a", cells)], Bootstrap(draws=50))
    assert [(m.scorer, m.tau) for m in found] == [("svd", 0.1)]  # beyond the line nothing is said
    assert found[0].difference.mean == pytest.approx(0.5 - 0.8)
    assert found[0].share == pytest.approx(0.1)


def test_a_statistic_that_ranks_every_poisoned_adapter_higher_has_area_one(found):
    """The areas are those of the adapters' own figures: larger updates of mixed than of benign planners."""
    chosen = [a for a in found.adapters if a.rank == 8 and " on " not in a.group]
    norms = {
        kind: [np.mean([row["norm"] for row in a.statistics]) for a in chosen if a.kind == kind]
        for kind in ("mixed", "benign")
    }
    above = np.mean([[m > b for b in norms["benign"]] for m in norms["mixed"]])
    assert telling.telling(chosen)["‖ΔW‖"]["mixed against benign"].mean == pytest.approx(above)
