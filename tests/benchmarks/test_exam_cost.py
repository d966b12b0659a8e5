"""What an exam costs is read off swaps rightly: the page is worth no more than its arithmetic."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "exam_cost"


@pytest.fixture
def tables(monkeypatch):
    """The module that makes the page, for one test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("exam_cost_table")
    for name in ("exam_cost_table", "exam_arms"):
        sys.modules.pop(name, None)


def swap(arm, exam, slower=1.0, error=None):
    """One swap; ``slower``: inter-token times during its exam, by those before it."""
    gaps = [10.0] * 198 + [20.0] * 2
    figures = {"gaps": [slower * gap for gap in gaps], "firsts": [30.0, 31.0]}
    return {
        "round": 1,
        "arm": arm,
        "seconds": {"load": 0.2, "exam": exam} if exam else {"load": 0.2},
        "total": 0.2 + exam,
        "error": error,
        "quiet": {"gaps": gaps, "firsts": [30.0, 31.0]},
        "whole": figures,
        "exam": figures if exam else None,
    }


def result(*swaps):
    """A result of these."""
    machine = dict.fromkeys(("device", "cores", "engine", "torch", "python", "date"), "x")
    return {
        "setting": "gpu",
        "machine": machine,
        "clients": 16,
        "notes": [],
        "errors": [],
        "swaps": list(swaps),
    }


def test_aims_are_met_or_missed_by_the_median(tables):
    """An exam's own step is what it adds; a p99 is compared with that of the same swap's quiet seconds."""
    page = tables.page(
        result(
            swap("no exam", 0),
            *(swap("48 attacks, chats", seconds) for seconds in (1.0, 1.5, 9.0)),
            *(swap("200 attacks, chats", 6.0, slower) for slower in (1.1, 1.3, 1.5)),
        )
    )
    assert "| 48 attacks, chats: adds at most 2 s to a swap | 1.50 s, met |" in page
    assert "| 200 attacks, chats: adds at most 5 s to a swap | 6.00 s, **missed** |" in page
    assert "inter-token p99 at most 1.2× | 1.30 ×, **missed** |" in page
    assert "| 200 attacks, chats | 3 | 6.20 (6.20 to 6.20) | 6.00 (6.00 to 6.00) |" in page
    assert "1.30 (1.10 to 1.50)" in page


def test_what_was_not_measured_is_said(tables):
    """A swap that failed is no figure but a note, and an aim without figures is not met."""
    page = tables.page(result(swap("no exam", 0), swap("48 attacks, chats", 1.0, error="dead")))
    assert "48 attacks, chats: adds at most 2 s to a swap | not measured" in page
    assert "* round 1, 48 attacks, chats: dead" in page
