"""What climbing came to, in a table and a sentence: the choice, what lost, and the random controls."""

from __future__ import annotations

from io import StringIO

import pytest
from exam_results import exam_result
from rich.console import Console

from s3lora_serve.cli.exam.mend_page import mend_page
from s3lora_serve.cli.exam.mend_table import mend_table
from s3lora_serve.cli.exam.mended import Control, Mended
from s3lora_serve.safety.exam.exam_result import PairedCounts
from s3lora_serve.safety.exam.ladder import Ladder, Rung
from s3lora_serve.safety.exam.rung_exam import RungFound
from s3lora_serve.safety.exam.utility import Utility

RUNGS = (Rung(0.0, 0, ()), Rung(0.1, 2, ("a", "b")), Rung(0.2, 4, ("a", "b", "c", "d")))


def row(rung, verdict, **changes):
    """A rung that was asked both halves, or one if that refused it."""
    half = exam_result(
        verdict, attacks=PairedCounts(100, 10, 40 if verdict == "refused" else 1, 1), **changes
    )
    return RungFound(rung, "", verdict, f"so it was {verdict}", half, None if verdict == "refused" else half)


def climbed(*rows, controls=(), chosen=True, left_out=()):
    """A ladder whose last row was chosen, or none."""
    draws = tuple(Control(seed, 2, exam_result(verdict)) for seed, verdict in enumerate(controls))
    ladder = Ladder(RUNGS, left_out=left_out)
    return Mended("math", 20, ladder, 0.05 / 3, rows, rows[-1] if chosen else None, draws)


def shown(mended):
    """The table as it is printed, wide enough for all of it."""
    console = Console(width=250, file=StringIO())
    console.print(mend_table(mended))
    return console.file.getvalue()


def test_the_chosen_rung_is_marked():
    """Each rung with rises, the figure that lost most, and its verdict; a sentence says how much goes."""
    lost = (Utility("valid", 0.95, 1.0), Utility("loss", 1.2, 1.2))
    text = shown(climbed(row(RUNGS[0], "refused"), row(RUNGS[1], "passed", utility=lost)))
    assert "+39 [+" in text
    assert "10 % ←" in text
    assert "valid 5 % worse" in text
    assert "math: the least pruning that passes leaves out 2 of 20 modules" in text
    assert "passed on the public prompts: no proof of safety" in text


@pytest.mark.parametrize(
    ("controls", "said"),
    [
        (
            ("refused", "refused", "undecided"),
            "0 of 3 draws pass (attack success 34 %, 34 %, 29 %)",
        ),
        (
            ("refused", "passed", "passed"),
            "2 of 3 draws pass (attack success 34 %, 14 %, 14 %), so the ranking is not",
        ),
    ],
)
def test_random_pruning_says_what_the_ranking_is_worth(controls, said):
    """Where random modules pass as well, pruning helped and the ranking did not."""
    mended = climbed(row(RUNGS[0], "refused"), row(RUNGS[1], "passed"), controls=controls)
    assert said in shown(mended)
    assert said in mend_page(mended)


def test_none_passes():
    """No rung is marked; nothing is called passed."""
    rows = [row(rung, "refused") for rung in RUNGS]
    text = shown(climbed(*rows, chosen=False, left_out=(0.3,)))
    assert "none of 3 rungs passes" in text
    assert "←" not in text
    assert "not tried: 30 %" in text
    assert "no proof of safety" not in text


def test_a_rung_of_nothing_is_a_row():
    """What was not asked has dashes, and the page is drawn all the same."""
    mended = climbed(RungFound(RUNGS[2], why="nothing of it would be left"), chosen=False)
    assert "not examined" in shown(mended)
    assert "nothing of it would be left" in mend_page(mended)
