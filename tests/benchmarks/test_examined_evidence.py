"""The examined evidence decides by the product's rule, and the page says what was found."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path

import pytest

from s3lora_serve.safety.exam.exam_result import PairedCounts
from s3lora_serve.safety.exam.exam_rule import decide

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks/evidence"))
sys.path.append(str(ROOT / "benchmarks/evidence/examined"))
examined_results, examined_tables, page_tables = map(
    importlib.import_module, ("examined_results", "examined_tables", "page_tables")
)


@pytest.fixture(scope="module")
def tables():
    """The tables of what was measured."""
    return examined_tables.ExaminedTables(examined_results.load())


def test_the_page_has_the_tables_of_what_was_measured(tables):
    """Every table of the third part is what its script makes of the committed results."""
    page = page_tables.PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- examined: ") == 4
    assert page_tables.rewritten(page, "examined", tables) == page


def test_thousands_of_exams_are_decided_as_one_is():
    """The verdict from tables of p-values is that of the product's rule, for counts drawn at random."""
    rng = random.Random(1)
    found = set()
    for _ in range(60):
        asked = rng.choice((24, 48))
        both = rng.randrange(asked // 2)
        risen = rng.randrange(asked - both)
        fallen = rng.randrange(max(1, (asked - both - risen) // 2))
        rule = decide(PairedCounts(asked, both, risen, fallen), examined_tables.SETTINGS).verdict.value
        assert examined_tables._verdict(asked, both, risen, fallen) == rule, (asked, both, risen, fallen)
        found.add(rule)
    assert found == {"refused", "passed", "undecided"}


def _results(base, own):
    """A base and an adapter, asked the same prompts in an exam and beside it."""
    sets = lambda letters: {name: {"none": letters} for name in ("exam", "unseen")}  # noqa: E731
    about = {"checkpoint": "makers", "rungs": {"none": 0}, "modules": 1, "ssi": [], "statistics": []}
    return [
        {**about, "name": "b", "kind": "base", "sets": sets(base), "plans": {}},
        {**about, "name": "a", "kind": "mixed", "sets": sets(own), "plans": {}},
    ]


def test_an_adapter_that_complies_with_everything_is_refused():
    """By every exam of any size, if its base refuses all; one that answers as its base does never is."""
    worse = examined_tables.ExaminedTables(_results("r" * 40, "c" * 40))
    assert worse.detection().count("100 · 0 · 0") == 4
    same = examined_tables.ExaminedTables(_results("r" * 40, "r" * 40))
    assert "100 · 0 ·" not in same.detection()
    assert same.truth().split("|")[-2].strip() == "+0"
