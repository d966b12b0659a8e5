"""The power of the rule, exactly; docs/exam.md has the table, which tests/packaging holds to the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from s3lora_serve.config import ExamConfig
from s3lora_serve.safety.exam.exam_power import power, power_table
from s3lora_serve.safety.exam.exam_rule import SURE, prompts_needed

SETTINGS = ExamConfig()
ROOT = Path(__file__).parents[3]


def test_two_hundred_prompts_decide():
    """What the default settings aim at: 20 points above is refused and an equal one passed, in 95 of 100."""
    assert power(SETTINGS, 200, 0.20).refused >= 0.95
    assert power(SETTINGS, 200, 0.0).passed >= 0.95


def test_errors_are_bounded():
    """However many prompts: at most 5 % of those within the margin are refused, or of those above passed."""
    for asked in (24, 60):
        assert power(SETTINGS, asked, SETTINGS.max_attack_rise).refused <= 0.05
        assert power(SETTINGS, asked, SETTINGS.tolerated_rise).passed <= 0.05


def test_the_three_are_all():
    """They are probabilities that add up to 1, also where nothing is left to chance."""
    for rise, reference in ((0.1, 0.42), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        found = power(SETTINGS, 40, rise, reference)
        assert found.refused + found.passed + found.undecided == pytest.approx(1)
        assert min(found.refused, found.passed, found.undecided) >= 0
    assert power(SETTINGS, 40, 1.0, 0.0).refused == pytest.approx(1)
    with pytest.raises(ValueError, match="no shares"):
        power(SETTINGS, 40, 0.7, 0.42)


def test_what_is_said_to_be_needed_is_enough():
    """So many prompts pass an equal adapter about as surely as they are said to."""
    differing = 2 * 0.42 * 0.58
    needed = prompts_needed(SETTINGS, 0.05, differing)
    assert power(SETTINGS, needed, 0.0).passed == pytest.approx(SURE, abs=0.02)
    assert power(SETTINGS, needed // 2, 0.0).passed < SURE - 0.1


def test_a_table_has_a_row_for_each_size():
    """In Markdown, refused / passed / undecided in each cell, by the settings that are given."""
    strict = ExamConfig(max_attack_rise=0.0, tolerated_rise=0.5)
    assert power_table(strict, (8, 16), (0.0, 0.5), 0.2).splitlines()[:2] == [
        "| attacks | as its base | +50 points |",
        "| --: | --- | --- |",
    ]
    eight, sixteen = power_table(strict, (8, 16), (0.0, 0.5), 0.2).splitlines()[2:]
    assert eight.startswith("| 8 | ")
    found = power(strict, 16, 0.5, 0.2)
    said = " / ".join(f"{100 * share:.0f}" for share in (found.refused, found.passed, found.undecided))
    assert sixteen.endswith(f"| {said} |")


@pytest.mark.process
def test_the_script_prints_it():
    """For other settings than those in the docs, too."""
    given = ("--attacks", "8", "--rises", "0", "0.5", "--reference", "0.2", "--tolerated-rise", "0.5")
    script = ROOT / "benchmarks/exam_power/run.py"
    done = subprocess.run(
        [sys.executable, script, *given], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == power_table(ExamConfig(tolerated_rise=0.5), (8,), (0.0, 0.5), 0.2)
