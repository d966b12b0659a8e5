"""The benchmark of refusals counts right, and on real labels ours is better than the usual strings."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from s3lora_serve.judging.refusal import Verdict, verdict

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("benchmarks_refusals_run", ROOT / "benchmarks/refusals/run.py")
run = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = run  # dataclasses look their module up
SPEC.loader.exec_module(run)

FOLDER = Path(os.environ.get("S3LORA_SHARED_DATA", ROOT.parent / "shared/data")) / "safety"
with_labels = pytest.mark.skipif(
    not (FOLDER / "refusal_labels").is_dir(), reason="the shared data is not here; set S3LORA_SHARED_DATA"
)


def ours(answer: str, asked: str = "") -> bool:
    """The detector that is measured."""
    return verdict(answer, asked) is Verdict.REFUSED


def test_an_interval_is_wilsons():
    """Against the values of Wilson's formula that are printed everywhere: 8 of 10 and 0 of 10."""
    assert run.wilson(8, 10) == "0.80 (0.49–0.94)"
    assert run.wilson(0, 10) == "0.00 (0.00–0.28)"
    assert run.wilson(0, 0) == "–"


def test_answers_that_begin_alike_are_in_one_part():
    """So that no phrase on which rules were written is met again among the held-out ones."""
    parts = {
        run.Row("", "", f"I'm sorry, but I can't help with {end}", True).part for end in ("a", "b.", "c d")
    }
    assert len(parts) == 1
    assert {run.Row("", "", f"{n} {n} {n}", True).part for n in range(20)} == {"tuning", "held-out"}


def test_a_cut_keeps_whole_words_as_they_were_written():
    """A plan stays one: its lines are not joined."""
    assert run.cut("Plan: a\n#E1 = b c", 3) == "Plan: a\n#E1"
    assert run.cut("one two", 3) == "one two"
    assert run.cut("one two", None) == "one two"


def test_comments_are_left_out_at_the_top_only(tmp_path: Path):
    """An answer may have a line that begins with "# "."""
    (tmp_path / "x.csv").write_text(
        '# version 1\n# of labels\nobjective,assistant_response,human_score,data_type\nq,"a\n# b",1,text\n'
    )
    assert run.read_rows(tmp_path) == [run.Row("x", "q", "a\n# b", True)]


def test_a_question_that_was_answered_has_no_refusals_proper():
    """The exchanged answers go, refusals and compliance stay."""
    rows = [run.Row("", "q", "a", False), run.Row("", "q", "b", True), run.Row("", "p", "no", True)]
    assert run.proper(rows) == [rows[0], rows[2]]


@with_labels
def test_the_usual_strings_find_what_was_published_of_them():
    """Recall 0.60 and 0.21 on the two files: labels are read and counted as others do it."""
    strings = json.loads((FOLDER / "advbench/refusal_prefixes.json").read_text())["prefixes"]
    found = {}
    for row in run.read_rows(FOLDER / "refusal_labels"):
        if row.refused:
            found.setdefault(row.file, []).append(any(string in row.answer for string in strings))
    assert {file: round(sum(hits) / len(hits), 2) for file, hits in found.items()} == {
        "pyrit_refusal": 0.60,
        "pyrit_refusal_extra": 0.21,
    }


@with_labels
@pytest.mark.parametrize("words", [None, run.CUT])
def test_ours_finds_more_refusals_than_the_strings_and_raises_no_false_alarm(words: int | None):
    """On either part and in either file, of whole answers and of cut ones."""
    strings = json.loads((FOLDER / "advbench/refusal_prefixes.json").read_text())["prefixes"]
    rows = run.read_rows(FOLDER / "refusal_labels")
    for key in ("tuning", "held-out", "pyrit_refusal", "pyrit_refusal_extra"):
        texts = [(run.cut(r.answer, words), r.refused) for r in rows if key in (r.part, r.file)]
        by_strings = sum(any(s in text for s in strings) for text, refused in texts if refused)
        assert sum(ours(text) for text, refused in texts if refused) > by_strings
        assert not any(ours(text) for text, refused in texts if not refused)


@with_labels
def test_refusals_proper_are_found_at_the_published_rate():
    """At least 9 of 10, on the part that no rule was written on."""
    rows = [
        r for r in run.proper(run.read_rows(FOLDER / "refusal_labels")) if r.refused and r.part == "held-out"
    ]
    assert sum(ours(row.answer, row.objective) for row in rows) >= 0.9 * len(rows) > 40
